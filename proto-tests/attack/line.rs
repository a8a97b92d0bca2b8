//! One connection to the speaker, from an address of one's choice.

use crate::octets::{Told, Who, keepalive, message};
use socket2::{Domain, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long an answer may take; the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A connection and what came on it.
#[derive(Debug)]
pub struct Line {
    pub stream: TcpStream,
    input: Vec<u8>,
}

/// What is heard next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Type and body.
    Message(u8, Vec<u8>),
    Told(Told),
    /// An orderly end.
    End,
    /// A reset, or another error.
    Broken(ErrorKind),
    /// Nothing in time.
    Silence,
}

/// A new address of 127.N.0.0/16 and what follows with each call.
pub fn fresh(block: u8) -> Ipv4Addr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed) % 0x000f_0000;
    Ipv4Addr::from_bits(u32::from_be_bytes([127, block, 0, 1]) + count)
}

/// A socket bound to an address.
pub fn bound(source: Ipv4Addr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    Ok(socket)
}

impl Line {
    pub fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("an open socket");
        Self { stream, input: Vec::new() }
    }

    pub fn dial(source: Ipv4Addr, speaker: SocketAddr) -> Result<Self, String> {
        let dial = || {
            let socket = bound(source)?;
            socket.connect_timeout(&speaker.into(), PATIENCE)?;
            io::Result::Ok(socket)
        };
        dial().map(|socket| Self::of(socket.into())).map_err(|error| format!("{source} cannot dial: {error}"))
    }

    /// Dials, exchanges OPENs and KEEPALIVEs.
    pub fn established(source: Ipv4Addr, speaker: SocketAddr, who: &Who) -> Result<Self, String> {
        let mut line = Self::dial(source, speaker)?;
        line.establish(who)?;
        Ok(line)
    }

    pub fn establish(&mut self, who: &Who) -> Result<(), String> {
        self.say(&[who.open(), keepalive()].concat())?;
        for wanted in [1, 4] {
            match self.next(PATIENCE) {
                Heard::Message(kind, _) if kind == wanted => {}
                other => return Err(format!("instead of a message of type {wanted}: {other:?}")),
            }
        }
        Ok(())
    }

    pub fn say(&mut self, octets: &[u8]) -> Result<(), String> {
        self.stream.write_all(octets).map_err(|error| format!("cannot write: {error}"))
    }

    /// The next message or end.
    pub fn next(&mut self, within: Duration) -> Heard {
        let end = Instant::now() + within;
        loop {
            if let Some((kind, body)) = self.cut() {
                return if kind == 3 { Heard::Told(Told::read(&body)) } else { Heard::Message(kind, body) };
            }
            let left = end.saturating_duration_since(Instant::now());
            self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1)))).expect("not zero");
            let mut chunk = [0; 16_384];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Heard::End,
                Ok(len) => self.input.extend_from_slice(&chunk[..len]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if left.is_zero() {
                        return Heard::Silence;
                    }
                }
                Err(error) => return Heard::Broken(error.kind()),
            }
        }
    }

    fn cut(&mut self) -> Option<(u8, Vec<u8>)> {
        let head = self.input.get(..19)?;
        let (len, kind) = (usize::from(u16::from_be_bytes([head[16], head[17]])), head[18]);
        assert!(len >= 19 && head[..16] == [0xff; 16], "the speaker's stream is out of step: {head:02x?}");
        let body = self.input.get(19..len)?.to_vec();
        self.input.drain(..len);
        Some((kind, body))
    }

    /// Reads to the end of the connection: the NOTIFICATION before it, if there was one.
    pub fn last_words(&mut self) -> Result<Option<Told>, String> {
        let mut told = None;
        loop {
            match self.next(PATIENCE) {
                Heard::Message(..) => {}
                Heard::Told(words) if told.is_none() => told = Some(words),
                Heard::Told(words) => return Err(format!("a second NOTIFICATION: {words:?} after {told:?}")),
                Heard::End | Heard::Broken(_) => return Ok(told),
                Heard::Silence => return Err(format!("the connection stays open; told so far: {told:?}")),
            }
        }
    }

    /// Asks for a family again and reads to the end of the answer (RFC 7313): all that was said before has been taken then.
    /// Both sides must have offered that.
    pub fn in_step(&mut self) -> Result<(), String> {
        self.say(&message(5, &[0, 2, 0, 1]))?;
        loop {
            match self.next(PATIENCE) {
                // EoRR of that very family.
                Heard::Message(5, body) if body == [0, 2, 2, 1] => return Ok(()),
                Heard::Message(..) => {}
                other => return Err(format!("the session is over: {other:?}")),
            }
        }
    }

    /// Takes what waits to be read; the session must be alive.
    pub fn drain(&mut self) -> Result<(), String> {
        loop {
            match self.next(Duration::ZERO) {
                Heard::Message(..) => {}
                Heard::Silence => return Ok(()),
                other => return Err(format!("the session is over: {other:?}")),
            }
        }
    }
}
