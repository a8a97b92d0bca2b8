//! A script of inputs to a `Peer`, as octets. Whatever is fed, what it sends is whole messages that begin with an OPEN or a
//! NOTIFICATION, nothing follows a NOTIFICATION, and its outputs come to an end.
#![no_main]
#![expect(clippy::disallowed_methods, reason = "some instant must be the first; from there on time is an argument")]

use bytes::{Buf, BytesMut};
use herald::fsm::restart::{Offer, RestartState};
use herald::fsm::{MessageSize, Opening};
use herald::peer::{CloseHow, ConnId, Identity, Input, LocalEnd, Neighbor, Output, Peer, Plan, Settings, Stop};
use herald::rib::Bounds;
use herald::wire::{Asn, Capability, Context, Family, Message, Open, RouterId, frame};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

struct Desk {
    peer: Peer,
    now: Instant,
    /// Connections that we were asked to dial.
    dialled: Vec<ConnId>,
    /// What was received and is no whole message yet.
    unread: BTreeMap<ConnId, BytesMut>,
    /// Connections that were cut, by either side: what was sent on them may end anywhere.
    cut: BTreeSet<ConnId>,
    /// What was sent.
    sent: BTreeMap<ConnId, BytesMut>,
}

fn settings(bits: u8) -> Settings {
    let asn = if bits & 1 == 0 { Asn(65_000) } else { Asn(4_200_000_000) };
    Settings {
        identity: Identity { asn, router_id: RouterId::new([10, 0, 0, 1].into()).expect("not zero") },
        neighbor: Neighbor {
            hold_time: Duration::from_secs(if bits & 4 == 0 { 90 } else { 0 }),
            opening: if bits & 8 == 0 { Opening::Active } else { Opening::Passive },
            delay_open: Duration::from_secs(if bits & 16 == 0 { 0 } else { 5 }),
            graceful_restart: (bits & 32 != 0).then_some(Offer { restart_time: Duration::from_secs(120) }),
            message_size: if bits & 64 == 0 { MessageSize::Standard } else { MessageSize::Extended },
            ..Neighbor::new("fuzz".into(), [192, 0, 2, 1].into(), if bits & 2 == 0 { Asn(65_001) } else { asn })
        },
        restart_state: RestartState::default(),
    }
}

fn encoded(message: &Message) -> BytesMut {
    let mut out = BytesMut::new();
    message.encode(&Context::before_open(), &mut out).expect("it is short");
    out
}

impl Desk {
    fn step(&mut self, input: &mut &[u8]) {
        let (what, which) = (input.get_u8(), input.try_get_u8().unwrap_or(0));
        let conn = self
            .dialled
            .get(usize::from(which) % self.dialled.len().max(1))
            .copied()
            .unwrap_or(ConnId(u64::from(which)));
        match what % 14 {
            0 => self.feed(Input::Start),
            1 => {
                self.now = self.peer.poll_timeout().unwrap_or(self.now).max(self.now);
                self.feed(Input::Timeout);
            }
            2 => self.now += Duration::from_millis(u64::from(which) * 100),
            3 => {
                let end = |last| format!("192.0.2.{last}:179").parse().expect("an address");
                let interface = vec![[192, 0, 2, 9].into(), "2001:db8::9".parse().expect("an address")];
                self.feed(Input::Connected(
                    conn,
                    LocalEnd { local: end(9), remote: end(1), interface, unfit: Vec::new() },
                ));
            }
            12 => {
                let end = |last| format!("192.0.2.{last}:179").parse().expect("an address");
                let (local, remote) = (end(9), end(1));
                let unfit = vec!["2001:db8::8".parse().expect("an address")];
                self.feed(Input::Located(conn, LocalEnd { local, remote, interface: Vec::new(), unfit }));
            }
            4 => self.feed(Input::ConnectFailed(conn, "refused".to_owned())),
            5 => {
                self.cut.insert(conn);
                match which {
                    0..=127 => self.feed(Input::Closed(conn, None)),
                    128.. => self.feed(Input::Displaced(conn, "gone".to_owned())),
                }
            }
            6 => {
                let len = usize::from(which).min(input.len());
                let octets = BytesMut::from(&input[..len]);
                input.advance(len);
                self.receive(conn, octets);
            }
            7 => self.receive(conn, encoded(&Message::Open(self.open(which)))),
            8 => self.receive(conn, encoded(&Message::Keepalive)),
            9 => {
                let routes = (0..which % 8).map(|n| ([198, 51, 100, n].into(), Default::default()));
                let routes =
                    routes.map(|(address, attributes)| (herald::wire::Prefix::host(address), attributes)).collect();
                self.feed(Input::Plan(Plan { routes, bounds: Bounds::everything(), ..Plan::default() }));
            }
            10 => {
                let body = &input[..input.len().min(usize::from(which))];
                let octets = herald_fuzz::enclose(2 + which % 4, body);
                input.advance(body.len());
                self.receive(conn, BytesMut::from(&octets[..]));
            }
            11 => self.feed(Input::Stop(match which % 3 {
                0 => Stop::Shutdown("fuzz".to_owned()),
                1 => Stop::Deconfigured,
                _ => Stop::ConfigurationChange,
            })),
            _ => self.transmit(conn, usize::from(which) * 16),
        }
    }

    fn open(&self, bits: u8) -> Open {
        let asn = if bits & 1 == 0 { Asn(65_001) } else { Asn(u32::from(bits) * 70_000 + 1) };
        let families = [Family::IPV4_UNICAST, Family::IPV6_UNICAST].map(Capability::Multiprotocol);
        Open {
            my_as: asn.two_octets(),
            hold_time: if bits & 2 == 0 { 30 } else { 0 },
            router_id: RouterId::new([10, 0, 0, 2].into()).expect("not zero"),
            capabilities: families.into_iter().chain([Capability::FourOctetAs(asn)]).collect(),
        }
    }

    fn receive(&mut self, conn: ConnId, octets: BytesMut) {
        let mut stream = self.unread.remove(&conn).unwrap_or_default();
        stream.extend_from_slice(&octets);
        self.feed(Input::Received(conn, &mut stream));
        self.unread.insert(conn, stream);
    }

    fn feed(&mut self, input: Input<'_>) {
        self.peer.handle(input, self.now);
        let mut outputs = 0;
        while let Some(output) = self.peer.poll_output() {
            outputs += 1;
            assert!(outputs < 100, "it never stops");
            match output {
                Output::Connect(conn) => self.dialled.push(conn),
                Output::Close(conn, CloseHow::AfterFlush) => self.transmit(conn, 1 << 20),
                Output::Close(conn, CloseHow::Now) => drop(self.cut.insert(conn)),
            }
        }
        let _ = self.peer.status();
    }

    fn transmit(&mut self, conn: ConnId, limit: usize) {
        let out = self.sent.entry(conn).or_default();
        let limit = out.len() + limit;
        self.peer.transmit(conn, out, limit, self.now);
    }

    fn judge(mut self) {
        let all: Vec<_> = self.sent.keys().copied().collect();
        all.into_iter().for_each(|conn| self.transmit(conn, 1 << 20));
        for (conn, mut sent) in self.sent {
            let mut kinds = Vec::new();
            while let Some(message) = frame(&mut sent, &Context::before_open()).expect("a message of ours") {
                kinds.push(message[18]);
            }
            assert!(sent.is_empty() || self.cut.contains(&conn), "half a message was sent");
            assert!(matches!(kinds.first(), None | Some(1 | 3)), "{kinds:?}");
            let end = kinds.iter().position(|kind| *kind == 3);
            assert!(end.is_none_or(|at| at + 1 == kinds.len()), "something follows a NOTIFICATION: {kinds:?}");
        }
    }
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((bits, mut script)) = input.split_first() else { return };
    let now = Instant::now();
    let peer = Peer::new(settings(*bits), u64::from(*bits), now);
    let mut desk =
        Desk { peer, now, dialled: Vec::new(), unread: BTreeMap::new(), cut: BTreeSet::new(), sent: BTreeMap::new() };
    desk.feed(Input::Start);
    while !script.is_empty() {
        desk.step(&mut script);
    }
    desk.judge();
});
