//! RFC 2918: route refresh.

use crate::rig::*;
use herald::rib::Attributes;
use herald::wire::{Capability, Family, Message, RefreshKind, RouteRefresh};

fn asked(desk: &mut Desk, family: Family) -> Vec<String> {
    desk.receive(&[Message::RouteRefresh(RouteRefresh::new(family, RefreshKind::Request))]);
    assert_eq!(desk.state(), "Established");
    let updates = desk.updates();
    updates.iter().flat_map(|update| update.announced()).map(|(prefix, _)| prefix.to_string()).collect()
}

#[test]
fn s4_a_family_that_we_never_offered_is_ignored() {
    for more in [&[][..], &[Capability::EnhancedRouteRefresh]] {
        let settings = with(|settings| settings.neighbor.families = [V4].into());
        let open = open_with(&settings, more.iter().cloned());
        let mut desk = Desk::established_by(settings, &open);
        desk.plan(&["198.51.100.1"], Attributes::default());
        desk.updates();
        for family in [V6, Family { afi: 25, safi: 70 }] {
            desk.receive(&[Message::RouteRefresh(RouteRefresh::new(family, RefreshKind::Request))]);
            assert_eq!((desk.state(), desk.said()), ("Established", vec![]), "{family}");
        }
        assert_eq!(asked(&mut desk, V4), ["198.51.100.1/32"], "and nobody is the worse for it");
    }
}

#[test]
fn s4_the_whole_family_is_sent_again() {
    let offered = Desk::open_sent(settings()).open();
    assert!(offered.capabilities.contains(&Capability::RouteRefresh));
    let mut desk = On::External.desk();
    desk.plan(&["198.51.100.1", "198.51.100.2", "2001:db8:1::1"], Attributes::default());
    desk.updates();
    assert_eq!(asked(&mut desk, V4), ["198.51.100.1/32", "198.51.100.2/32"]);
    assert_eq!(asked(&mut desk, V6), ["2001:db8:1::1/128"]);
}
