//! RFC 4271: connections, collisions and timers.

use crate::rig::*;
use herald::peer::{ConnId, Input, Output};
use herald::rib::Attributes;
use herald::wire::{Message, Notification};
use std::time::Duration;

fn holding(seconds: u64) -> Desk {
    Desk::established(with(|settings| settings.neighbor.hold_time = Duration::from_secs(seconds)))
}

#[test]
fn s4_4_keepalives_are_a_second_apart_at_least() {
    for seed in 0..200 {
        let mut desk = Desk::at_rest(with(|settings| settings.neighbor.hold_time = Duration::from_secs(3)));
        desk.peer = herald::peer::Peer::new(desk.settings.clone(), seed, desk.now);
        desk.peer.handle(Input::Start, desk.now);
        desk.expect_dial();
        desk.peer.handle(Input::Connected(desk.conn, end()), desk.now);
        desk.octets();
        desk.receive(&[Message::Open(open_to(&desk.settings)), Message::Keepalive]);
        assert_eq!(desk.octets().len(), 19, "the first one");
        for _ in 0..2 {
            let waited = desk.expire();
            assert_eq!(desk.octets().len(), 19, "a KEEPALIVE");
            assert!(waited >= Duration::from_secs(1), "seed {seed}: the next one after {waited:?}");
        }
    }
}

#[test]
fn s4_4_without_a_hold_time_no_keepalive_is_sent() {
    let mut desk = holding(0);
    for _ in 0..10 {
        desk.wait(Duration::from_secs(600));
        assert_eq!((desk.said(), desk.state()), (vec![], "Established"));
    }
}

#[test]
fn s6_7_faults_are_not_told_as_a_cease() {
    let broken = update(&[33], &[], &[]);
    let faults = [message(9, &[]), broken, message(5, &[0, 1, 1, 1, 0]), message(1, &[4; 10]), raw_open(&[0])];
    for octets in faults {
        let mut desk = On::External.desk();
        desk.receive_octets(&octets);
        let told = desk.notification().expect("a fault is told");
        assert_ne!(told.code, 6, "{told}");
    }
}

/// A peer that dialled and was dialled, its OPENs out on both connections: ours, theirs.
fn two_connections(theirs: u8) -> (Desk, ConnId, ConnId, herald::wire::Open) {
    let settings = settings();
    let mut open = open_to(&settings);
    open.router_id = router_id(theirs);
    let mut desk = Desk::open_sent(settings);
    let ours = desk.conn;
    let accepted = desk.accept();
    assert!(matches!(desk.said_on(ours)[..], [Message::Open(_)]));
    assert!(matches!(desk.said_on(accepted)[..], [Message::Open(_)]));
    (desk, ours, accepted, open)
}

#[test]
fn s6_8_of_two_connections_the_higher_identifier_s_is_kept_and_the_other_closed() {
    for (theirs, keeps_ours) in [(2, false), (200, false), (0, true)] {
        let theirs_wins = !keeps_ours;
        let (mut desk, ours, accepted, mut open) = two_connections(theirs.max(1));
        if keeps_ours {
            open.router_id = herald::wire::RouterId::new([9, 255, 255, 255].into()).unwrap();
        }
        for conn in [ours, accepted] {
            desk.conn = conn;
            desk.receive(&[Message::Open(open.clone())]);
        }
        let (kept, closed) = if theirs_wins { (accepted, ours) } else { (ours, accepted) };
        let said = desk.said_on(closed);
        assert_eq!(said.last(), Some(&Message::Notification(Notification::bare(6, 7))), "{said:?}");
        assert_eq!(desk.said_on(kept), [Message::Keepalive]);
        let closes = desk.outputs().iter().filter(|o| matches!(o, Output::Close(conn, _) if *conn == closed)).count();
        assert_eq!(closes, 1);
        desk.conn = kept;
        desk.receive(&[Message::Keepalive]);
        assert_eq!(desk.state(), "Established");
    }
}

#[test]
fn s8_2_1_each_incoming_connection_has_a_machine_of_its_own() {
    let (mut desk, ours, accepted, _) = two_connections(2);
    desk.conn = accepted;
    desk.receive_octets(&message(9, &[]));
    assert!(matches!(desk.said_on(accepted)[..], [Message::Notification(_)]));
    assert_eq!((desk.said_on(ours), desk.state()), (vec![], "OpenSent"), "the other one is none the wiser");
}

#[test]
fn s8_2_1_each_peer_has_a_machine_of_its_own() {
    let (mut one, mut other) = (On::External.desk(), On::External.desk());
    one.receive_octets(&message(9, &[]));
    assert_eq!((one.state(), other.state()), ("Idle", "Established"));
    other.receive(&[Message::Keepalive]);
    assert_eq!(other.said(), []);
}

#[test]
fn s8_2_1_port_179_is_dialled_unless_another_is_configured() {
    assert_eq!(settings().neighbor.port, 179);
    let text = "asn: 64512\npeers: [{name: a, address: 192.0.2.1, asn: 64513}]\n\
                pools: [{name: p, addresses: [198.51.100.0/24]}]\nadvertisements: [{name: a}]\n";
    let (config, _) = herald::config::Config::parse("port.yaml", text).unwrap();
    assert!(config.peers.values().all(|peer| peer.neighbor.port == 179));
}

#[test]
fn s8_2_2_a_second_connection_is_tracked_until_its_open_comes() {
    let mut desk = On::External.desk();
    let (first, context) = (desk.conn, desk.context.clone());
    let second = desk.accept();
    assert!(matches!(desk.said()[..], [Message::Open(_)]), "it is answered like any other");
    assert_eq!(desk.state(), "Established");
    desk.receive(&[Message::Open(open_to(&desk.settings))]);
    assert_eq!(desk.said_on(second), [Message::Notification(Notification::bare(6, 7))]);
    (desk.conn, desk.context) = (first, context);
    desk.plan(&["198.51.100.1"], Attributes::default());
    assert_eq!(desk.updates().iter().flat_map(|update| update.announced()).count(), 1, "the session goes on");
}

#[test]
fn s10_jitter_is_a_factor_of_three_quarters_to_one() {
    let mut drawn = Vec::new();
    let mut desk = holding(90);
    for _ in 0..400 {
        let waited = desk.expire();
        assert_eq!(desk.octets().len(), 19, "a KEEPALIVE");
        desk.receive(&[Message::Keepalive]);
        desk.peer.handle(Input::Acknowledged(desk.conn), desk.now);
        drawn.push(waited.as_secs_f64() / 30.0);
    }
    assert!(drawn.iter().all(|factor| (0.75..=1.0).contains(factor)), "{drawn:?}");
    for quarter in 0..4 {
        let from = 0.75 + f64::from(quarter) / 16.0;
        let share = drawn.iter().filter(|factor| (from..from + 1.0 / 16.0).contains(*factor)).count();
        assert!((60..140).contains(&share), "{share} of 400 in quarter {quarter}");
    }
}
