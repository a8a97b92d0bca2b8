//! A small API server: list with pages, watch with initial events and bookmarks, the writes of an allocator, and the ways in which
//! real ones (and what stands in front of them) fail.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use futures_util::stream;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How the server behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// As it should.
    Well,
    /// Streaming lists are refused with this status.
    NoStreamingLists(u16),
    /// Every request is refused with this status.
    Away(u16),
    /// Every watch that is no list ends at once.
    ShortWatches,
    /// Every watch that is no list says one line without an end.
    EndlessLine,
}

/// Which form 410 takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// As an event of the watch.
    InBand,
    /// As the answer to the request.
    Http,
}

#[derive(Debug, Clone)]
struct Event {
    version: u64,
    resource: &'static str,
    kind: &'static str,
    object: Value,
}

#[derive(Debug)]
struct World {
    version: u64,
    objects: BTreeMap<(&'static str, String), Value>,
    events: Vec<Event>,
    mode: Mode,
    /// Watches from a version below this get a 410 in this form.
    compacted: (u64, Gone),
    /// Resources whose lists are held back.
    held: Vec<&'static str>,
    /// Resources of which the server knows nothing.
    unknown: Vec<&'static str>,
    /// Resources whose lists are empty, whatever there is.
    hidden: Vec<&'static str>,
    /// The bearer token without which requests get a 401.
    token: Option<String>,
    requests: Vec<String>,
}

/// Handle of a running server.
#[derive(Clone)]
pub struct FakeApi {
    world: Arc<Mutex<World>>,
    /// Counts changes; watches wake by it.
    ticks: watch::Sender<u64>,
    /// Counts cuts; connections die by it.
    cuts: watch::Sender<u64>,
    /// Octets of endless lines.
    sent: Arc<AtomicUsize>,
}

/// A former state of the server.
pub struct Snapshot {
    version: u64,
    objects: BTreeMap<(&'static str, String), Value>,
}

pub const SERVICES: &str = "services";
pub const SLICES: &str = "endpointslices";
pub const NODES: &str = "nodes";
pub const ALLOCATIONS: &str = "allocations";
const NAMESPACES: &str = "namespaces";
const SERVICE_CIDRS: &str = "servicecidrs";
pub const LEASES: &str = "leases";

impl FakeApi {
    /// Starts one on loopback; it ends with the test's runtime.
    pub async fn start() -> (Self, kube::Client) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = Self::serve_on(listener);
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        (api, kube::Client::try_from(config).unwrap())
    }

    /// Serves on a listener of any sort; it ends with the test's runtime.
    pub fn serve_on<L: Listener>(listener: L) -> Self
    where
        L::Addr: std::fmt::Debug,
    {
        let api = Self {
            world: Arc::new(Mutex::new(World {
                version: 1,
                objects: BTreeMap::new(),
                events: Vec::new(),
                mode: Mode::Well,
                compacted: (0, Gone::InBand),
                held: Vec::new(),
                unknown: Vec::new(),
                hidden: Vec::new(),
                token: None,
                requests: Vec::new(),
            })),
            ticks: watch::Sender::new(0),
            cuts: watch::Sender::new(0),
            sent: Arc::default(),
        };
        let app = Router::new()
            .route("/api/v1/{resource}", axum::routing::get(serve))
            .route("/apis/discovery.k8s.io/v1/{resource}", axum::routing::get(serve))
            .route("/apis/networking.k8s.io/v1/{resource}", axum::routing::get(serve))
            .route("/apis/herald.bgp/v1alpha1/{resource}", axum::routing::get(serve).post(create_allocation))
            .route("/apis/herald.bgp/v1alpha1/allocations/{name}", axum::routing::put(replace_allocation))
            .route("/api/v1/namespaces/{namespace}/services/{name}", axum::routing::get(read_service))
            .route("/api/v1/namespaces/{namespace}/services/{name}/status", axum::routing::patch(patch_service))
            .route("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", axum::routing::post(create_lease))
            .route(
                "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}",
                axum::routing::get(read_lease).put(replace_lease),
            )
            .route("/apis/events.k8s.io/v1/namespaces/{namespace}/events", axum::routing::post(echo))
            .with_state(api.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        api
    }

    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let result = change(&mut self.world.lock().unwrap());
        self.ticks.send_modify(|tick| *tick += 1);
        result
    }

    /// Creates or changes an object.
    pub fn put(&self, resource: &'static str, mut object: Value) {
        self.change(|world| {
            world.version += 1;
            object["metadata"]["resourceVersion"] = json!(world.version.to_string());
            let key = (resource, object["metadata"]["name"].as_str().unwrap().to_owned());
            let kind = if world.objects.insert(key, object.clone()).is_some() { "MODIFIED" } else { "ADDED" };
            world.events.push(Event { version: world.version, resource, kind, object });
        });
    }

    /// Deletes an object.
    pub fn delete(&self, resource: &'static str, name: &str) {
        self.change(|world| {
            world.version += 1;
            let mut object = world.objects.remove(&(resource, name.to_owned())).expect("nothing to delete");
            object["metadata"]["resourceVersion"] = json!(world.version.to_string());
            world.events.push(Event { version: world.version, resource, kind: "DELETED", object });
        });
    }

    /// What is there now, to be put back later.
    pub fn snapshot(&self) -> Snapshot {
        let world = self.world.lock().unwrap();
        Snapshot { version: world.version, objects: world.objects.clone() }
    }

    /// The server comes back in an older state: its versions count from there again, and its history of since is none.
    pub fn put_back(&self, snapshot: Snapshot) {
        self.change(|world| {
            world.events.retain(|event| event.version <= snapshot.version);
            (world.version, world.objects) = (snapshot.version, snapshot.objects);
        });
        self.cut();
    }

    /// Lists no longer have what is of these resources, though nobody deleted it: whoever watches has to list again.
    pub fn lose(&self, resources: &[&'static str]) {
        self.change(|world| {
            world.version += 1;
            world.objects.retain(|(of, _), _| !resources.contains(of));
        });
        self.compact(Gone::InBand);
        self.cut();
    }

    pub fn set_mode(&self, mode: Mode) {
        self.change(|world| world.mode = mode);
    }

    /// Holds the lists of these resources back, and lets those go that are not named.
    pub fn hold(&self, resources: &[&'static str]) {
        self.change(|world| world.held = resources.to_vec());
    }

    /// Answers lists of these resources with nothing, and watches too: they break off, and begin anew with nothing.
    pub fn hide(&self, resources: &[&'static str]) {
        self.change(|world| world.hidden = resources.to_vec());
        self.cut();
    }

    /// An object as it is now.
    pub fn get(&self, resource: &'static str, name: &str) -> Option<Value> {
        self.world.lock().unwrap().objects.get(&(resource, name.to_owned())).cloned()
    }

    /// All objects of a resource.
    pub fn all(&self, resource: &str) -> Vec<Value> {
        let world = self.world.lock().unwrap();
        world.objects.iter().filter(|((of, _), _)| *of == resource).map(|(_, object)| object.clone()).collect()
    }

    /// An object goes, and no watch tells.
    pub fn vanish(&self, resource: &'static str, name: &str) {
        self.change(|world| drop(world.objects.remove(&(resource, name.to_owned()))));
    }

    /// Creates an object, or replaces the version that it names.
    fn write(&self, resource: &'static str, object: Value) -> Response {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let there = self.get(resource, &name).map(|there| there["metadata"]["resourceVersion"].clone());
        if there.unwrap_or_default() != object["metadata"]["resourceVersion"] {
            return refuse(409, "it is not what was read");
        }
        self.put(resource, object);
        axum::Json(self.get(resource, &name)).into_response()
    }

    fn read(&self, resource: &'static str, name: &str) -> Response {
        self.change(|world| world.requests.push(format!("{resource}/{name}")));
        match self.get(resource, name) {
            Some(object) => axum::Json(object).into_response(),
            None => refuse(404, "not found"),
        }
    }

    /// Knows nothing of these resources, as before their definitions are applied.
    pub fn know_nothing_of(&self, resources: &[&'static str]) {
        self.change(|world| world.unknown = resources.to_vec());
    }

    /// Takes only those who bear this token.
    pub fn take_only(&self, token: &str) {
        self.change(|world| world.token = Some(token.to_owned()));
    }

    /// Forgets history: watches that start below now are refused.
    pub fn compact(&self, form: Gone) {
        self.change(|world| {
            world.compacted = (world.version, form);
            world.events.clear();
        });
    }

    /// Cuts every open watch in the middle of its body.
    pub fn cut(&self) {
        self.cuts.send_modify(|cut| *cut += 1);
    }

    /// `resource?query` of every request so far.
    pub fn requests(&self) -> Vec<String> {
        self.world.lock().unwrap().requests.clone()
    }

    /// Octets of endless lines so far.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    pub fn version(&self) -> u64 {
        self.world.lock().unwrap().version
    }
}

fn status(code: u16, message: &str) -> Value {
    let reason = if code == 404 { "NotFound" } else { "Test" };
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message, "reason": reason})
}

fn refuse(code: u16, message: &str) -> Response {
    (StatusCode::from_u16(code).unwrap(), axum::Json(status(code, message))).into_response()
}

async fn serve(
    State(api): State<FakeApi>,
    Path(resource): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let token = api.world.lock().unwrap().token.clone();
    if token.is_some_and(|token| headers.get("authorization").is_none_or(|borne| *borne != format!("Bearer {token}"))) {
        return refuse(401, "Unauthorized");
    }
    let resource = [SERVICES, SLICES, NODES, ALLOCATIONS, NAMESPACES, SERVICE_CIDRS]
        .into_iter()
        .find(|known| *known == resource)
        .expect("unknown resource");
    let flag = |name: &str| query.get(name).is_some_and(|value| value == "true");
    let mode = api.change(|world| {
        let query: Vec<String> = query.iter().map(|(key, value)| format!("{key}={value}")).collect();
        world.requests.push(format!("{resource}?{}", query.join("&")));
        world.mode.clone()
    });
    if api.world.lock().unwrap().unknown.contains(&resource) {
        return refuse(404, "the server could not find the requested resource");
    }
    match (mode, flag("watch"), flag("sendInitialEvents")) {
        (Mode::Away(code), _, _) => refuse(code, "not today"),
        (Mode::NoStreamingLists(code), true, true) => refuse(code, "sendInitialEvents is forbidden for watch"),
        (_, false, _) => list(&api, resource, &query).await,
        (_, true, true) => watch_from(api, resource, Start::List),
        (mode, true, false) => {
            let version: u64 = query["resourceVersion"].parse().unwrap();
            let (compacted, form) = api.world.lock().unwrap().compacted;
            match (version < compacted, form) {
                (true, Gone::Http) => refuse(410, "too old resource version"),
                (true, Gone::InBand) => one_line(json!({"type": "ERROR", "object": status(410, "too old")})),
                (false, _) if mode == Mode::ShortWatches => Body::empty().into_response(),
                (false, _) if mode == Mode::EndlessLine => endless(&api),
                (false, _) => watch_from(api, resource, Start::After(version)),
            }
        }
    }
}

async fn create_allocation(State(api): State<FakeApi>, axum::Json(object): axum::Json<Value>) -> Response {
    api.write(ALLOCATIONS, object)
}

async fn replace_allocation(State(api): State<FakeApi>, axum::Json(object): axum::Json<Value>) -> Response {
    api.write(ALLOCATIONS, object)
}

async fn create_lease(State(api): State<FakeApi>, axum::Json(object): axum::Json<Value>) -> Response {
    api.write(LEASES, object)
}

async fn replace_lease(State(api): State<FakeApi>, axum::Json(object): axum::Json<Value>) -> Response {
    api.write(LEASES, object)
}

async fn read_lease(State(api): State<FakeApi>, Path((_, name)): Path<(String, String)>) -> Response {
    let mode = api.world.lock().unwrap().mode.clone();
    match mode {
        Mode::Away(code) => refuse(code, "not today"),
        _ => api.read(LEASES, &name),
    }
}

async fn read_service(State(api): State<FakeApi>, Path((_, name)): Path<(String, String)>) -> Response {
    api.read(SERVICES, &name)
}

/// A strategic merge, as far as an allocator needs one.
async fn patch_service(
    State(api): State<FakeApi>,
    Path((_, name)): Path<(String, String)>,
    axum::Json(patch): axum::Json<Value>,
) -> Response {
    let Some(mut object) = api.get(SERVICES, &name) else { return refuse(404, "not found") };
    if object["metadata"]["resourceVersion"] != patch["metadata"]["resourceVersion"] {
        return refuse(409, "it is not what was read");
    }
    object["metadata"]["annotations"] = patch["metadata"]["annotations"].clone();
    for part in ["loadBalancer", "conditions"] {
        if let Some(told) = patch["status"].get(part) {
            object["status"][part] = told.clone();
        }
    }
    api.write(SERVICES, object)
}

async fn echo(body: Bytes) -> Response {
    body.into_response()
}

fn one_line(value: Value) -> Response {
    Body::from(format!("{value}\n")).into_response()
}

/// Letters for as long as anybody reads them; counts them in [`FakeApi::sent`].
fn endless(api: &FakeApi) -> Response {
    static PIECE: [u8; 1 << 16] = [b'a'; 1 << 16];
    let sent = api.sent.clone();
    let body = stream::repeat_with(move || {
        sent.fetch_add(PIECE.len(), Ordering::Relaxed);
        Ok::<_, std::convert::Infallible>(Bytes::from_static(&PIECE))
    });
    Body::from_stream(body).into_response()
}

/// Waits until a resource's lists are not held back.
async fn released(api: &FakeApi, resource: &str) {
    let mut ticks = api.ticks.subscribe();
    while api.world.lock().unwrap().held.contains(&resource) {
        ticks.changed().await.unwrap();
    }
}

async fn list(api: &FakeApi, resource: &'static str, query: &BTreeMap<String, String>) -> Response {
    released(api, resource).await;
    let limit: usize = query.get("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
    let from: usize = query.get("continue").map_or(0, |token| token.parse().unwrap());
    let world = api.world.lock().unwrap();
    let named = query.get("fieldSelector").and_then(|selector| selector.strip_prefix("metadata.name="));
    let listed = |of: &str, name: &str| {
        of == resource && named.is_none_or(|wanted| wanted == name) && !world.hidden.contains(&resource)
    };
    let all: Vec<&Value> = world.objects.iter().filter(|((of, name), _)| listed(of, name)).map(|(_, o)| o).collect();
    let page: Vec<&Value> = all.iter().skip(from).take(limit).copied().collect();
    let next = if from + page.len() < all.len() { (from + page.len()).to_string() } else { String::new() };
    let metadata = json!({"resourceVersion": world.version.to_string(), "continue": next});
    axum::Json(json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": page})).into_response()
}

#[derive(Debug, Clone, Copy)]
enum Start {
    List,
    After(u64),
}

/// The body of a watch: lines as they come, cut when the server is told to.
fn watch_from(api: FakeApi, resource: &'static str, start: Start) -> Response {
    let (ticks, cuts) = (api.ticks.subscribe(), api.cuts.subscribe());
    let body = stream::unfold((api, ticks, cuts, start), move |(api, mut ticks, mut cuts, start)| async move {
        if let Start::List = start {
            released(&api, resource).await;
        }
        loop {
            ticks.mark_unchanged();
            let (lines, version) = lines(&api, resource, start);
            if !lines.is_empty() {
                return Some((Ok(Bytes::from(lines)), (api, ticks, cuts, Start::After(version))));
            }
            tokio::select! {
                _ = ticks.changed() => {}
                _ = cuts.changed() => return Some((Err("cut"), (api, ticks, cuts, start))),
            }
        }
    });
    Body::from_stream(body).into_response()
}

/// What is new for a watch, and the version it has seen then.
fn lines(api: &FakeApi, resource: &str, start: Start) -> (String, u64) {
    let world = api.world.lock().unwrap();
    let mut text = String::new();
    match start {
        Start::List => {
            let listed = |of: &str| of == resource && !world.hidden.contains(&of);
            for (_, object) in world.objects.iter().filter(|((of, _), _)| listed(of)) {
                text.push_str(&format!("{}\n", json!({"type": "ADDED", "object": object})));
            }
            let metadata = json!({
                "resourceVersion": world.version.to_string(),
                "annotations": {"k8s.io/initial-events-end": "true"},
            });
            let mark = json!({"type": "BOOKMARK", "object": {"kind": "X", "apiVersion": "v1", "metadata": metadata}});
            text.push_str(&format!("{mark}\n"));
        }
        Start::After(version) => {
            for event in world.events.iter().filter(|event| event.version > version && event.resource == resource) {
                text.push_str(&format!("{}\n", json!({"type": event.kind, "object": event.object})));
            }
        }
    }
    (text, world.version)
}
