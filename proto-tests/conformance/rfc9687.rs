//! RFC 9687: the send hold timer.

use crate::rig::*;
use herald::config::Config;
use herald::peer::settings::SendHoldTime;
use herald::peer::{CloseHow, Output};
use herald::rib::Attributes;
use herald::wire::Message;
use std::time::Duration;

#[test]
fn s4_4_it_is_longer_than_the_hold_time_or_off() {
    let parses = |send_hold: &str| {
        let text = format!(
            "asn: 64512\npeers: [{{name: a, address: 192.0.2.1, asn: 64513, holdTime: 60s, sendHoldTime: {send_hold}}}]\n\
             pools: [{{name: p, addresses: [198.51.100.0/24]}}]\nadvertisements: [{{name: a}}]\n"
        );
        Config::parse("send.yaml", &text).is_ok()
    };
    assert!(parses("61s") && parses("8m") && parses("0s"));
    assert!(!parses("60s") && !parses("30s"));
    for (hold, wanted) in [(90, 480), (240, 480), (300, 600)] {
        let time = SendHoldTime::Recommended.of(Duration::from_secs(hold));
        assert_eq!(time.as_secs(), wanted);
        assert!(time > Duration::from_secs(hold));
    }
}

#[test]
fn s5_when_it_expires_the_connection_is_closed_and_the_reason_is_kept() {
    let mut desk = On::External.desk();
    desk.plan(&["198.51.100.1"], Attributes::default());
    let began = desk.now;
    // The peer keeps talking and acknowledges nothing.
    while desk.state() == "Established" {
        desk.expire();
        if desk.state() == "Established" {
            desk.receive(&[Message::Keepalive]);
        }
    }
    assert_eq!((desk.now - began).as_secs(), 480);
    assert_eq!(desk.outputs(), [Output::Close(desk.conn, CloseHow::AfterFlush)]);
    let (_, why) = desk.peer.status().last_down.clone().unwrap();
    assert!(why.contains("send hold timer expired"), "{why}");
    let told = desk.notification().unwrap();
    assert_eq!((told.code, told.subcode, told.data.len()), (8, 0, 0));
}
