//! A node whose addresses change while its session lives, judged by the router's kernel: next hops follow, what passes or moves
//! between nodes is never one, and a session whose own address is gone is not kept.

use crate::manifests::{Manifests, Policy};
use crate::rig::fib::{Snapshot, Table, Watch};
use crate::rig::net::Namespace;
use crate::rig::router::{Kind, Router};
use crate::rig::{Outcome, Rig, wait_until};
use crate::site::{HOLD, SOON, START};
use crate::speaker::{Config, Speaker};
use crate::topology::{Family, Lab, address, hops, link_address, network, node_address, service_route};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

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

    // On a link that a pool overlaps, as long as it is.
    let speaks_of_it =
        |speaker: &Speaker| speaker.peers(rig).map(|shown| shown.contains("PoolOnLink lab: this node is on"));
    node.ip(&["addr add 198.51.100.250/28 dev lo"])?;
    wait_until(SOON, "the link in the pool to be said", || says_so(speaks_of_it(&speaker)?, true))?;
    node.ip(&["addr del 198.51.100.250/28 dev lo"])?;
    wait_until(SOON, "the link to be gone", || says_so(speaks_of_it(&speaker)?, false))?;

    // Away for a moment, as whoever configures a node anew does it: the router sees nothing of that.
    let own = link_address(1, 1, 2, Family::V4);
    let before = watch.history().len() - 1;
    node.ip(&[
        format!("addr del {own}/24 dev {DEVICE}"),
        format!("addr del {NEW}/64 dev {DEVICE}"),
        format!("addr add {own}/24 dev {DEVICE}"),
        format!("addr add {NEW}/64 dev {DEVICE} nodad"),
    ])?;
    manifests.service(3, Policy::Cluster, &[1])?;
    watch.wait_hops(SOON, route(3), &renumbered)?;
    // Twice as long as an address must be missing before it is believed.
    thread::sleep(Duration::from_secs(1));
    let four = |seen: &Table| seen.get(&service_route(1, Family::V4)) == Some(&hops(&[1], 1, Family::V4));
    let changed = |seen: &&Snapshot| seen.table.get(&route(1)) != Some(&renumbered) || !four(&seen.table);
    if let Some(seen) = watch.history()[before..].iter().find(changed) {
        return Err(format!("an address was away for a moment, and the router saw {:?}", seen.table));
    }

    // The session's own address: nothing would leave the socket, and nothing would say so.
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

/// IPv6 routes over an IPv4 session, on a node whose kernel has no IPv6 address at first, the Node's own included.
pub fn ipv6_addresses_come_late_pass_and_go(rig: &Arc<Rig>) -> Outcome {
    let lab = Lab::build(rig)?;
    let node = &lab.nodes[0];
    let at_first = link_address(1, 1, 2, Family::V6);
    node.ip(&[format!("addr del {at_first}/64 dev {DEVICE}")])?;
    node.ip(&[format!("addr del {}/128 dev lo", node_address(1, Family::V6))])?;
    let manifests = Manifests::begin(rig)?;
    manifests.service(1, Policy::Cluster, &[1])?;
    let _router = Router::start(Kind::Frr, rig, &lab.routers[0], &lab.plan(1, Family::V4, HOLD))?;
    let mut watch = Watch::begin(&lab.routers[0])?;
    let config = Config::of_node(1, Family::V4, HOLD);
    let config = Config { peers: config.peers.into_iter().take(1).collect(), ..config };
    let speaker = Speaker::start(rig, node, &config, &manifests)?;
    let (four, six) = (|number| service_route(number, Family::V4), |number| service_route(number, Family::V6));
    let of_four = hops(&[1], 1, Family::V4);
    watch.wait_hops(START, four(1), &of_four)?;
    let first = watch.history().len();
    let withheld = |why: &str| wait_until(SOON, "the reason", || says(&speaker.peers(rig)?, why)).map(drop);
    let named = node_address(1, Family::V6);
    withheld(&format!(
        "r1: ipv6-unicast is not announced: no next hop: the session's interface has no usable IPv6 address, and no \
                       interface of this node has its InternalIP {named}"
    ))?;

    // As after boot: the address comes when the session has long been up.
    thread::sleep(Duration::from_secs(3));
    let begun = Instant::now();
    node.address(DEVICE, &[network(&format!("{NEW}/64"))])?;
    let came = watch.wait_hops(SOON, six(1), &BTreeSet::from([address(NEW)]))?;
    println!("  an address 3 s after the session: announced after {:.2} s", (came - begun).as_secs_f32());

    // A temporary one (RFC 8981), which the kernel makes beside a managed one, and which is listed before it.
    let managed = "2001:db8:30:11:ffff:ffff:ffff:fffe";
    node.sysctl(&["net.ipv6.conf.r1.use_tempaddr=2", "net.ipv6.conf.r1.dad_transmits=0"])?;
    node.ip(&[format!("addr add {managed}/64 dev {DEVICE} mngtmpaddr"), format!("addr del {NEW}/64 dev {DEVICE}")])?;
    let shown = wait_until(SOON, "a temporary address", || flagged(node, &["temporary", "-tentative"]))?.0;
    println!("  the kernel made {shown}");
    let managed = BTreeSet::from([address(managed)]);
    watch.wait_hops(SOON, six(1), &managed)?;
    manifests.service(2, Policy::Cluster, &[1])?;
    watch.wait_hops(SOON, six(2), &managed)?;
    watch.wait_hops(SOON, six(1), &managed)?;

    // None left: the kernel takes the temporary ones away with it.
    let begun = Instant::now();
    node.ip(&[format!("addr flush dev {DEVICE} scope global to 2001:db8:30:11::/64")])?;
    let went = watch.wait_hops(SOON, six(1), &BTreeSet::new())?;
    watch.wait_hops(SOON, six(2), &BTreeSet::new())?;
    println!("  none left: withdrawn after {:.2} s", (went - begun).as_secs_f32());
    withheld("r1: ipv6-unicast is not announced: no next hop: ")?;

    // A tentative one (RFC 4862 §5.4), for as long as the kernel asks around whether somebody else has it.
    node.sysctl(&["net.ipv6.conf.r1.accept_dad=1", "net.ipv6.conf.r1.dad_transmits=60"])?;
    node.ip(&[format!("addr add {NEW}/64 dev {DEVICE}")])?;
    flagged(node, &["tentative"])?;
    manifests.service(3, Policy::Cluster, &[1])?;
    watch.wait_hops(SOON, four(3), &of_four)?;
    flagged(node, &["tentative"])?;
    for number in 1..=3 {
        watch.wait_hops(Duration::ZERO, six(number), &BTreeSet::new())?;
    }
    withheld("r1: ipv6-unicast is not announced: no next hop: ")?;
    // Nobody had it.
    node.ip(&[format!("addr del {NEW}/64 dev {DEVICE}")])?;
    node.sysctl(&["net.ipv6.conf.r1.dad_transmits=1"])?;
    node.ip(&[format!("addr add {NEW}/64 dev {DEVICE}")])?;
    let settled = BTreeSet::from([address(NEW)]);
    for number in 1..=3 {
        watch.wait_hops(SOON, six(number), &settled)?;
    }

    // All of that on one session: a reset takes its routes away.
    let lost = watch.history()[first..].iter().find(|seen| seen.table.get(&four(1)) != Some(&of_four));
    lost.map_or(Ok(()), |seen| Err(format!("the session was reset: {:?}", seen.table)))
}

/// The node has a second address on the link, from which the router takes a session too.
pub fn a_session_whose_address_goes_takes_another(rig: &Arc<Rig>) -> Outcome {
    const OTHER: &str = "172.30.11.9";
    let lab = Lab::build(rig)?;
    let node = &lab.nodes[0];
    let own = link_address(1, 1, 2, Family::V4);
    node.sysctl(&["net.ipv4.conf.r1.promote_secondaries=1"])?;
    node.address(DEVICE, &[network(&format!("{OTHER}/24"))])?;
    let manifests = Manifests::begin(rig)?;
    manifests.service(1, Policy::Cluster, &[1])?;
    let mut plan = lab.plan(1, Family::V4, HOLD);
    let second = crate::rig::router::Neighbour {
        name: "other".to_owned(),
        address: address(OTHER),
        ..plan.neighbours[0].clone()
    };
    plan.neighbours.push(second);
    let _router = Router::start(Kind::Frr, rig, &lab.routers[0], &plan)?;
    let mut watch = Watch::begin(&lab.routers[0])?;
    let config = Config::of_node(1, Family::V4, HOLD);
    let config = Config { peers: config.peers.into_iter().take(1).collect(), ..config };
    let _speaker = Speaker::start(rig, node, &config, &manifests)?;
    let route = service_route(1, Family::V4);
    watch.wait_hops(START, route, &BTreeSet::from([own]))?;
    let begun = Instant::now();
    node.ip(&[format!("addr del {own}/24 dev {DEVICE}")])?;
    let over = watch.wait(SOON, "a route by the other address", |table| {
        let hops = table.get(&route).cloned().unwrap_or_default();
        if hops.contains(&address(OTHER)) { Ok(()) } else { Err(format!("via {hops:?}")) }
    })?;
    println!("  its own address gone: announced from another after {:.2} s", (over - begun).as_secs_f32());
    // The router hears nothing of the end of the old session, and gives it up when the hold time is over.
    watch.wait_hops(HOLD + SOON, route, &BTreeSet::from([address(OTHER)])).map(drop)
}

fn says(text: &str, words: &str) -> Outcome {
    if text.contains(words) { Ok(()) } else { Err(text.to_owned()) }
}

/// Addresses of the link that the kernel lists with these flags.
fn flagged(node: &Namespace, flags: &[&str]) -> Outcome<String> {
    let listed = node.run("ip", &[&["-6", "-o", "addr", "show", "dev", DEVICE, "scope", "global"], flags].concat())?;
    if listed.trim().is_empty() { Err(format!("no address with {flags:?}")) } else { Ok(listed.trim().to_owned()) }
}

fn says_so(said: bool, wanted: bool) -> Outcome {
    if said == wanted { Ok(()) } else { Err(format!("it is {said}")) }
}
