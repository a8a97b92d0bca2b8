//! What becomes of the files that a speaker reads: replaced by something else, too large, rewritten while it looks.

use crate::process::{Peer, Stage, config, node, service};
use crate::router::{Entry, Manner, Router};
use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Duration;

const V4: &str = "198.51.100.7/32";

/// A session with hold time 3 s.
fn quick<'a>(router: &Router, more: &'a str) -> Peer<'a> {
    Peer { name: "r1", address: router.address, more }
}

pub fn quick_config(router: &Router, more: &str) -> String {
    config(&[quick(router, more)], "").replace("holdTime: 9s", "holdTime: 3s")
}

pub fn stage() -> Stage {
    let stage = Stage::new();
    stage.write("manifests/nodes.yaml", &node("n1", ""));
    stage.write("manifests/web.yaml", &service("web", &["198.51.100.7".to_owned()]));
    stage
}

fn fifo(stage: &Stage, name: &str) {
    let temporary = stage.path("fifo");
    assert!(Command::new("mkfifo").arg(&temporary).status().unwrap().success());
    fs::rename(temporary, stage.path(name)).unwrap();
}

/// The session that began first still lives, and has lived longer than its hold time.
pub fn still_up(router: &Router) {
    std::thread::sleep(Duration::from_millis(3500));
    let log = router.log();
    assert!(!log.contains(&Entry::Closed), "{log:?}");
}

#[test]
fn a_pipe_in_the_place_of_any_file_is_said_and_holds_nothing_up() {
    let router = Router::start(61, Manner::Ordinary);
    let mut stage = stage();
    stage.write("key", "unused\n");
    let other = Router::start(62, Manner::Ordinary);
    let key = stage.path("key").display().to_string();
    let signed = format!("  passwordFile: {key}\n");
    let text = config(&[quick(&router, ""), Peer { name: "r2", address: other.address, more: &signed }], "");
    stage.write("herald.yaml", &text.replace("holdTime: 9s", "holdTime: 3s"));
    stage.start("n1");
    router.wait_for_end_of_rib();
    for name in ["herald.yaml", "key", "manifests/more.yaml"] {
        fifo(&stage, name);
    }
    stage.signal("HUP");
    stage.wait("both conditions", || {
        let (_, ready) = stage.ask("/readyz");
        ready.contains("ConfigurationRefused: ") && ready.contains(&format!("PasswordUnavailable {key}: "))
    });
    assert!(stage.ask("/healthz").0.starts_with("HTTP/1.1 200"), "no reason to begin anew");
    let (_, ready) = stage.ask("/readyz");
    assert_eq!(ready.matches("it is a named pipe, and only a plain file is read").count(), 2, "{ready}");
    assert!(ready.contains("the password before it stays in use"), "{ready}");
    let peers = String::from_utf8(stage.show(&["peers"]).stdout).unwrap();
    assert!(peers.contains("! ConfigurationRefused: "), "{peers}");
    still_up(&router);
    // What is well goes on meanwhile, and what was wrong is well again.
    stage.write("manifests/second.yaml", &service("second", &["198.51.100.8".to_owned()]));
    router.wait_for_table(&[V4, "198.51.100.8/32"]);
    stage.write("herald.yaml", &quick_config(&router, ""));
    stage.signal("HUP");
    stage.wait("no condition", || {
        let (_, ready) = stage.ask("/readyz");
        !ready.contains("ConfigurationRefused") && !ready.contains("PasswordUnavailable")
    });
    let (status, took) = stage.stop();
    assert!(status.success() && took < Duration::from_secs(3), "{status} after {took:?}");
}

#[test]
fn fifty_megabytes_are_refused_with_words() {
    let router = Router::start(63, Manner::Ordinary);
    let mut stage = stage();
    let good = quick_config(&router, "");
    stage.write("herald.yaml", &good);
    stage.start("n1");
    router.wait_for_end_of_rib();
    let mut large = good.clone();
    large.extend(std::iter::repeat_n("# nothing\n", 5_000_000));
    stage.write("herald.yaml", &large);
    stage.signal("HUP");
    stage.wait_for_log("at most 16777216 octets are read");
    let checked = crate::process::herald().arg("check").arg(stage.path("herald.yaml")).output().unwrap();
    assert!(!checked.status.success());
    let said = String::from_utf8(checked.stderr).unwrap();
    assert!(said.contains("at most 16777216 octets are read"), "{said}");
    still_up(&router);
    assert!(stage.stop().0.success());
}

#[test]
fn ten_thousand_peers_are_read_beside_a_session_of_three_seconds() {
    let router = Router::start(64, Manner::Ordinary);
    let mut stage = stage();
    let good = quick_config(&router, "");
    stage.write("herald.yaml", &good);
    stage.start("n1");
    router.wait_for_end_of_rib();
    let mut many = String::new();
    for number in 0..10_000 {
        let (a, b) = (number / 250, number % 250 + 1);
        writeln!(
            many,
            "- {{name: p{number}, address: 10.9.{a}.{b}, asn: 64999, nodeSelector: {{matchLabels: {{not: here}}}}}}"
        )
        .unwrap();
    }
    stage.write("herald.yaml", &good.replace("pools:\n", &format!("{many}pools:\n")));
    stage.signal("HUP");
    stage.wait_for_log("new configuration");
    still_up(&router);
    assert!(stage.stop().0.success());
}

#[test]
fn a_file_rewritten_octet_by_octet_takes_nothing_away() {
    let (router, other) = (Router::start(65, Manner::Ordinary), Router::start(66, Manner::Ordinary));
    let mut stage = stage();
    stage.write("herald.yaml", &quick_config(&router, ""));
    stage.start("n1");
    router.wait_for_end_of_rib();
    let new = config(&[quick(&router, ""), Peer { name: "r2", address: other.address, more: "" }], "no-export")
        .replace("holdTime: 9s", "holdTime: 3s");
    // In its place, as an editor does that does not rename; each state is looked at.
    for cut in 0..=new.len() {
        fs::write(stage.path("herald.yaml"), &new[..cut]).unwrap();
        stage.signal("HUP");
        std::thread::sleep(Duration::from_millis(3));
    }
    other.wait_for_table(&[V4]);
    let log = router.log();
    assert!(!log.iter().any(|entry| matches!(entry, Entry::Withdraw(_) | Entry::Closed)), "{log:?}");
    assert!(!stage.log().contains("is refused"), "half a file is no reason to alarm anybody");
    assert!(stage.stop().0.success());
}
