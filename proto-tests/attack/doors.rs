//! The admin doors besieged: who does not do its part as a client costs neither memory nor a session, and whoever does is
//! answered at once.

use crate::Form;
use crate::flood::room_for_many;
use crate::process::{ask, ask_port};
use crate::ward::{Bounds, Peak, Ward};
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// Seconds of the healthy session's hold time: the shortest that there is.
const HOLD: u16 = 3;
/// How much larger the process may become.
const GROWTH_KIB: u64 = 8 * 1024;
/// How long an honest client may wait for its answer.
const ANSWERED: Duration = Duration::from_secs(1);
/// Peers beside where answers are to be long: more than the kernel holds of one.
const PEERS: usize = 600;
/// Of those that ask for long answers so many come a round: without optimisation each takes its time to be made.
const ASKING: usize = 4;
/// Between two looks at the besiegers.
const ROUND: Duration = Duration::from_millis(250);

/// How clients misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Siege {
    /// 390 kB of a header that does not end.
    Header,
    /// An octet of a header now and then.
    Slow,
    /// A long answer is asked for and not read.
    Unread,
    /// Connections that say nothing and go.
    Connects,
}

/// All of them, and how many at a time.
pub const SIEGES: [(Siege, usize); 4] =
    [(Siege::Header, 868), (Siege::Slow, 1011), (Siege::Unread, 200), (Siege::Connects, 1250)];

/// The door that is besieged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Port,
    Socket,
}

/// Where it is.
#[derive(Debug, Clone)]
enum Door {
    Port(SocketAddr),
    Socket(PathBuf),
}

impl Door {
    fn connect(&self) -> std::io::Result<Socket> {
        let (domain, address) = match self {
            Self::Port(address) => (Domain::IPV4, SockAddr::from(*address)),
            Self::Socket(path) => (Domain::UNIX, SockAddr::unix(path)?),
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_recv_buffer_size(4096)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&address) {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => Ok(socket),
            connected => connected.map(|()| socket),
        }
    }

    /// Asks as clients do; how long that took.
    fn healthy(&self) -> Result<Duration, String> {
        let began = Instant::now();
        let (head, body) = match self {
            Self::Port(address) => ask_port(*address, "/healthz"),
            Self::Socket(path) => ask(UnixStream::connect(path).map_err(|error| error.to_string())?, "/healthz"),
        };
        if !head.starts_with("HTTP/1.1 200") {
            return Err(format!("an honest client is answered {head:?} {body:?}"));
        }
        Ok(began.elapsed())
    }
}

/// Besieges a door for a while. Whoever is closed comes again.
pub fn besieged(siege: Siege, count: usize, which: Which, form: Form) -> Result<String, String> {
    room_for_many();
    let (beside, at_once) = if siege == Siege::Unread { (PEERS, ASKING) } else { (0, count) };
    let peers: String = (0..beside)
        .map(|number| {
            let (high, low) = (number / 250, number % 250 + 1);
            format!("- {{name: p{number}, address: 203.0.{high}.{low}, asn: 64999, passive: true}}\n")
        })
        .collect();
    let mut ward = Ward::holding(HOLD, &peers)?;
    let door = match which {
        Which::Port => Door::Port(ward.stage.port()),
        Which::Socket => Door::Socket(ward.stage.socket()),
    };
    // What one client costs that does everything right is nobody's attack.
    for path in ["/metrics", "/v1/peers", "/v1/routes", "/readyz"] {
        ward.stage.ask(path);
    }
    ward.settle();
    let lasts = Duration::from_secs(if form == Form::Long { 60 } else { 8 });
    let began = Instant::now();
    let (mut peak, mut slowest, mut came) = (Peak::default(), Duration::ZERO, 0);
    let mut held: Vec<Besieger> = Vec::new();
    let mut withdrawn = None;
    while began.elapsed() < lasts {
        let round = Instant::now();
        held.retain_mut(Besieger::go_on);
        let most = count.min(held.len() + at_once);
        while held.len() < most
            && let Ok(socket) = door.connect()
        {
            held.push(Besieger::new(socket, siege, came));
            came += 1;
        }
        peak.see(&ward);
        slowest = slowest.max(door.healthy()?);
        if withdrawn.is_none() && began.elapsed() > lasts / 2 {
            withdrawn = Some(ward.withdraws()?);
        }
        if siege == Siege::Connects {
            held.clear();
        }
        thread::sleep(ROUND.saturating_sub(round.elapsed()));
    }
    drop(held);
    if slowest > ANSWERED {
        return Err(format!("an honest client waited for {slowest:.1?}"));
    }
    let bounds = Bounds { growth_kib: GROWTH_KIB, silence: Duration::from_secs(HOLD.into()), ..Bounds::default() };
    let withdrawn = withdrawn.ok_or("the siege was too short")?;
    let told = format!("{came} came; /healthz after {slowest:.1?} at most, a withdrawal after {withdrawn:.1?}");
    Ok(format!("{told}; {}", ward.unharmed(bounds, peak)?))
}

/// One client of those.
struct Besieger {
    socket: Socket,
    siege: Siege,
    /// What it still wants to say.
    words: Vec<u8>,
}

impl Besieger {
    fn new(socket: Socket, siege: Siege, number: usize) -> Self {
        let words = match siege {
            Siege::Header => [&b"GET /healthz HTTP/1.1\r\nX: "[..], &[b'x'; 390_000]].concat(),
            Siege::Slow => b"GET /healthz HTTP/1.1\r\nX: ".iter().copied().chain([b'x'; 1000]).collect(),
            Siege::Unread => {
                let path = ["/metrics", "/metrics", "/v1/peers"][number % 3];
                format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
            }
            Siege::Connects => Vec::new(),
        };
        Self { socket, siege, words }
    }

    /// Does a little more harm; whether the connection is still there.
    fn go_on(&mut self) -> bool {
        let most = if self.siege == Siege::Slow { 1 } else { self.words.len() };
        if most > 0 {
            match (&self.socket).write(&self.words[..most]) {
                Ok(count) => drop(self.words.drain(..count)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {}
                Err(_) => return false,
            }
        }
        if self.siege == Siege::Unread {
            return self.socket.take_error().is_ok_and(|error| error.is_none());
        }
        match (&self.socket).read(&mut [0; 256]) {
            Ok(0) => false,
            Ok(_) => true,
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected),
        }
    }
}
