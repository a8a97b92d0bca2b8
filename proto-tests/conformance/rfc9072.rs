//! RFC 9072: optional parameters above 255 octets.

use crate::rig::*;
use bytes::Bytes;
use herald::wire::Capability;

/// Capabilities 1 and 65 as one parameter with a length field of two octets.
const EXTENDED: [u8; 15] = [2, 0, 12, 1, 4, 0, 1, 0, 1, 65, 4, 0, 0, 0xfc, 0x01];

#[test]
fn s2_the_extended_encoding_is_taken_whatever_the_length_and_the_short_length_is_ignored() {
    for short in [1, 15, 18, 100, 254, 255] {
        let octets = raw_open(&[&[short, 255, 0, 15][..], &EXTENDED].concat());
        assert_eq!(answer_to_open(settings(), &octets), None, "{short} in the field that no longer counts");
    }
}

#[test]
fn s2_the_octet_behind_the_short_length_tells_the_encoding() {
    let short = [&[14, 2, 12][..], &EXTENDED[3..]].concat();
    assert_eq!(answer_to_open(settings(), &raw_open(&short)), None, "the plain encoding");
    let told = answer_to_open(settings(), &raw_open(&[&[18, 255, 0, 99][..], &EXTENDED].concat())).unwrap();
    assert_eq!((told.code, told.subcode), (2, 0), "the two octets behind are a length, and a wrong one");
}

#[test]
fn s2_above_255_octets_the_extended_encoding_is_written_and_below_it_is_not() {
    let unknown = |len: usize| Capability::Unknown { code: 200, data: Bytes::from(vec![0; len]) };
    let mut open = open_to(&settings());
    let before = usize::from(octets_of(&open)[28]);
    open.capabilities.push(unknown(253 - before));
    let octets = octets_of(&open);
    assert_eq!((octets[28], octets[29]), (255, 2), "255 octets need no other encoding");
    open.capabilities.push(unknown(0));
    let octets = octets_of(&open);
    assert_eq!((octets[28], octets[29]), (255, 255));
    assert_eq!(usize::from(u16::from_be_bytes([octets[30], octets[31]])), octets.len() - 32);
    assert_eq!(octets[32], 2, "Capabilities is the only type of parameter there is");
    assert_eq!(answer_to_open(settings(), &octets), None);
}

#[test]
fn s3_type_255_anywhere_else_is_an_unknown_parameter() {
    let behind = [&[2, 6, 1, 4, 0, 1, 0, 1][..], &[255, 0]].concat();
    let told = answer_to_open(settings(), &raw_open(&[&[10][..], &behind].concat())).unwrap();
    assert_eq!((told.code, told.subcode), (2, 4));
    let inside = [&[0, 255, 0, 18][1..], &EXTENDED, &[255, 0, 0]].concat();
    let told = answer_to_open(settings(), &raw_open(&[&[255][..], &inside].concat())).unwrap();
    assert_eq!((told.code, told.subcode), (2, 4));
}
