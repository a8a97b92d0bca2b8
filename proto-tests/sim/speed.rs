//! How long a full table takes: from Established to the last octet out of `transmit`.

use bytes::BytesMut;
use herald::peer::{ConnId, Identity, Input, LocalEnd, Neighbor, Output, Peer, Plan, Settings};
use herald::rib::{Attributes, RouteSet};
use herald::wire::{Asn, Capability, Context, Family, Message, Open, Prefix, RouterId};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROUTES: u32 = 100_000;
/// What the driver takes at a time.
const LIMIT: usize = 65_536;

fn routes(attributes: &Arc<Attributes>) -> RouteSet {
    let host = |n| Prefix::host(Ipv4Addr::from_bits(0x0A00_0000 + n).into());
    (0..ROUTES).map(|n| (host(n), attributes.clone())).collect()
}

/// A peer in Established with its connection, and a plan already there.
fn established(plan: RouteSet) -> (Peer, ConnId) {
    let families = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
    let router_id = |last| RouterId::new(Ipv4Addr::new(10, 0, 0, last)).unwrap();
    let settings = Settings {
        identity: Identity { asn: Asn(64512), router_id: router_id(1) },
        neighbor: Neighbor {
            name: "router".into(),
            address: "192.0.2.254".parse().unwrap(),
            port: 179,
            asn: Asn(64513),
            hold_time: Duration::from_secs(90),
            source_address: None,
            families: families.into(),
            ttl: Default::default(),
        },
    };
    let now = Instant::now();
    let mut peer = Peer::new(settings, 1, now);
    peer.handle(Input::Plan(Plan { routes: plan, node_addresses: vec![] }), now);
    peer.handle(Input::Start, now);
    let Some(Output::Connect(conn)) = peer.poll_output() else { panic!("a dial comes first") };
    let end = LocalEnd {
        local: "192.0.2.1:40000".parse().unwrap(),
        remote: "192.0.2.254:179".parse().unwrap(),
        interface: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
    };
    peer.handle(Input::Connected(conn, end), now);
    let theirs = Open {
        my_as: 64513,
        hold_time: 90,
        router_id: router_id(2),
        capabilities: families
            .map(Capability::Multiprotocol)
            .into_iter()
            .chain([Capability::FourOctetAs(Asn(64513))])
            .collect(),
    };
    let mut octets = BytesMut::new();
    Message::Open(theirs).encode(&Context::before_open(), &mut octets).unwrap();
    Message::Keepalive.encode(&Context::before_open(), &mut octets).unwrap();
    peer.handle(Input::Received(conn, &mut octets), now);
    (peer, conn)
}

/// Everything that `transmit` has, a buffer at a time: messages and octets.
fn drain(peer: &mut Peer, conn: ConnId) -> (u64, usize) {
    let before = peer.status().sent.get("UPDATE").copied().unwrap_or_default();
    let (mut octets, mut out) = (0, BytesMut::with_capacity(LIMIT + 4096));
    loop {
        out.clear();
        peer.transmit(conn, &mut out, LIMIT, Instant::now());
        if out.is_empty() {
            return (peer.status().sent["UPDATE"] - before, octets);
        }
        octets += out.len();
    }
}

/// Debug builds are twenty times slower; this is a smoke test of the complexity, the bench has the threshold.
#[test]
fn a_full_table_takes_no_time() {
    let bound = Duration::from_millis(if cfg!(debug_assertions) { 3000 } else { 30 });
    let plain = Arc::new(Attributes::default());
    let plan = routes(&plain);
    let (mut peer, conn) = established(plan.clone());
    let start = Instant::now();
    let (updates, octets) = drain(&mut peer, conn);
    let full = start.elapsed();
    println!("full table: {ROUTES} routes, {updates} UPDATEs, {octets} octets in {full:?}");
    assert_eq!(updates, 124 + 2);

    let mut one = plan.clone();
    one.remove(&Prefix::host(Ipv4Addr::new(10, 0, 0, 7).into()));
    let start = Instant::now();
    peer.handle(Input::Plan(Plan { routes: one, node_addresses: vec![] }), start);
    let (updates, _) = drain(&mut peer, conn);
    let single = start.elapsed();
    println!("one change among {ROUTES}: {updates} UPDATE in {single:?}");
    assert_eq!(updates, 1);

    let flipped = Arc::new(Attributes { med: Some(1), ..Attributes::default() });
    let start = Instant::now();
    peer.handle(Input::Plan(Plan { routes: routes(&flipped), node_addresses: vec![] }), start);
    let (updates, _) = drain(&mut peer, conn);
    println!(
        "all {ROUTES} with other attributes: {updates} UPDATEs in {:?}, building the plan included",
        start.elapsed()
    );
    assert!(full < bound, "{full:?}");
    assert!(single < full / 20, "a single change took {single:?}, the whole table {full:?}");
}
