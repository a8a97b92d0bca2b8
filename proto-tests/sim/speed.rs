//! How long a full table takes: from Established to the last octet out of `transmit`.

use crate::desk::Desk;
use bytes::BytesMut;
use herald::peer::{Input, Plan};
use herald::rib::{Attributes, Bounds, RouteSet};
use herald::wire::Prefix;
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

/// Everything that `transmit` has, a buffer at a time: UPDATEs and octets, and how long it took.
fn drain(desk: &mut Desk, plan: RouteSet) -> (u64, usize, Duration) {
    let before = desk.sent("UPDATE");
    let (mut octets, mut out) = (0, BytesMut::with_capacity(LIMIT + 4096));
    let start = Instant::now();
    desk.peer.handle(Input::Plan(Plan { routes: plan, bounds: Bounds::everything(), ..Plan::default() }), desk.now);
    loop {
        out.clear();
        desk.peer.transmit(desk.conn, &mut out, LIMIT, desk.now);
        if out.is_empty() {
            break;
        }
        octets += out.len();
    }
    (desk.sent("UPDATE") - before, octets, start.elapsed())
}

/// Debug builds are many times slower and the machine may be busy: this guards the complexity, the bench the threshold.
#[test]
fn a_full_table_takes_no_time_and_a_change_next_to_none() {
    let bound = Duration::from_millis(if cfg!(debug_assertions) { 3000 } else { 30 });
    let plan = routes(&Arc::new(Attributes::default()));
    let mut one_less = plan.clone();
    one_less.remove(&Prefix::host(Ipv4Addr::new(10, 0, 0, 7).into()));
    let flipped = routes(&Arc::new(Attributes { med: Some(1), ..Attributes::default() }));
    let (mut best_full, mut best_single) = (Duration::MAX, Duration::MAX);
    for _ in 0..3 {
        let mut desk = Desk::established();
        let (updates, octets, full) = drain(&mut desk, plan.clone());
        println!("full table: {ROUTES} routes, {updates} UPDATEs, {octets} octets in {full:?}");
        assert_eq!(updates, 124 + 2, "124 full UPDATEs and two End-of-RIBs");
        let (updates, _, single) = drain(&mut desk, one_less.clone());
        println!("one change among {ROUTES}: {updates} UPDATE in {single:?}");
        assert_eq!(updates, 1);
        let (updates, _, all) = drain(&mut desk, flipped.clone());
        println!("all {ROUTES} with other attributes: {updates} UPDATEs in {all:?}");
        assert_eq!(updates, 124);
        (best_full, best_single) = (best_full.min(full), best_single.min(single));
    }
    assert!(best_full < bound, "{best_full:?}");
    assert!(best_single < best_full / 20, "a single change took {best_single:?}, the whole table {best_full:?}");
}
