//! What operators see: probes, metrics, the looking glass, the command line and its errors.

use crate::process::{Peer, Stage, ask_port, config, herald, node, service};
use crate::router::{Manner, Router};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}

/// A stage whose one session is up and complete.
fn established(host: u8) -> (Router, Stage) {
    let router = Router::start(host, Manner::Ordinary);
    let mut stage = Stage::new();
    stage.write("manifests/node.yaml", &node("n1", ""));
    stage.write("manifests/web.yaml", &service("web", &["198.51.100.7".to_owned(), "2001:db8:5::7".to_owned()]));
    let peer = Peer { name: "r1", address: router.address, more: "" };
    stage.write("herald.yaml", &config(&[peer], "\"64512:100\""));
    stage.start("n1");
    router.wait_for_end_of_rib();
    // What has left is counted a moment later.
    stage.wait("the first table to be shown as sent", || {
        let shown: Value = serde_json::from_str(&stage.ask("/v1/peers").1).unwrap_or_default();
        shown["peers"][0]["session"]["endOfRib"].is_string()
    });
    (router, stage)
}

#[test]
fn probes_and_metrics_on_both_doors() {
    let (_router, stage) = established(51);
    let port = stage.port();
    assert!(port.ip().is_loopback());
    stage.wait("readiness", || stage.ask("/readyz").0.starts_with("HTTP/1.1 200"));
    assert!(ask_port(port, "/readyz").0.starts_with("HTTP/1.1 200"));
    assert_eq!(ask_port(port, "/healthz").1, "ok\n");
    let (head, metrics) = ask_port(port, "/metrics");
    assert!(head.contains("application/openmetrics-text"), "{head}");
    for sample in [
        "herald_bgp_session_state{peer=\"r1\",state=\"Established\"} 1",
        "herald_bgp_session_state{peer=\"r1\",state=\"Idle\"} 0",
        "herald_bgp_session_up{peer=\"r1\"} 1",
        "herald_bgp_session_established_total{peer=\"r1\"} 1",
        "herald_bgp_routes_advertised{peer=\"r1\",family=\"ipv4-unicast\"} 1",
        "herald_bgp_routes_advertised{peer=\"r1\",family=\"ipv6-unicast\"} 1",
        "herald_bgp_routes_planned{peer=\"r1\"} 2",
        "herald_bgp_routes_discarded_total{peer=\"r1\"} 0",
        "herald_bgp_notifications_total{peer=\"r1\",direction=\"received\"} 0",
        "herald_watch_synced{resource=\"manifests\"} 1",
        "herald_config_reloads_total{result=\"failure\"} 0",
        "herald_build_info{version=",
    ] {
        assert!(metrics.contains(sample), "no {sample} in\n{metrics}");
    }
    assert!(metrics.contains("herald_bgp_messages_total{peer=\"r1\",direction=\"sent\",type="), "{metrics}");
    assert!(metrics.contains("herald_watch_age_seconds{resource=\"manifests\"}"), "{metrics}");
    let planned = metrics.lines().find(|line| line.starts_with("herald_bgp_plan_duration_seconds_count")).unwrap();
    assert!(!planned.ends_with(" 0"), "{planned}");
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let family = line.split(['{', ' ']).next().unwrap();
        let described =
            |suffix: &str| family.strip_suffix(suffix).is_some_and(|name| metrics.contains(&format!("# HELP {name} ")));
        assert!(["", "_total", "_info", "_sum", "_count", "_bucket"].into_iter().any(described), "no HELP for {line}");
    }
    assert!(metrics.ends_with("# EOF\n"));
}

#[test]
fn peers_and_routes_as_json_and_as_tables() {
    let (router, stage) = established(52);
    let (_, peers) = stage.ask("/v1/peers");
    let peers: Value = serde_json::from_str(&peers).unwrap();
    assert_eq!((&peers["node"], &peers["asn"], &peers["routerId"]), (&"n1".into(), &64512.into(), &"192.0.2.1".into()));
    let peer = &peers["peers"][0];
    assert_eq!(peer["state"], "Established");
    assert_eq!(peer["session"]["holdTimeSeconds"], 9);
    assert_eq!(peer["advertised"]["ipv4-unicast"], 1);
    for moment in [&peer["session"]["since"], &peer["session"]["endOfRib"], &peer["started"]] {
        let moment = moment.as_str().unwrap_or_else(|| panic!("{peer}"));
        assert!(moment.starts_with("20") && moment.contains('T') && moment.ends_with('Z'), "RFC 3339: {moment}");
    }
    let asked = stage.show(&["peers"]);
    assert_eq!(asked.status.code(), Some(0), "{}", text(&asked.stderr));
    let shown = text(&asked.stdout);
    assert!(shown.starts_with("Node n1, AS 64512, router ID 192.0.2.1\n"), "{shown}");
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let header = shown.lines().find(|line| line.starts_with("NAME")).unwrap();
    assert_eq!(cells(header).join(" "), "NAME ADDRESS AS STATE SINCE HOLD IPV4 IPV6 LAST ERROR");
    let row = cells(shown.lines().find(|line| line.starts_with("r1")).unwrap());
    let port = router.address.port().to_string();
    let since = peer["session"]["since"].as_str().unwrap();
    assert_eq!(row, ["r1", "127.0.0.52", "port", &port, "64513", "Established", since, "9s", "1", "1", "-"], "{shown}");

    let routes: Value = serde_json::from_str(&text(&stage.show(&["routes", "-o", "json"]).stdout)).unwrap();
    let route = &routes["routes"][0];
    assert_eq!(route["prefix"], "198.51.100.7/32");
    assert_eq!(route["state"], "announced");
    assert_eq!(route["nextHop"], "127.0.0.1");
    assert_eq!(route["communities"][0], "64512:100");
    let shown = text(&stage.show(&["routes", "--peer", "r1"]).stdout);
    let row = cells(shown.lines().find(|line| line.starts_with("198.51.100.7/32")).unwrap());
    assert_eq!(row, ["198.51.100.7/32", "r1", "announced", "127.0.0.1", "-", "-", "-", "-", "64512:100"], "{shown}");
    assert_eq!(text(&stage.show(&["routes", "--peer", "nobody"]).stdout), "No routes.\n");
}

#[test]
fn the_socket_is_for_its_owner_and_for_one_speaker() {
    let (_router, stage) = established(53);
    let mode = std::fs::metadata(stage.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = stage.speak("n1").output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("another herald answers"), "{}", text(&second.stderr));
    let mut elsewhere = stage.speak_with("n1", &stage.path("second.sock"), &stage.port().to_string());
    let taken = elsewhere.output().unwrap();
    assert!(text(&taken.stderr).contains("choose another with --metrics"), "{}", text(&taken.stderr));
    assert!(stage.ask("/healthz").0.starts_with("HTTP/1.1 200"), "the first still answers");
}

#[test]
fn a_killed_speaker_leaves_nothing_in_the_way_of_the_next() {
    let (router, mut stage) = established(54);
    stage.kill();
    router.wait("the end", |log| log.last() == Some(&crate::router::Entry::Closed));
    assert!(stage.socket().exists());
    let asked = stage.show(&["peers"]);
    assert_eq!(asked.status.code(), Some(1));
    assert!(text(&asked.stderr).contains("is gone: start it again"), "{}", text(&asked.stderr));
    stage.start("n1");
    router.wait("a second session", |log| log.iter().filter(|entry| **entry == crate::router::Entry::Up).count() == 2);
    stage.wait("the next socket", || stage.ask("/healthz").0.starts_with("HTTP/1.1 200"));
}

#[test]
fn without_a_speaker_the_command_line_says_what_to_do() {
    let stage = Stage::new();
    let asked = stage.show(&["routes"]);
    assert_eq!(asked.status.code(), Some(1));
    let said = text(&asked.stderr);
    assert!(said.contains("there is no speaker at") && said.contains("--socket"), "{said}");
}

fn check(file: &Path) -> Output {
    herald().arg("check").arg(file).output().unwrap()
}

#[test]
fn check_says_good_doubtful_and_wrong() {
    let stage = Stage::new();
    let peer = || Peer { name: "r1", address: "192.0.2.254:179".parse().unwrap(), more: "" };
    stage.write("good.yaml", &config(&[peer()], "\"64512:1\"").replace("  port: 179\n", ""));
    let good = check(&stage.path("good.yaml"));
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));
    assert!(text(&good.stdout).contains("good: AS 64512, 1 peer, 1 pool, 1 advertisement"), "{}", text(&good.stdout));

    let local_preference = config(&[peer()], "") + "  localPreference: 200\n";
    stage.write("doubtful.yaml", &local_preference);
    let doubtful = check(&stage.path("doubtful.yaml"));
    assert_eq!(doubtful.status.code(), Some(0));
    assert!(text(&doubtful.stderr).contains("warning"), "{}", text(&doubtful.stderr));

    stage.write("wrong.yaml", &config(&[peer()], "").replace("198.51.100.0/24", "198.51.100.1/24"));
    let wrong = check(&stage.path("wrong.yaml"));
    assert_eq!(wrong.status.code(), Some(1));
    let report = text(&wrong.stderr);
    assert!(report.contains("wrong.yaml:") && report.contains("198.51.100.0/24"), "place and remedy: {report}");

    let absent = check(&stage.path("absent.yaml"));
    assert_eq!(absent.status.code(), Some(1));
    assert!(text(&absent.stderr).contains("cannot read"));
}

#[test]
fn a_speaker_does_not_start_on_a_bad_file_or_without_its_folder() {
    let stage = Stage::new();
    stage.write("herald.yaml", "asn: 64512\npears: []\n");
    let refused = stage.speak("n1").output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("pears"), "{}", text(&refused.stderr));

    stage.write("herald.yaml", &config(&[], ""));
    std::fs::remove_dir(stage.path("manifests")).unwrap();
    let refused = stage.speak("n1").output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("cannot list the manifests folder"), "{}", text(&refused.stderr));
    assert!(!stage.socket().exists());
}

#[test]
fn version_and_log_format() {
    let version = herald().arg("--version").output().unwrap();
    assert_eq!(text(&version.stdout), format!("herald {}\n", env!("CARGO_PKG_VERSION")));
    let (_router, mut stage) = established(55);
    stage.wait_for_log("session up");
    let (status, _) = stage.stop();
    assert_eq!(status.code(), Some(0));
    for line in stage.log().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string(), "{line}");
    }
}

#[test]
fn a_version_with_which_no_router_speaks_does_not_become_ready_where_one_did_before() {
    let router = Router::start(41, Manner::Ordinary);
    let mut stage = Stage::new();
    stage.write("manifests/node.yaml", &node("n1", ""));
    let good = config(&[Peer { name: "r1", address: router.address, more: "" }], "");
    stage.write("herald.yaml", &good);
    let state = stage.path("state");
    let state = state.to_str().unwrap();
    stage.start_with("n1", &["--state", state]);
    let is_ready = |stage: &Stage| stage.ask("/readyz").0.starts_with("HTTP/1.1 200");
    stage.wait("readiness", || is_ready(&stage));
    let written = stage.path("state/established");
    stage.wait("the session is written down", || {
        std::fs::read_to_string(&written).is_ok_and(|text| text.contains("127.0.0.41"))
    });
    stage.kill();
    // Whoever answers there has another AS.
    stage.write("herald.yaml", &good.replace("asn: 64513", "asn: 64514"));
    stage.start_with("n1", &["--state", state]);
    stage.wait_for_log("Bad Peer AS");
    stage.wait("what is missing is said", || {
        stage.ask("/readyz").1.contains("no router that had a session before has one now (127.0.0.41)")
    });
    assert!(!is_ready(&stage));
    stage.write("herald.yaml", &good);
    stage.signal("HUP");
    stage.wait("readiness comes with the session", || is_ready(&stage));
}

/// Standard error has no reader, one that does not read, or a full disk behind it: the session comes, and the end is orderly and
/// soon.
#[test]
fn a_log_that_nobody_takes_neither_ends_nor_stops_a_speaker() {
    use std::io::Write as _;
    let (unread, mut full) = std::io::pipe().unwrap();
    // What a pipe holds; another octet would wait.
    full.write_all(&[b'x'; 65_536]).unwrap();
    let (gone, closed) = std::io::pipe().unwrap();
    drop(gone);
    let full_disk = std::fs::File::options().write(true).open("/dev/full").unwrap();
    for (host, stderr) in [(56, std::process::Stdio::from(full)), (57, closed.into()), (58, full_disk.into())] {
        let router = Router::start(host, Manner::Ordinary);
        let mut stage = Stage::new();
        stage.write("manifests/node.yaml", &node("n1", ""));
        stage.write("manifests/web.yaml", &service("web", &["198.51.100.7".to_owned()]));
        stage.write("herald.yaml", &config(&[Peer { name: "r1", address: router.address, more: "" }], ""));
        stage.start_logging_to("n1", stderr);
        router.wait_for_end_of_rib();
        if host != 56 {
            // A pipe that nobody reads may still be read: until so many wait, none is lost.
            stage.wait("lost lines to be counted", || {
                let metrics = stage.ask("/metrics").1;
                let lost = metrics.lines().find_map(|line| line.strip_prefix("herald_log_lines_lost_total "));
                lost.is_some_and(|count| count != "0")
            });
        }
        let (status, took) = stage.stop();
        assert_eq!(status.code(), Some(0));
        assert!(took < std::time::Duration::from_secs(2), "{took:?}");
        router.wait("the Cease", |log| crate::router::told(log, (6, 2)));
    }
    drop(unread);
}

#[test]
fn a_level_that_is_none_is_refused_with_those_that_are() {
    let stage = Stage::new();
    stage.write("herald.yaml", &config(&[], ""));
    let refused = stage.speak("n1").env("HERALD_LOG", "verbose").output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("off, error, warn, info, debug, trace"), "{}", text(&refused.stderr));
}

#[test]
fn a_speaker_takes_the_descriptors_that_it_may_have() {
    let stage = Stage::new();
    stage.write("herald.yaml", &config(&[], ""));
    let speak = stage.speak("n1");
    let mut limited = std::process::Command::new("prlimit");
    limited.arg("--nofile=64:1024").arg(speak.get_program()).args(speak.get_args());
    let mut child = limited.stderr(std::process::Stdio::null()).spawn().unwrap();
    let limits = format!("/proc/{}/limits", child.id());
    let raised = || {
        let limits = std::fs::read_to_string(&limits).unwrap_or_default();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default().to_owned();
        line.split_whitespace().skip(3).take(2).collect::<Vec<_>>() == ["1024", "1024"]
    };
    let began = std::time::Instant::now();
    while !raised() && began.elapsed() < crate::router::PATIENCE {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let so = raised();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(so, "the soft limit is still below the hard one");
}
