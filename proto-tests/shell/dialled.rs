//! Routers that dial.

use crate::process::{Stage, node, service};
use crate::router::{Entry, NODE_ASN, ROUTER_ASN, Router, told};
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const V4: &str = "198.51.100.7/32";

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn config(port: u16, peers: &str) -> String {
    format!(
        "asn: {NODE_ASN}\nrouterId: 192.0.2.1\nlisten: {{port: {port}, addresses: [127.0.0.1]}}\npeers:\n{peers}\
         pools:\n- {{name: pool, addresses: [198.51.100.0/24]}}\nguard:\n  maxWithdraw: 100%\nadvertisements:\n- {{name: all}}\n"
    )
}

fn stage() -> Stage {
    let stage = Stage::new();
    stage.write("manifests/node.yaml", &node("n1", ""));
    stage.write("manifests/web.yaml", &service("web", &["198.51.100.7".to_owned()]));
    stage
}

fn knock(speaker: SocketAddr, host: u8) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, host], 0)).into()).unwrap();
    socket.connect(&speaker.into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.into()
}

#[test]
fn a_passive_peer_and_the_routers_of_a_range_get_their_table_and_strangers_nothing() {
    let port = free_port();
    let speaker = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stage = stage();
    let passive = format!("- {{name: spine, address: 127.0.0.71, asn: {ROUTER_ASN}, passive: true, holdTime: 9s}}\n");
    let range = format!("- {{name: leaves, range: 127.0.0.72/30, asn: {ROUTER_ASN}, holdTime: 9s}}\n");
    stage.write("herald.yaml", &config(port, &(passive.clone() + &range)));
    let routers = [71, 73, 74].map(|host| Router::dialling(host, speaker));
    stage.start("n1");
    for router in &routers {
        router.wait_for_end_of_rib();
        router.wait_for_table(&[V4]);
    }
    let (_, peers) = stage.ask("/v1/peers");
    let names = ["spine", "leaves/127.0.0.73", "leaves/127.0.0.74"];
    assert!(names.iter().all(|name| peers.contains(&format!("\"{name}\""))), "{peers}");

    // A stranger is closed without a word, however often it comes.
    for _ in 0..20 {
        let mut octets = Vec::new();
        let _reset = knock(speaker, 80).read_to_end(&mut octets);
        assert!(octets.is_empty(), "{octets:?}");
    }

    // A range that goes takes its routers along, properly; the other session does not notice.
    let before = routers[0].log().len();
    stage.write("herald.yaml", &config(port, &passive));
    stage.signal("HUP");
    for router in &routers[1..] {
        let log = router.wait("a Cease", |log| told(log, (6, 3)));
        let cease = log.iter().position(|entry| matches!(entry, Entry::Notification { .. }));
        assert!(log.iter().position(|entry| *entry == Entry::Withdraw(V4.to_owned())) < cease, "{log:?}");
    }
    stage.write("manifests/second.yaml", &service("second", &["198.51.100.8".to_owned()]));
    routers[0].wait_for_table(&[V4, "198.51.100.8/32"]);
    assert!(!routers[0].log()[before..].iter().any(|entry| matches!(entry, Entry::Closed | Entry::Up)));

    // So does the door: a port that is no longer configured is closed.
    stage.write("herald.yaml", &config(free_port(), &passive));
    stage.signal("HUP");
    stage.wait("the old port to be closed", || TcpStream::connect(speaker).is_err());
}

/// A router of a range that a change reset, and that does not dial again, is not forgotten before it has been waited for: the next
/// one would be reset, and then all.
#[test]
fn a_router_of_a_range_that_does_not_come_back_stops_the_walk_before_the_next() {
    let port = free_port();
    let speaker = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stage = stage();
    let range = |more: &str| {
        let range = format!("- {{name: leaves, range: 127.0.0.76/30, asn: {ROUTER_ASN}, holdTime: 9s{more}}}\n");
        config(port, &range) + "reload: {patience: 15s}\n"
    };
    stage.write("herald.yaml", &range(""));
    let [first, second] = [77, 78].map(|host| Router::dialling(host, speaker));
    stage.start("n1");
    first.wait_for_end_of_rib();
    second.wait_for_end_of_rib();
    // Its session goes on, and when that has ended it dials no more.
    drop(first);
    stage.write("herald.yaml", &range(", gracefulRestart: {}"));
    stage.signal("HUP");
    stage.wait("the walk stopped", || stage.ask("/readyz").1.contains("ReloadStopped leaves/127.0.0.77"));
    let fell = || second.log().iter().any(|entry| matches!(entry, Entry::Closed | Entry::Notification { .. }));
    assert!(!fell(), "{:?}", second.log());
    // A look after those that are gone, and more.
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(12) {
        assert!(stage.ask("/readyz").1.contains("ReloadStopped leaves/127.0.0.77"));
        assert!(!fell(), "{:?}", second.log());
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_port_that_is_taken_is_waited_for_and_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let speaker = taken.local_addr().unwrap();
    let mut stage = stage();
    let passive = format!("- {{name: spine, address: 127.0.0.75, asn: {ROUTER_ASN}, passive: true}}\n");
    stage.write("herald.yaml", &config(speaker.port(), &passive));
    stage.start("n1");
    stage.wait_for_log("another process has it");
    drop(taken);
    Router::dialling(75, speaker).wait_for_table(&[V4]);
}
