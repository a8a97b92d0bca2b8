//! RFC 9234: roles, and routes that only go down.

use crate::rig::*;
use herald::peer::Settings;
use herald::peer::settings::Role;
use herald::rib::Attributes;
use herald::wire::Capability;

const ROLES: [Role; 5] = [Role::Provider, Role::RouteServer, Role::RouteServerClient, Role::Customer, Role::Peer];

fn with_role(role: Role) -> Settings {
    with(|settings| settings.neighbor.role = Some(role))
}

/// The pairs of table 2, ours and theirs.
fn correspond(ours: Role, theirs: Role) -> bool {
    let pairs = [
        (Role::Provider, Role::Customer),
        (Role::Customer, Role::Provider),
        (Role::RouteServer, Role::RouteServerClient),
        (Role::RouteServerClient, Role::RouteServer),
        (Role::Peer, Role::Peer),
    ];
    pairs.contains(&(ours, theirs))
}

fn answer(ours: Role, theirs: &[Role]) -> Option<(u8, u8)> {
    let settings = with_role(ours);
    let open = open_with(&settings, theirs.iter().copied().map(Capability::Role));
    answer_to_open(settings, &octets_of(&open)).map(|told| (told.code, told.subcode))
}

#[test]
fn s4_1_a_configured_role_is_said_once() {
    for role in ROLES {
        let open = Desk::open_sent(with_role(role)).open();
        let said: Vec<_> = open.capabilities.iter().filter(|c| matches!(c, Capability::Role(_))).collect();
        assert_eq!(said, [&Capability::Role(role)]);
    }
}

#[test]
fn s4_2_roles_that_do_not_correspond_are_2_11() {
    for ours in ROLES {
        for theirs in ROLES.into_iter().chain([Role::Unassigned(5), Role::Unassigned(255)]) {
            let wanted = if correspond(ours, theirs) { None } else { Some((2, 11)) };
            assert_eq!(answer(ours, &[theirs]), wanted, "{ours:?} and {theirs:?}");
        }
        assert_eq!(answer(ours, &[]), None, "{ours:?} and nothing said");
    }
}

#[test]
fn s4_2_two_roles_that_differ_are_2_11() {
    for ours in ROLES {
        let theirs = ROLES.into_iter().find(|theirs| correspond(ours, *theirs)).expect("each has its counterpart");
        for other in ROLES.into_iter().filter(|other| *other != theirs) {
            assert_eq!(answer(ours, &[theirs, other]), Some((2, 11)), "{ours:?}: {theirs:?} and {other:?}");
            assert_eq!(answer(ours, &[other, theirs]), Some((2, 11)), "{ours:?}: {other:?} and {theirs:?}");
        }
        assert_eq!(answer(ours, &[theirs, theirs]), None, "the same one again is no contradiction");
    }
}

#[test]
fn s5_routes_towards_customers_peers_and_clients_carry_our_number() {
    for (ours, theirs, carries) in [
        (Role::Provider, Role::Customer, true),
        (Role::Peer, Role::Peer, true),
        (Role::RouteServer, Role::RouteServerClient, true),
        (Role::Customer, Role::Provider, false),
        (Role::RouteServerClient, Role::RouteServer, false),
    ] {
        let settings = with_role(ours);
        let open = open_with(&settings, [Capability::Role(theirs)]);
        let mut desk = Desk::established_by(settings, &open);
        desk.plan(&["198.51.100.1", "2001:db8:1::1"], Attributes::default());
        let context = desk.context.clone();
        let sent = cut(desk.octets(), &context);
        for update in sent.iter().filter(|octets| octets.len() > 29) {
            let otc: Vec<_> = attributes_of(update).into_iter().filter(|(_, code, _)| *code == 35).collect();
            let wanted = if carries { vec![(0xc0, 35, vec![0, 0, 0xfc, 0])] } else { vec![] };
            assert_eq!(otc, wanted, "{ours:?}");
        }
    }
}

#[test]
fn s5_a_malformed_attribute_withdraws_the_routes() {
    for len in [0, 2, 3, 5, 8] {
        assert_eq!(fate_of(On::External, &attribute(0xc0, 35, &vec![1; len])), Fate::Withdrawn, "{len} octets");
    }
    assert_eq!(fate_of(On::External, &attribute(0xc0, 35, &[0, 0, 0xfc, 1])), Fate::Good);
}
