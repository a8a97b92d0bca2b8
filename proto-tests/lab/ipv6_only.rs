//! A node without any IPv4 address, from its Node object to the routers' tables and to traffic.

use crate::manifests::{Manifests, Policy};
use crate::rig::fib::Watch;
use crate::rig::probe::connections;
use crate::rig::router::{Kind, Router};
use crate::rig::{Outcome, Rig, wait_until};
use crate::site::{HOLD, SOON, START};
use crate::speaker::{Config, Speaker};
use crate::topology::{Family, Lab, hops, link_address, node_address, service_route, service_socket};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

const NODE: &str = "n1";

/// The node's sessions carry the router ID that is made of its name, both routers install the /128 by its link's address, and the
/// client is answered; of the service's IPv4 address, for which the node has no next hop, nothing is heard.
pub fn announces_with_an_id_of_its_name(rig: &Arc<Rig>) -> Outcome {
    let lab = Lab::build(rig)?;
    let node = &lab.nodes[0];
    node.run("ip", &["-4", "address", "flush", "scope", "global"])?;
    let left = node.run("ip", &["-4", "-o", "address", "show", "scope", "global"])?;
    if !left.is_empty() {
        return Err(format!("the node still has IPv4 addresses: {left}"));
    }
    let manifests = Manifests::begin(rig)?;
    manifests.write("nodes", &node_object())?;
    manifests.service(1, Policy::Cluster, &[1])?;
    let kinds = [Kind::Frr, Kind::Bird].into_iter().enumerate();
    let start = |(j, kind)| Router::start(kind, rig, &lab.routers[j], &lab.plan(j + 1, Family::V6, HOLD));
    let routers = kinds.map(start).collect::<Outcome<Vec<_>>>()?;
    let mut watches = lab.routers.iter().map(Watch::begin).collect::<Outcome<Vec<_>>>()?;
    let begin = Instant::now();
    let mut speaker = Speaker::start(rig, node, &Config::of_node(1, Family::V6, HOLD), &manifests)?;
    for (j, watch) in watches.iter_mut().enumerate() {
        let at = watch.wait_hops(START, service_route(1, Family::V6), &hops(&[1], j + 1, Family::V6));
        let at = at.map_err(|what| format!("{what}\n{}", speaker.process().log_end()))?;
        let id = router_id(&routers[j])?;
        println!("  {:?}: after {:.1?}, from router ID {id}", routers[j].space().short(), at - begin);
        if id != id_of(NODE) {
            return Err(format!("{NODE} calls itself {id}; by its name it should be {}", id_of(NODE)));
        }
    }
    wait_until(SOON, "every connection to be answered", || {
        let tally = connections(&lab.client, service_socket(1, Family::V6), 50)?;
        if tally.answered() == 50 { Ok(()) } else { Err(tally.to_string()) }
    })?;
    for watch in &mut watches {
        let name = watch.space().short().to_owned();
        if watch.history().iter().any(|snapshot| snapshot.table.contains_key(&service_route(1, Family::V4))) {
            return Err(format!("{name} had a route to an IPv4 address by way of a node that has none"));
        }
    }
    manifests.delete(1)?;
    watches
        .iter_mut()
        .try_for_each(|watch| watch.wait_hops(SOON, service_route(1, Family::V6), &BTreeSet::new()).map(drop))
}

fn node_object() -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{ name: {NODE} }}\nstatus:\n  addresses:\n  \
         - {{ type: InternalIP, address: \"{}\" }}\n  - {{ type: Hostname, address: {NODE} }}\n",
        node_address(1, Family::V6)
    )
}

/// The rule, once more and by itself: FNV-1a, 32 bits, over the name.
fn id_of(name: &str) -> Ipv4Addr {
    name.bytes().fold(0x811c_9dc5_u32, |hash, octet| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193)).into()
}

/// What a router says that the node calls itself.
fn router_id(router: &Router) -> Outcome<Ipv4Addr> {
    let address = link_address(1, if router.space().short() == "r1" { 1 } else { 2 }, 2, Family::V6);
    let (text, id) = match router {
        Router::Frr(frr) => {
            let text = frr.shell("show bgp neighbors json")?;
            let all: Value = serde_json::from_str(&text).map_err(|e| format!("bgpd wrote no JSON: {e}: {text}"))?;
            let id = all[address.to_string()]["remoteRouterId"].as_str().map(str::to_owned);
            (text, id)
        }
        Router::Bird(bird) => {
            let text = bird.shell(&format!("show protocols all {NODE}"))?;
            let id =
                text.lines().find_map(|line| line.trim().strip_prefix("Neighbor ID:")).map(|id| id.trim().to_owned());
            (text, id)
        }
    };
    id.and_then(|id| id.parse().ok()).ok_or_else(|| format!("no router ID of {address} in:\n{text}"))
}
