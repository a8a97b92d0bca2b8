//! RFC 8950: IPv4 routes with an IPv6 next hop.

use crate::rig::*;
use herald::peer::LocalEnd;
use herald::rib::Attributes;
use herald::wire::capability::NextHopEncoding;
use herald::wire::{Attribute, Capability};

fn offer() -> Capability {
    Capability::ExtendedNextHop(vec![NextHopEncoding { family: V4, next_hop_afi: 2 }])
}

/// A session over an interface that has no IPv4 address.
fn without_ipv4(more: Option<Capability>) -> Desk {
    let end = LocalEnd {
        local: "[2001:db8::1]:40000".parse().unwrap(),
        remote: "[2001:db8::fe]:179".parse().unwrap(),
        interface: vec!["2001:db8::1".parse().unwrap()],
        unfit: Vec::new(),
    };
    let settings = settings();
    let open = open_with(&settings, more);
    Desk::established_at(settings, &open, end)
}

#[test]
fn s3_the_length_tells_the_next_hop_s_protocol() {
    let settings = settings();
    let v6 = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    for (hop, read) in [(&[192, 0, 2, 9][..], Some("192.0.2.9")), (&v6, Some("2001:db8::1")), (&v6[..8], None)] {
        let len = u8::try_from(hop.len()).unwrap();
        let reach = attribute(0x80, 14, &[&[0, 1, 1, len][..], hop, &[0], &NLRI].concat());
        let octets = update(&[], &[&reach[..], &ORIGIN, &PATH].concat(), &[]);
        let mut desk = Desk::established_by(settings.clone(), &open_with(&settings, [offer()]));
        desk.receive_octets(&octets);
        assert_eq!(desk.state() == "Established", read.is_some(), "{len} octets");
        let Some(address) = read else { continue };
        let Ok(herald::wire::Message::Update(update)) = herald::wire::Message::decode(&octets, &desk.context) else {
            panic!("{len} octets")
        };
        let Some(Attribute::MpReach(reach)) = update.attributes.first() else { panic!("{update:?}") };
        assert_eq!(reach.next_hop.to_string(), address);
    }
}

#[test]
fn s4_capability_5_is_offered_for_ipv4_over_ipv6() {
    let octets = Desk::open_sent(settings()).octets();
    let wanted = [5, 6, 0, 1, 0, 1, 0, 2];
    assert!(octets.windows(wanted.len()).any(|window| window == wanted), "{octets:?}");
}

#[test]
fn s4_an_ipv6_next_hop_goes_only_to_a_peer_that_offered_to_take_it() {
    let mut desk = without_ipv4(Some(offer()));
    desk.plan(&["198.51.100.1"], Attributes::default());
    let updates = desk.updates();
    let Some(Attribute::MpReach(reach)) = updates[0].attributes.first() else { panic!("{updates:?}") };
    assert_eq!((reach.family, reach.next_hop), (V4, "2001:db8::1".parse().unwrap()));
    let of_ipv6 = NextHopEncoding { family: V6, next_hop_afi: 1 };
    for other in [None, Some(Capability::ExtendedNextHop(vec![of_ipv6]))] {
        let mut desk = without_ipv4(other);
        desk.plan(&["198.51.100.1"], Attributes::default());
        assert_eq!(desk.updates().iter().flat_map(|update| update.announced()).count(), 0);
        assert!(desk.peer.status().unannounced.contains_key(&V4), "and people are told why");
    }
}
