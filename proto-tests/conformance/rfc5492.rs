//! RFC 5492: capabilities.

use crate::rig::*;
use herald::wire::Capability;

#[test]
fn s3_an_unknown_capability_is_ignored() {
    for capability in [&[3, 0][..], &[66, 1, 7], &[128, 2, 0, 0], &[239, 3, 1, 2, 3], &[255, 0]] {
        let all = [&[1, 4, 0, 1, 0, 1, 65, 4, 0, 0, 0xfc, 0x01][..], capability].concat();
        let len = u8::try_from(all.len()).unwrap();
        let parameters = [&[len + 2, 2, len][..], &all].concat();
        assert_eq!(answer_to_open(settings(), &raw_open(&parameters)), None, "{capability:?}");
    }
}

#[test]
fn s4_a_capability_may_come_again() {
    let again = [&[1, 4, 0, 1, 0, 1][..], &[65, 4, 0, 0, 0xfc, 0x01], &[2, 0], &[70, 0]].concat().repeat(2);
    let len = u8::try_from(again.len()).unwrap();
    let parameters = [&[len + 2, 2, len][..], &again].concat();
    assert_eq!(answer_to_open(settings(), &raw_open(&parameters)), None);
}

#[test]
fn s4_capabilities_may_come_in_several_parameters() {
    let parameters = [2, 6, 1, 4, 0, 1, 0, 1, 2, 8, 65, 4, 0, 0, 0xfc, 0x01, 2, 0, 2, 2, 70, 0];
    let octets = raw_open(&[&[22][..], &parameters].concat());
    assert_eq!(answer_to_open(settings(), &octets), None);
}

#[test]
fn s5_what_is_required_and_missing_is_listed() {
    let missing = [Capability::RouteRefresh, Capability::Multiprotocol(V6)];
    let told = Capability::required(&missing).unwrap();
    assert_eq!((told.code, told.subcode, &told.data[..]), (2, 7, &[2, 0, 1, 4, 0, 2, 0, 1][..]));
}
