//! What every contestant is measured by: the receiving session that the demo uses, and then nothing but reading.

use crate::rig::Outcome;
use herald::cli::demo::router::announced;
use herald::cli::demo::session::{Settings, accept_one};
use herald::wire::{Asn, Prefix, RouterId};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The AS of the receiver.
pub const RECEIVER_ASN: u32 = 64601;

/// The AS of every speaker that is measured.
pub const SPEAKER_ASN: u32 = 64512;

/// How long the octets must have ceased before a table counts as finished.
const QUIET: Duration = Duration::from_millis(400);

/// How long a table may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came, and when. Times count from the moment at which the receiver let the speaker be Established.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// The first octet of an UPDATE (an upper bound: octets are timed as they are read).
    pub first: Duration,
    /// The last octet of the last UPDATE, End-of-RIB included.
    pub last: Duration,
    /// UPDATEs that carry routes.
    pub updates: usize,
    /// UPDATEs that carry none: End-of-RIB, one a family.
    pub end_of_rib: usize,
    /// Octets of all UPDATEs.
    pub octets: usize,
    /// Prefixes announced.
    pub prefixes: usize,
}

/// Listens for speakers.
#[derive(Debug)]
pub struct Receiver {
    runtime: tokio::runtime::Runtime,
    listener: tokio::net::TcpListener,
    settings: Settings,
}

/// An established session, with what was read so far.
#[derive(Debug)]
pub struct Line {
    stream: std::net::TcpStream,
    released: Instant,
    received: Vec<u8>,
    /// Time of each read, and how many octets there were after it.
    reads: Vec<(Instant, usize)>,
}

impl Receiver {
    /// Listens on a loopback port of the system's choice.
    ///
    /// # Errors
    /// The system's.
    pub fn listen() -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).map_err(|e| e.to_string())?;
        let settings = Settings {
            asn: Asn(RECEIVER_ASN),
            router_id: RouterId::new(Ipv4Addr::new(192, 0, 2, 1)).ok_or("no identifier")?,
            peer_asn: Asn(SPEAKER_ASN),
            hold_time: Duration::from_secs(90),
        };
        Ok(Self { runtime, listener, settings })
    }

    /// Its port on 127.0.0.1.
    ///
    /// # Errors
    /// The system's.
    pub fn port(&self) -> Outcome<u16> {
        Ok(self.listener.local_addr().map_err(|e| e.to_string())?.port())
    }

    /// Waits until a speaker is Established. Speakers may have dialled long ago: nobody answers them before this is called,
    /// so that what they load while starting is not measured.
    ///
    /// # Errors
    /// None came.
    pub fn accept(&self) -> Outcome<Line> {
        let (stream, buffer, released) = self.runtime.block_on(async {
            let accepted = tokio::time::timeout(PATIENCE, accept_one(&self.listener, &self.settings)).await;
            let (session, _) = accepted
                .map_err(|_| format!("no session within {} s", PATIENCE.as_secs()))?
                .map_err(|e| format!("the receiver cannot listen: {e}"))?;
            let released = session.released();
            let (stream, buffer) = session.into_parts();
            let stream = stream.into_std().map_err(|e| e.to_string())?;
            stream.set_nonblocking(false).map_err(|e| e.to_string())?;
            Ok::<_, String>((stream, buffer, released))
        })?;
        let mut received = Vec::with_capacity(8 << 20);
        received.extend_from_slice(&buffer);
        let reads = vec![(Instant::now(), received.len())];
        Ok(Line { stream, released, received, reads })
    }
}

/// What one UPDATE said, and when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Just after it was read whole.
    pub at: Instant,
    /// Addresses announced.
    pub announced: Vec<Ipv4Addr>,
    /// Addresses withdrawn.
    pub withdrawn: Vec<Ipv4Addr>,
}

impl Receiver {
    /// Waits for one session and tells of its UPDATEs, in a thread of its own, until nobody listens or the session ends.
    pub fn follow(self, tell: Sender<Heard>) -> JoinHandle<Outcome> {
        std::thread::spawn(move || {
            self.runtime.block_on(async {
                let (mut session, _) = accept_one(&self.listener, &self.settings).await.map_err(|e| e.to_string())?;
                loop {
                    let update = session.update().await.map_err(|e| e.to_string())?;
                    let at = Instant::now();
                    let announced = announced(&update).into_iter().filter_map(|(prefix, _)| v4(&prefix)).collect();
                    let withdrawn = update.withdrawn.iter().filter_map(|nlri| v4(&nlri.prefix)).collect();
                    let heard = Heard { at, announced, withdrawn };
                    if update.end_of_rib().is_none() && tell.send(heard).is_err() {
                        return Ok(());
                    }
                }
            })
        })
    }
}

fn v4(prefix: &Prefix) -> Option<Ipv4Addr> {
    match prefix.address() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

impl Line {
    /// Reads until `prefixes` were announced and nothing more comes, then closes.
    ///
    /// # Errors
    /// The table did not become complete, or what came is no BGP.
    pub fn table(mut self, prefixes: usize) -> Outcome<Measure> {
        let began = Instant::now();
        let mut tally = Tally::default();
        let mut chunk = vec![0; 1 << 20];
        self.stream.set_read_timeout(Some(QUIET)).map_err(|e| e.to_string())?;
        loop {
            tally.go_on(&self.received)?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(format!("closed after {} of {prefixes} prefixes", tally.prefixes)),
                Ok(n) => {
                    self.received.extend_from_slice(&chunk[..n]);
                    self.reads.push((Instant::now(), self.received.len()));
                }
                Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    if tally.prefixes >= prefixes {
                        return Ok(self.measure(&tally));
                    }
                    if began.elapsed() > PATIENCE {
                        return Err(format!("{} of {prefixes} prefixes after {PATIENCE:?}", tally.prefixes));
                    }
                }
                Err(e) => return Err(format!("after {} of {prefixes} prefixes: {e}", tally.prefixes)),
            }
        }
    }

    fn measure(&self, tally: &Tally) -> Measure {
        let at = |octets: usize| {
            let read = self.reads.partition_point(|(_, end)| *end < octets);
            self.reads[read].0.duration_since(self.released)
        };
        Measure {
            first: at(tally.first_update.unwrap_or_default() + 1),
            last: at(tally.last_update),
            updates: tally.updates,
            end_of_rib: tally.end_of_rib,
            octets: tally.octets,
            prefixes: tally.prefixes,
        }
    }
}

/// Counts as it goes, so that reading stays cheap. IPv4 routes in the message body only: that is what is sent here.
#[derive(Debug, Default)]
struct Tally {
    at: usize,
    first_update: Option<usize>,
    last_update: usize,
    updates: usize,
    end_of_rib: usize,
    octets: usize,
    prefixes: usize,
}

impl Tally {
    fn go_on(&mut self, octets: &[u8]) -> Outcome {
        while let Some(header) = octets.get(self.at..self.at + 19) {
            let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
            if header[..16] != [0xff; 16] || length < 19 {
                return Err(format!("no BGP header at octet {}", self.at));
            }
            let Some(message) = octets.get(self.at..self.at + length) else { break };
            match header[18] {
                2 => {
                    let routes = prefixes(&message[19..]).ok_or(format!("a broken UPDATE at octet {}", self.at))?;
                    self.first_update.get_or_insert(self.at);
                    self.last_update = self.at + length;
                    self.octets += length;
                    self.prefixes += routes;
                    if routes == 0 { self.end_of_rib += 1 } else { self.updates += 1 }
                }
                3 => return Err(format!("NOTIFICATION {}/{}", message[19], message[20])),
                _ => {}
            }
            self.at += length;
        }
        Ok(())
    }
}

/// The number of prefixes in the body of an UPDATE.
fn prefixes(body: &[u8]) -> Option<usize> {
    let withdrawn = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
    let rest = body.get(2 + withdrawn..)?;
    let attributes = usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
    let mut nlri = rest.get(2 + attributes..)?;
    let mut count = 0;
    while let Some(bits) = nlri.first() {
        nlri = nlri.get(1 + usize::from(bits.div_ceil(8))..)?;
        count += 1;
    }
    Some(count)
}
