//! What nobody deleted stays announced.

use crate::process::{Peer, Stage, config, node, service};
use crate::router::{Entry, Manner, Router};
use std::fs;

pub const ALL: [&str; 5] =
    ["198.51.100.1/32", "198.51.100.2/32", "198.51.100.3/32", "198.51.100.4/32", "198.51.100.5/32"];

/// A configuration with a guard of its own.
pub fn guarded(router: &Router, guard: &str) -> String {
    let peer = Peer { name: "r1", address: router.address, more: "" };
    config(&[peer], "").replace("  maxWithdraw: 100%\n", guard)
}

/// The number by which what is held is confirmed.
pub fn number(body: &str) -> String {
    let from = body.find("herald confirm ").unwrap_or_else(|| panic!("{body}")) + "herald confirm ".len();
    body[from..from + 16].to_owned()
}

fn stage(router: &Router) -> Stage {
    let mut stage = Stage::new();
    stage.write("manifests/node.yaml", &node("n1", ""));
    for (n, prefix) in ALL.iter().enumerate() {
        let address = prefix.trim_end_matches("/32").to_owned();
        stage.write(&format!("manifests/s{n}.yaml"), &service(&format!("s{n}"), &[address]));
    }
    stage.write("herald.yaml", &guarded(router, "  hold: 1s\n"));
    stage.start("n1");
    router.wait_for_table(&ALL);
    stage
}

#[test]
fn an_empty_folder_in_the_place_of_a_full_one_withdraws_nothing_until_something_is_left() {
    let router = Router::start(91, Manner::Ordinary);
    let stage = stage(&router);
    fs::rename(stage.path("manifests"), stage.path("elsewhere")).unwrap();
    fs::create_dir(stage.path("manifests")).unwrap();
    stage.wait("the guard to hold", || stage.ask("/readyz").1.contains("GuardHolds"));
    router.wait_for_table(&ALL);
    stage.write("manifests/node.yaml", &node("n1", ""));
    stage.write("manifests/new.yaml", &service("new", &["198.51.100.9".to_owned()]));
    // What is new comes at once; and since something would now be left, what is held goes when its time is over.
    router.wait_for_table(&["198.51.100.9/32"]);
    stage.wait("the guard to hold nothing", || !stage.ask("/readyz").1.contains("GuardHolds"));
}

#[test]
fn a_configuration_cut_short_keeps_its_peer_and_routes_until_it_is_confirmed() {
    let router = Router::start(92, Manner::Ordinary);
    let stage = stage(&router);
    let asn = crate::router::NODE_ASN;
    stage.write("herald.yaml", &format!("asn: {asn}\n"));
    stage.wait("the guard to hold", || stage.ask("/readyz").1.contains("GuardHolds"));
    router.wait_for_table(&ALL);
    let shown = String::from_utf8(stage.show(&["peers"]).stdout).unwrap();
    assert!(shown.contains("GuardHolds") && shown.contains("r1"), "{shown}");
    let hash = number(&stage.ask("/readyz").1);
    stage.write("herald.yaml", &format!("asn: {asn}\nguard: {{confirm: \"{hash}\"}}\n"));
    stage.wait("the peer to go", || !stage.ask("/readyz").1.contains("GuardHolds"));
    router.wait_for_table(&[]);
}

#[test]
fn what_is_held_goes_when_an_operator_confirms_it_and_another_number_confirms_nothing() {
    let router = Router::start(93, Manner::Ordinary);
    let stage = stage(&router);
    let cut = guarded(&router, "  hold: 1s\n").replace("[198.51.100.0/24,", "[198.51.99.0/24,");
    stage.write("herald.yaml", &cut);
    stage.wait("the guard to hold", || stage.ask("/readyz").1.contains("GuardHolds"));
    let said = stage.show(&["confirm", "0123456789abcdef"]);
    assert!(!said.status.success());
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("nothing is held under the number \"0123456789abcdef\""), "{said}");
    router.wait_for_table(&ALL);
    let hash = number(&stage.ask("/readyz").1);
    // The port changes nothing.
    assert!(crate::process::ask_port(stage.port(), &format!("/v1/confirm?number={hash}")).0.contains("404"));
    assert!(stage.show(&["confirm", &hash]).status.success());
    router.wait_for_table(&[]);
    stage.wait("nothing is held any more", || !stage.ask("/readyz").1.contains("GuardHolds"));
}

/// Each of these leaves nothing, and each was once done within a second.
#[test]
fn whatever_edit_leaves_nothing_waits_and_taking_it_back_is_enough() {
    let router = Router::start(98, Manner::Ordinary);
    let stage = stage(&router);
    let good = guarded(&router, "  hold: 1s\n");
    let nobody = "nodeSelector: {matchLabels: {rack: none}}\n";
    let from = |key: &str| good.find(key).unwrap();
    let edits = [
        ("the advertisement is gone", good[..from("advertisements:")].to_owned()),
        ("the file ends before its pools", good[..from("pools:")].to_owned()),
        ("the pools are gone", format!("{}{}", &good[..from("pools:")], &good[from("guard:")..])),
        ("no node of the advertisement", format!("{good}  {nobody}")),
        ("no node of the peer", good.replace("  holdTime: 9s\n", &format!("  holdTime: 9s\n  {nobody}"))),
    ];
    for (what, edit) in edits {
        stage.write("herald.yaml", &edit);
        stage.signal("HUP");
        stage.wait(what, || stage.ask("/readyz").1.contains("GuardHolds"));
        router.wait_for_table(&ALL);
        stage.write("herald.yaml", &good);
        stage.signal("HUP");
        stage.wait("nothing is held", || !stage.ask("/readyz").1.contains("GuardHolds"));
    }
    let log = router.log();
    assert!(!log.iter().any(|entry| matches!(entry, Entry::Withdraw(_))), "{log:?}");
}
