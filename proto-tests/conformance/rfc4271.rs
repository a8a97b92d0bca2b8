//! RFC 4271: messages, attributes and errors. What the state machine is obliged to is in `rfc4271_sessions`.

use crate::rig::*;
use herald::config::Config;
use herald::rib::{Attributes, NextHop};
use herald::wire::{Attribute, Community, Message, Origin};
use std::time::Duration;

/// Every message that a busy session sends, in order, as octets.
fn everything_sent() -> Vec<Vec<u8>> {
    let mut desk = Desk::open_sent(settings());
    let context = desk.context.clone();
    let mut all = cut(desk.octets(), &context);
    let mut desk = On::External.desk();
    let context = desk.context.clone();
    desk.plan(&["198.51.100.1", "2001:db8:1::1"], Attributes::default());
    all.extend(cut(desk.octets(), &context));
    desk.plan(&[], Attributes::default());
    all.extend(cut(desk.octets(), &context));
    while desk.state() == "Established" {
        desk.expire();
        all.extend(cut(desk.octets(), &context));
    }
    let kinds: std::collections::BTreeSet<u8> = all.iter().map(|octets| octets[18]).collect();
    assert_eq!(kinds, [1, 2, 3, 4].into(), "one of each kind");
    all
}

#[test]
fn s4_1_marker_is_all_ones() {
    assert!(everything_sent().iter().all(|octets| octets[..16] == [0xff; 16]));
}

#[test]
fn s4_1_length_is_what_the_message_takes_and_19_to_4096() {
    for octets in everything_sent() {
        let said = usize::from(u16::from_be_bytes([octets[16], octets[17]]));
        assert_eq!(said, octets.len(), "nothing is padded");
        assert!((19..=4096).contains(&said));
    }
    for (len, kind) in [(18, 4), (0, 2), (4097, 2), (65_535, 3)] {
        let mut desk = On::External.desk();
        desk.receive_octets(&[&[0xff; 16][..], &be(len), &[kind]].concat());
        assert_eq!(desk.notification().map(|told| (told.code, told.subcode)), Some((1, 2)), "{len} octets");
    }
}

#[test]
fn s4_2_hold_time_is_the_smaller_of_both() {
    for (ours, theirs, both) in [(90, 30, 30), (9, 90, 9), (90, 0, 0), (0, 90, 0)] {
        let settings = with(|settings| settings.neighbor.hold_time = Duration::from_secs(ours));
        let mut open = open_to(&settings);
        open.hold_time = theirs;
        let mut desk = Desk::established_by(settings, &open);
        let began = desk.now;
        if both == 0 {
            assert_eq!(desk.peer.poll_timeout(), None, "no timer runs");
            continue;
        }
        while desk.state() == "Established" {
            desk.expire();
        }
        assert_eq!((desk.now - began).as_secs(), both, "silence of {both} s ends the session");
    }
}

fn config(hold_time: &str) -> String {
    let peer = |name, address, more: &str| format!("- {{name: {name}, address: {address}, asn: 64513{more}}}\n");
    let peers = [peer("a", "192.0.2.1", &format!(", holdTime: {hold_time}")), peer("b", "192.0.2.2", "")].concat();
    format!(
        "asn: 64512\npeers:\n{peers}pools: [{{name: p, addresses: [198.51.100.0/24]}}]\nadvertisements: [{{name: a}}]\n"
    )
}

#[test]
fn s4_2_hold_time_is_zero_or_three_and_more() {
    for (seconds, answer) in [(0, None), (1, Some((2, 6))), (2, Some((2, 6))), (3, None), (65_535, None)] {
        let mut octets = raw_open(&[0]);
        octets[22..24].copy_from_slice(&be(seconds));
        let told = answer_to_open(settings(), &octets).map(|told| (told.code, told.subcode));
        assert_eq!(told, answer, "{seconds} s from the peer");
        let ours = Config::parse("hold.yaml", &config(&format!("{seconds}s"))).is_ok();
        assert_eq!(ours, answer.is_none(), "{seconds} s in the configuration");
    }
}

/// Flags of every attribute sent to an external and to an internal peer.
fn flags_sent() -> Vec<(u8, u8)> {
    let attributes = Attributes { med: Some(7), communities: vec![Community(1)], ..Attributes::default() };
    let sent =
        [On::External, On::Internal].map(|on| announced(on, &["198.51.100.1", "2001:db8:1::1"], attributes.clone()));
    let flags: Vec<_> =
        sent.iter().flatten().flat_map(|u| attributes_of(u)).map(|(flags, code, _)| (flags, code)).collect();
    assert!([1, 2, 3, 4, 5, 8, 14].iter().all(|wanted| flags.iter().any(|(_, code)| code == wanted)), "{flags:?}");
    flags
}

#[test]
fn s4_3_well_known_attributes_are_sent_transitive() {
    for (flags, code) in flags_sent() {
        if matches!(code, 1 | 2 | 3 | 5) {
            assert_eq!(flags & 0xc0, 0x40, "type {code}");
        }
    }
}

#[test]
fn s4_3_nothing_of_ours_is_partial_and_unused_flags_are_zero() {
    for (flags, code) in flags_sent() {
        assert_eq!(flags & 0x2f, 0, "type {code}");
    }
}

#[test]
fn s4_3_unused_flags_are_ignored() {
    for flags in 0x40..=0x4f {
        assert_eq!(fate_instead(On::External, 1, &[flags & !0x10, 1, 1, 0]), Fate::Good, "{flags:#x}");
    }
}

#[test]
fn s4_3_a_prefix_both_withdrawn_and_announced_is_announced() {
    let octets = update(&NLRI, &On::External.mandatory(), &NLRI);
    assert_eq!(fate(On::External, &octets), Fate::Good);
    let context = On::External.desk().context;
    let Ok(Message::Update(update)) = Message::decode(&octets, &context) else { panic!() };
    let gone: Vec<_> = update.gone().collect();
    let announced: Vec<_> = update.announced().map(|(prefix, _)| prefix).collect();
    assert_eq!((gone.len(), &announced), (1, &gone), "taken back first, and then announced");
}

#[test]
fn s5_every_well_known_attribute_is_recognised() {
    let desk = On::Internal.desk();
    let octets = update(&[], &[&On::Internal.mandatory()[..], &[0x40, 6, 0]].concat(), &NLRI);
    let Ok(Message::Update(update)) = Message::decode(&octets, &desk.context) else { panic!() };
    let [
        Attribute::Origin(Origin::Igp),
        Attribute::AsPath(_),
        Attribute::NextHop(_),
        Attribute::LocalPref(100),
        Attribute::AtomicAggregate,
    ] = &update.attributes[..]
    else {
        panic!("{update:?}")
    };
    assert_eq!(update.faults, []);
}

#[test]
fn s5_mandatory_attributes_are_in_every_announcement() {
    let many: Vec<String> = (0..2000).map(|n| format!("10.1.{}.{}", n / 256, n % 256)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for on in [On::External, On::Internal, On::Old] {
        let sent = announced(on, &many, Attributes::default());
        assert!(sent.len() > 2);
        for update in sent {
            let codes: Vec<u8> = attributes_of(&update).iter().map(|(_, code, _)| *code).collect();
            assert!([1, 2, 3].iter().all(|code| codes.contains(code)), "{codes:?} on {on:?}");
            assert_eq!(codes.contains(&5), on == On::Internal, "LOCAL_PREF on {on:?}");
        }
    }
}

#[test]
fn s5_unknown_optional_non_transitive_attributes_are_ignored() {
    for code in [50, 99, 254] {
        assert_eq!(fate_of(On::External, &attribute(0x80, code, &[1, 2, 3])), Fate::Good);
    }
}

#[test]
fn s5_attributes_come_in_any_order() {
    let reversed = [&NEXT_HOP[..], &PATH, &ORIGIN].concat();
    assert_eq!(fate(On::External, &update(&[], &reversed, &NLRI)), Fate::Good);
}

#[test]
fn s5_1_3_next_hop_is_our_own_unless_another_is_wanted() {
    let hop = |attributes| {
        let sent = announced(On::External, &["198.51.100.1"], attributes);
        attributes_of(&sent[0]).into_iter().find(|(_, code, _)| *code == 3).map(|(_, _, value)| value)
    };
    assert_eq!(hop(Attributes::default()), Some(vec![192, 0, 2, 1]));
    let third = NextHop::Address("192.0.2.77".parse().unwrap());
    assert_eq!(hop(Attributes { next_hop: third, ..Attributes::default() }), Some(vec![192, 0, 2, 77]));
}

#[test]
fn s5_1_3_the_peer_s_own_address_is_never_its_next_hop() {
    for (prefix, theirs) in [("198.51.100.1", "192.0.2.254"), ("198.51.100.1", "::ffff:192.0.2.254")] {
        let mut desk = On::External.desk();
        let towards = |text: &str| NextHop::Address(text.parse().unwrap());
        desk.plan(&[prefix], Attributes { next_hop: towards("192.0.2.77"), ..Attributes::default() });
        assert_eq!(desk.updates().iter().flat_map(|update| update.announced()).count(), 1);
        desk.plan(&[prefix], Attributes { next_hop: towards(theirs), ..Attributes::default() });
        let updates = desk.updates();
        assert_eq!(updates.iter().flat_map(|update| update.announced()).count(), 0, "{updates:?}");
        assert_eq!(updates.iter().flat_map(|update| update.gone()).count(), 1, "and what it had is withdrawn");
    }
}

#[test]
fn s5_1_5_local_pref_goes_to_internal_peers_and_to_no_other() {
    let sent = |on, local_pref| {
        let update = announced(on, &["198.51.100.1"], Attributes { local_pref, ..Attributes::default() });
        attributes_of(&update[0]).into_iter().find(|(_, code, _)| *code == 5).map(|(_, _, value)| value)
    };
    assert_eq!(sent(On::Internal, None), Some(vec![0, 0, 0, 100]));
    assert_eq!(sent(On::Internal, Some(7)), Some(vec![0, 0, 0, 7]));
    assert_eq!(sent(On::External, None), None);
    assert_eq!(sent(On::External, Some(7)), None);
}

#[test]
fn s5_1_5_local_pref_from_outside_is_ignored() {
    assert_eq!(fate_of(On::External, &LOCAL_PREF), Fate::Discarded(vec![5]));
}

#[test]
fn s6_a_code_without_subcode_says_zero() {
    let mut desk = On::External.desk();
    while desk.state() == "Established" {
        desk.octets();
        desk.expire();
    }
    assert_eq!(desk.octets()[16..], [0, 21, 3, 4, 0]);
}

#[test]
fn s6_1_a_wrong_marker_is_1_1() {
    let mut octets = message(4, &[]);
    for at in 0..16 {
        octets[at] = 0;
        assert_eq!(fate(On::External, &octets).reset(), Some((1, 1)), "octet {at}");
        octets[at] = 0xff;
    }
}

#[test]
fn s6_1_a_bad_length_is_1_2_with_the_length() {
    for (kind, len) in [(1, 18), (2, 4097), (1, 28), (2, 22), (4, 20), (4, 18), (3, 20), (9, 0)] {
        let octets = [&[0xff; 16][..], &be(len), &[kind]].concat();
        let Fate::Reset(told) = fate(On::External, &octets) else { panic!("type {kind}, {len} octets") };
        assert_eq!((told.code, told.subcode, &told.data[..]), (1, 2, &be(len)[..]), "type {kind}");
    }
}

#[test]
fn s6_1_an_unknown_type_is_1_3_with_the_type() {
    for kind in [0, 6, 77, 255] {
        let Fate::Reset(told) = fate(On::External, &message(kind, &[])) else { panic!("type {kind}") };
        assert_eq!((told.code, told.subcode, &told.data[..]), (1, 3, &[kind][..]));
    }
}

/// What comes of an OPEN with some octets changed.
fn changed_open(at: usize, to: &[u8]) -> Option<(u8, u8)> {
    let mut octets = raw_open(&[0]);
    octets[at..at + to.len()].copy_from_slice(to);
    answer_to_open(settings(), &octets).map(|told| (told.code, told.subcode))
}

#[test]
fn s6_2_faults_of_an_open_are_told_with_code_2() {
    assert_eq!(changed_open(19, &[4]), None, "as it stands it is taken");
    for version in [0, 3, 5, 255] {
        assert_eq!(changed_open(19, &[version]), Some((2, 1)), "version {version}");
    }
    assert_eq!(changed_open(20, &be(64_514)), Some((2, 2)), "another AS than the configured one");
    assert_eq!(changed_open(24, &[0; 4]), Some((2, 3)), "no BGP Identifier");
    for parameter in [1, 3, 254] {
        let told = answer_to_open(settings(), &raw_open(&[3, parameter, 1, 0])).unwrap();
        assert_eq!((told.code, told.subcode), (2, 4), "parameter {parameter}");
    }
}

#[test]
fn s6_2_a_malformed_parameter_is_2_0() {
    for parameters in [&[4, 2, 3, 1, 4][..], &[9, 2, 2, 2, 0], &[3, 2, 9, 0], &[6, 2, 4, 65, 2, 0, 1]] {
        let told = answer_to_open(settings(), &raw_open(parameters)).unwrap();
        assert_eq!((told.code, told.subcode), (2, 0), "{parameters:?}");
    }
}

#[test]
fn s6_3_lengths_beyond_the_message_are_3_1() {
    for at in [19, 21] {
        let mut octets = update(&[], &On::External.mandatory(), &NLRI);
        octets[at..at + 2].copy_from_slice(&be(200));
        assert_eq!(fate(On::External, &octets).reset(), Some((3, 1)), "length at {at}");
    }
}

/// The NOTIFICATION for an attribute in an UPDATE without routes, where RFC 7606 §5.2 leaves the session no choice.
fn told_without_routes(octets: &[u8]) -> (u8, u8, Vec<u8>) {
    match fate_without_routes(On::External, octets) {
        Fate::Reset(told) => (told.code, told.subcode, told.data.to_vec()),
        other => panic!("{octets:?}: {other:?}"),
    }
}

#[test]
fn s6_3_where_an_attribute_still_ends_the_session_its_fault_is_named() {
    for (subcode, attribute) in [
        (2, &[0x40, 99, 1, 5][..]),
        (4, &[0x80, 1, 1, 0]),
        (4, &[0x40, 4, 4, 0, 0, 0, 1]),
        (5, &[0x40, 1, 2, 0, 0]),
        (5, &[0x40, 3, 3, 192, 0, 2]),
        (5, &[0x80, 4, 3, 0, 0, 1]),
        (6, &[0x40, 1, 1, 3]),
    ] {
        assert_eq!(told_without_routes(attribute), (3, subcode, attribute.to_vec()));
    }
}

#[test]
fn s6_3_a_malformed_path_is_3_11() {
    for path in [&[0x40, 2, 2, 9, 0][..], &[0x40, 2, 2, 2, 0], &[0x40, 2, 3, 2, 1, 0], &[0x40, 2, 1, 2]] {
        let (code, subcode, _) = told_without_routes(path);
        assert_eq!((code, subcode), (3, 11), "{path:?}");
    }
}

#[test]
fn s6_3_a_path_of_another_as_is_malformed_where_it_is_checked() {
    let context = herald::wire::Context { first_as: Some(THEIRS), ..On::External.desk().context };
    let other = [0x40, 2, 6, 2, 1, 0, 0, 0xfc, 0x02];
    let faults = |octets: &[u8]| match Message::decode(octets, &context) {
        Ok(Message::Update(update)) => (update.verdict(), update.faults.len(), update.as_path().is_some()),
        otherwise => panic!("{otherwise:?}"),
    };
    assert_eq!(faults(&update(&[], &On::External.mandatory(), &NLRI)), (None, 0, true));
    let withdrawn = (Some(herald::wire::Verdict::TreatAsWithdraw), 1, false);
    assert_eq!(faults(&update(&[], &replaced(On::External, 2, &other), &NLRI)), withdrawn);
    // It is a check of routes: where none is announced there is nothing to check, and no session to end.
    assert_eq!(faults(&update(&NLRI, &replaced(On::External, 2, &other), &[])), (None, 0, true));
    let unreach = "4001010040020602010000fe4b800f140002018020010db8000000000000000000000001";
    let octet = |at| u8::from_str_radix(&unreach[2 * at..2 * at + 2], 16).unwrap();
    let unreach: Vec<u8> = (0..unreach.len() / 2).map(octet).collect();
    assert_eq!(faults(&update(&[], &unreach, &[])), (None, 0, true));
}

#[test]
fn s6_3_a_next_hop_that_no_host_has_makes_no_route() {
    for hop in [[0, 0, 0, 0], [224, 0, 0, 1], [255, 255, 255, 255]] {
        let attributes = replaced(On::External, 3, &[&[0x40, 3, 4][..], &hop].concat());
        let octets = update(&[], &attributes, &NLRI);
        assert_eq!(fate(On::External, &octets), Fate::Good, "the session stands");
        let Ok(Message::Update(update)) = Message::decode(&octets, &On::External.desk().context) else { panic!() };
        assert_eq!((update.announced().count(), update.astray().count()), (0, 1), "{hop:?}");
    }
}

#[test]
fn s6_3_the_values_of_optional_attributes_are_checked() {
    for (code, good, bad) in [
        (4, &[0, 0, 0, 1][..], &[0, 0, 1][..]),
        (7, &[0, 0, 0xfd, 0xe9, 1, 2, 3, 4], &[0, 0, 0xfd, 0xe9]),
        (8, &[0, 1, 0, 2], &[0, 1]),
        (16, &[0, 2, 0, 1, 0, 0, 0, 2], &[0, 2]),
        (32, &[0; 12], &[0; 11]),
        (35, &[0, 0, 0xfc, 0x01], &[0xfc, 0x01]),
    ] {
        let flags = if code == 4 { 0x80 } else { 0xc0 };
        assert_eq!(fate_of(On::External, &attribute(flags, code, good)), Fate::Good, "type {code}");
        assert_ne!(fate_of(On::External, &attribute(flags, code, bad)), Fate::Good, "type {code}");
    }
}

#[test]
fn s6_3_an_optional_attribute_that_ends_the_session_is_3_9_and_returned() {
    for attribute in [&[0x80, 14, 5, 0, 1, 1, 3, 9][..], &[0x80, 15, 4, 0, 2, 1, 129], &[0xc0, 15, 3, 0, 2, 1]] {
        let Fate::Reset(told) = fate_of(On::External, attribute) else { panic!("{attribute:?}") };
        assert_eq!((told.code, told.subcode, &told.data[..]), (3, 9, attribute));
    }
}

#[test]
fn s6_3_a_bad_prefix_in_the_body_is_3_10() {
    for nlri in [&[33, 1, 2, 3, 4, 5][..], &[24, 1, 2], &[8]] {
        assert_eq!(fate(On::External, &update(&[], &On::External.mandatory(), nlri)).reset(), Some((3, 10)));
        assert_eq!(fate(On::External, &update(nlri, &[], &[])).reset(), Some((3, 10)), "withdrawn");
    }
}

#[test]
fn s6_3_attributes_without_routes_are_a_valid_message() {
    for on in [On::External, On::Internal, On::Old] {
        assert_eq!(fate_without_routes(on, &on.mandatory()), Fate::Good);
    }
}

#[test]
fn s9_1_3_what_is_no_longer_wanted_is_withdrawn() {
    let mut desk = On::External.desk();
    desk.plan(&["198.51.100.1", "198.51.100.2", "2001:db8:1::1"], Attributes::default());
    desk.updates();
    desk.plan(&["198.51.100.2"], Attributes::default());
    let updates = desk.updates();
    let gone: Vec<String> = updates.iter().flat_map(|update| update.gone()).map(|prefix| prefix.to_string()).collect();
    assert_eq!(gone, ["198.51.100.1/32", "2001:db8:1::1/128"]);
    assert_eq!(updates.iter().flat_map(|update| update.announced()).count(), 0);
}

#[test]
fn s9_2_what_is_new_and_what_is_gone_is_told() {
    let mut desk = On::External.desk();
    desk.plan(&["198.51.100.1"], Attributes::default());
    let told = |desk: &mut Desk| {
        let updates = desk.updates();
        let count = |of: usize| of;
        (
            count(updates.iter().flat_map(|update| update.announced()).count()),
            count(updates.iter().flat_map(|update| update.gone()).count()),
        )
    };
    assert_eq!(told(&mut desk), (1, 0));
    desk.plan(&["198.51.100.1", "198.51.100.2"], Attributes::default());
    assert_eq!(told(&mut desk), (1, 0), "a new one");
    desk.plan(&["198.51.100.1", "198.51.100.2"], Attributes { med: Some(1), ..Attributes::default() });
    assert_eq!(told(&mut desk), (2, 0), "changed ones");
    desk.plan(&[], Attributes::default());
    assert_eq!(told(&mut desk), (0, 2), "and none left");
}

#[test]
fn s9_2_a_route_too_large_for_a_message_is_not_announced() {
    let mut desk = On::External.desk();
    let communities = (0..1100).map(Community).collect();
    desk.plan(&["198.51.100.1"], Attributes { communities, ..Attributes::default() });
    assert_eq!(desk.updates().iter().flat_map(|update| update.announced()).count(), 0);
    assert_eq!(desk.peer.status().barred.len(), 1, "and people are told");
}

#[test]
fn s9_2_1_1_of_many_changes_the_last_one_is_told() {
    let mut desk = On::External.desk();
    for med in 1..=3 {
        desk.plan(&["198.51.100.1"], Attributes { med: Some(med), ..Attributes::default() });
    }
    let updates = desk.updates();
    let meds: Vec<_> = updates.iter().flat_map(|u| &u.attributes).filter(|a| a.code() == 4).collect();
    assert_eq!(meds, [&Attribute::MultiExitDisc(3)]);
}

#[test]
fn s10_hold_time_is_configured_for_each_peer() {
    let (config, _) = Config::parse("hold.yaml", &config("30s")).unwrap();
    let times: Vec<u64> = config.peers.values().map(|peer| peer.neighbor.hold_time.as_secs()).collect();
    assert_eq!(times, [30, 90]);
}
