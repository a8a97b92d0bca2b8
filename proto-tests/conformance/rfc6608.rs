//! RFC 6608: messages out of place.

use crate::rig::*;
use herald::wire::{Message, RefreshKind, RouteRefresh, Update};

fn refresh() -> Message {
    Message::RouteRefresh(RouteRefresh::new(V4, RefreshKind::Request))
}

fn open() -> Message {
    Message::Open(open_to(&settings()))
}

/// What a message is answered with, and its type octet as the data.
fn answer(mut desk: Desk, message: Message) -> (u8, u8, Vec<u8>) {
    desk.octets();
    desk.receive(&[message]);
    let told = desk.notification().expect("a message out of place is told");
    assert_eq!(desk.state(), "Idle");
    (told.code, told.subcode, told.data.to_vec())
}

#[test]
fn s4_in_open_sent_all_but_open_is_5_1() {
    for (message, kind) in [(Message::Keepalive, 4), (Message::Update(Update::default()), 2), (refresh(), 5)] {
        assert_eq!(answer(Desk::open_sent(settings()), message), (5, 1, vec![kind]));
    }
}

#[test]
fn s4_in_open_confirm_all_but_keepalive_is_5_2() {
    for (message, kind) in [(open(), 1), (Message::Update(Update::default()), 2), (refresh(), 5)] {
        let settings = settings();
        let confirmed = Desk::open_confirm(settings.clone(), &open_to(&settings));
        assert_eq!(answer(confirmed, message), (5, 2, vec![kind]));
    }
}

#[test]
fn s4_in_established_an_open_is_5_3() {
    assert_eq!(answer(On::External.desk(), open()), (5, 3, vec![1]));
}
