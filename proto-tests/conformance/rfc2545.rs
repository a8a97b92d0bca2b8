//! RFC 2545: next hops of IPv6 routes.

use crate::rig::*;
use herald::peer::LocalEnd;
use herald::rib::Attributes;
use herald::wire::{Attribute, MpReach};
use std::net::IpAddr;

/// The MP_REACH_NLRI sent for one IPv6 route over a connection whose interface has these addresses.
fn reach(local: &str, interface: &[&str]) -> MpReach {
    let end = LocalEnd {
        local: format!("{local}:40000").parse().unwrap(),
        remote: if local.starts_with('[') { "[2001:db8::fe]:179" } else { "192.0.2.254:179" }.parse().unwrap(),
        interface: interface.iter().map(|text| text.parse().unwrap()).collect(),
        unfit: Vec::new(),
    };
    let settings = settings();
    let open = open_to(&settings);
    let mut desk = Desk::established_at(settings, &open, end);
    desk.plan(&["2001:db8:1::1"], Attributes::default());
    let updates = desk.updates();
    let reach =
        updates[0].attributes.iter().find_map(|a| if let Attribute::MpReach(reach) = a { Some(reach) } else { None });
    reach.expect("an IPv6 route goes in MP_REACH_NLRI").clone()
}

#[test]
fn s3_the_next_hop_is_a_global_address_alone() {
    let sent = reach("[2001:db8::1]", &["fe80::1", "2001:db8::1"]);
    assert_eq!((sent.next_hop, sent.link_local), ("2001:db8::1".parse::<IpAddr>().unwrap(), None));
    let sent = reach("[fe80::1]", &["fe80::1", "2001:db8::7"]);
    assert_eq!(
        sent.next_hop,
        "2001:db8::7".parse::<IpAddr>().unwrap(),
        "never the link-local one, even where it is ours"
    );
    assert_eq!(sent.link_local, Some("fe80::1".parse().unwrap()), "beside it, where the session itself is link-local");
}

#[test]
fn s3_a_next_hop_has_16_or_32_octets() {
    let value = |len: usize| {
        let hop = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1].repeat(3);
        attribute(0x80, 14, &[&[0, 2, 1, u8::try_from(len).unwrap()][..], &hop[..len], &[0, 16, 0x20, 1]].concat())
    };
    for len in 0..=48 {
        let good = fate_of(On::External, &value(len)) == Fate::Good;
        assert_eq!(good, len == 16 || len == 32, "{len} octets");
    }
    let sent = announced(On::External, &["2001:db8:1::1"], Attributes::default());
    let (_, _, value) = attributes_of(&sent[0]).into_iter().find(|(_, code, _)| *code == 14).unwrap();
    assert_eq!(value[3], 16, "ours are one global address");
}

#[test]
fn s4_over_ipv4_the_next_hop_is_the_interface_s_own() {
    let sent = reach("192.0.2.1", &["192.0.2.1", "fe80::1", "2001:db8::9"]);
    assert_eq!(sent.next_hop, "2001:db8::9".parse::<IpAddr>().unwrap());
}
