//! One peer under a clock that the test moves, and a router that is nothing but the test: octets in, octets out.

use bytes::BytesMut;
use herald::peer::settings::{Offer, RestartState};
use herald::peer::{ConnId, Identity, Input, LocalEnd, Neighbor, Output, Peer, Plan, Settings};
use herald::rib::{Attributes, Bounds, RouteSet};
use herald::wire::{
    AsWidth, Asn, Capability, Context, Error, Family, Message, Notification, Open, PeerKind, RouterId, Update, Verdict,
    frame,
};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const OURS: Asn = Asn(64512);
pub const THEIRS: Asn = Asn(64513);
pub const V4: Family = Family::IPV4_UNICAST;
pub const V6: Family = Family::IPV6_UNICAST;

pub fn router_id(last: u8) -> RouterId {
    RouterId::new(Ipv4Addr::new(10, 0, 0, last)).unwrap()
}

/// What our peer is told: 10.0.0.1 in AS 64512, towards a router in AS 64513.
pub fn settings() -> Settings {
    Settings {
        identity: Identity { asn: OURS, router_id: router_id(1) },
        restart_state: RestartState::Restarting,
        neighbor: Neighbor::new("router".into(), "192.0.2.254".parse().unwrap(), THEIRS),
    }
}

/// Settings with something changed.
pub fn with(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = settings();
    change(&mut settings);
    settings
}

/// Settings of an iBGP session.
pub fn internal() -> Settings {
    with(|settings| settings.neighbor.asn = OURS)
}

/// Settings with graceful restart.
pub fn graceful() -> Settings {
    with(|settings| settings.neighbor.graceful_restart = Some(Offer { restart_time: Duration::from_secs(120) }))
}

/// A router's OPEN with both families and four-octet numbers, in the AS that `settings` expect.
pub fn open_to(settings: &Settings) -> Open {
    let families = [V4, V6].map(Capability::Multiprotocol).into_iter();
    Open {
        my_as: settings.neighbor.asn.two_octets(),
        hold_time: 90,
        router_id: router_id(2),
        capabilities: families.chain([Capability::FourOctetAs(settings.neighbor.asn)]).collect(),
    }
}

/// The same with more capabilities.
pub fn open_with(settings: &Settings, more: impl IntoIterator<Item = Capability>) -> Open {
    let mut open = open_to(settings);
    open.capabilities.extend(more);
    open
}

/// The same of a router that knows two-octet numbers only.
pub fn old_open(settings: &Settings) -> Open {
    let mut open = open_to(settings);
    open.capabilities.retain(|capability| !matches!(capability, Capability::FourOctetAs(_)));
    open
}

pub fn end() -> LocalEnd {
    LocalEnd {
        local: "192.0.2.1:40000".parse().unwrap(),
        remote: "192.0.2.254:179".parse().unwrap(),
        interface: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        unfit: Vec::new(),
    }
}

/// A plan of routes that all look alike.
pub fn plan(prefixes: &[&str], attributes: Attributes) -> Plan {
    let attributes = Arc::new(attributes);
    let routes: RouteSet = prefixes.iter().map(|text| (text.parse().unwrap(), attributes.clone())).collect();
    Plan { routes, bounds: Bounds::everything(), ..Plan::default() }
}

pub struct Desk {
    pub peer: Peer,
    pub settings: Settings,
    pub now: Instant,
    /// The newest connection.
    pub conn: ConnId,
    /// What was agreed, as the router sees it: how it reads what we send, and writes what it sends.
    pub context: Context,
}

impl Desk {
    pub fn at_rest(settings: Settings) -> Self {
        let now = Instant::now();
        let peer = Peer::new(settings.clone(), 1, now);
        Self { peer, settings, now, conn: ConnId(u64::MAX), context: Context::before_open() }
    }

    pub fn dialling(settings: Settings) -> Self {
        let mut desk = Self::at_rest(settings);
        desk.peer.handle(Input::Start, desk.now);
        desk.expect_dial();
        desk
    }

    pub fn open_sent(settings: Settings) -> Self {
        Self::open_sent_at(settings, end())
    }

    fn open_sent_at(settings: Settings, end: LocalEnd) -> Self {
        let mut desk = Self::dialling(settings);
        desk.peer.handle(Input::Connected(desk.conn, end), desk.now);
        desk
    }

    /// OpenConfirm: our OPEN and KEEPALIVE are read already.
    pub fn open_confirm(settings: Settings, open: &Open) -> Self {
        Self::open_sent(settings).confirmed(open)
    }

    fn confirmed(self, open: &Open) -> Self {
        let mut desk = self;
        let Some(Message::Open(ours)) = desk.said().pop() else { panic!("no OPEN") };
        desk.receive(&[Message::Open(open.clone())]);
        desk.context = agreed(&ours, open);
        assert_eq!(desk.said(), [Message::Keepalive]);
        desk
    }

    /// Established with that OPEN of the router; nothing is planned.
    pub fn established_by(settings: Settings, open: &Open) -> Self {
        Self::established_at(settings, open, end())
    }

    /// The same over another connection.
    pub fn established_at(settings: Settings, open: &Open, end: LocalEnd) -> Self {
        let mut desk = Self::open_sent_at(settings, end).confirmed(open);
        desk.receive(&[Message::Keepalive]);
        assert_eq!(desk.state(), "Established");
        desk
    }

    /// The session falls without a word, and our next OPEN is there to be read.
    pub fn reconnect(&mut self) {
        self.peer.handle(Input::Closed(self.conn, None), self.now);
        self.expire();
        self.outputs().iter().for_each(|output| {
            if let Output::Connect(conn) = output {
                self.conn = *conn;
            }
        });
        self.context = Context::before_open();
        self.peer.handle(Input::Connected(self.conn, end()), self.now);
    }

    /// Our OPEN, read and taken.
    pub fn open(&mut self) -> Open {
        match self.said().pop() {
            Some(Message::Open(open)) => open,
            other => panic!("no OPEN but {other:?}"),
        }
    }

    pub fn established(settings: Settings) -> Self {
        let open = open_to(&settings);
        Self::established_by(settings, &open)
    }

    /// The router dials: its connection is the newest one, and nothing is agreed on it.
    pub fn accept(&mut self) -> ConnId {
        self.conn = self.peer.accept(end(), self.now).expect("a connection of the peer is welcome");
        self.context = Context::before_open();
        self.conn
    }

    pub fn expect_dial(&mut self) {
        match self.peer.poll_output() {
            Some(Output::Connect(conn)) => self.conn = conn,
            other => panic!("no dial but {other:?}"),
        }
    }

    pub fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.peer.poll_output()).collect()
    }

    pub fn state(&self) -> &'static str {
        self.peer.status().phase.name()
    }

    pub fn plan(&mut self, prefixes: &[&str], attributes: Attributes) {
        self.peer.handle(Input::Plan(plan(prefixes, attributes)), self.now);
    }

    pub fn receive(&mut self, messages: &[Message]) {
        let mut octets = BytesMut::new();
        messages.iter().for_each(|message| message.encode(&self.context, &mut octets).unwrap());
        self.receive_octets(&octets);
    }

    pub fn receive_octets(&mut self, octets: &[u8]) {
        self.peer.handle(Input::Received(self.conn, &mut BytesMut::from(octets)), self.now);
    }

    /// Everything there is to send on the newest connection.
    pub fn octets(&mut self) -> BytesMut {
        self.octets_on(self.conn)
    }

    pub fn octets_on(&mut self, conn: ConnId) -> BytesMut {
        let mut octets = BytesMut::new();
        self.peer.transmit(conn, &mut octets, usize::MAX, self.now);
        octets
    }

    pub fn said(&mut self) -> Vec<Message> {
        self.said_on(self.conn)
    }

    pub fn said_on(&mut self, conn: ConnId) -> Vec<Message> {
        let octets = self.octets_on(conn);
        cut(octets, &self.context).iter().map(|whole| Message::decode(whole, &self.context).unwrap()).collect()
    }

    pub fn updates(&mut self) -> Vec<Update> {
        let update = |message| if let Message::Update(update) = message { Some(update) } else { None };
        self.said().into_iter().filter_map(update).collect()
    }

    /// The NOTIFICATION that ends what is to be sent, if there is one.
    pub fn notification(&mut self) -> Option<Notification> {
        match self.said().pop() {
            Some(Message::Notification(notification)) => Some(notification),
            _ => None,
        }
    }

    /// Lets the next deadline come.
    pub fn expire(&mut self) -> Duration {
        let at = self.peer.poll_timeout().expect("a running peer has a deadline");
        let waited = at.saturating_duration_since(self.now);
        self.now = self.now.max(at);
        self.peer.handle(Input::Timeout, self.now);
        waited
    }

    pub fn wait(&mut self, time: Duration) {
        self.now += time;
        self.peer.handle(Input::Timeout, self.now);
    }
}

/// What two OPENs agree on, as far as these tests go: written here anew, since the peer's own reckoning is what is tested.
fn agreed(ours: &Open, theirs: &Open) -> Context {
    let both =
        |capability: &Capability| ours.capabilities.contains(capability) && theirs.capabilities.contains(capability);
    let wide = theirs.capabilities.iter().any(|capability| matches!(capability, Capability::FourOctetAs(_)));
    let hops = theirs.capabilities.iter().any(|capability| matches!(capability, Capability::ExtendedNextHop(_)));
    Context {
        as_width: if wide { AsWidth::Four } else { AsWidth::Two },
        peer_kind: if ours.asn() == theirs.asn() { PeerKind::Internal } else { PeerKind::External },
        max_len: if both(&Capability::ExtendedMessage) { 65_535 } else { 4096 },
        families: theirs.families().into_iter().collect(),
        ipv6_next_hops: hops.then_some(V4).into_iter().collect(),
        ..Context::before_open()
    }
}

/// A stream as the messages in it; nothing is left over.
pub fn cut(mut octets: BytesMut, context: &Context) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some(whole) = frame(&mut octets, context).unwrap() {
        messages.push(whole.to_vec());
    }
    assert!(octets.is_empty(), "half a message was sent");
    messages
}

// === octets by hand ===

pub fn be(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap().to_be_bytes()
}

pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[0xff; 16][..], &be(19 + body.len()), &[kind], body].concat()
}

pub fn update(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    message(2, &[&be(withdrawn.len()), withdrawn, &be(attributes.len()), attributes, nlri].concat())
}

pub fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    match u8::try_from(value.len()) {
        Ok(len) => [&[flags, code, len], value].concat(),
        Err(_) => [&[flags | 0x10, code], &be(value.len())[..], value].concat(),
    }
}

/// An OPEN by hand: version 4, AS 64513, hold time 90, 10.0.0.2, and whatever stands behind the fixed part.
pub fn raw_open(parameters: &[u8]) -> Vec<u8> {
    message(1, &[&[4, 0xfc, 0x01, 0, 90, 10, 0, 0, 2], parameters].concat())
}

pub const ORIGIN: [u8; 4] = [0x40, 1, 1, 0];
/// AS_PATH of an external router with four-octet numbers, and with two-octet ones.
pub const PATH: [u8; 9] = [0x40, 2, 6, 2, 1, 0, 0, 0xfc, 0x01];
pub const OLD_PATH: [u8; 7] = [0x40, 2, 4, 2, 1, 0xfc, 0x01];
pub const NEXT_HOP: [u8; 7] = [0x40, 3, 4, 192, 0, 2, 254];
pub const LOCAL_PREF: [u8; 7] = [0x40, 5, 4, 0, 0, 0, 100];
/// 198.51.100.0/24.
pub const NLRI: [u8; 4] = [24, 198, 51, 100];

/// Which session something is received on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    External,
    Internal,
    /// External, with two-octet AS numbers.
    Old,
}

impl On {
    pub fn settings(self) -> Settings {
        match self {
            On::External | On::Old => settings(),
            On::Internal => internal(),
        }
    }

    pub fn desk(self) -> Desk {
        let settings = self.settings();
        let open = if self == On::Old { old_open(&settings) } else { open_to(&settings) };
        Desk::established_by(settings, &open)
    }

    /// The attributes that an announcement needs here.
    pub fn mandatory(self) -> Vec<u8> {
        match self {
            On::External => [&ORIGIN[..], &PATH, &NEXT_HOP].concat(),
            On::Internal => [&ORIGIN[..], &[0x40, 2, 0], &NEXT_HOP, &LOCAL_PREF].concat(),
            On::Old => [&ORIGIN[..], &OLD_PATH, &NEXT_HOP].concat(),
        }
    }
}

/// What came of an UPDATE on a live session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Nothing was wrong.
    Good,
    /// Attributes of these types were discarded, and the routes stand.
    Discarded(Vec<u8>),
    /// The routes are withdrawn.
    Withdrawn,
    /// The session ended with this.
    Reset(Notification),
}

impl Fate {
    /// Code and subcode of the NOTIFICATION.
    pub fn reset(&self) -> Option<(u8, u8)> {
        match self {
            Fate::Reset(notification) => Some((notification.code, notification.subcode)),
            Fate::Good | Fate::Discarded(_) | Fate::Withdrawn => None,
        }
    }
}

/// Lets a live session read an UPDATE, and holds what it does against what its codec says.
pub fn fate(on: On, octets: &[u8]) -> Fate {
    let mut desk = on.desk();
    let read = Message::decode(octets, &desk.context);
    desk.receive_octets(octets);
    match read {
        Err(error) => {
            let told = desk.notification().unwrap_or_else(|| panic!("no NOTIFICATION for {error}"));
            assert_eq!((desk.state(), &told), ("Idle", &Error::notification(&error)));
            Fate::Reset(told)
        }
        Ok(Message::Update(update)) => {
            assert_eq!((desk.state(), desk.said()), ("Established", vec![]), "the session should stand");
            assert_eq!(desk.peer.status().faults, update.faults.len() as u64);
            judged(&update)
        }
        Ok(other) => panic!("no UPDATE: {other:?}"),
    }
}

fn judged(update: &Update) -> Fate {
    let named = update.nlri.len() > update.astray().count();
    match update.verdict() {
        None => Fate::Good,
        Some(Verdict::AttributeDiscard) => {
            assert!(!named || update.announced().count() > 0, "the routes stand");
            Fate::Discarded(update.faults.iter().map(|fault| fault.code).collect())
        }
        Some(Verdict::TreatAsWithdraw) => {
            assert_eq!(update.announced().count(), 0);
            assert!(update.nlri.iter().all(|nlri| update.gone().any(|gone| gone == nlri.prefix)), "as if withdrawn");
            Fate::Withdrawn
        }
    }
}

/// The fate of an announcement with one attribute more than it needs.
pub fn fate_of(on: On, attribute: &[u8]) -> Fate {
    fate(on, &update(&[], &[&on.mandatory()[..], attribute].concat(), &NLRI))
}

/// The fate of an announcement in which the attribute of that type is this one instead.
pub fn fate_instead(on: On, code: u8, instead: &[u8]) -> Fate {
    fate(on, &update(&[], &replaced(on, code, instead), &NLRI))
}

/// The mandatory attributes with the one of that type replaced.
pub fn replaced(on: On, code: u8, instead: &[u8]) -> Vec<u8> {
    let (mandatory, mut at, mut all) = (on.mandatory(), 0, Vec::new());
    while at < mandatory.len() {
        let len = 3 + usize::from(mandatory[at + 2]);
        all.extend_from_slice(if mandatory[at + 1] == code { instead } else { &mandatory[at..at + len] });
        at += len;
    }
    all
}

/// The fate of an attribute in an UPDATE that names no route.
pub fn fate_without_routes(on: On, attribute: &[u8]) -> Fate {
    fate(on, &update(&[], attribute, &[]))
}

/// What an OPEN leads to: the NOTIFICATION, or `None` where it is taken.
pub fn answer_to_open(settings: Settings, octets: &[u8]) -> Option<Notification> {
    let mut desk = Desk::open_sent(settings);
    desk.octets();
    desk.receive_octets(octets);
    match &desk.said()[..] {
        [Message::Keepalive] => {
            assert_eq!(desk.state(), "OpenConfirm");
            None
        }
        [Message::Notification(notification)] => {
            assert_eq!(desk.state(), "Idle");
            Some(notification.clone())
        }
        other => panic!("{other:?}"),
    }
}

/// An OPEN as octets.
pub fn octets_of(open: &Open) -> Vec<u8> {
    let mut octets = BytesMut::new();
    Message::Open(open.clone()).encode(&Context::before_open(), &mut octets).unwrap();
    octets.to_vec()
}

/// Flags, type and value of each attribute of an UPDATE, read here by hand.
pub fn attributes_of(update: &[u8]) -> Vec<(u8, u8, Vec<u8>)> {
    let number = |at: usize| usize::from(u16::from_be_bytes([update[at], update[at + 1]]));
    let mut at = 21 + number(19);
    let end = at + 2 + number(at);
    at += 2;
    let mut attributes = Vec::new();
    while at < end {
        let (flags, code) = (update[at], update[at + 1]);
        let (start, len) = if flags & 0x10 == 0 { (at + 3, update[at + 2].into()) } else { (at + 4, number(at + 2)) };
        attributes.push((flags, code, update[start..start + len].to_vec()));
        at = start + len;
    }
    attributes
}

/// The UPDATEs that announce those prefixes on that session, as octets.
pub fn announced(on: On, prefixes: &[&str], attributes: Attributes) -> Vec<Vec<u8>> {
    let mut desk = on.desk();
    desk.plan(prefixes, attributes);
    let context = desk.context.clone();
    let all = cut(desk.octets(), &context);
    all.into_iter().filter(|octets| octets[18] == 2 && octets.len() > 29).collect()
}
