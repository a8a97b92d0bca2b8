//! A speaker that is kept from running for a while: what its routers said meanwhile waits to be read, and counts. BIRD beside it is
//! kept from running as long, at the same phase of its own interval, and loses no fewer sessions.

use crate::process::{Peer, Stage, config, node, service};
use crate::router::{Entry, Manner, NODE_ASN, ROUTER_ASN, Router, newest, table, told};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

const V4: &str = "198.51.100.7/32";

/// A speaker with an Established session to this router, which has said something on it.
fn speaking(router: &Router) -> Stage {
    let mut stage = Stage::new();
    stage.write("manifests/node.yaml", &node("n1", ""));
    stage.write("manifests/web.yaml", &service("web", &["198.51.100.7".to_owned()]));
    stage.write("herald.yaml", &config(&[Peer { name: "r1", address: router.address, more: "" }], ""));
    stage.start("n1");
    router.wait_for_table(&[V4]);
    stage
}

/// BIRD, which tells a router of the same route by a session with the same times.
struct Bird {
    child: Child,
    _folder: TempDir,
}

impl Bird {
    fn speaking(router: &Router) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (ip, port) = (router.address.ip(), router.address.port());
        // It listens whatever it is told: on an address and a port of its own, so that many may.
        let own = ip.to_string().replace("127.0.0.", "127.0.1.");
        let text = format!(
            "router id 192.0.2.9;\nprotocol device {{}}\n\
             protocol static {{ ipv4; route {V4} unreachable; }}\n\
             protocol bgp r1 {{\n local {own} port 10179 as {NODE_ASN};\n strict bind;\n \
             neighbor {ip} port {port} as {ROUTER_ASN};\n multihop;\n \
             connect delay time 1;\n hold time 9;\n keepalive time 3;\n \
             ipv4 {{ import none; export all; next hop self; }};\n}}\n"
        );
        std::fs::write(at("bird.conf"), text).unwrap();
        let mut command = Command::new("/usr/sbin/bird");
        command.arg("-f").arg("-c").arg(at("bird.conf")).arg("-s").arg(at("ctl")).arg("-P").arg(at("pid"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.expect("BIRD, of the packages that the suites need");
        let bird = Self { child, _folder: folder };
        router.wait_for_table(&[V4]);
        bird
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

fn count(log: &[Entry]) -> usize {
    newest(log).iter().filter(|entry| **entry == Entry::Keepalive).count()
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap().success());
}

/// Stops a process for `time`, `after` a KEEPALIVE of its, and waits until it is heard again.
fn freeze(router: &Router, pid: u32, after: Duration, time: Duration) -> Vec<Entry> {
    let keepalives = count(&router.log());
    router.wait("a KEEPALIVE of the speaker", |log| count(log) > keepalives);
    thread::sleep(after);
    let before = router.log().len();
    signal(pid, "STOP");
    thread::sleep(time);
    signal(pid, "CONT");
    let heard = |entry: &Entry| matches!(entry, Entry::Keepalive | Entry::Notification { .. } | Entry::Closed);
    router.wait("the speaker after it was frozen", |log| log[before..].iter().any(heard))
}

/// Whether the first session is over.
fn is_lost(log: &[Entry]) -> bool {
    log.iter().any(|entry| matches!(entry, Entry::Notification { .. } | Entry::Closed | Entry::Withdraw(_)))
}

/// Sessions that were lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Lost {
    ours: usize,
    birds: usize,
}

/// Both frozen, side by side, at each of these: milliseconds after a KEEPALIVE, and for how many.
fn lost(manner: Manner, cases: &[(u64, u64)], first_host: u8) -> Lost {
    let run = |at: usize| {
        let (after, time) = (Duration::from_millis(cases[at].0), Duration::from_millis(cases[at].1));
        let host = first_host + 2 * u8::try_from(at).unwrap();
        let ours = move || {
            let router = Router::start(host, manner);
            let stage = speaking(&router);
            let lost = is_lost(&freeze(&router, stage.pid(), after, time));
            if !lost {
                // It lives on: what changes still travels, on the same session.
                stage.write("manifests/second.yaml", &service("second", &["198.51.100.8".to_owned()]));
                let log = router.wait("the change", |log| table(log).contains("198.51.100.8/32"));
                assert_eq!(log.iter().filter(|entry| **entry == Entry::Up).count(), 1, "{log:?}");
            }
            lost
        };
        let birds = move || {
            let router = Router::start(host + 1, manner);
            let bird = Bird::speaking(&router);
            is_lost(&freeze(&router, bird.child.id(), after, time))
        };
        thread::scope(|scope| {
            let (ours, birds) = (scope.spawn(ours), scope.spawn(birds));
            (ours.join().unwrap(), birds.join().unwrap())
        })
    };
    let run = &run;
    thread::scope(|scope| {
        let all: Vec<_> = (0..cases.len()).map(|at| scope.spawn(move || run(at))).collect();
        all.into_iter().fold(Lost::default(), |lost, case| {
            let (ours, birds) = case.join().unwrap();
            Lost { ours: lost.ours + usize::from(ours), birds: lost.birds + usize::from(birds) }
        })
    })
}

/// The hold time is 9 s, the KEEPALIVE interval 3 s, and the router speaks every second. Beyond the hold time either the deadline or
/// the input is seen first: by chance, so there are several.
#[test]
fn what_a_patient_router_said_while_we_were_frozen_counts() {
    let long = [0, 375, 750, 1125, 1500, 2250].map(|after| (after, 9500));
    let short = [(0, 6300), (2250, 6300), (0, 8200), (1500, 8200)];
    let cases: Vec<_> = short.into_iter().chain(long).chain([(0, 60_000)]).collect();
    let lost = lost(Manner::Ordinary, &cases, 100);
    println!("of {} sessions each with a patient router: {lost:?}", cases.len());
    assert_eq!(lost.ours, 0);
}

/// Such a router ends what was silent for a hold time, whoever was frozen; what was silent for less lives on, since the first that
/// is done is to say something.
#[test]
fn a_router_that_does_not_wait_loses_no_more_of_us_than_of_bird() {
    let cases = [(0, 6300), (1500, 6300), (0, 8200), (1500, 8200), (0, 60_000)];
    let lost = lost(Manner::Impatient, &cases, 140);
    println!("of {} sessions each with a router that does not wait: {lost:?}", cases.len());
    assert!(lost.ours <= lost.birds, "{lost:?}");
    assert!(lost.birds < cases.len(), "{lost:?}: nothing is compared");
}

#[test]
fn half_a_header_is_no_sign_of_life_however_long_we_were_frozen() {
    let router = Router::start(160, Manner::Halting);
    let stage = speaking_to_halting(&router);
    signal(stage.pid(), "STOP");
    thread::sleep(Duration::from_millis(9500));
    signal(stage.pid(), "CONT");
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
