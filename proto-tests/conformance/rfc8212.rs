//! RFC 8212: nothing without a policy.

use crate::rig::*;
use herald::peer::Plan;
use herald::rib::{Attributes, Bounds};

#[test]
fn s3_without_a_policy_nothing_is_announced() {
    let mut desk = On::External.desk();
    assert_eq!(desk.said(), [], "no plan");
    let routes = plan(&["198.51.100.1", "2001:db8:1::1"], Attributes::default()).routes;
    for bounds in
        [Bounds::default(), Bounds::within([("203.0.113.0".parse().unwrap(), "203.0.113.255".parse().unwrap())])]
    {
        let plan = Plan { routes: routes.clone(), bounds, ..Plan::default() };
        desk.peer.handle(herald::peer::Input::Plan(plan), desk.now);
        assert_eq!(desk.updates().iter().flat_map(|update| update.announced()).count(), 0, "in no pool");
    }
    let text = "asn: 64512\npeers: [{name: a, address: 192.0.2.1, asn: 64513}]\n\
                pools: [{name: p, addresses: [198.51.100.0/24]}]\n";
    let (config, _) = herald::config::Config::parse("none.yaml", text).unwrap();
    assert!(config.policy.advertisements.is_empty(), "a pool alone announces nothing");
}
