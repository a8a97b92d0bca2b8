//! RFC 4760: families other than IPv4 in the body.

use crate::rig::*;
use herald::rib::Attributes;
use herald::wire::Capability;

#[test]
fn s3_the_reserved_octet_is_zero() {
    for on in [On::External, On::Internal] {
        let sent = announced(on, &["2001:db8:1::1"], Attributes::default());
        let (_, _, value) = attributes_of(&sent[0]).into_iter().find(|(_, code, _)| *code == 14).unwrap();
        assert_eq!((value[3], value[4 + 16]), (16, 0), "{value:?}");
    }
}

#[test]
fn s3_mp_reach_goes_with_origin_and_path_and_inside_with_local_pref() {
    let many: Vec<String> = (0..1000).map(|n| format!("2001:db8:1::{n:x}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for on in [On::External, On::Internal, On::Old] {
        let sent = announced(on, &many, Attributes::default());
        assert!(sent.len() > 2);
        for update in sent {
            let codes: Vec<u8> = attributes_of(&update).iter().map(|(_, code, _)| *code).collect();
            assert!([14, 1, 2].iter().all(|code| codes.contains(code)), "{codes:?}");
            assert_eq!(codes.contains(&5), on == On::Internal, "LOCAL_PREF on {on:?}");
        }
    }
}

#[test]
fn s8_a_family_flows_only_where_both_offered_it() {
    let ours = Desk::open_sent(settings()).open();
    for family in [V4, V6] {
        assert!(ours.capabilities.contains(&Capability::Multiprotocol(family)), "{family} is offered");
    }
    for (offered, prefix) in [(V4, "198.51.100.1/32"), (V6, "2001:db8:1::1/128")] {
        let settings = settings();
        let mut open = open_to(&settings);
        open.capabilities
            .retain(|c| *c == Capability::Multiprotocol(offered) || matches!(c, Capability::FourOctetAs(_)));
        let mut desk = Desk::established_by(settings, &open);
        desk.plan(&["198.51.100.1", "2001:db8:1::1"], Attributes::default());
        let updates = desk.updates();
        let told: Vec<String> = updates.iter().flat_map(|u| u.announced()).map(|(p, _)| p.to_string()).collect();
        assert_eq!(told, [prefix]);
        let ends: Vec<_> = updates.iter().filter_map(|update| update.end_of_rib()).collect();
        assert_eq!(ends, [offered], "of the other family not even the end is told");
    }
}
