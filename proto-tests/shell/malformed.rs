//! Malformed UPDATEs on a live session: what the binary does, logs, counts and shows (RFC 7606).

use crate::process::{Peer, Stage, config, node};
use crate::router::{PATIENCE, ROUTER_ASN};
use bytes::BytesMut;
use herald::wire::{Asn, Capability, Context, Family, Message, Notification, Open, RouterId, frame};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// A router that says what it is told to, octet by octet.
struct Rude {
    stream: TcpStream,
    input: BytesMut,
}

impl Rude {
    /// Accepts the speaker's connection and comes to Established, without hold timers.
    fn meet(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut this = Self { stream, input: BytesMut::new() };
        let capabilities =
            vec![Capability::Multiprotocol(Family::IPV4_UNICAST), Capability::FourOctetAs(Asn(ROUTER_ASN))];
        let router_id = RouterId::new(Ipv4Addr::new(192, 0, 2, 201)).unwrap();
        let open = Open { my_as: Asn(ROUTER_ASN).two_octets(), hold_time: 0, router_id, capabilities };
        let mut octets = BytesMut::new();
        Message::Open(open).encode(&Context::before_open(), &mut octets).unwrap();
        Message::Keepalive.encode(&Context::before_open(), &mut octets).unwrap();
        this.say(&octets);
        while this.hear() != Message::Keepalive {}
        this
    }

    fn say(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).unwrap();
    }

    fn hear(&mut self) -> Message {
        let context = Context { families: [Family::IPV4_UNICAST].into(), ..Context::before_open() };
        loop {
            if let Some(whole) = frame(&mut self.input, &context).unwrap() {
                return Message::decode(&whole, &context).unwrap();
            }
            let mut buffer = [0; 4096];
            let read = self.stream.read(&mut buffer).unwrap();
            assert!(read > 0, "the speaker closed without a word");
            self.input.extend_from_slice(&buffer[..read]);
        }
    }
}

/// ORIGIN, AS_PATH of the router, NEXT_HOP.
const GOOD: [u8; 20] = [0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfc, 1, 0x40, 3, 4, 192, 0, 2, 1];

/// An UPDATE with these attributes that announces these octets.
fn update(attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let len = |len: usize| u16::try_from(len).unwrap().to_be_bytes();
    let whole = 23 + attributes.len() + nlri.len();
    [&[0xff; 16][..], &len(whole), &[2, 0, 0], &len(attributes.len()), attributes, nlri].concat()
}

/// `GOOD` with one octet changed.
fn with(at: usize, octet: u8) -> Vec<u8> {
    let mut attributes = GOOD.to_vec();
    attributes[at] = octet;
    attributes
}

/// 203.0.113.0/24.
const NLRI: [u8; 4] = [24, 203, 0, 113];

/// Attributes, what is counted, and what came of it; all of them leave the session alive.
fn survivable() -> Vec<(Vec<u8>, &'static str, &'static str)> {
    let and = |more: &[u8]| [&GOOD[..], more].concat();
    vec![
        (with(3, 9), "origin-undefined", "treat-as-withdraw"),
        (with(0, 0xc0), "attribute-flags", "treat-as-withdraw"),
        (with(7, 9), "as-path-segment-type", "treat-as-withdraw"),
        (with(12, 2), "first-as", "treat-as-withdraw"),
        (GOOD[4..].to_vec(), "attribute-missing", "treat-as-withdraw"),
        (and(&[0x80, 4, 3, 0, 0, 0]), "attribute-length", "treat-as-withdraw"),
        (and(&[0x80, 4]), "attribute-list", "treat-as-withdraw"),
        (and(&[0x40, 5, 4, 0, 0, 0, 1]), "not-from-external", "attribute-discard"),
        (and(&[0x40, 1, 1, 0]), "attribute-repeated", "attribute-discard"),
        (with(16, 127), "next-hop", "routes-ignored"),
    ]
}

fn stage(listener: &TcpListener) -> Stage {
    let mut stage = Stage::new();
    stage.write("manifests/node.yaml", &node("n1", ""));
    let peer = Peer { name: "r1", address: listener.local_addr().unwrap(), more: "" };
    stage.write("herald.yaml", &config(&[peer], ""));
    stage.start("n1");
    stage
}

fn wait_for_metric(stage: &Stage, line: &str) {
    stage.wait(line, || stage.ask("/metrics").1.lines().any(|found| found == line));
}

fn counted(cause: &str, consequence: &str, times: u64) -> String {
    format!("herald_bgp_malformed_total{{peer=\"r1\",cause=\"{cause}\",consequence=\"{consequence}\"}} {times}")
}

#[test]
fn each_fault_is_counted_by_cause_and_the_session_goes_on_until_prefixes_cannot_be_told() {
    let listener = TcpListener::bind("127.0.0.62:0").unwrap();
    let stage = stage(&listener);
    let mut router = Rude::meet(&listener);
    for (attributes, cause, consequence) in survivable() {
        router.say(&update(&attributes, &NLRI));
        wait_for_metric(&stage, &counted(cause, consequence, 1));
    }
    wait_for_metric(&stage, "herald_bgp_session_up{peer=\"r1\"} 1.0");
    wait_for_metric(&stage, &format!("herald_bgp_routes_discarded_total{{peer=\"r1\"}} {}", survivable().len()));

    // A prefix of 33 bits: what the message is about cannot be told, and that ends the session (RFC 7606 §5.3).
    router.say(&update(&GOOD, &[33, 1, 2, 3, 4, 5]));
    wait_for_metric(&stage, &counted("update-prefix", "session-reset", 1));
    let told = loop {
        if let Message::Notification(notification) = router.hear() {
            break notification;
        }
    };
    assert_eq!(told, Notification::bare(3, 10));

    let (_, json) = stage.ask("/v1/peers");
    let peers: serde_json::Value = serde_json::from_str(&json).unwrap();
    let peer = &peers["peers"][0];
    assert_eq!(peer["malformed"].as_array().unwrap().len(), survivable().len() + 1, "{peer}");
}

/// The first of the malformed is in the log with its prefixes and its octets; of a flood not every one is, all are counted.
#[test]
fn the_log_has_prefixes_and_octets_and_a_flood_does_not_fill_it() {
    let listener = TcpListener::bind("127.0.0.63:0").unwrap();
    let stage = stage(&listener);
    let mut router = Rude::meet(&listener);
    let bad = update(&with(3, 9), &NLRI);
    router.say(&bad);
    stage.wait_for_log("the peer sent something malformed");
    let log = stage.log();
    let line = log.lines().find(|line| line.contains("something malformed")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    let octets: String = bad.iter().map(|octet| format!("{octet:02x}")).collect();
    for (field, wanted) in
        [("peer", "r1"), ("consequence", "treat-as-withdraw"), ("nlri", "203.0.113.0/24"), ("octets", &*octets)]
    {
        assert_eq!(line[field], wanted, "{field} of {line}");
    }
    let text = line.to_string();
    assert!(text.contains("ORIGIN at octet 23: the origin is none of 0, 1 and 2"), "{text}");
    assert!(text.contains("as 40010109"), "the attribute as it came: {text}");

    router.say(&bad.repeat(999));
    wait_for_metric(&stage, &counted("origin-undefined", "treat-as-withdraw", 1000));
    wait_for_metric(&stage, "herald_bgp_session_up{peer=\"r1\"} 1.0");
    let lines = stage.log().matches("the peer sent something malformed").count();
    assert!((8..=32).contains(&lines), "{lines} lines for 1000 malformed messages");
}
