//! RFC 8092: large communities.

use crate::rig::*;
use herald::rib::Attributes;
use herald::wire::{Attribute, LargeCommunity, Message};

fn large(global: u32, local1: u32, local2: u32) -> LargeCommunity {
    LargeCommunity { global, local1, local2 }
}

fn octets(list: &[LargeCommunity]) -> Vec<u8> {
    list.iter().flat_map(|one| [one.global, one.local1, one.local2]).flat_map(u32::to_be_bytes).collect()
}

#[test]
fn s3_duplicates_are_not_sent() {
    let (a, b) = (large(1, 2, 3), large(1, 2, 4));
    let attributes = Attributes { large_communities: vec![a, b, a, a], ..Attributes::default() };
    let sent = announced(On::External, &["198.51.100.1"], attributes);
    let (_, _, value) = attributes_of(&sent[0]).into_iter().find(|(_, code, _)| *code == 32).unwrap();
    assert_eq!(value, octets(&[a, b]));
}

#[test]
fn s3_duplicates_that_come_are_removed_and_are_no_fault() {
    let (a, b) = (large(1, 2, 3), large(9, 9, 9));
    let attribute = attribute(0xc0, 32, &octets(&[a, b, a]));
    assert_eq!(fate_of(On::External, &attribute), Fate::Good);
    let whole = update(&[], &[&On::External.mandatory()[..], &attribute].concat(), &NLRI);
    let Ok(Message::Update(update)) = Message::decode(&whole, &On::External.desk().context) else { panic!() };
    assert_eq!(update.attributes.last(), Some(&Attribute::LargeCommunities(vec![a, b])));
}

#[test]
fn s5_numbers_are_written_without_leading_zeros() {
    assert_eq!(large(64_512, 0, 7).to_string(), "64512:0:7");
    assert_eq!(large(0, 0, 0).to_string(), "0:0:0");
}

#[test]
fn s6_another_length_is_malformed_and_withdraws_the_routes() {
    for len in [0, 1, 11, 13, 23] {
        assert_eq!(fate_of(On::External, &attribute(0xc0, 32, &vec![1; len])), Fate::Withdrawn, "{len} octets");
    }
    for len in [12, 24, 252] {
        assert_eq!(fate_of(On::External, &attribute(0xc0, 32, &vec![1; len])), Fate::Good, "{len} octets");
    }
}

#[test]
fn s6_any_global_administrator_will_do() {
    for global in [0, 23_456, 65_535, 64_496, 4_294_967_295] {
        let value = octets(&[large(global, 1, 1)]);
        assert_eq!(fate_of(On::External, &attribute(0xc0, 32, &value)), Fate::Good, "{global}");
    }
}
