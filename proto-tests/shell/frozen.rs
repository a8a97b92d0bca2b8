//! A speaker that is kept from running for a while: what its routers said meanwhile waits to be read, and counts.

use crate::process::{Peer, Stage, config, node, service};
use crate::router::{Entry, Manner, Router, newest, table, told};
use std::thread;
use std::time::Duration;

const V4: &str = "198.51.100.7/32";

/// A speaker with an Established session to this router, just after it has said something.
fn speaking(router: &Router) -> Stage {
    let mut stage = Stage::new();
    stage.write("manifests/node.yaml", &node("n1", ""));
    stage.write("manifests/web.yaml", &service("web", &["198.51.100.7".to_owned()]));
    stage.write("herald.yaml", &config(&[Peer { name: "r1", address: router.address, more: "" }], ""));
    stage.start("n1");
    router.wait_for_table(&[V4]);
    let keepalives = keepalives(router);
    router.wait("a KEEPALIVE of the speaker", |log| count(log) > keepalives);
    stage
}

fn count(log: &[Entry]) -> usize {
    newest(log).iter().filter(|entry| **entry == Entry::Keepalive).count()
}

fn keepalives(router: &Router) -> usize {
    count(&router.log())
}

/// Stops the process for `time`, `after` its last KEEPALIVE, and waits until it is heard again.
fn freeze(router: &Router, stage: &Stage, after: Duration, time: Duration) -> Vec<Entry> {
    thread::sleep(after);
    let before = router.log().len();
    stage.signal("STOP");
    thread::sleep(time);
    stage.signal("CONT");
    let heard = |entry: &Entry| matches!(entry, Entry::Keepalive | Entry::Notification { .. } | Entry::Closed);
    router.wait("the speaker after it was frozen", |log| log[before..].iter().any(heard))
}

#[test]
fn what_a_patient_router_said_while_we_were_frozen_counts() {
    // The hold time is 9 s, the KEEPALIVE interval 3 s, and the router speaks every second. Beyond the hold time either the
    // deadline or the input is seen first: by chance, so there are several.
    let long = [0, 375, 750, 1125, 1500, 2250].map(|after| (after, 9500));
    let short = [(0, 6300), (2250, 6300), (0, 8200), (1500, 8200)];
    let cases: Vec<_> = short.into_iter().chain(long).chain([(0, 60_000)]).collect();
    let cases = &cases;
    let run = move |at: usize| {
        let (after, time) = cases[at];
        let router = Router::start(u8::try_from(100 + at).unwrap(), Manner::Ordinary);
        let stage = speaking(&router);
        let log = freeze(&router, &stage, Duration::from_millis(after), Duration::from_millis(time));
        let ended = |entry: &Entry| matches!(entry, Entry::Notification { .. } | Entry::Closed | Entry::Withdraw(_));
        assert!(!log.iter().any(ended), "frozen for {time} ms, {after} ms after a KEEPALIVE: {log:?}");
        assert_eq!(table(&log), [V4.to_owned()].into());
        // It lives on: what changes still travels, on the same session.
        stage.write("manifests/second.yaml", &service("second", &["198.51.100.8".to_owned()]));
        let log = router.wait("the change", |log| table(log).contains("198.51.100.8/32"));
        assert_eq!(log.iter().filter(|entry| **entry == Entry::Up).count(), 1, "{log:?}");
    };
    thread::scope(|scope| {
        (0..cases.len()).for_each(|at| drop(scope.spawn(move || run(at))));
    });
}

#[test]
fn half_a_header_is_no_sign_of_life_however_long_we_were_frozen() {
    let router = Router::start(120, Manner::Halting);
    let stage = speaking_to_halting(&router);
    freeze(&router, &stage, Duration::ZERO, Duration::from_millis(9500));
    router.wait("the end of the hold time", |log| told(log, (4, 0)));
}

/// As [`speaking`]; this router is silent from the first table on.
fn speaking_to_halting(router: &Router) -> Stage {
    let mut stage = Stage::new();
    stage.write("manifests/node.yaml", &node("n1", ""));
    stage.write("herald.yaml", &config(&[Peer { name: "r1", address: router.address, more: "" }], ""));
    stage.start("n1");
    router.wait("the session", |log| !newest(log).is_empty());
    stage
}
