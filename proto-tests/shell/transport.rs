//! How sessions come about: keys in files, next hops, families on sessions of their own, and what the status says about sockets.

use crate::process::{Peer, Stage, config, node, service};
use crate::router::{Entry, Manner, Router};
use serde_json::Value;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const V4: &str = "198.51.100.7/32";
const V6: &str = "2001:db8:5::7/128";

fn stage() -> Stage {
    let stage = Stage::new();
    stage.write("manifests/node.yaml", &node("n1", ""));
    stage.write("manifests/web.yaml", &service("web", &["198.51.100.7".to_owned(), "2001:db8:5::7".to_owned()]));
    stage
}

fn shown(stage: &Stage, name: &str) -> Value {
    let (_, body) = stage.ask("/v1/peers");
    let all: Value = serde_json::from_str(&body).unwrap_or_default();
    let found = all["peers"].as_array().into_iter().flatten().find(|peer| peer["name"] == name);
    found.cloned().unwrap_or_default()
}

fn next_hops(log: &[Entry]) -> Vec<(String, String)> {
    let of = |entry: &Entry| match entry {
        Entry::Announce { prefix, next_hop, .. } => Some((prefix.clone(), next_hop.to_string())),
        _ => None,
    };
    log.iter().filter_map(of).collect()
}

#[test]
fn a_peer_whose_password_file_is_no_good_waits_for_it_and_others_do_not() {
    let keyed = Router::start_at(Ipv4Addr::new(127, 0, 0, 91).into(), Manner::Ordinary, Some("correct horse"));
    let plain = Router::start(92, Manner::Ordinary);
    let mut stage = stage();
    let file = stage.path("key");
    let more = format!("  passwordFile: {}\n", file.display());
    let peers = [
        Peer { name: "keyed", address: keyed.address, more: &more },
        Peer { name: "plain", address: plain.address, more: "" },
    ];
    stage.write("herald.yaml", &config(&peers, ""));
    stage.start("n1");
    plain.wait_for_end_of_rib();
    for (octets, why) in [(None, "No such file"), (Some(""), "has 0 octets"), (Some(&*"x".repeat(81)), "has 81 octets")]
    {
        if let Some(octets) = octets {
            fs::write(&file, octets).unwrap();
            stage.signal("HUP");
        }
        let reason = || shown(&stage, "keyed")["lastDown"]["reason"].as_str().unwrap_or_default().to_owned();
        stage.wait(why, || reason().contains(why) && reason().contains("neither dialled nor listened for"));
        assert_eq!(shown(&stage, "keyed")["state"], "Idle");
    }
    assert!(keyed.log().is_empty(), "it was dialled without its key");
    let table = String::from_utf8(stage.show(&["peers"]).stdout).unwrap();
    assert!(table.contains("has 81 octets"), "{table}");

    fs::write(&file, "correct horse\n").unwrap();
    stage.signal("HUP");
    keyed.wait_for_table(&[V4, V6]);
    let socket = shown(&stage, "keyed")["transport"].clone();
    assert_eq!(
        (&socket["md5"], &socket["ttl"], &socket["trafficClass"]),
        (&"keyInstalled".into(), &1.into(), &192.into())
    );
    assert_eq!(shown(&stage, "plain")["transport"]["md5"], "no");

    // A file that goes bad under a session is told of, and changes nothing.
    fs::remove_file(&file).unwrap();
    stage.signal("HUP");
    stage.wait("a remark", || shown(&stage, "keyed")["remarks"][0].to_string().contains("stays in use"));
    stage.write("manifests/second.yaml", &service("second", &["198.51.100.8".to_owned()]));
    keyed.wait_for_table(&[V4, V6, "198.51.100.8/32"]);
    assert_eq!(shown(&stage, "keyed")["establishedCount"], 1);
    assert!(!stage.log().contains("correct horse"));
}

#[test]
fn a_next_hop_is_overridden_a_family_and_changed_without_a_word_to_the_session() {
    let router = Router::start(93, Manner::Ordinary);
    let mut stage = stage();
    let with = |more: &str| config(&[Peer { name: "r1", address: router.address, more }], "");
    stage.write("herald.yaml", &with("  nextHop: {ipv4: 192.0.2.99}\n"));
    stage.start("n1");
    let log = router.wait_for_end_of_rib();
    let pair = |prefix: &str, hop: &str| (prefix.to_owned(), hop.to_owned());
    let mut seen = next_hops(&log);
    seen.sort();
    assert_eq!(seen, [pair(V4, "192.0.2.99"), pair(V6, "2001:db8::11")]);
    for (more, wanted) in [
        ("  nextHop: {ipv4: 192.0.2.98}\n", pair(V4, "192.0.2.98")),
        ("  nextHop: {ipv4: 192.0.2.98, ipv6: \"2001:db8::99\"}\n", pair(V6, "2001:db8::99")),
        ("  nextHop: {ipv6: \"2001:db8::99\"}\n", pair(V4, "127.0.0.1")),
    ] {
        let before = router.log().len();
        stage.write("herald.yaml", &with(more));
        stage.signal("HUP");
        let log = router.wait("the route with another next hop", |log| next_hops(&log[before..]).contains(&wanted));
        assert_eq!(next_hops(&log[before..]), std::slice::from_ref(&wanted), "and nothing else");
        assert!(!log[before..].iter().any(|entry| matches!(entry, Entry::Closed | Entry::Up | Entry::Withdraw(_))));
    }
}

#[test]
fn each_family_on_a_session_of_its_own() {
    let v4 = Router::start(94, Manner::Ordinary);
    let v6 = Router::start_at(Ipv6Addr::LOCALHOST.into(), Manner::Ordinary, None);
    let mut stage = stage();
    let peers = [
        Peer { name: "v4", address: v4.address, more: "  families: [ipv4]\n" },
        Peer { name: "v6", address: v6.address, more: "  families: [ipv6]\n  interface: lo\n" },
    ];
    let text = config(&peers, "").replace("address: ::1", "address: \"::1\"");
    stage.write("herald.yaml", &text);
    stage.start("n1");
    for (router, prefix) in [(&v4, V4), (&v6, V6)] {
        router.wait_for_table(&[prefix]);
        let own: IpAddr = if prefix == V4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        assert_eq!(next_hops(&router.log()), [(prefix.to_owned(), own.to_string())]);
    }
    let socket = shown(&stage, "v6")["transport"].clone();
    assert_eq!((&socket["interface"], &socket["trafficClass"], &socket["ttl"]), (&"lo".into(), &192.into(), &1.into()));
    assert_eq!(socket["userTimeoutMilliseconds"], 490_000);
    assert_eq!(socket["remote"], v6.address.to_string());
}
