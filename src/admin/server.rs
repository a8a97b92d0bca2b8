//! The doors: a Unix socket for the command line, a loopback port for probes and Prometheus. Both serve the same.

use super::connections;
use super::glass::{self, Clock};
use super::handles::Handles;
use super::heartbeat::Liveness;
use super::metrics::{CONTENT_TYPE, Metrics};
use super::pieces;
use super::readiness;
use super::running::Running;
use super::shelf::Shelf;
use crate::condition::Conditions;
use anyhow::{Context, bail};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use std::fs;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::watch;

/// The routes of both doors.
pub fn router(handles: Handles, metrics: Metrics) -> Router {
    let shelf = Shelf::default();
    Router::new()
        .merge(healthz(handles.liveness.clone()))
        .route("/readyz", get(readyz))
        .route("/v1/peers", get(peers))
        .route("/v1/routes", get(routes))
        .with_state(handles)
        .route("/metrics", get(move || async move { shelf.answer(CONTENT_TYPE, || metrics.text()) }))
}

/// `/healthz`, of speakers and allocators alike.
pub(super) fn healthz<S: Clone + Send + Sync + 'static>(liveness: watch::Receiver<Liveness>) -> Router<S> {
    Router::new().route("/healthz", get(move || async move { liveness.borrow().answer() }))
}

/// Those of the Unix socket: the same, and what changes something or is for operators alone.
pub fn socket_router(
    handles: Handles,
    metrics: Metrics,
    confirmed: watch::Sender<Option<Arc<str>>>,
    running: impl Fn() -> Running + Clone + Send + Sync + 'static,
) -> Router {
    let conditions = handles.conditions.clone();
    let conditions: Held = Arc::new(move || conditions.borrow().clone());
    let running = move || async move { Json(running()) };
    let confirmation = confirmation(conditions, "herald peers", confirmed);
    router(handles, metrics).merge(confirmation).route("/v1/running", get(running))
}

/// What is held at this moment.
pub(super) type Held = Arc<dyn Fn() -> Arc<Conditions> + Send + Sync>;

/// The route by which an operator confirms what is held; `shows` is the command that shows it.
pub(super) fn confirmation(held: Held, shows: &'static str, confirmed: watch::Sender<Option<Arc<str>>>) -> Router {
    let confirm = move |Query(what): Query<Confirmation>| async move {
        let waits = held().iter().any(|(_, _, words)| words.contains(&what.number));
        match what.number.len() >= LEAST_NUMBER && waits {
            true => {
                tracing::info!(number = what.number, "confirmed by an operator");
                confirmed.send_replace(Some(what.number.as_str().into()));
                (StatusCode::OK, "confirmed\n".to_owned())
            }
            false => {
                let help = format!("'{shows}' shows what is held, and the number of each");
                (StatusCode::NOT_FOUND, format!("nothing is held under the number {:?}: {help}\n", what.number))
            }
        }
    };
    Router::new().route("/v1/confirm", post(confirm))
}

/// A number that confirms something has 16 digits; less of it may be part of any sentence.
const LEAST_NUMBER: usize = 16;

/// What is confirmed.
#[derive(Debug, serde::Deserialize)]
struct Confirmation {
    number: String,
}

async fn readyz(State(handles): State<Handles>) -> impl IntoResponse {
    let missing = readiness::look(&handles, tokio::time::Instant::now().into_std());
    let conditions = handles.conditions.borrow().clone();
    readiness::answer(missing, &conditions)
}

async fn peers(State(handles): State<Handles>) -> Response {
    let (whole, peers) = glass::peers(&handles, Clock::now());
    pieces::json(&whole, peers)
}

/// Which routes are wanted.
#[derive(Debug, serde::Deserialize)]
struct Which {
    /// Those of this peer alone.
    peer: Option<String>,
}

async fn routes(State(handles): State<Handles>, Query(which): Query<Which>) -> Response {
    let (whole, routes) = glass::routes(&handles, which.peer.as_deref());
    pieces::json(&whole, routes)
}

/// Binds the loopback port; the address that it really has.
///
/// # Errors
/// The port is taken, or the address is not one of this machine.
pub async fn bind_port(address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = listen(address)
        .with_context(|| format!("cannot listen on {address} for probes and metrics: choose another with --metrics"))?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Connections that may wait in the kernel, as far as the sysctl net.core.somaxconn allows: whoever dials when there is no more
/// room is not heard before a second has passed.
const BACKLOG: u32 = 4096;

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves the loopback port until `stop`.
///
/// # Errors
/// None today: what cannot be accepted is tried again.
pub async fn serve_port(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    connections::serve(listener, router, stop).await;
    Ok(())
}

/// A Unix socket that is ours: mode 0600, and gone when this value is.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    place: Place,
}

/// Where the socket is, and which file it is there.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    inode: u64,
}

impl Door {
    /// Binds `path`. A socket that a dead process left is replaced; one that somebody still answers on is not, and
    /// neither is anything that is not a socket.
    ///
    /// # Errors
    /// As said, or the folder cannot be made or written.
    pub fn bind(path: &Path) -> anyhow::Result<Self> {
        let hint = || format!("cannot open the socket {}: choose another with --socket", path.display());
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).with_context(hint)?;
        }
        refuse_if_alive(path).with_context(hint)?;
        // Bound under another name first: whoever finds the final name finds a socket with its final mode, and the rename
        // replaces a dead one without a moment in which there is none.
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        // A process that died between the two steps leaves it behind, and in a container the next has the same number.
        remove_dead(&temporary).with_context(hint)?;
        let listener = UnixListener::bind(&temporary).with_context(hint)?;
        let inode = fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))
            .and_then(|()| fs::metadata(&temporary))
            .and_then(|meta| fs::rename(&temporary, path).map(|()| meta.ino()))
            .inspect_err(|_| drop(fs::remove_file(&temporary)))
            .with_context(hint)?;
        Ok(Self { listener, place: Place { path: path.to_owned(), inode } })
    }

    /// Serves the socket until `stop`.
    ///
    /// # Errors
    /// None today: what cannot be accepted is tried again.
    pub async fn serve(self, router: Router, stop: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
        let _place = self.place;
        connections::serve(self.listener, router, stop).await;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Only if it is still ours: another process may have taken the name since.
        if fs::metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode) {
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Removes a socket that nobody answers on; what is none, or is alive, stays.
fn remove_dead(path: &Path) -> anyhow::Result<()> {
    refuse_if_alive(path)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn refuse_if_alive(path: &Path) -> anyhow::Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !meta.file_type().is_socket() {
        bail!("there is something at this path that is not a socket");
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => bail!("another herald answers on it; two speakers on one node would fight over its sessions"),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_a_live_one_and_a_file_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/herald.sock");
        let door = Door::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let refused = format!("{:#}", Door::bind(&path).unwrap_err());
        assert!(refused.contains("another herald answers"), "{refused}");

        // What a killed process leaves: the file without a listener.
        let Door { listener, place } = door;
        drop(listener);
        let second = Door::bind(&path).unwrap();
        drop(place);
        assert!(path.exists(), "the first process must not remove the socket of the second");
        drop(second);
        assert!(!path.exists());

        // One that died while it opened the socket, under the number that we have too.
        let half = folder.path().join(format!("run/herald.sock.{}", std::process::id()));
        drop(UnixListener::bind(&half).unwrap());
        drop(Door::bind(&path).unwrap());
        assert!(!half.exists());

        fs::write(&path, "data").unwrap();
        let refused = format!("{:#}", Door::bind(&path).unwrap_err());
        assert!(refused.contains("not a socket"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }
}
