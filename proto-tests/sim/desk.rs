//! A peer on the desk: every input by hand, every octet read back.

use bytes::BytesMut;
use herald::peer::settings::RestartState;
use herald::peer::{ConnId, Identity, Input, LocalEnd, Neighbor, Output, Peer, Plan, Settings};
use herald::wire::{AsWidth, Asn, Capability, Context, Family, Message, Open, RouterId, frame};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

pub struct Desk {
    pub peer: Peer,
    pub now: Instant,
    /// The newest connection.
    pub conn: ConnId,
    /// What both sides agreed on, as the router sees it.
    pub context: Context,
}

pub const FAMILIES: [Family; 2] = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];

fn router_id(last: u8) -> RouterId {
    RouterId::new(Ipv4Addr::new(10, 0, 0, last)).unwrap()
}

pub fn open() -> Open {
    let families = FAMILIES.map(Capability::Multiprotocol).into_iter();
    let capabilities = families.chain([Capability::FourOctetAs(Asn(64513))]).collect();
    Open { my_as: 64513, hold_time: 90, router_id: router_id(2), capabilities }
}

pub fn end() -> LocalEnd {
    LocalEnd {
        local: "192.0.2.1:40000".parse().unwrap(),
        remote: "192.0.2.254:179".parse().unwrap(),
        interface: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        unfit: Vec::new(),
    }
}

impl Desk {
    pub fn at_rest() -> Self {
        Self::with(|_| {})
    }

    /// At rest, configured in another way.
    pub fn with(change: impl FnOnce(&mut Neighbor)) -> Self {
        Self::in_state(RestartState::default(), change)
    }

    pub fn in_state(restart_state: RestartState, change: impl FnOnce(&mut Neighbor)) -> Self {
        let mut settings = Settings {
            identity: Identity { asn: Asn(64512), router_id: router_id(1) },
            restart_state,
            neighbor: Neighbor::new("router".into(), "192.0.2.254".parse().unwrap(), Asn(64513)),
        };
        change(&mut settings.neighbor);
        let now = Instant::now();
        Self { peer: Peer::new(settings, 1, now), now, conn: ConnId(u64::MAX), context: Context::before_open() }
    }

    pub fn dialling() -> Self {
        let mut desk = Self::at_rest();
        desk.peer.handle(Input::Start, desk.now);
        desk.expect_dial();
        desk
    }

    pub fn open_sent() -> Self {
        Self::open_sent_on(end())
    }

    fn open_sent_on(end: LocalEnd) -> Self {
        let mut desk = Self::dialling();
        desk.peer.handle(Input::Connected(desk.conn, end), desk.now);
        desk
    }

    pub fn established() -> Self {
        Self::established_on(end())
    }

    /// Established; the OPEN and KEEPALIVE of ours are read already, nothing is planned.
    pub fn established_on(end: LocalEnd) -> Self {
        let mut desk = Self::open_sent_on(end);
        desk.receive(&[Message::Open(open()), Message::Keepalive]);
        let said = desk.said();
        assert!(matches!(said[..], [Message::Open(_), Message::Keepalive]), "{said:?}");
        desk.context = Context { as_width: AsWidth::Four, families: FAMILIES.into(), ..desk.context };
        desk
    }

    /// The peer dials us; the newest connection is that one.
    pub fn accept(&mut self) -> ConnId {
        self.conn = self.peer.accept(end(), self.now).expect("a connection of the peer is welcome");
        self.context = Context::before_open();
        self.conn
    }

    pub fn acknowledge(&mut self) {
        self.peer.handle(Input::Acknowledged(self.conn), self.now);
    }

    pub fn state(&self) -> &'static str {
        self.peer.status().phase.name()
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

    pub fn receive(&mut self, messages: &[Message]) {
        self.receive_on(self.conn, messages);
    }

    pub fn receive_on(&mut self, conn: ConnId, messages: &[Message]) {
        let mut octets = BytesMut::new();
        for message in messages {
            message.encode(&self.context, &mut octets).unwrap();
        }
        self.peer.handle(Input::Received(conn, &mut octets), self.now);
        assert!(octets.is_empty(), "whole messages are taken");
    }

    pub fn plan(&mut self, plan: Plan) {
        self.peer.handle(Input::Plan(plan), self.now);
    }

    pub fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.peer.handle(Input::Timeout, self.now);
    }

    /// All messages that `transmit` has for the newest connection.
    pub fn said(&mut self) -> Vec<Message> {
        self.said_on(self.conn)
    }

    pub fn said_on(&mut self, conn: ConnId) -> Vec<Message> {
        let mut octets = BytesMut::new();
        self.peer.transmit(conn, &mut octets, usize::MAX, self.now);
        let mut said = Vec::new();
        while let Some(whole) = frame(&mut octets, &self.context).unwrap() {
            said.push(Message::decode(&whole, &self.context).unwrap());
        }
        assert!(octets.is_empty(), "half a message was sent");
        said
    }

    /// Messages of a name that left so far.
    pub fn sent(&self, name: &str) -> u64 {
        self.peer.status().sent.get(name).copied().unwrap_or_default()
    }
}
