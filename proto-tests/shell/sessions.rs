//! What routers see.

use crate::process::{Peer, Stage, config, node, service, unsent};
use crate::router::{Entry, Manner, Router, newest, table, told};
use herald::wire::Family;
use std::time::{Duration, Instant};

const V4: &str = "198.51.100.7/32";
const V6: &str = "2001:db8:5::7/128";

fn peer<'a>(name: &'a str, router: &Router) -> Peer<'a> {
    Peer { name, address: router.address, more: "" }
}

/// A stage with one service of both families on it.
fn stage_with_a_service() -> Stage {
    let stage = Stage::new();
    stage.write("manifests/node.yaml", &node("n1", ""));
    stage.write("manifests/web.yaml", &service("web", &["198.51.100.7".to_owned(), "2001:db8:5::7".to_owned()]));
    stage
}

#[test]
fn the_whole_table_comes_with_its_attributes_and_then_end_of_rib() {
    let router = Router::start(21, Manner::Ordinary);
    let mut stage = stage_with_a_service();
    stage.write("herald.yaml", &config(&[peer("r1", &router)], "\"64512:100\", no-export"));
    stage.start("n1");
    let log = router.wait_for_end_of_rib();
    assert_eq!(table(&log), [V4.to_owned(), V6.to_owned()].into());
    let ends: Vec<_> = log.iter().filter(|entry| matches!(entry, Entry::EndOfRib(_))).collect();
    assert_eq!(ends.len(), 2, "one a family");
    for entry in &log {
        let Entry::Announce { prefix, next_hop, communities } = entry else { continue };
        // IPv4: the session's own address; IPv6: what the loopback interface lacks comes from the Node.
        let own = if prefix == V4 { "127.0.0.1" } else { "2001:db8::11" };
        assert_eq!(next_hop.to_string(), own);
        assert_eq!(communities, &["64512:100", "no-export"]);
    }
    for (family, prefix) in [(Family::IPV4_UNICAST, V4), (Family::IPV6_UNICAST, V6)] {
        let of = |entry: &Entry| matches!(entry, Entry::Announce { prefix: announced, .. } if announced == prefix);
        assert!(log.iter().position(of) < log.iter().position(|entry| *entry == Entry::EndOfRib(family)), "{log:?}");
    }

    // A change: exactly that travels.
    let before = router.log().len();
    stage.write("manifests/second.yaml", &service("second", &["198.51.100.8".to_owned()]));
    router.wait_for_table(&[V4, V6, "198.51.100.8/32"]);
    stage.remove("manifests/second.yaml");
    router.wait_for_table(&[V4, V6]);
    let routes = |entry: &&Entry| matches!(entry, Entry::Announce { .. } | Entry::Withdraw(_) | Entry::EndOfRib(_));
    assert_eq!(router.log()[before..].iter().filter(routes).count(), 2);
}

#[test]
fn without_a_plan_nothing_is_said_about_routes() {
    let router = Router::start(22, Manner::Ordinary);
    let mut stage = Stage::new();
    stage.write("herald.yaml", &config(&[peer("r1", &router)], ""));
    stage.start_in_a_cluster_that_is_down("n1");
    // KEEPALIVEs of the speaker, a third of the hold time apart: long after Established it still has no plan.
    let log =
        router.wait("KEEPALIVEs", |log| newest(log).iter().filter(|entry| **entry == Entry::Keepalive).count() >= 2);
    assert!(
        !log.iter().any(|entry| matches!(entry, Entry::Announce { .. } | Entry::Withdraw(_) | Entry::EndOfRib(_))),
        "{log:?}"
    );
    let (status, body) = stage.ask("/readyz");
    assert!(status.starts_with("HTTP/1.1 503"), "{status}");
    for missing in ["services not read completely yet", "nodes not read", "peer r1: nothing planned yet"] {
        assert!(body.contains(missing), "{body}");
    }
    let (_, metrics) = stage.ask("/metrics");
    assert!(metrics.contains("herald_watch_synced{resource=\"services\"} 0"), "{metrics}");
    assert!(!metrics.contains("herald_bgp_routes_planned{"), "no plan is not a plan of 0 routes: {metrics}");
    // Who is away is named; an outage is told once a source, not at every attempt.
    let log = stage.log();
    assert!(log.contains("\"server\":\"http://127.0.0.1:"), "{log}");
    assert!(!log.contains("failed with error"), "{log}");
    assert_eq!(log.matches("watch of Service:").count(), 1, "{log}");
    assert_eq!(stage.stop().0.code(), Some(0));
    router.wait("a Cease", |log| told(log, (6, 2)));
}

#[test]
fn an_empty_plan_is_a_plan() {
    let router = Router::start(23, Manner::Ordinary);
    let mut stage = Stage::new();
    stage.write("manifests/node.yaml", &node("n1", ""));
    stage.write("herald.yaml", &config(&[peer("r1", &router)], ""));
    stage.start("n1");
    router.wait_for_end_of_rib();
    router.wait_for_table(&[]);
}

#[test]
fn sigterm_is_a_cease_with_words_and_exit_0() {
    let router = Router::start(24, Manner::Ordinary);
    let mut stage = stage_with_a_service();
    stage.write("herald.yaml", &config(&[peer("r1", &router)], ""));
    stage.start("n1");
    router.wait_for_end_of_rib();
    let (status, took) = stage.stop();
    assert_eq!(status.code(), Some(0), "{}", stage.log());
    assert!(took < Duration::from_secs(2), "{took:?}");
    let log = router.wait("the end", |log| log.last() == Some(&Entry::Closed));
    let [.., last, Entry::Closed] = &log[..] else { panic!("{log:?}") };
    let words = "herald is stopping".to_owned();
    assert_eq!(*last, Entry::Notification { code: 6, subcode: 2, text: words });
    assert!(!log.iter().any(|entry| matches!(entry, Entry::Withdraw(_))), "the Cease alone says it all");
    assert!(!stage.socket().exists(), "the socket is gone with its process");
}

#[test]
fn a_removed_peer_is_withdrawn_and_told_and_a_bad_file_changes_nothing() {
    let (first, second, third) =
        (Router::start(25, Manner::Ordinary), Router::start(26, Manner::Ordinary), Router::start(27, Manner::Ordinary));
    let mut stage = stage_with_a_service();
    stage.write("herald.yaml", &config(&[peer("r1", &first), peer("r2", &second)], ""));
    stage.start("n1");
    first.wait_for_end_of_rib();
    second.wait_for_end_of_rib();

    // r2 leaves, r3 comes, r1 does not notice.
    stage.write("herald.yaml", &config(&[peer("r1", &first), peer("r3", &third)], ""));
    stage.signal("HUP");
    third.wait_for_table(&[V4, V6]);
    let log = second.wait("the end", |log| log.last() == Some(&Entry::Closed));
    let position = |wanted: &Entry| log.iter().position(|entry| entry == wanted);
    let cease = Entry::Notification { code: 6, subcode: 3, text: String::new() };
    let withdrawn = [V4, V6].map(|prefix| position(&Entry::Withdraw(prefix.to_owned())));
    assert!(withdrawn.iter().all(|at| at.is_some() && *at < position(&cease)), "withdraw, then 6/3: {log:?}");

    // A bad file: said, counted, not used.
    stage.write("herald.yaml", "asn: 64512\npears: []\n");
    stage.signal("HUP");
    stage.wait_for_log("the configuration before it stays in use");
    assert!(stage.log().contains("pears"), "the report names what is wrong");
    let (_, metrics) = stage.ask("/metrics");
    assert!(metrics.contains("herald_config_reloads_total{result=\"failure\"} 1"), "{metrics}");
    stage.write("manifests/second.yaml", &service("second", &["198.51.100.8".to_owned()]));
    first.wait_for_table(&[V4, V6, "198.51.100.8/32"]);
    third.wait_for_table(&[V4, V6, "198.51.100.8/32"]);
    for router in [&first, &third] {
        let log = router.log();
        assert_eq!(log.iter().filter(|entry| matches!(entry, Entry::Accepted(_))).count(), 1, "{log:?}");
    }
}

#[test]
fn the_file_is_looked_at_without_a_signal_and_new_communities_end_no_session() {
    let router = Router::start(28, Manner::Ordinary);
    let mut stage = stage_with_a_service();
    stage.write("herald.yaml", &config(&[peer("r1", &router)], "\"64512:1\""));
    stage.start("n1");
    router.wait_for_end_of_rib();
    stage.write("herald.yaml", &config(&[peer("r1", &router)], "\"64512:2\""));
    let log = router.wait("both routes with the new community", |log| {
        let new = |entry: &&Entry| matches!(entry, Entry::Announce { communities, .. } if *communities == ["64512:2"]);
        log.iter().filter(new).count() == 2
    });
    assert!(!log.iter().any(|entry| matches!(entry, Entry::Withdraw(_) | Entry::Closed)), "{log:?}");
}

#[test]
fn what_a_session_cannot_change_resets_it_with_6_6() {
    let router = Router::start(29, Manner::Ordinary);
    let mut stage = stage_with_a_service();
    stage.write("herald.yaml", &config(&[peer("r1", &router)], ""));
    stage.start("n1");
    router.wait_for_end_of_rib();
    let only_v4 = Peer { name: "r1", address: router.address, more: "  families: [ipv4]\n" };
    stage.write("herald.yaml", &config(&[only_v4], ""));
    stage.signal("HUP");
    let log = router.wait("a second session", |log| {
        log.iter().filter(|entry| **entry == Entry::Up).count() == 2
            && newest(log).contains(&Entry::EndOfRib(Family::IPV4_UNICAST))
    });
    assert!(told(&log, (6, 6)), "{log:?}");
    let first_end = log.iter().position(|entry| *entry == Entry::Closed).unwrap();
    let second_begin = log.iter().rposition(|entry| matches!(entry, Entry::Accepted(_))).unwrap();
    assert!(first_end < second_begin, "the old connection is gone before the new one comes: {log:?}");
    assert_eq!(table(&log), [V4.to_owned()].into());
}

#[test]
fn selectors_follow_the_labels_of_the_node() {
    let (everywhere, rack) = (Router::start(30, Manner::Ordinary), Router::start(31, Manner::Ordinary));
    let mut stage = stage_with_a_service();
    let selected = Peer { name: "rack", address: rack.address, more: "  nodeSelector: {matchLabels: {rack: \"7\"}}\n" };
    stage.write("herald.yaml", &config(&[peer("all", &everywhere), selected], ""));
    stage.start("n1");
    everywhere.wait_for_end_of_rib();
    assert_eq!(rack.log(), [], "no label, no session");
    stage.write("manifests/node.yaml", &node("n1", "rack: \"7\""));
    rack.wait_for_end_of_rib();
    rack.wait_for_table(&[V4, V6]);
    stage.write("manifests/node.yaml", &node("n1", "rack: \"8\""));
    rack.wait("6/3", |log| told(log, (6, 3)));
    assert!(!everywhere.log().contains(&Entry::Closed));
}

#[test]
fn two_nodes_with_one_router_id_are_reported() {
    let router = Router::start(32, Manner::Ordinary);
    let mut stage = stage_with_a_service();
    stage.write("manifests/other.yaml", &node("n2", ""));
    let without_id = config(&[peer("r1", &router)], "").replace("routerId: 192.0.2.1\n", "");
    stage.write("herald.yaml", &without_id);
    stage.start("n1");
    router.wait_for_end_of_rib();
    stage.wait_for_log("router ID 192.0.2.11 belongs to 2 nodes (n1, n2)");
    let (_, peers) = stage.ask("/v1/peers");
    let peers: serde_json::Value = serde_json::from_str(&peers).unwrap();
    assert_eq!(peers["routerId"], "192.0.2.11", "the first IPv4 InternalIP");
    assert_eq!(peers["doubts"].as_array().unwrap().len(), 1);
}

/// The moments of the first `count` connections.
fn attempts(router: &Router, count: usize) -> Vec<Instant> {
    let moments = |log: &[Entry]| {
        let accepted = log.iter().filter_map(|entry| if let Entry::Accepted(at) = entry { Some(*at) } else { None });
        accepted.collect::<Vec<_>>()
    };
    moments(&router.wait("another attempt", |log| moments(log).len() >= count))
}

#[test]
fn routers_that_refuse_are_tried_less_and_less_and_others_do_not_notice() {
    let (wrong, absent, mute, good) = (
        Router::start(33, Manner::OtherAs),
        Router::start(34, Manner::HangsUp),
        Router::start(35, Manner::Silent),
        Router::start(36, Manner::Ordinary),
    );
    let mut stage = stage_with_a_service();
    let peers = [peer("wrong", &wrong), peer("absent", &absent), peer("mute", &mute), peer("good", &good)];
    stage.write("herald.yaml", &config(&peers, ""));
    stage.start("n1");
    good.wait_for_table(&[V4, V6]);
    for router in [&wrong, &absent] {
        let tries = attempts(router, 3);
        // 1 s, then 2 s, each times 0.75 to 1.0 at random.
        assert!(tries[1] - tries[0] >= Duration::from_millis(740), "{tries:?}");
        assert!(tries[2] - tries[1] >= Duration::from_millis(1490), "{tries:?}");
    }
    assert!(told(&wrong.log(), (2, 2)), "Bad Peer AS: {:?}", wrong.log());
    assert_eq!(attempts(&mute, 1).len(), 1, "a router that has not answered yet is waited for");
    let output = stage.show(&["peers"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    let line = |name: &str| shown.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(line("good").contains("Established"), "{shown}");
    assert!(line("mute").contains("OpenSent"), "{shown}");
    assert!(line("wrong").contains("64514"), "the last error names the AS that came: {shown}");
    let log = good.log();
    assert!(!log.contains(&Entry::Closed), "{log:?}");
}

#[test]
fn a_stuck_router_delays_neither_the_others_nor_the_end() {
    let (stuck, good) = (Router::start(37, Manner::Stuck), Router::start(38, Manner::Ordinary));
    let mut stage = stage_with_a_service();
    let peers = [peer("stuck", &stuck), peer("good", &good)];
    let many: Vec<_> = (0..30_000).map(|n| format!("2001:db8:5::1:{n:x}")).collect();
    stage.write("manifests/many.yaml", &service("many", &many));
    stage.write("herald.yaml", &config(&peers, "\"64512:0\""));
    stage.start("n1");
    good.wait_for_end_of_rib();
    stuck.wait("a session", |log| log.contains(&Entry::Up));
    // Two tables of half a megabyte are more than its socket holds.
    stage.write("herald.yaml", &config(&peers, "\"64512:1\""));
    stage.signal("HUP");
    good.wait("the whole table again", |log| {
        let new = |entry: &&Entry| matches!(entry, Entry::Announce { communities, .. } if *communities == ["64512:1"]);
        log.iter().filter(new).count() == many.len() + 2
    });
    stage.wait("an unwritable socket", || unsent(stuck.address) > 100_000);
    for n in 0..10 {
        stage.write("manifests/one.yaml", &service("one", &[format!("198.51.100.{}", 100 + n)]));
        let began = Instant::now();
        good.wait("a single change", |log| table(log).contains(&format!("198.51.100.{}/32", 100 + n)));
        assert!(began.elapsed() < Duration::from_secs(2), "change {n} took {:?}", began.elapsed());
        assert!(unsent(stuck.address) > 100_000, "still stuck");
    }
    let (_, metrics) = stage.ask("/metrics");
    assert!(metrics.contains("herald_bgp_session_up{peer=\"stuck\"} 1"), "a stuck session is not down: {metrics}");
    let (status, took) = stage.stop();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(told(&good.log(), (6, 2)));
}

/// What was said about routes.
fn routes(log: &[Entry]) -> usize {
    let about_routes =
        |entry: &&Entry| matches!(entry, Entry::Announce { .. } | Entry::Withdraw(_) | Entry::EndOfRib(_));
    log.iter().filter(about_routes).count()
}

#[test]
fn the_addresses_of_nodes_and_of_routers_are_never_announced_whatever_a_status_says() {
    let router = Router::start(42, Manner::Ordinary);
    let mut stage = stage_with_a_service();
    // What a servicelb writes into every status; the pool has both addresses.
    let shown = ["192.0.2.11".to_owned(), "127.0.0.42".to_owned(), "198.51.100.8".to_owned()];
    stage.write("manifests/tenant.yaml", &service("tenant", &shown));
    let text = config(&[peer("r1", &router)], "").replace("[198.51.100.0/24,", "[198.51.100.0/24, 192.0.2.0/24,");
    stage.write("herald.yaml", &text);
    stage.start("n1");
    router.wait_for_table(&[V4, V6, "198.51.100.8/32"]);
    assert_eq!(table(&router.wait_for_end_of_rib()), [V4, V6, "198.51.100.8/32"].map(str::to_owned).into());
    // Unless the operator says so; then that one comes and nothing else is sent again.
    let before = router.log().len();
    let wished = text.replace("- name: pool\n", "- name: pool\n  announceNodeAddresses: true\n");
    stage.write("herald.yaml", &wished);
    stage.signal("HUP");
    router.wait_for_table(&[V4, V6, "198.51.100.8/32", "192.0.2.11/32"]);
    assert_eq!(routes(&router.log()[before..]), 1);
}

#[test]
fn a_pool_that_grows_sends_nothing_that_stayed_the_same() {
    let router = Router::start(43, Manner::Ordinary);
    let mut stage = stage_with_a_service();
    stage.write("manifests/other.yaml", &service("other", &["203.0.113.9".to_owned()]));
    let text = config(&[peer("r1", &router)], "");
    stage.write("herald.yaml", &text);
    stage.start("n1");
    router.wait_for_end_of_rib();
    let before = router.log().len();
    stage.write("herald.yaml", &text.replace("[198.51.100.0/24,", "[198.51.100.0/24, 203.0.113.0/24,"));
    stage.signal("HUP");
    router.wait_for_table(&[V4, V6, "203.0.113.9/32"]);
    assert_eq!(routes(&router.log()[before..]), 1);
}

#[test]
fn a_node_out_of_service_says_so_as_long_as_it_is() {
    let router = Router::start(44, Manner::Ordinary);
    let mut stage = stage_with_a_service();
    let label = "node.kubernetes.io/exclude-from-external-load-balancers: \"\"";
    stage.write("herald.yaml", &config(&[peer("r1", &router)], ""));
    stage.start("n1");
    router.wait_for_table(&[V4, V6]);
    stage.write("manifests/node.yaml", &node("n1", label));
    router.wait_for_table(&[]);
    let why = "NodeOutOfService n1: nothing is announced from here: node n1 has the label";
    stage.wait("the reason", || stage.ask("/readyz").1.contains(why));
    let routes = String::from_utf8(stage.show(&["routes"]).stdout).unwrap();
    assert!(routes.contains(why) && routes.contains("No routes."), "{routes}");
    stage.wait_for_log("nothing is announced from here");
    // kubeadm's control planes begin like this; gone, it is said no longer.
    stage.write("manifests/node.yaml", &node("n1", ""));
    router.wait_for_table(&[V4, V6]);
    stage.wait("no reason any more", || !stage.ask("/readyz").1.contains("NodeOutOfService"));
    stage.remove("manifests/node.yaml");
    stage.wait("the node is missed", || stage.ask("/readyz").1.contains("no Node object of that name"));
}

/// A session that is up and on which nothing can be announced must not read as one that is well.
#[test]
fn a_session_without_a_common_family_says_so() {
    let router = Router::start(187, Manner::SixOnly);
    let mut stage = Stage::new();
    stage.write("manifests/node.yaml", &node("n1", ""));
    let more = "  families: [ipv4]\n";
    stage.write("herald.yaml", &config(&[Peer { name: "r1", address: router.address, more }], ""));
    stage.start("n1");
    router.wait("the session", |log| log.contains(&Entry::Up));
    let says_so = |text: &str| text.contains("no common family: the session is up and nothing can be announced on it");
    stage.wait("it in the status", || says_so(&stage.ask("/v1/peers").1));
    let shown = String::from_utf8(stage.show(&["peers"]).stdout).unwrap();
    assert!(says_so(&shown), "{shown}");
}
