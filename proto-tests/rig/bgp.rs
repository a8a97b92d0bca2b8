//! A receiver that speaks just enough BGP to judge a speaker by the octets it sends, and three neighbours that misbehave.
//!
//! It reads with code of its own, so that an error in the codec under test cannot hide itself. Nothing is answered but an
//! OPEN and KEEPALIVEs; every message is handed to the test with the time at which it was read.

use super::Outcome;
use super::net::Namespace;
use ipnetwork::IpNetwork;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const MARKER: [u8; 16] = [0xff; 16];
const PATIENCE: Duration = Duration::from_millis(200);

/// How a listener treats who connects to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Answers OPEN with OPEN and keeps the session alive.
    Honest {
        /// Its autonomous system.
        asn: u32,
        /// Its BGP Identifier.
        router_id: Ipv4Addr,
        /// The hold time that it proposes, in seconds.
        hold: u16,
    },
    /// Accepts and never says a word.
    Mute,
    /// Closes at once.
    Hangup,
}

/// One UPDATE, as far as a judge needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// Announced prefixes of both families.
    pub announced: Vec<IpNetwork>,
    /// Withdrawn prefixes of both families.
    pub withdrawn: Vec<IpNetwork>,
    /// The next hop of what is announced.
    pub next_hop: Option<IpAddr>,
    /// Path attributes by type code, without the two of RFC 4760.
    pub attributes: BTreeMap<u8, Vec<u8>>,
}

/// What was seen on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Somebody connected.
    Connected,
    /// An OPEN, with its body.
    Open(Vec<u8>),
    /// A KEEPALIVE.
    Keepalive,
    /// An UPDATE that announces or withdraws.
    Update(Update),
    /// End-of-RIB of IPv4 (1) or IPv6 (2) unicast (RFC 4724 §2).
    EndOfRib(u16),
    /// A NOTIFICATION: code, subcode, data.
    Notification(u8, u8, Vec<u8>),
    /// Something that this receiver cannot read.
    Unreadable(String),
    /// The connection ended in order.
    Closed,
    /// The connection ended by a reset or another error.
    Broken(String),
}

/// What was seen, when, and on which connection (counted from 1).
#[derive(Debug, Clone)]
pub struct Event {
    /// When the octets were read.
    pub at: Instant,
    /// Which connection.
    pub connection: usize,
    /// What it was.
    pub what: Seen,
}

/// A listening neighbour in a namespace; it ends when this is dropped.
#[derive(Debug)]
pub struct Listener {
    events: Receiver<Event>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Outcome<()>>>,
}

impl Listener {
    /// Listens at an address that is there already.
    ///
    /// # Errors
    /// The address could not be bound.
    pub fn start(space: &Namespace, at: SocketAddr, manner: Manner) -> Outcome<Self> {
        let bound = space.inside(move || TcpListener::bind(at))?;
        let listener = bound.map_err(|e| format!("{at} in {} could not be bound: {e}", space.short()))?;
        socket2::SockRef::from(&listener)
            .set_read_timeout(Some(PATIENCE))
            .map_err(|e| format!("no time-out for a listener: {e}"))?;
        let (send, events) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = space.thread("bgp-listener", move || accept(&listener, manner, &send, &flag));
        Ok(Self { events, stop, thread: Some(thread) })
    }

    /// Everything seen since the last call.
    pub fn drain(&self) -> Vec<Event> {
        self.events.try_iter().collect()
    }

    /// The next event that `want` picks; those before it are handed to `pass`.
    ///
    /// # Errors
    /// The time is up.
    pub fn next(&self, within: Duration, what: &str, mut want: impl FnMut(&Event) -> bool) -> Outcome<Event> {
        let end = Instant::now() + within;
        let mut last = "nothing".to_owned();
        loop {
            match self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(event) if want(&event) => return Ok(event),
                Ok(event) => last = brief(&event.what),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(format!("waited {within:?} for {what}; last seen: {last}"));
                }
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// An event in a few words.
pub fn brief(what: &Seen) -> String {
    match what {
        Seen::Update(u) => format!("UPDATE (+{} -{})", u.announced.len(), u.withdrawn.len()),
        Seen::Open(_) => "OPEN".to_owned(),
        Seen::Connected
        | Seen::Keepalive
        | Seen::EndOfRib(_)
        | Seen::Notification(..)
        | Seen::Unreadable(_)
        | Seen::Closed
        | Seen::Broken(_) => format!("{what:?}"),
    }
}

fn accept(listener: &TcpListener, manner: Manner, send: &Sender<Event>, stop: &Arc<AtomicBool>) {
    let mut sessions = Vec::new();
    let mut connection = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            continue;
        };
        connection += 1;
        let tell = Tell { send: send.clone(), connection };
        tell.say(Seen::Connected);
        let flag = Arc::clone(stop);
        match manner {
            Manner::Hangup => tell.say(Seen::Closed),
            Manner::Mute | Manner::Honest { .. } => {
                sessions.push(std::thread::spawn(move || converse(stream, manner, &tell, &flag)));
            }
        }
    }
    for session in sessions {
        let _panicked = session.join();
    }
}

struct Tell {
    send: Sender<Event>,
    connection: usize,
}

impl Tell {
    fn say(&self, what: Seen) {
        let _test_is_over = self.send.send(Event { at: Instant::now(), connection: self.connection, what });
    }
}

fn converse(mut stream: TcpStream, manner: Manner, tell: &Tell, stop: &AtomicBool) {
    let _tried = stream.set_nodelay(true).and(stream.set_read_timeout(Some(PATIENCE)));
    let mut buffer = Vec::new();
    let mut chunk = vec![0; 1 << 16];
    let mut keepalive: Option<(Duration, Instant)> = None;
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut chunk) {
            Ok(0) => return tell.say(Seen::Closed),
            Ok(length) => buffer.extend_from_slice(&chunk[..length]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(e) => return tell.say(Seen::Broken(e.to_string())),
        }
        let mut used = 0;
        while let Some(message) = frame(&buffer[used..]) {
            used += 19 + message.1.len();
            let seen = read(message.0, message.1);
            if let (Seen::Open(_), Manner::Honest { asn, router_id, hold }) = (&seen, manner) {
                let _seen_as_end =
                    stream.write_all(&open(asn, router_id, hold)).and(stream.write_all(&message_of(4, &[])));
                keepalive = Some((Duration::from_secs(u64::from(hold) / 3), Instant::now()));
            }
            tell.say(seen);
        }
        buffer.drain(..used);
        if let Some((every, last)) = &mut keepalive
            && last.elapsed() >= *every
        {
            let _seen_as_end = stream.write_all(&message_of(4, &[]));
            *last = Instant::now();
        }
    }
}

/// A whole message at the front of the buffer: its type and body (RFC 4271 §4.1).
fn frame(buffer: &[u8]) -> Option<(u8, &[u8])> {
    let header = buffer.get(..19)?;
    let length = usize::from(u16::from_be_bytes([header[16], header[17]])).max(19);
    Some((header[18], buffer.get(19..length)?))
}

fn message_of(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).expect("a message of ours is short");
    [&MARKER[..], &length.to_be_bytes(), &[kind], body].concat()
}

/// An OPEN with both unicast families and four-octet AS numbers (RFC 4271 §4.2, RFC 4760 §8, RFC 6793 §3).
fn open(asn: u32, router_id: Ipv4Addr, hold: u16) -> Vec<u8> {
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 65, 4];
    capabilities.extend(asn.to_be_bytes());
    let length = u8::try_from(capabilities.len()).expect("three capabilities are short");
    let mut body = vec![4];
    body.extend(u16::try_from(asn).unwrap_or(23456).to_be_bytes());
    body.extend(hold.to_be_bytes());
    body.extend(router_id.octets());
    body.extend([length + 2, 2, length]);
    body.extend(capabilities);
    message_of(1, &body)
}

fn read(kind: u8, body: &[u8]) -> Seen {
    match kind {
        1 => Seen::Open(body.to_vec()),
        2 => update(body).unwrap_or_else(|| Seen::Unreadable(format!("UPDATE {body:02x?}"))),
        3 if body.len() >= 2 => Seen::Notification(body[0], body[1], body[2..].to_vec()),
        4 => Seen::Keepalive,
        _ => Seen::Unreadable(format!("type {kind}, {} octets", body.len())),
    }
}

/// RFC 4271 §4.3, with the two attributes of RFC 4760 unfolded.
fn update(body: &[u8]) -> Option<Seen> {
    let (withdrawn, rest) = counted(body)?;
    let (mut attributes, nlri) = counted(rest)?;
    if body.len() == 4 {
        return Some(Seen::EndOfRib(1));
    }
    let mut found = Update { withdrawn: prefixes(withdrawn, 1)?, announced: prefixes(nlri, 1)?, ..Update::default() };
    while let [flags, code, tail @ ..] = attributes {
        let (value, after) = if flags & 0x10 != 0 {
            counted(tail)?
        } else {
            let (length, tail) = tail.split_first()?;
            tail.split_at_checked(usize::from(*length))?
        };
        attributes = after;
        match code {
            3 => found.next_hop = Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
            14 => reach(value, &mut found)?,
            15 if value.len() == 3 => {
                return Some(Seen::EndOfRib(u16::from_be_bytes([value[0], value[1]])));
            }
            15 => found.withdrawn.extend(prefixes(value.get(3..)?, u16::from_be_bytes([value[0], value[1]]))?),
            _ => drop(found.attributes.insert(*code, value.to_vec())),
        }
    }
    Some(Seen::Update(found))
}

/// MP_REACH_NLRI: family, next hop, a reserved octet, prefixes (RFC 4760 §3).
fn reach(value: &[u8], found: &mut Update) -> Option<()> {
    let family = u16::from_be_bytes([*value.first()?, *value.get(1)?]);
    let length = usize::from(*value.get(3)?);
    let hop = value.get(4..4 + length)?;
    found.next_hop = match length {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(hop).ok()?)),
        16 | 32 => Some(IpAddr::from(<[u8; 16]>::try_from(&hop[..16]).ok()?)),
        _ => return None,
    };
    found.announced.extend(prefixes(value.get(5 + length..)?, family)?);
    Some(())
}

/// A two-octet length and that many octets, and what follows.
fn counted(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = octets.split_at_checked(2)?;
    rest.split_at_checked(usize::from(u16::from_be_bytes([length[0], length[1]])))
}

fn prefixes(mut octets: &[u8], family: u16) -> Option<Vec<IpNetwork>> {
    let mut found = Vec::new();
    while let Some((&bits, rest)) = octets.split_first() {
        let (address, after) = rest.split_at_checked(usize::from(bits).div_ceil(8))?;
        let at: IpAddr = if family == 1 {
            let mut whole = [0; 4];
            whole.get_mut(..address.len())?.copy_from_slice(address);
            Ipv4Addr::from(whole).into()
        } else {
            let mut whole = [0; 16];
            whole.get_mut(..address.len())?.copy_from_slice(address);
            Ipv6Addr::from(whole).into()
        };
        found.push(IpNetwork::new(at, bits).ok()?);
        octets = after;
    }
    Some(found)
}
