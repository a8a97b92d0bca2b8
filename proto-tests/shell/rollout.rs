//! A change that resets sessions walks over the peers of a node; one that is wrong stops at the first.

use crate::process::{Peer, Stage, config, node, service};
use crate::router::{Entry, Manner, Router, newest, told};
use std::fs;
use std::time::{Duration, Instant};

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
    start(&mut stage);
    routers.iter().for_each(|router| drop(router.wait_for_end_of_rib()));
    stage
}

/// Starts a process that finds what the one before it left.
fn start(stage: &mut Stage) {
    let state = stage.path("state").display().to_string();
    stage.start_with("n1", &["--state", &state]);
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

/// An address that this node does not have: no session comes up from it.
const WRONG: &str = "  sourceAddress: 203.0.113.77\n";

/// Waits until each router has had so many sessions; the last ones are up, with the whole table.
#[track_caller]
fn wait_for_sessions(stage: &Stage, routers: &[Router; 3], counts: [usize; 3]) {
    stage.wait(&format!("{counts:?} sessions"), || routers.each_ref().map(sessions) == counts);
    for router in routers {
        router.wait("its table", |log| newest(log).contains(&Entry::EndOfRib(herald::wire::Family::IPV4_UNICAST)));
        router.wait_for_table(&[ROUTE]);
    }
}

fn is_written_down(stage: &Stage, text: &str) -> bool {
    fs::read_to_string(stage.path("state/walk")).is_ok_and(|walk| walk.contains(text))
}

#[test]
fn a_stopped_walk_outlives_a_kill_and_no_peer_begins_with_what_failed() {
    let routers = three(184);
    let mut stage = started(&routers);
    stage.write("herald.yaml", &edited(&routers, WRONG));
    stage.signal("HUP");
    stage.wait("the walk stopped", || stage.ask("/readyz").1.contains("ReloadStopped a"));
    wait_for_sessions(&stage, &routers, [2, 1, 1]);
    stage.wait("it in the state folder", || is_written_down(&stage, "\"failed\":{\"peer\":\"a\""));
    stage.kill();
    start(&mut stage);
    let began = Instant::now();
    wait_for_sessions(&stage, &routers, [3, 2, 2]);
    // More than once the time after which a peer that is down takes what is new.
    stage.wait("three times the patience", || began.elapsed() > Duration::from_secs(6));
    let (_, ready) = stage.ask("/readyz");
    assert!(
        ready.contains("ReloadStopped a: peer a did not come back within 2 s with another source address"),
        "{ready}"
    );
    assert!(stage.ask("/metrics").1.contains("herald_conditions{reason=\"ReloadStopped\"} 1.0"));
    let told = remarks(&stage);
    assert_eq!(told.matches("source address: not taken, since a did not come back with it").count(), 3, "{told}");
    assert_eq!(routers.each_ref().map(sessions), [3, 2, 2], "nobody was touched");
    // The mending edit arrives at each of them.
    stage.write("herald.yaml", &edited(&routers, "  sourceAddress: 127.0.0.1\n"));
    stage.signal("HUP");
    wait_for_sessions(&stage, &routers, [4, 3, 3]);
    stage.wait("nothing is wrong any more", || !stage.ask("/readyz").1.contains("ReloadStopped"));
    stage.wait("nothing is left", || is_written_down(&stage, "{\"before\":{},\"failed\":null}"));
    stage.kill();
    start(&mut stage);
    wait_for_sessions(&stage, &routers, [5, 4, 4]);
}

#[test]
fn a_kill_in_the_middle_of_a_walk_puts_no_peer_on_what_is_not_proven_and_the_walk_goes_on() {
    let routers = three(187);
    let mut stage = started(&routers);
    let patient = |more| edited(&routers, more).replace("patience: 2s", "patience: 60s");
    stage.write("herald.yaml", &patient(WRONG));
    stage.signal("HUP");
    routers[0].wait("6/6", |log| told(log, (6, 6)));
    stage.wait("it in the state folder", || is_written_down(&stage, "\"before\":{\"a\":"));
    stage.kill();
    start(&mut stage);
    stage.wait("all are back", || routers.each_ref().map(sessions) == [2, 2, 2]);
    // It walks on, and begins again with the one that had not come back.
    routers[0].wait("6/6 again", |log| log.iter().filter(|entry| **entry == Entry::Closed).count() == 2);
    let told = remarks(&stage);
    assert_eq!(told.matches("its turn comes when a is back").count(), 2, "{told}");
    stage.write("herald.yaml", &patient(""));
    stage.signal("HUP");
    wait_for_sessions(&stage, &routers, [3, 2, 2]);
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

/// What `herald check --against-running` prints of a text, and how it exits.
fn against(stage: &Stage, text: &str) -> (Option<i32>, String) {
    stage.write("edited.yaml", text);
    let file = stage.path("edited.yaml");
    let said = stage.show(&["check", file.to_str().unwrap(), "--against-running"]);
    (said.status.code(), String::from_utf8(said.stdout).unwrap() + &String::from_utf8(said.stderr).unwrap())
}

#[test]
fn check_says_beforehand_what_a_file_does_to_the_sessions_that_run() {
    let routers = three(149);
    let stage = started(&routers);
    stage.wait("all are shown as up", || remarks(&stage).matches("\"state\":\"Established\"").count() == 3);
    let same = edited(&routers, "");
    let (code, said) = against(&stage, &same);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Node n1:\n  a: nothing\n  b: nothing\n  c: nothing\nThe speaker has this"), "{said}");
    let (code, said) = against(&stage, &same.replace("holdTime: 9s", "holdTime: 30s"));
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.matches("soft: the next session has another hold time").count(), 3, "{said}");
    // One that resets, one that goes, one that is new, and a selector that takes this node out.
    let to = |n: usize| format!("address: {}\n  port: {}\n", routers[n].address.ip(), routers[n].address.port());
    let other = same
        .replace(&to(0), &(to(0) + "  families: [ipv4]\n"))
        .replace(&to(1), &(to(1) + "  nodeSelector: {matchLabels: {rack: r9}}\n"))
        .replace("name: c\n", "name: d\n");
    let (code, said) = against(&stage, &other);
    assert_eq!(code, Some(3), "{said}");
    for line in [
        "a: reset: another families\n",
        "b: reset: its session ends",
        "c: reset: its session ends",
        "d: soft: it is new",
    ] {
        assert!(said.contains(line), "{line:?} in\n{said}");
    }
    // A number that confirms nothing here.
    let (code, said) = against(&stage, &same.replace("guard:\n", "guard:\n  confirm: \"00112233aabbccdd\"\n"));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("is of nothing that is held on this node: take it out"), "{said}");
    assert_eq!(against(&stage, "asn: [").0, Some(1));
    // The answer is no edit: nobody was touched, and what was said of the reset is what happens.
    assert_eq!(routers.each_ref().map(sessions), [1, 1, 1]);
    let reset = same.replace(&to(0), &(to(0) + "  families: [ipv4]\n"));
    assert_eq!(against(&stage, &reset).0, Some(3));
    stage.write("herald.yaml", &reset);
    stage.signal("HUP");
    stage.wait("a has two", || routers.each_ref().map(sessions) == [2, 1, 1]);
    stage.wait("it is what runs", || against(&stage, &reset).1.contains("The speaker has this configuration already"));
}

/// Without an API server nobody can say whose turn it is: that is said, waited for as long as is promised, and no longer.
#[test]
fn a_change_that_resets_does_not_hang_on_an_api_server() {
    let routers = three(152);
    let mut stage = Stage::new();
    stage.write("herald.yaml", &edited(&routers, ""));
    stage.start_in_a_cluster_that_is_down("n1");
    for router in &routers {
        router.wait("its session", |log| log.contains(&Entry::Up));
    }
    stage.write("herald.yaml", &edited(&routers, "  sourceAddress: 127.0.0.1\n"));
    stage.signal("HUP");
    stage.wait("nobody can be asked", || stage.ask("/readyz").1.contains("LeaseUnavailable"));
    let said = std::time::Instant::now();
    let asked = "source address: other nodes are asked first whose turn it is";
    stage.wait("three wait for an answer", || remarks(&stage).matches(asked).count() == 3);
    assert_eq!(routers.each_ref().map(sessions), [1, 1, 1]);
    stage.wait("all have two", || routers.each_ref().map(sessions) == [2, 2, 2]);
    assert!(said.elapsed() > herald::config::rollout::UNANSWERED / 2, "it was not waited for: {:?}", said.elapsed());
    stage.wait("nothing is asked any more", || !stage.ask("/readyz").1.contains("LeaseUnavailable"));
}
