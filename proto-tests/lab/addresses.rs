//! A node whose addresses change while its session lives, judged by the router's kernel: next hops follow, what passes or moves
//! between nodes is never one, and a session whose own address is gone is not kept.

use crate::manifests::{Manifests, Policy};
use crate::rig::fib::Watch;
use crate::rig::router::{Kind, Router};
use crate::rig::{Outcome, Rig, wait_until};
use crate::site::{HOLD, SOON, START};
use crate::speaker::{Config, Speaker};
use crate::topology::{Family, Lab, address, hops, link_address, network, service_route};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// The node's end of its link to the router, called after that.
const DEVICE: &str = "r1";
const NEW: &str = "2001:db8:30:11::99";

/// IPv6 routes over an IPv4 session, whose next hop is another address of the interface.
pub fn next_hops_follow_the_node(rig: &Arc<Rig>) -> Outcome {
    let lab = Lab::build(rig)?;
    let node = &lab.nodes[0];
    let manifests = Manifests::begin(rig)?;
    manifests.service(1, Policy::Cluster, &[1])?;
    let _router = Router::start(Kind::Frr, rig, &lab.routers[0], &lab.plan(1, Family::V4, HOLD))?;
    let mut watch = Watch::begin(&lab.routers[0])?;
    let config = Config::of_node(1, Family::V4, HOLD);
    let config = Config { peers: config.peers.into_iter().take(1).collect(), ..config };
    let mut speaker = Speaker::start(rig, node, &config, &manifests)?;
    let route = |number| service_route(number, Family::V6);
    watch.wait_hops(START, route(1), &hops(&[1], 1, Family::V6))?;

    // Renumbered: the new address first, then the old one goes.
    let renumbered = BTreeSet::from([address(NEW)]);
    let old = link_address(1, 1, 2, Family::V6);
    node.address(DEVICE, &[network(&format!("{NEW}/64"))])?;
    let begun = Instant::now();
    node.ip(&[format!("addr del {old}/64 dev {DEVICE}")])?;
    let after = watch.wait_hops(SOON, route(1), &renumbered)?;
    println!("  renumbered: the next hop followed after {:.2} s", (after - begun).as_secs_f32());

    // The kernel lists both before the one in use: a deprecated address, and one as keepalived has it.
    node.ip(&[format!("addr add 2001:db8:30:11::5/64 dev {DEVICE} nodad valid_lft forever preferred_lft 0")])?;
    node.address(DEVICE, &[network("2001:db8:30:11::aaaa/128")])?;
    manifests.service(2, Policy::Cluster, &[1])?;
    watch.wait_hops(SOON, route(2), &renumbered)?;
    watch.wait_hops(SOON, route(1), &renumbered)?;

    // None that is fit: the Node's own stands in, which this router does not find on the link. Back with the address.
    node.ip(&[format!("addr del {NEW}/64 dev {DEVICE}")])?;
    watch.wait(SOON, "the route to leave that address", |table| {
        match table.get(&route(1)).is_none_or(|hops| !hops.contains(&address(NEW))) {
            true => Ok(()),
            false => Err(format!("{table:?}")),
        }
    })?;
    node.address(DEVICE, &[network(&format!("{NEW}/64"))])?;
    watch.wait_hops(SOON, route(1), &renumbered)?;

    // The session's own address: nothing would leave the socket, and nothing would say so.
    let own = link_address(1, 1, 2, Family::V4);
    let begun = Instant::now();
    node.ip(&[format!("addr del {own}/24 dev {DEVICE}")])?;
    wait_until(SOON, "the end of the session", || {
        let log = speaker.process().log_end();
        let said = log.contains(&format!("its source address {own} is no longer an address of this node"));
        if said { Ok(()) } else { Err(log) }
    })?;
    println!("  its own address gone: the session ended after {:.2} s", begun.elapsed().as_secs_f32());
    node.ip(&[format!("addr add {own}/24 dev {DEVICE}")])?;
    watch.wait_hops(START, service_route(1, Family::V4), &hops(&[1], 1, Family::V4)).map(drop)
}
