//! `collisions.txt` against a peer.

use bytes::BytesMut;
use herald::peer::settings::Offer;
use herald::peer::{CloseHow, ConnId, Identity, Input, LocalEnd, Neighbor, Output, Peer, Settings};
use herald::wire::capability::GracefulRestart;
use herald::wire::{Asn, Capability, Context, Family, Message, Open, RouterId, frame};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const TABLE: &str = include_str!("collisions.txt");
const HIGHER: [&str; 4] = ["us", "them", "equal-us", "equal-them"];
/// Ours are 10.0.0.5 and this.
const OUR_ASN: u32 = 64_512;
const OUR_ID: u8 = 5;

/// A peer with two connections on the way to what a row wants.
struct Scene {
    peer: Peer,
    now: Instant,
    ours: ConnId,
    theirs: Option<ConnId>,
    their_asn: u32,
    their_id: u8,
    restarts: bool,
}

fn end() -> LocalEnd {
    let (local, remote) = ("192.0.2.1:179".parse().unwrap(), "192.0.2.2:179".parse().unwrap());
    LocalEnd { local, remote, interface: vec![], unfit: Vec::new() }
}

impl Scene {
    fn new(higher: &str, other: &str, event: &str) -> Self {
        let (their_asn, their_id) = match higher {
            "us" => (64_513, 1),
            "them" => (64_513, 9),
            "equal-us" => (64_511, OUR_ID),
            "equal-them" => (64_513, OUR_ID),
            _ => panic!("higher is {higher}"),
        };
        let id = RouterId::new([10, 0, 0, OUR_ID].into()).unwrap();
        let delay = if other == "OpenDelayed" { 5 } else { 0 };
        let neighbor = Neighbor {
            families: [Family::IPV4_UNICAST].into(),
            delay_open: Duration::from_secs(delay),
            graceful_restart: Some(Offer { restart_time: Duration::from_secs(60) }),
            ..Neighbor::new("them".into(), "192.0.2.2".parse().unwrap(), Asn(their_asn))
        };
        let identity = Identity { asn: Asn(OUR_ASN), router_id: id };
        let now = Instant::now();
        let mut peer = Peer::new(Settings { identity, neighbor, restart_state: Default::default() }, 1, now);
        peer.handle(Input::Start, now);
        let Some(Output::Connect(ours)) = peer.poll_output() else { panic!("it dials") };
        let restarts = event == "restart" || event == "stranger";
        Self { peer, now, ours, theirs: None, their_asn, their_id, restarts }
    }

    fn accept(&mut self) {
        self.theirs = Some(self.peer.accept(end(), self.now).expect("welcome"));
    }

    fn open(&self, asn: u32, id: u8) -> Message {
        let mut capabilities = vec![Capability::Multiprotocol(Family::IPV4_UNICAST)];
        if self.restarts {
            let restart = GracefulRestart { restart_time: 60, ..Default::default() };
            capabilities.push(Capability::GracefulRestart(restart));
        }
        let router_id = RouterId::new([10, 0, 0, id].into()).unwrap();
        Message::Open(Open { my_as: asn as u16, hold_time: 90, router_id, capabilities })
    }

    fn hear(&mut self, on: ConnId, message: &Message) {
        let mut octets = BytesMut::new();
        message.encode(&Context::before_open(), &mut octets).unwrap();
        self.peer.handle(Input::Received(on, &mut octets), self.now);
    }

    /// What went out on a connection since it was asked last.
    fn said(&mut self, on: ConnId) -> Vec<String> {
        let mut octets = BytesMut::new();
        self.peer.transmit(on, &mut octets, usize::MAX, self.now);
        let context = Context::before_open();
        let whole = std::iter::from_fn(|| frame(&mut octets, &context).unwrap());
        let spell = |message| match message {
            Message::Open(_) => "OPEN".to_owned(),
            Message::Keepalive => "KEEPALIVE".to_owned(),
            Message::Notification(n) => format!("{}/{}", n.code, n.subcode),
            Message::Update(_) | Message::RouteRefresh(_) => panic!("nothing is planned"),
        };
        whole.map(|whole| spell(Message::decode(&whole, &context).unwrap())).collect()
    }
}

/// Plays a row; what is done with the connection of the event, and with the other one.
fn play(on: &str, other: &str, higher: &str, event: &str) -> [String; 2] {
    let mut scene = Scene::new(higher, other, event);
    let (asn, id) = (scene.their_asn, scene.their_id);
    let (first_open, second_open) = (scene.open(asn, id), scene.open(asn, if event == "stranger" { 77 } else { id }));
    if other == "Established" {
        scene.peer.handle(Input::Connected(scene.ours, end()), scene.now);
        scene.hear(scene.ours, &first_open);
        scene.hear(scene.ours, &Message::Keepalive);
        scene.accept();
    } else {
        scene.accept();
        if other != "Connect" {
            scene.peer.handle(Input::Connected(scene.ours, end()), scene.now);
        }
    }
    let theirs = scene.theirs.expect("accepted");
    let (this, that) = if on == "ours" { (scene.ours, theirs) } else { (theirs, scene.ours) };
    match other {
        "Connect" | "OpenSent" | "OpenDelayed" | "Established" => {}
        "OpenConfirm" => scene.hear(that, &first_open),
        _ => panic!("the other stands in {other}"),
    }
    if event == "keepalive" {
        scene.hear(this, &second_open);
    }
    let state = |scene: &Scene| scene.peer.connections().find(|(_, id, _)| *id == that).map(|(.., state)| state.name());
    assert_eq!(state(&scene), Some(other), "{on} | {other} | {higher} | {event}: the scene is not what the row says");
    scene.said(this);
    scene.said(that);
    while scene.peer.poll_output().is_some() {}
    match event {
        "open" | "restart" | "stranger" => scene.hear(this, &second_open),
        "refused" => scene.hear(this, &scene.open(64_999, id)),
        "keepalive" => scene.hear(this, &Message::Keepalive),
        _ => panic!("no event {event}"),
    }
    let outputs: Vec<Output> = std::iter::from_fn(|| scene.peer.poll_output()).collect();
    [this, that].map(|conn| {
        let left = outputs.iter().find_map(|output| match output {
            Output::Close(of, how) if *of == conn => Some(*how),
            Output::Close(..) | Output::Connect(_) => None,
        });
        let mut words = scene.said(conn);
        words.push(
            match left {
                None => "stays",
                Some(CloseHow::AfterFlush) => "flush",
                Some(CloseHow::Now) => "close",
            }
            .to_owned(),
        );
        words.join(" ")
    })
}

#[test]
fn collisions_end_as_written() {
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    let lines = TABLE.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    for line in lines.skip(1) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [on, other, higher, event, this, that] = cells[..] else { panic!("not a row: {line}") };
        for higher in HIGHER.iter().filter(|one| higher == "any" || higher == **one) {
            assert!(seen.insert((on, other, event, *higher)), "twice: {line}");
            let played = play(on, other, higher, event);
            if played != [this, that] {
                wrong.push(format!("{line}\n  {higher}: played {played:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} rows differ:\n{}", wrong.len(), wrong.join("\n"));
    // Every place in which the other connection can be while an OPEN comes on this one.
    let theirs = ["Connect", "OpenDelayed", "OpenSent", "OpenConfirm", "Established"].map(|other| ("theirs", other));
    let ours = ["OpenDelayed", "OpenSent", "OpenConfirm"].map(|other| ("ours", other));
    for (on, other) in theirs.into_iter().chain(ours) {
        for higher in HIGHER {
            assert!(seen.contains(&(on, other, "open", higher)), "no row for {on} | {other} | {higher} | open");
        }
    }
}
