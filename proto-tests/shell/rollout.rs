//! A change that resets sessions walks over the peers of a node; one that is wrong stops at the first.

use crate::process::{Peer, Stage, config, node, service};
use crate::router::{Entry, Manner, Router, newest, told};

const ROUTE: &str = "198.51.100.7/32";

fn three(first: u8) -> [Router; 3] {
    [0, 1, 2].map(|n| Router::start(first + n, Manner::Ordinary))
}

/// Three peers with the same lines, and how long one of them may take to come back.
fn edited(routers: &[Router; 3], more: &str) -> String {
    let names = ["a", "b", "c"];
    let peers: Vec<_> =
        names.iter().zip(routers).map(|(name, router)| Peer { name, address: router.address, more }).collect();
    config(&peers, "") + "reload: {patience: 2s}\n"
}

fn started(routers: &[Router; 3]) -> Stage {
    let mut stage = Stage::new();
    stage.write("manifests/node.yaml", &node("n1", ""));
    stage.write("manifests/web.yaml", &service("web", &["198.51.100.7".to_owned()]));
    stage.write("herald.yaml", &edited(routers, ""));
    stage.start("n1");
    routers.iter().for_each(|router| drop(router.wait_for_end_of_rib()));
    stage
}

fn sessions(router: &Router) -> usize {
    router.log().iter().filter(|entry| **entry == Entry::Up).count()
}

fn remarks(stage: &Stage) -> String {
    stage.ask("/v1/peers").1
}

#[test]
fn a_source_address_that_no_router_takes_costs_one_session_and_that_comes_back() {
    let routers = three(140);
    let stage = started(&routers);
    // An address that this node does not have.
    stage.write("herald.yaml", &edited(&routers, "  sourceAddress: 203.0.113.77\n"));
    stage.signal("HUP");
    routers[0].wait("6/6", |log| told(log, (6, 6)));
    stage.wait("the walk stopped", || {
        stage.ask("/readyz").1.contains("ReloadStopped a: peer a did not come back within 2 s")
    });
    routers[0].wait("its old session", |log| {
        log.iter().filter(|entry| **entry == Entry::Up).count() == 2
            && newest(log).contains(&Entry::EndOfRib(herald::wire::Family::IPV4_UNICAST))
    });
    assert_eq!(routers.each_ref().map(sessions), [2, 1, 1], "nobody else was touched");
    let told = remarks(&stage);
    assert!(told.contains("source address: not taken, since a did not come back with it"), "{told}");
    assert!(stage.ask("/metrics").1.contains("herald_conditions{reason=\"ReloadStopped\"} 1.0"));
    // Who insists gets it: a is tried once more, and nobody else.
    let said = stage.ask("/readyz").1;
    let number = said.split("herald confirm ").nth(1).unwrap_or_else(|| panic!("{said}"))[..16].to_owned();
    assert!(stage.show(&["confirm", &number]).status.success());
    routers[0].wait("6/6 again", |log| log.iter().filter(|entry| **entry == Entry::Closed).count() == 2);
    stage.wait("the walk stopped again", || stage.ask("/readyz").1.contains("ReloadStopped a"));
    routers[0].wait("its old session again", |log| log.iter().filter(|entry| **entry == Entry::Up).count() == 3);
    // The mending edit ends it, without a reset: everybody has what it says.
    stage.write("herald.yaml", &edited(&routers, ""));
    stage.signal("HUP");
    stage.wait("nothing is wrong any more", || !stage.ask("/readyz").1.contains("ReloadStopped"));
    routers.iter().for_each(|router| router.wait_for_table(&[ROUTE]));
    assert_eq!(routers.each_ref().map(sessions), [3, 1, 1]);
}

#[test]
fn a_change_that_resets_is_taken_by_one_peer_after_the_other() {
    let routers = three(143);
    let stage = started(&routers);
    stage.write("herald.yaml", &edited(&routers, "  sourceAddress: 127.0.0.1\n"));
    stage.signal("HUP");
    for (n, router) in routers.iter().enumerate() {
        router.wait("its turn", |log| told(log, (6, 6)));
        // Who comes before is back with its table, and who comes after has not been asked.
        for before in &routers[..n] {
            assert!(newest(&before.log()).contains(&Entry::EndOfRib(herald::wire::Family::IPV4_UNICAST)));
        }
        let untouched = routers[n + 1..].iter().filter(|after| sessions(after) == 1).count();
        assert!(untouched + 1 >= routers.len() - n, "{untouched} after {n}");
    }
    stage.wait("all have two", || routers.each_ref().map(sessions) == [2, 2, 2]);
}

#[test]
fn another_hold_time_ends_no_session_and_peers_show_both() {
    let routers = three(146);
    let stage = started(&routers);
    let text = edited(&routers, "").replace("holdTime: 9s", "holdTime: 30s");
    stage.write("herald.yaml", &text);
    stage.signal("HUP");
    stage.wait("what is configured is shown", || {
        remarks(&stage).matches("the file has another hold time: the next session has it").count() == 3
    });
    assert!(remarks(&stage).contains("\"holdTimeSeconds\":9"));
    assert_eq!(routers.each_ref().map(sessions), [1, 1, 1]);
}
