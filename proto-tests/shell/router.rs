//! The receiving end of BGP for these tests: it writes down what arrives, in order, and can misbehave.

use bytes::BytesMut;
use herald::net::socket::sign;
use herald::peer::settings::Password;
use herald::wire::capability::GracefulRestart;
use herald::wire::{
    AsWidth, Asn, Attribute, Capability, Context, Family, Message, Notification, Open, PeerKind, RouterId, Update,
    frame,
};
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The nodes' AS in every test.
pub const NODE_ASN: u32 = 64512;
/// The routers' AS in every test.
pub const ROUTER_ASN: u32 = 64513;
/// How long a condition may take to come true.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How a router behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As it should.
    Ordinary,
    /// Its OPEN names another AS than the one configured.
    OtherAs,
    /// Accepts, and closes at once.
    HangsUp,
    /// Accepts, and never says a word.
    Silent,
    /// Offers graceful restart, with the N bit.
    Graceful,
    /// Establishes the session, then reads nothing more but keeps it alive.
    Stuck,
    /// Establishes the session, says half a header, and reads on in silence.
    Halting,
    /// Offers IPv6 alone.
    SixOnly,
    /// As it should, and ends the session when it has heard nothing for [`HOLD`]; all others are patient.
    Impatient,
}

/// The hold time of those that keep to one.
pub const HOLD: Duration = Duration::from_secs(9);

/// One thing that happened, in the order of the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    Accepted(Instant),
    /// An OPEN, with what it says about graceful restart.
    Open(Option<GracefulRestart>),
    Up,
    Announce {
        prefix: String,
        next_hop: IpAddr,
        communities: Vec<String>,
    },
    Withdraw(String),
    EndOfRib(Family),
    Keepalive,
    Notification {
        code: u8,
        subcode: u8,
        text: String,
    },
    Closed,
}

/// A router on a loopback address of its own.
pub struct Router {
    pub address: SocketAddr,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    entries: Mutex<Vec<Entry>>,
    grown: Condvar,
}

impl Router {
    /// A router on 127.0.0.`host`.
    pub fn start(host: u8, manner: Manner) -> Self {
        Self::start_at(Ipv4Addr::new(127, 0, 0, host).into(), manner, None)
    }

    /// A router on any loopback address; with a key, everything that it exchanges is signed.
    pub fn start_at(ip: IpAddr, manner: Manner, key: Option<&str>) -> Self {
        let address = SocketAddr::new(ip, 0);
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None).unwrap();
        if let Some(key) = key {
            let whom = if ip.is_ipv4() { "127.0.0.0/8" } else { "::1/128" };
            sign(&socket, whom.parse().unwrap(), Password::new(key.as_bytes()).as_ref()).unwrap();
        }
        if manner == Manner::Stuck {
            // So that little is in flight when it stops reading.
            socket.set_recv_buffer_size(4096).unwrap();
        }
        socket.bind(&address.into()).unwrap();
        socket.listen(8).unwrap();
        let listener: TcpListener = socket.into();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Log::default());
        let writer = log.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, writer) = (stream.unwrap(), writer.clone());
                writer.add(Entry::Accepted(Instant::now()));
                thread::spawn(move || {
                    let _ended = Session { stream, log: writer.clone(), context: Context::before_open() }.run(manner);
                    writer.add(Entry::Closed);
                });
            }
        });
        Self { address, log }
    }

    /// A router on 127.0.0.`host` that dials, as long as it takes, and again when a session ends.
    pub fn dialling(host: u8, speaker: SocketAddr) -> Self {
        let address = SocketAddr::new(Ipv4Addr::new(127, 0, 0, host).into(), 0);
        let log = Arc::new(Log::default());
        let writer = Arc::downgrade(&log);
        thread::spawn(move || {
            while let Some(log) = writer.upgrade() {
                let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
                socket.bind(&address.into()).unwrap();
                if socket.connect(&speaker.into()).is_ok() {
                    log.add(Entry::Accepted(Instant::now()));
                    let session = Session { stream: socket.into(), log: log.clone(), context: Context::before_open() };
                    let _ended = session.run(Manner::Ordinary);
                    log.add(Entry::Closed);
                }
                drop(log);
                thread::sleep(Duration::from_millis(50));
            }
        });
        Self { address, log }
    }

    /// Everything that happened so far.
    pub fn log(&self) -> Vec<Entry> {
        self.log.entries.lock().unwrap().clone()
    }

    /// Waits until `enough` says so of all that happened; panics with the log when that takes too long.
    #[track_caller]
    pub fn wait(&self, what: &str, enough: impl Fn(&[Entry]) -> bool) -> Vec<Entry> {
        let entries = self.log.entries.lock().unwrap();
        let (entries, late) = self.log.grown.wait_timeout_while(entries, PATIENCE, |entries| !enough(entries)).unwrap();
        if late.timed_out() {
            let tail = entries.len().saturating_sub(30);
            panic!("{} never saw: {what}. The last it saw: {:#?}", self.address, &entries[tail..]);
        }
        entries.clone()
    }

    /// Waits until the newest session holds exactly these prefixes.
    #[track_caller]
    pub fn wait_for_table(&self, wanted: &[&str]) {
        let wanted: BTreeSet<_> = wanted.iter().map(ToString::to_string).collect();
        self.wait(&format!("a table of {wanted:?}"), |log| table(log) == wanted);
    }

    /// Waits until the newest session has both End-of-RIBs.
    #[track_caller]
    pub fn wait_for_end_of_rib(&self) -> Vec<Entry> {
        self.wait("both End-of-RIBs", |log| {
            let session = newest(log);
            [Family::IPV4_UNICAST, Family::IPV6_UNICAST].iter().all(|f| session.contains(&Entry::EndOfRib(*f)))
        })
    }
}

/// What happened since the newest session came up.
pub fn newest(log: &[Entry]) -> &[Entry] {
    log.iter().rposition(|entry| *entry == Entry::Up).map_or(&[], |up| &log[up..])
}

/// The prefixes that the newest session holds.
pub fn table(log: &[Entry]) -> BTreeSet<String> {
    let mut table = BTreeSet::new();
    for entry in newest(log) {
        match entry {
            Entry::Announce { prefix, .. } => drop(table.insert(prefix.clone())),
            Entry::Withdraw(prefix) => drop(table.remove(prefix)),
            _ => {}
        }
    }
    table
}

/// Whether code and subcode were received in a NOTIFICATION.
pub fn told(log: &[Entry], wanted: (u8, u8)) -> bool {
    log.iter().any(|entry| matches!(entry, Entry::Notification { code, subcode, .. } if (*code, *subcode) == wanted))
}

impl Log {
    fn add(&self, entry: Entry) {
        self.entries.lock().unwrap().push(entry);
        self.grown.notify_all();
    }
}

struct Session {
    stream: TcpStream,
    log: Arc<Log>,
    context: Context,
}

impl Session {
    fn run(mut self, manner: Manner) -> io::Result<()> {
        match manner {
            Manner::HangsUp => return Ok(()),
            Manner::Silent => return self.listen(),
            Manner::Ordinary
            | Manner::OtherAs
            | Manner::Graceful
            | Manner::Stuck
            | Manner::Halting
            | Manner::SixOnly
            | Manner::Impatient => {}
        }
        let asn = if manner == Manner::OtherAs { ROUTER_ASN + 1 } else { ROUTER_ASN };
        let mut ours = open(asn);
        if manner == Manner::Graceful {
            let offer = GracefulRestart { notification: true, restart_time: 120, ..Default::default() };
            ours.capabilities.push(Capability::GracefulRestart(offer));
        }
        if manner == Manner::SixOnly {
            ours.capabilities.retain(|capability| *capability != Capability::Multiprotocol(Family::IPV4_UNICAST));
        }
        self.send(&Message::Open(ours))?;
        let mut input = BytesMut::new();
        let mut heard = Instant::now();
        loop {
            while let Some(octets) = frame(&mut input, &self.context).expect("a message of BGP") {
                heard = Instant::now();
                let message = Message::decode(&octets, &self.context).expect("a message that can be read");
                self.take(message)?;
                let up = self.log.entries.lock().unwrap().last() == Some(&Entry::Up);
                match manner {
                    Manner::Stuck if up => return self.sulk(),
                    Manner::Halting if up => return self.halt(input),
                    _ => {}
                }
            }
            if manner == Manner::Impatient && heard.elapsed() >= HOLD {
                return self.send(&Message::Notification(Notification {
                    code: 4,
                    subcode: 0,
                    data: Default::default(),
                }));
            }
            self.receive(&mut input, (heard + HOLD).saturating_duration_since(Instant::now()))?;
        }
    }

    fn take(&mut self, message: Message) -> io::Result<()> {
        match message {
            Message::Open(open) => {
                let offer = open.capabilities.iter().find_map(|capability| match capability {
                    Capability::GracefulRestart(offer) => Some(offer.clone()),
                    _ => None,
                });
                self.log.add(Entry::Open(offer));
                self.context = Context {
                    as_width: AsWidth::Four,
                    peer_kind: PeerKind::External,
                    max_len: 4096,
                    families: [Family::IPV4_UNICAST, Family::IPV6_UNICAST].into(),
                    ..Context::before_open()
                };
                return self.send(&Message::Keepalive);
            }
            Message::Keepalive => {
                let up = newest_connection(&self.log.entries.lock().unwrap()).contains(&Entry::Up);
                self.log.add(if up { Entry::Keepalive } else { Entry::Up });
            }
            Message::Update(update) => self.write_down(&update),
            Message::Notification(Notification { code, subcode, data }) => {
                let text = String::from_utf8_lossy(data.get(1..).unwrap_or_default()).into_owned();
                self.log.add(Entry::Notification { code, subcode, text });
            }
            Message::RouteRefresh(_) => {}
        }
        Ok(())
    }

    fn write_down(&self, update: &Update) {
        assert!(update.faults.is_empty(), "a malformed UPDATE: {update:?}");
        if let Some(family) = update.end_of_rib() {
            return self.log.add(Entry::EndOfRib(family));
        }
        let mut communities = Vec::new();
        let mut v4 = None;
        for attribute in &update.attributes {
            match attribute {
                Attribute::Communities(list) => communities = list.iter().map(ToString::to_string).collect(),
                Attribute::NextHop(address) => v4 = Some(IpAddr::from(*address)),
                _ => {}
            }
        }
        let announce = |prefix: &herald::wire::Prefix, next_hop| {
            self.log.add(Entry::Announce { prefix: prefix.to_string(), next_hop, communities: communities.clone() });
        };
        update.withdrawn.iter().for_each(|nlri| self.log.add(Entry::Withdraw(nlri.to_string())));
        update.nlri.iter().for_each(|nlri| announce(&nlri.prefix, v4.expect("NLRI in the body has a NEXT_HOP")));
        for attribute in &update.attributes {
            match attribute {
                Attribute::MpReach(reach) => reach.nlri.iter().for_each(|nlri| announce(&nlri.prefix, reach.next_hop)),
                Attribute::MpUnreach(gone) => {
                    gone.withdrawn.iter().for_each(|nlri| self.log.add(Entry::Withdraw(nlri.to_string())));
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, message: &Message) -> io::Result<()> {
        let mut octets = BytesMut::new();
        message.encode(&self.context, &mut octets).expect("a small message");
        self.stream.write_all(&octets)
    }

    /// Reads what there is; a KEEPALIVE goes out at least once a second, and sooner where something is due.
    fn receive(&mut self, input: &mut BytesMut, due: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(due.clamp(Duration::from_millis(10), Duration::from_secs(1))))?;
        let mut buffer = [0; 65536];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => input.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if self.context != Context::before_open() {
            self.send(&Message::Keepalive)?;
        }
        Ok(())
    }

    /// Half a header, and not another octet.
    fn halt(mut self, mut input: BytesMut) -> io::Result<()> {
        self.stream.write_all(&[0xff; 10])?;
        self.stream.set_read_timeout(None)?;
        let mut buffer = [0; 4096];
        loop {
            while let Some(octets) = frame(&mut input, &self.context).expect("a message of BGP") {
                self.take(Message::decode(&octets, &self.context).expect("a message that can be read"))?;
            }
            match self.stream.read(&mut buffer)? {
                0 => return Ok(()),
                read => input.extend_from_slice(&buffer[..read]),
            }
        }
    }

    fn listen(mut self) -> io::Result<()> {
        io::copy(&mut self.stream, &mut io::sink()).map(|_| ())
    }

    /// Keeps the session alive without reading. The pace is that of a router's KEEPALIVE timer.
    fn sulk(mut self) -> io::Result<()> {
        loop {
            thread::sleep(Duration::from_secs(1));
            self.send(&Message::Keepalive)?;
        }
    }
}

fn newest_connection(log: &[Entry]) -> &[Entry] {
    log.iter().rposition(|entry| matches!(entry, Entry::Accepted(_))).map_or(&[], |accepted| &log[accepted..])
}

fn open(asn: u32) -> Open {
    Open {
        my_as: Asn(asn).two_octets(),
        hold_time: 9,
        router_id: RouterId::new(Ipv4Addr::new(192, 0, 2, 200)).unwrap(),
        capabilities: vec![
            Capability::Multiprotocol(Family::IPV4_UNICAST),
            Capability::Multiprotocol(Family::IPV6_UNICAST),
            Capability::RouteRefresh,
            Capability::FourOctetAs(Asn(asn)),
        ],
    }
}
