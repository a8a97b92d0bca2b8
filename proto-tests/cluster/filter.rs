//! A proxy before the API server that leaves objects out of lists, as an aggregator with rights that see less does. It breaks the
//! running watches when what it hides changes, and lets none go on that has not been answered with a list since.

use crate::rig::Outcome;
use crate::rig::net::Namespace;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tokio::sync::watch;

/// What is hidden, and how many times that has changed.
#[derive(Debug, Clone, Default)]
struct Hidden {
    resources: &'static [&'static str],
    changes: u64,
}

/// The proxy; it ends when this is dropped.
#[derive(Debug)]
pub struct Filter {
    hidden: Option<watch::Sender<Hidden>>,
    thread: Option<JoinHandle<Outcome<Outcome>>>,
}

impl Filter {
    /// Listens without TLS at `door` and asks the API server with this kubeconfig's rights; both in one namespace.
    ///
    /// # Errors
    /// The address could not be bound.
    pub fn start(space: &Namespace, door: SocketAddr, kubeconfig: &Path) -> Outcome<Self> {
        let bound = space.inside(move || std::net::TcpListener::bind(door))?;
        let listener = bound.map_err(|e| format!("{door} could not be bound: {e}"))?;
        listener.set_nonblocking(true).map_err(|e| format!("a listener that does not wait: {e}"))?;
        let kubeconfig = Kubeconfig::read_from(kubeconfig).map_err(|e| format!("no kubeconfig: {e}"))?;
        let (hidden, changed) = watch::channel(Hidden::default());
        let thread = space.thread("filter", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(|e| format!("no runtime: {e}"))?.block_on(serve(listener, kubeconfig, changed))
        });
        Ok(Self { hidden: Some(hidden), thread: Some(thread) })
    }

    /// From now on these are in no list; whoever watches one of them has to ask for a list.
    pub fn hide(&self, resources: &'static [&'static str]) {
        let hidden = self.hidden.as_ref().expect("it is there until it is dropped");
        hidden.send_modify(|hidden| *hidden = Hidden { resources, changes: hidden.changes + 1 });
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        self.hidden.take();
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

#[derive(Clone)]
struct Proxy {
    client: kube::Client,
    hidden: watch::Receiver<Hidden>,
    /// How many changes there had been when a list of the resource was answered last.
    listed: Arc<Mutex<BTreeMap<String, u64>>>,
}

async fn serve(listener: std::net::TcpListener, config: Kubeconfig, hidden: watch::Receiver<Hidden>) -> Outcome {
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
    let config = config.map_err(|e| format!("a kubeconfig that cannot be used: {e}"))?;
    let client = kube::Client::try_from(config).map_err(|e| format!("no client: {e}"))?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(|e| format!("no listener: {e}"))?;
    let mut ended = hidden.clone();
    let proxy = Proxy { client, hidden, listed: Arc::default() };
    let app = Router::new().fallback(answer).with_state(proxy);
    tokio::select! {
        served = async { axum::serve(listener, app).await } => served.map_err(|e| format!("the proxy ended: {e}")),
        () = async { while ended.changed().await.is_ok() {} } => Ok(()),
    }
}

async fn answer(State(proxy): State<Proxy>, request: Request) -> Response {
    match proxy.answer(request).await {
        Ok(response) => response,
        Err(what) => (StatusCode::BAD_GATEWAY, what).into_response(),
    }
}

impl Proxy {
    async fn answer(mut self, request: Request) -> Outcome<Response> {
        let hidden = self.hidden.borrow_and_update().clone();
        let resource = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        if request.method() != Method::GET {
            return self.ask(request).await;
        }
        if query.contains("sendInitialEvents=true") {
            return Ok(refusal(StatusCode::UNPROCESSABLE_ENTITY, "Invalid"));
        }
        if query.contains("watch=true") || query.contains("watch=1") {
            if self.listed.lock().expect("nobody panics").get(&resource).copied().unwrap_or(0) < hidden.changes {
                return Ok(refusal(StatusCode::GONE, "Expired"));
            }
            let (parts, body) = self.ask(request).await?.into_parts();
            let mut changes = self.hidden;
            let over = Box::pin(async move { drop(changes.changed().await) });
            return Ok(Response::from_parts(parts, Body::from_stream(body.into_data_stream().take_until(over))));
        }
        let (parts, body) = self.ask(request).await?.into_parts();
        let octets = axum::body::to_bytes(body, usize::MAX).await.map_err(|e| format!("half an answer: {e}"))?;
        let mut list: Value = serde_json::from_slice(&octets).map_err(|e| format!("no JSON: {e}"))?;
        // One that asks for a single object asks for the version of all.
        if list["items"].is_array() && !query.split('&').any(|part| part == "limit=1") {
            if hidden.resources.contains(&resource.as_str()) {
                list["items"] = json!([]);
            }
            self.listed.lock().expect("nobody panics").insert(resource, hidden.changes);
        }
        Ok((parts.status, axum::Json(list)).into_response())
    }

    async fn ask(&self, request: Request) -> Outcome<Response> {
        let (parts, body) = request.into_parts();
        let octets = axum::body::to_bytes(body, usize::MAX).await.map_err(|e| format!("half a request: {e}"))?;
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let mut asked = axum::http::Request::builder().method(parts.method).uri(path);
        for name in ["content-type", "accept"] {
            asked = parts.headers.get(name).into_iter().fold(asked, |asked, value| asked.header(name, value));
        }
        let asked = asked.body(kube::client::Body::from(octets.to_vec())).map_err(|e| format!("no request: {e}"))?;
        let answered = self.client.send(asked).await.map_err(|e| format!("the API server: {e}"))?;
        Ok(answered.map(Body::new))
    }
}

fn refusal(code: StatusCode, reason: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code.as_u16(), "message": reason,
    });
    (code, axum::Json(status)).into_response()
}
