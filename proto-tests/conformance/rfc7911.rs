//! RFC 7911: several paths to a prefix. herald reads them where they are agreed on, and sends one.

use crate::rig::*;
use herald::rib::Attributes;
use herald::wire::capability::{AddPath, AddPathMode};
use herald::wire::{Announce, Capability, Context, Message, Outbound, Withdraw};

#[test]
fn s3_an_identifier_of_four_octets_stands_before_each_prefix() {
    let families = [V4, V6].into();
    let context = Context { path_ids_sent: families, families: [V4, V6].into(), ..Context::before_open() };
    let attributes = Outbound::new(&Default::default()).encode(&context).unwrap();
    let prefixes = ["198.51.100.0/24".parse().unwrap(), "198.51.101.0/24".parse().unwrap()];
    let mut out = bytes::BytesMut::new();
    let next_hop = "192.0.2.1".parse().unwrap();
    let announce = Announce { attributes: &attributes, next_hop, link_local: None, family: V4, prefixes: &prefixes };
    announce.encode(&context, &mut out).unwrap();
    assert!(out.ends_with(&[0, 0, 0, 1, 24, 198, 51, 100, 0, 0, 0, 1, 24, 198, 51, 101]), "{out:?}");
    out.clear();
    Withdraw { family: V4, prefixes: &prefixes }.encode(&context, &mut out).unwrap();
    assert_eq!(out[21..37], [0, 0, 0, 1, 24, 198, 51, 100, 0, 0, 0, 1, 24, 198, 51, 101]);
}

#[test]
fn s4_families_go_in_one_instance() {
    let both = [V4, V6].map(|family| AddPath { family, mode: AddPathMode::Receive }).to_vec();
    let octets = octets_of(&open_with(&settings(), [Capability::AddPath(both)]));
    assert!(octets.ends_with(&[69, 8, 0, 1, 1, 1, 0, 2, 1, 1]), "{octets:?}");
}

#[test]
fn s5_what_only_one_side_offered_changes_nothing() {
    let settings = settings();
    let ours = Desk::open_sent(settings.clone()).open();
    let sends = |c: &Capability| matches!(c, Capability::AddPath(list) if list.iter().any(|one| one.mode.sends()));
    assert!(!ours.capabilities.iter().any(sends), "one path to each prefix is all we have");
    let both = [V4, V6].map(|family| AddPath { family, mode: AddPathMode::Both }).to_vec();
    let mut desk = Desk::established_by(settings.clone(), &open_with(&settings, [Capability::AddPath(both)]));
    desk.plan(&["198.51.100.1", "2001:db8:1::1"], Attributes::default());
    let context = desk.context.clone();
    let sent = cut(desk.octets(), &context);
    assert!(sent.iter().any(|octets| octets.ends_with(&[32, 198, 51, 100, 1])), "{sent:?}");
    let read = Message::decode(&update(&NLRI, &[], &[]), &context);
    assert!(read.is_ok(), "a prefix without identifier");
    desk.receive_octets(&update(&NLRI, &On::External.mandatory(), &NLRI));
    assert_eq!((desk.state(), desk.peer.status().faults, desk.peer.status().discarded), ("Established", 0, 1));
}
