//! The connections of one door: how many there may be, how long each may take, and who makes room for whom.
//!
//! One request a connection. A door that is full closes, for who comes, the connection that has waited longest for its own
//! client: for the rest of a header, or to be read from. Thus nobody who does what a client does waits for those who do not.

use axum::Router;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, Sleep, sleep, timeout};

/// Connections of a door, at most.
const MOST: u64 = 64;
/// Descriptors that no door takes, so that sessions, sources and the log have theirs, and how many doors share what is left.
const RESERVED: u64 = 48;
const SHARES: u64 = 4;
/// A whole header has come within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Octets of a header, at most, and octets of an answer that wait here to be taken.
const BUFFER: usize = 16 * 1024;
/// A client takes something of its answer within this time.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// A request and its answer, all in all.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(60);
/// What the kernel may hold of an answer, and of a request: it counts as the process's memory too.
const KERNEL_BUFFER: usize = 64 * 1024;
/// How soon an accept that failed, or a door full of clients that are being served, is tried again.
const AGAIN: Duration = Duration::from_millis(50);

/// Which hosts a request may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosts {
    /// Whatever it says.
    Any,
    /// Loopback alone: a web page whose name was pointed at 127.0.0.1 names another (DNS rebinding).
    Loopback,
}

/// Where connections come from.
pub trait Listener: Send {
    /// One of them.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next, and which hosts it may name.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Hosts)>> + Send;
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<(UnixStream, Hosts)> {
        let (stream, _) = self.accept().await?;
        bound(SockRef::from(&stream));
        Ok((stream, Hosts::Any))
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<(TcpStream, Hosts)> {
        let (stream, _) = self.accept().await?;
        bound(SockRef::from(&stream));
        let hosts = if is_loopback(stream.local_addr()?.ip()) { Hosts::Loopback } else { Hosts::Any };
        Ok((stream, hosts))
    }
}

fn bound(socket: SockRef<'_>) {
    // Where the kernel knows better, its own bounds hold.
    let _more = socket.set_send_buffer_size(KERNEL_BUFFER);
    let _more = socket.set_recv_buffer_size(KERNEL_BUFFER);
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Serves until `stop`. What cannot be accepted is tried again: a door is no reason to end.
pub async fn serve<L: Listener>(listener: L, router: Router, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let mut open = Open::new(most());
    loop {
        if !open.has_room() {
            tokio::select! {
                () = &mut stop => return,
                _ = open.tasks.join_next() => continue,
                () = sleep(AGAIN) => continue,
            }
        }
        let next = tokio::select! {
            () = &mut stop => return,
            Some(_) = open.tasks.join_next() => continue,
            next = listener.next() => next,
        };
        match next {
            Ok((stream, hosts)) => open.admit(stream, hosts, router.clone()),
            // Out of descriptors, most likely: who has waited longest gives up one.
            Err(_) => {
                open.close_one();
                sleep(AGAIN).await;
            }
        }
        // Who has just come is read from, and who was closed is gone, before the next.
        tokio::task::yield_now().await;
    }
}

/// How many connections a door may have within the limit on descriptors.
fn most() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let share = limit.saturating_sub(RESERVED) / SHARES;
    usize::try_from(share.clamp(2, MOST)).expect("at most 64")
}

/// The open connections of one door.
struct Open {
    most: usize,
    tasks: JoinSet<()>,
    connections: Vec<(AbortHandle, Wait)>,
}

impl Open {
    fn new(most: usize) -> Self {
        Self { most, tasks: JoinSet::new(), connections: Vec::new() }
    }

    /// Whether one more may come, if need be for another that waits for its client.
    fn has_room(&mut self) -> bool {
        self.connections.retain(|(task, _)| !task.is_finished());
        self.connections.len() < self.most || self.longest().is_some()
    }

    fn admit<S>(&mut self, stream: S, hosts: Hosts, router: Router)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if self.connections.len() >= self.most {
            self.close_one();
        }
        let wait = Wait::new();
        let task = self.tasks.spawn(converse(stream, wait.clone(), hosts, router));
        self.connections.push((task, wait));
    }

    /// Closes the connection that has waited longest for its client.
    fn close_one(&mut self) {
        if let Some(longest) = self.longest() {
            self.connections.swap_remove(longest).0.abort();
        }
    }

    fn longest(&self) -> Option<usize> {
        let since = |wait: &Wait| wait.since();
        let waiting = self.connections.iter().enumerate().filter_map(|(index, (_, wait))| Some((since(wait)?, index)));
        waiting.min().map(|(_, index)| index)
    }
}

/// Since when a connection waits for its client, shared by the connection, which knows, and its door, which asks.
#[derive(Debug, Clone)]
struct Wait {
    began: Instant,
    /// Milliseconds after `began`; [`Wait::NOT`]: it is us who work.
    since: Arc<AtomicU64>,
}

impl Wait {
    const NOT: u64 = u64::MAX;

    /// From the first moment on: for the header.
    fn new() -> Self {
        Self { began: Instant::now(), since: Arc::new(AtomicU64::new(0)) }
    }

    fn over(&self) {
        self.since.store(Self::NOT, Ordering::Relaxed);
    }

    /// Now, if not already before.
    fn begin(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(Self::NOT - 1);
        // It may have begun before: then that counts.
        let _before = self.since.compare_exchange(Self::NOT, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn since(&self) -> Option<Instant> {
        let since = self.since.load(Ordering::Relaxed);
        (since != Self::NOT).then(|| self.began + Duration::from_millis(since))
    }
}

/// One request and its answer.
async fn converse<S>(stream: S, wait: Wait, hosts: Hosts, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let heard = wait.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        heard.over();
        let router = router.clone();
        async move {
            if hosts == Hosts::Loopback && !names_loopback(&request) {
                return Ok::<Response, Infallible>((StatusCode::MISDIRECTED_REQUEST, MISDIRECTED).into_response());
            }
            router.call(request).await
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(BUFFER).keep_alive(false);
    let serve = builder.serve_connection(TokioIo::new(Paced { stream, wait, patience: None }), service);
    // A client that does not do its part has no claim on an answer, and nobody else is concerned.
    let _ended = timeout(WHOLE_TIMEOUT, serve).await;
}

const MISDIRECTED: &str = "this door answers on loopback, to requests that name it so: ask http://127.0.0.1 or \
                           http://localhost, with its port\n";

/// Whether the Host of a request is loopback. None at all is no browser's.
fn names_loopback<B>(request: &Request<B>) -> bool {
    let Some(host) = request.headers().get(header::HOST) else { return true };
    let Some(authority) = host.to_str().ok().and_then(|host| host.parse::<axum::http::uri::Authority>().ok()) else {
        return false;
    };
    let host = authority.host();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(is_loopback)
}

/// A stream whose client must take what is written within [`WRITE_TIMEOUT`].
struct Paced<S> {
    stream: S,
    wait: Wait,
    patience: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    fn written(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.patience = None;
            self.wait.over();
            return written;
        }
        self.wait.begin();
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT)));
        ready!(patience.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, to)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, octets);
        this.written(context, written)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::sync::CancellationToken;

    #[test]
    fn loopback_has_few_names() {
        let named = |host: &str| names_loopback(&Request::builder().header("host", host).body(()).unwrap());
        for good in ["127.0.0.1", "127.0.0.1:7472", "127.9.9.9:1", "localhost", "LocalHost:7472", "[::1]:7472"] {
            assert!(named(good), "{good}");
        }
        for bad in ["herald", "evil.example:7472", "127.0.0.1.evil.example", "localhost.evil.example", "192.0.2.1", ""]
        {
            assert!(!named(bad), "{bad}");
        }
        assert!(names_loopback(&Request::new(())));
    }

    /// A door with these routes on a port; it closes when the token is cancelled or dropped.
    async fn door(router: Router) -> (std::net::SocketAddr, tokio_util::sync::DropGuard) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, router, stop.clone().cancelled_owned()));
        (address, stop.drop_guard())
    }

    async fn ask(address: std::net::SocketAddr, host: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn another_host_is_refused_with_what_to_do() {
        let (address, _open) = door(Router::new().route("/", get(|| async { "fine" }))).await;
        assert!(ask(address, "evil.example").await.contains("http://localhost"));
        assert!(ask(address, &address.to_string()).await.ends_with("fine"));
    }

    /// Whoever waits longest goes first, however it keeps its door waiting; who behaves is served at once.
    #[tokio::test]
    async fn a_full_door_closes_who_has_kept_it_waiting_longest() {
        let much = axum::body::Bytes::from(vec![b'x'; 16 << 20]);
        let endless = move || std::future::ready(much.clone());
        let (address, _open) =
            door(Router::new().route("/", get(|| async { "fine" })).route("/much", get(endless))).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let mut others = Vec::new();
        for number in 0..2 * most() {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let begin: &[u8] = if number % 2 == 0 { b"GET / HT" } else { b"GET /much HTTP/1.1\r\n\r\n" };
            stream.write_all(begin).await.unwrap();
            others.push(stream);
        }
        let asked = timeout(Duration::from_secs(5), ask(address, "localhost")).await.expect("served, whoever waits");
        assert!(asked.ends_with("fine"), "{asked}");
        let mut nothing = [0; 1];
        let closed = timeout(Duration::from_secs(5), first.read(&mut nothing)).await.expect("the first made room");
        assert!(matches!(closed, Ok(0) | Err(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_takes_five_seconds_at_most() {
        let (address, _open) = door(Router::new().route("/", get(|| async { "fine" }))).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
        let began = Instant::now();
        let mut end = Vec::new();
        let _reset = slow.read_to_end(&mut end).await;
        assert!((HEADER_TIMEOUT..2 * HEADER_TIMEOUT).contains(&began.elapsed()), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_header_has_so_many_octets_at_most() {
        let (address, _open) = door(Router::new().route("/", get(|| async { "fine" }))).await;
        let mut large = TcpStream::connect(address).await.unwrap();
        let header = [&b"GET / HTTP/1.1\r\nX: "[..], &[b'x'; 2 * BUFFER]].concat();
        large.write_all(&header).await.unwrap();
        let mut answer = [0; 12];
        large.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 431");
    }
}
