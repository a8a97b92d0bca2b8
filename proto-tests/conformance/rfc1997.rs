//! RFC 1997: communities.

use crate::rig::*;
use herald::rib::Attributes;
use herald::wire::Community;

#[test]
fn an_as_number_stands_in_the_first_two_octets() {
    let communities = ["64512:1", "no-export", "no-advertise", "no-export-subconfed"].map(|text| text.parse().unwrap());
    let attributes = Attributes { communities: communities.to_vec(), ..Attributes::default() };
    let sent = announced(On::External, &["198.51.100.1"], attributes);
    let (flags, _, value) = attributes_of(&sent[0]).into_iter().find(|(_, code, _)| *code == 8).unwrap();
    assert_eq!(flags, 0xc0);
    let wanted = [0xfc, 0, 0, 1, 255, 255, 255, 1, 255, 255, 255, 2, 255, 255, 255, 3];
    assert_eq!(value, wanted);
    assert_eq!(Community(0xfc00_0001).to_string(), "64512:1");
}
