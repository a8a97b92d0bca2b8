//! RFC 6286: BGP Identifiers that are numbers and nothing more.

use crate::rig::*;
use herald::wire::RouterId;

fn answer(settings: herald::peer::Settings, id: [u8; 4]) -> Option<(u8, u8)> {
    let mut octets = octets_of(&open_to(&settings));
    octets[24..28].copy_from_slice(&id);
    answer_to_open(settings, &octets).map(|told| (told.code, told.subcode))
}

#[test]
fn s2_1_any_number_but_zero_is_an_identifier() {
    for id in [[0, 0, 0, 1], [127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255], [10, 0, 0, 2]] {
        assert_eq!(answer(settings(), id), None, "{id:?}");
        assert!(RouterId::new(id.into()).is_some());
    }
    assert_eq!(answer(settings(), [0; 4]), Some((2, 3)));
}

#[test]
fn s2_2_identifiers_are_unique_within_an_as_and_not_beyond() {
    assert_eq!(answer(internal(), [10, 0, 0, 1]), Some((2, 3)), "our own, in our AS");
    assert_eq!(answer(internal(), [10, 0, 0, 2]), None);
    assert_eq!(answer(settings(), [10, 0, 0, 1]), None, "our own, in another AS");
}
