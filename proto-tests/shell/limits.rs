//! A router that accepts only so many routes.

use crate::process::{Peer, Stage, config, node, service};
use crate::router::{Entry, Manner, Router, newest};
use std::fmt::Write as _;

/// What a router is sent at most, who waits, how that is told, and that another limit ends no session.
#[test]
fn a_router_is_sent_nine_tenths_of_what_it_accepts_and_the_rest_waits() {
    let router = Router::start(61, Manner::Ordinary);
    let mut stage = Stage::new();
    stage.write("manifests/node.yaml", &node("n1", ""));
    let mut services = String::new();
    for last in 1..=6 {
        write!(services, "---\n{}", service(&format!("s{last}"), &[format!("198.51.100.{last}")])).unwrap();
    }
    stage.write("manifests/services.yaml", &services);
    let limited = |more| config(&[Peer { name: "r1", address: router.address, more }], "");
    stage.write("herald.yaml", &limited("  prefixLimit: {ipv4: 5}\n"));
    stage.start("n1");
    router.wait_for_end_of_rib();
    let held = |numbers: &[u8]| numbers.iter().map(|last| format!("198.51.100.{last}/32")).collect::<Vec<_>>();
    let wait = |numbers: &[u8]| router.wait_for_table(&held(numbers).iter().map(String::as_str).collect::<Vec<_>>());
    wait(&[1, 2, 3, 4]);
    stage.wait_for_log("routes are held back");
    stage.wait("the held back in the metrics", || {
        let (_, metrics) = stage.ask("/metrics");
        [
            "herald_bgp_routes_held_back{peer=\"r1\",family=\"ipv4-unicast\"} 2",
            "herald_bgp_prefix_limit{peer=\"r1\",family=\"ipv4-unicast\"} 5",
        ]
        .iter()
        .all(|line| metrics.contains(line))
    });
    let peers = String::from_utf8(stage.show(&["peers"]).stdout).unwrap();
    assert!(peers.contains("4 (2 held back)"), "{peers}");
    let routes = String::from_utf8(stage.show(&["routes"]).stdout).unwrap();
    assert_eq!(routes.matches("held back").count(), 2, "{routes}");
    let (_, json) = stage.ask("/v1/peers");
    assert!(json.contains("\"prefixLimits\":{\"ipv4-unicast\":{\"accepts\":5,\"most\":4,\"heldBack\":2}}"), "{json}");

    // One goes: the lowest that waits takes its place. Nobody else moves.
    stage.write("manifests/services.yaml", &services.replace("198.51.100.2\"", "198.51.100.200\""));
    wait(&[1, 3, 4, 5]);
    // The router takes more: so do we, and the session goes on.
    stage.write("herald.yaml", &limited("  prefixLimit: {ipv4: 7}\n"));
    wait(&[1, 3, 4, 5, 6, 200]);
    stage.wait_for_log("75 % of what the peer accepts is announced");
    let log = router.log();
    let withdrawn: Vec<_> = newest(&log).iter().filter(|entry| matches!(entry, Entry::Withdraw(_))).collect();
    assert_eq!(withdrawn, [&Entry::Withdraw("198.51.100.2/32".to_owned())]);
    assert!(!log.contains(&Entry::Closed), "{log:?}");
}
