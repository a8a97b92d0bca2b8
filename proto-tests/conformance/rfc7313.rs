//! RFC 7313: the beginning and the end of a refresh.

use crate::rig::*;
use herald::rib::Attributes;
use herald::wire::{Capability, Family, Message, RefreshKind, RouteRefresh};

/// Established with a router that knows the marks; graceful restart too.
fn desk() -> Desk {
    let settings = graceful();
    let restart = Capability::GracefulRestart(Default::default());
    let open = open_with(&settings, [Capability::RouteRefresh, Capability::EnhancedRouteRefresh, restart]);
    Desk::established_by(settings, &open)
}

fn ask(desk: &mut Desk, family: Family, kind: RefreshKind) {
    desk.receive(&[Message::RouteRefresh(RouteRefresh::new(family, kind))]);
}

/// A word a message.
fn words(desk: &mut Desk) -> Vec<&'static str> {
    let word = |message: &Message| match message {
        Message::RouteRefresh(refresh) if refresh.kind() == RefreshKind::Begin => "BoRR",
        Message::RouteRefresh(refresh) if refresh.kind() == RefreshKind::End => "EoRR",
        Message::Update(update) if update.end_of_rib().is_some() => "EoR",
        Message::Update(_) => "routes",
        other => panic!("{other:?}"),
    };
    desk.said().iter().map(word).collect()
}

#[test]
fn s4_an_answer_stands_between_its_beginning_and_its_end() {
    let mut desk = desk();
    desk.plan(&["198.51.100.1", "2001:db8:1::1"], Attributes::default());
    assert_eq!(words(&mut desk), ["routes", "routes", "EoR", "EoR"]);
    ask(&mut desk, V4, RefreshKind::Request);
    assert_eq!(words(&mut desk), ["BoRR", "routes", "EoRR"]);
}

#[test]
fn s4_no_beginning_before_end_of_rib() {
    let mut desk = desk();
    ask(&mut desk, V4, RefreshKind::Request);
    assert_eq!(words(&mut desk), [""; 0], "nothing is planned");
    desk.plan(&["198.51.100.1"], Attributes::default());
    assert_eq!(words(&mut desk), ["routes", "EoR", "EoR"]);
    assert_eq!(words(&mut desk), ["BoRR", "routes", "EoRR"], "it was not forgotten");
}

#[test]
fn s4_the_subtype_decides_and_marks_of_the_peer_ask_for_nothing() {
    let mut desk = desk();
    desk.plan(&["198.51.100.1"], Attributes::default());
    words(&mut desk);
    for kind in [RefreshKind::Begin, RefreshKind::End] {
        ask(&mut desk, V4, kind);
        assert_eq!((words(&mut desk), desk.state()), (vec![], "Established"), "{kind:?}");
    }
    ask(&mut desk, V4, RefreshKind::Request);
    assert_eq!(words(&mut desk), ["BoRR", "routes", "EoRR"]);
}

#[test]
fn s5_a_mark_of_another_length_is_7_1_with_the_whole_message() {
    for subtype in [1, 2] {
        for more in [1, 2, 30] {
            let octets = message(5, &[&[0, 1, subtype, 1][..], &vec![0; more]].concat());
            let mut desk = desk();
            desk.receive_octets(&octets);
            let told = desk.notification().unwrap_or_else(|| panic!("{more} octets more"));
            assert_eq!((told.code, told.subcode, &told.data[..]), (7, 1, &octets[..]));
        }
    }
}

#[test]
fn s5_who_did_not_offer_it_hears_of_no_error_of_it() {
    for subtype in [1, 2] {
        let octets = message(5, &[0, 1, subtype, 1, 0x78]);
        assert_eq!(fate(On::External, &octets).reset(), Some((1, 2)), "a wrong length, as of any other message");
    }
}

#[test]
fn s5_another_subtype_is_ignored() {
    let mut desk = desk();
    desk.plan(&["198.51.100.1"], Attributes::default());
    words(&mut desk);
    for subtype in [3, 77, 255] {
        desk.receive_octets(&message(5, &[0, 1, subtype, 1]));
        desk.receive_octets(&message(5, &[0, 1, subtype, 1, 9, 9]));
        assert_eq!((words(&mut desk), desk.state()), (vec![], "Established"), "{subtype}");
    }
}
