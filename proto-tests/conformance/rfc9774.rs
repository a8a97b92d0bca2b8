//! RFC 9774: sets in paths.

use crate::rig::*;
use herald::rib::Attributes;

#[test]
fn s3_no_set_is_sent() {
    for on in [On::External, On::Internal, On::Old] {
        for update in announced(on, &["198.51.100.1", "2001:db8:1::1"], Attributes::default()) {
            for (_, _, path) in attributes_of(&update).iter().filter(|(_, code, _)| *code == 2 || *code == 17) {
                assert!(path.is_empty() || path[..2] == [2, 1], "one sequence: {path:?}");
            }
        }
    }
}

#[test]
fn s3_routes_with_a_set_are_withdrawn() {
    for kind in [1, 4] {
        let behind = [2, 1, 0, 0, 0xfc, 1, kind, 1, 0, 0, 0, 9];
        assert_eq!(fate_instead(On::External, 2, &attribute(0x40, 2, &behind)), Fate::Withdrawn, "type {kind}");
        assert_eq!(fate_instead(On::Internal, 2, &attribute(0x40, 2, &behind[6..])), Fate::Withdrawn, "type {kind}");
    }
    let as4_path = attribute(0xc0, 17, &[1, 1, 0, 1, 0, 0]);
    assert_eq!(fate_of(On::Old, &as4_path), Fate::Withdrawn, "in AS4_PATH");
}
