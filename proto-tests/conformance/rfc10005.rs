//! RFC 10005: link bandwidth. What a receiver does with it is what we read; nothing is chosen by it.

use crate::rig::*;
use herald::wire::{Bandwidth, ExtendedCommunity};

fn bandwidth(kind: u8, octets: [u8; 4]) -> ExtendedCommunity {
    let [a, b, c, d] = octets;
    ExtendedCommunity([kind, 4, 0xfc, 0, a, b, c, d])
}

#[test]
fn s3_2_both_types_are_read_on_every_session_and_none_is_malformed() {
    for kind in [0x00, 0x40] {
        let one = bandwidth(kind, 1.25e8_f32.to_be_bytes());
        assert_eq!(one.bandwidth().map(Bandwidth::bytes_per_second), Some(1.25e8));
        for on in [On::External, On::Internal, On::Old] {
            assert_eq!(fate_of(on, &attribute(0xc0, 16, &one.0)), Fate::Good, "type {kind:#x} on {on:?}");
        }
    }
}

#[test]
fn s4_negative_values_are_ignored_and_zero_is_a_value() {
    let (negative, zero, some) = (
        bandwidth(0, (-1.0_f32).to_be_bytes()),
        bandwidth(0, 0.0_f32.to_be_bytes()),
        bandwidth(0, 7.0_f32.to_be_bytes()),
    );
    assert_eq!(negative.bandwidth(), None);
    assert_eq!(Bandwidth::lowest(&[negative, some]).map(Bandwidth::bytes_per_second), Some(7.0));
    assert_eq!(Bandwidth::lowest(&[some, zero]).map(Bandwidth::bytes_per_second), Some(0.0));
    for one in [negative, zero] {
        assert_eq!(fate_of(On::External, &attribute(0xc0, 16, &one.0)), Fate::Good);
    }
}
