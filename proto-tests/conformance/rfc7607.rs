//! RFC 7607: AS 0.

use crate::rig::*;
use herald::config::Config;
use herald::wire::Asn;

fn config(ours: u32, theirs: u32) -> bool {
    let text = format!(
        "asn: {ours}\npeers: [{{name: a, address: 192.0.2.1, asn: {theirs}}}]\n\
         pools: [{{name: p, addresses: [198.51.100.0/24]}}]\nadvertisements: [{{name: a}}]\n"
    );
    Config::parse("zero.yaml", &text).is_ok()
}

#[test]
fn s2_as_0_is_nobody_s_number() {
    assert!(config(64_512, 64_513));
    assert!(!config(0, 64_513), "ours goes into OPEN, AS_PATH and AS4_PATH");
    assert!(!config(64_512, 0));
}

#[test]
fn s2_as_0_in_as_path_or_aggregator_is_malformed() {
    for path in [&[2, 1, 0, 0, 0, 0][..], &[2, 2, 0, 0, 0xfc, 1, 0, 0, 0, 0]] {
        assert_eq!(fate_instead(On::External, 2, &attribute(0x40, 2, path)), Fate::Withdrawn);
    }
    assert_eq!(fate_of(On::External, &attribute(0xc0, 7, &[0, 0, 0, 0, 1, 2, 3, 4])), Fate::Discarded(vec![7]));
    assert_eq!(fate_of(On::Old, &attribute(0xc0, 7, &[0, 0, 1, 2, 3, 4])), Fate::Discarded(vec![7]));
}

#[test]
fn s2_as_0_in_the_as4_attributes_is_malformed() {
    assert_eq!(fate_of(On::Old, &attribute(0xc0, 17, &[2, 1, 0, 0, 0, 0])), Fate::Discarded(vec![17]));
    assert_eq!(fate_of(On::Old, &attribute(0xc0, 18, &[0, 0, 0, 0, 1, 2, 3, 4])), Fate::Discarded(vec![18]));
}

#[test]
fn s2_a_peer_of_as_0_is_told_2_2() {
    let mut open = open_to(&settings());
    open.my_as = 0;
    let told = answer_to_open(settings(), &octets_of(&open)).unwrap();
    assert_eq!((told.code, told.subcode), (2, 2), "in My Autonomous System");
    let parameters = [8, 2, 6, 65, 4, 0, 0, 0, 0];
    let expecting_zero = with(|settings| settings.neighbor.asn = Asn(0));
    for settings in [settings(), expecting_zero] {
        let told = answer_to_open(settings, &raw_open(&parameters)).unwrap();
        assert_eq!((told.code, told.subcode), (2, 2), "in capability 65");
    }
}
