//! Traffic from a client, counted: new connections, datagrams on fixed five-tuples, and long connections.
//!
//! The answers come from [`super::respond`] and name the node, so a tally says who answered, and a flow that changes its
//! node is seen.

use super::Outcome;
use super::net::Namespace;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A connection must stand within this time: less than the second after which Linux repeats a SYN, so that a lost one counts.
const CONNECT: Duration = Duration::from_millis(900);

/// What became of a number of new connections.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Connections answered, by node.
    pub by_node: BTreeMap<String, usize>,
    /// Why each of the others failed.
    pub failures: Vec<String>,
}

impl Tally {
    /// How many were answered.
    pub fn answered(&self) -> usize {
        self.by_node.values().sum()
    }

    /// The nodes that answered at least once.
    pub fn nodes(&self) -> BTreeSet<&str> {
        self.by_node.keys().map(String::as_str).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.answered() + self.failures.len();
        write!(f, "{} of {total} answered {:?}", self.answered(), self.by_node)?;
        match self.failures.first() {
            None => Ok(()),
            Some(first) => write!(f, "; first failure: {first}"),
        }
    }
}

/// Opens new TCP connections one after the other; each must name its node.
///
/// # Errors
/// The namespace could not be entered. A connection that fails is counted, not an error.
pub fn connections(space: &Namespace, to: SocketAddr, number: usize) -> Outcome<Tally> {
    space.inside(move || {
        let mut tally = Tally::default();
        for _ in 0..number {
            match connect(to) {
                Ok((_, node)) => *tally.by_node.entry(node).or_default() += 1,
                Err(e) => tally.failures.push(format!("{to}: {e}")),
            }
        }
        tally
    })
}

fn connect(to: SocketAddr) -> std::io::Result<(TcpStream, String)> {
    let stream = TcpStream::connect_timeout(&to, CONNECT)?;
    stream.set_read_timeout(Some(CONNECT))?;
    stream.set_nodelay(true)?;
    let mut name = String::new();
    BufReader::new(&stream).read_line(&mut name)?;
    match name.strip_suffix('\n') {
        Some(node) => Ok((stream, node.to_owned())),
        None => Err(std::io::Error::new(ErrorKind::UnexpectedEof, "closed before it named its node")),
    }
}

/// One datagram and its answer.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Which five-tuple.
    pub flow: usize,
    /// When it was sent.
    pub sent: Instant,
    /// The node that answered, or `None`: lost.
    pub node: Option<String>,
}

/// Datagrams that go out on fixed five-tuples at a steady pace, until they are stopped.
#[derive(Debug)]
pub struct Datagrams {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Outcome<Outcome<Vec<Sample>>>>,
}

impl Datagrams {
    /// Begins: `flows` sockets of their own source ports, each sending once in `pace`.
    pub fn begin(space: &Namespace, to: SocketAddr, flows: usize, pace: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread =
            space.thread("datagrams", move || send_until(to, flows, pace, &flag).map_err(|e| format!("{to}: {e}")));
        Self { stop, thread }
    }

    /// Ends, waits half a second for late answers, and returns every sample in the order of sending.
    ///
    /// # Errors
    /// A socket failed.
    pub fn end(self) -> Outcome<Vec<Sample>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the datagram thread panicked".to_owned())??
    }
}

fn send_until(to: SocketAddr, flows: usize, pace: Duration, stop: &AtomicBool) -> std::io::Result<Vec<Sample>> {
    let any: SocketAddr = if to.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let sockets = (0..flows)
        .map(|_| {
            let socket = UdpSocket::bind(any)?;
            socket.connect(to)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
        .collect::<std::io::Result<Vec<_>>>()?;
    let mut samples = Vec::new();
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        for (flow, socket) in sockets.iter().enumerate() {
            let number = samples.len();
            samples.push(Sample { flow, sent: Instant::now(), node: None });
            // An error here is an ICMP answer to an earlier datagram, or no route: that sample stays lost.
            let _counts_as_lost = socket.send(number.to_string().as_bytes());
        }
        collect(&sockets, &mut samples);
        next += pace;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let end = Instant::now() + Duration::from_millis(500);
    while Instant::now() < end {
        collect(&sockets, &mut samples);
        thread::sleep(Duration::from_millis(20));
    }
    Ok(samples)
}

fn collect(sockets: &[UdpSocket], samples: &mut [Sample]) {
    let mut buffer = [0; 256];
    for socket in sockets {
        while let Ok(length) = socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]);
            if let Some((node, number)) = text.split_once(' ')
                && let Some(sample) = number.parse().ok().and_then(|n: usize| samples.get_mut(n))
            {
                sample.node = Some(node.to_owned());
            }
        }
    }
}

/// The node that each flow last used before an instant.
pub fn legs(samples: &[Sample], before: Instant) -> BTreeMap<usize, String> {
    samples.iter().filter(|s| s.sent < before).filter_map(|s| Some((s.flow, s.node.clone()?))).collect()
}

/// What became of one long connection.
#[derive(Debug, Clone)]
pub struct Flow {
    /// The node that it was made to.
    pub node: String,
    /// When and why it broke, if it did.
    pub broke: Option<(Instant, String)>,
}

/// Long TCP connections that exchange a line every 100 ms, until they are stopped.
#[derive(Debug)]
pub struct LongFlows {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Outcome<Flow>>>,
}

impl LongFlows {
    /// Opens the connections; every one must stand.
    ///
    /// # Errors
    /// One could not be made.
    pub fn open(space: &Namespace, to: SocketAddr, number: usize) -> Outcome<Self> {
        let opened = space.inside(move || (0..number).map(|_| connect(to)).collect::<std::io::Result<Vec<_>>>())?;
        let opened = opened.map_err(|e| format!("a long connection to {to} could not be made: {e}"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let threads = opened
            .into_iter()
            .map(|(stream, node)| {
                let flag = Arc::clone(&stop);
                space.thread("long-flow", move || {
                    let broke = talk(&stream, &flag).err().map(|e| (Instant::now(), e.to_string()));
                    Flow { node, broke }
                })
            })
            .collect();
        Ok(Self { stop, threads })
    }

    /// Ends them all and says what became of each.
    ///
    /// # Errors
    /// A thread panicked.
    pub fn close(mut self) -> Outcome<Vec<Flow>> {
        self.stop.store(true, Ordering::Relaxed);
        let joined = self.threads.drain(..).map(|t| t.join().map_err(|_| "a long flow panicked".to_owned())?);
        joined.collect()
    }
}

fn talk(stream: &TcpStream, stop: &AtomicBool) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while !stop.load(Ordering::Relaxed) {
        { stream }.write_all(b"still here\n")?;
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
