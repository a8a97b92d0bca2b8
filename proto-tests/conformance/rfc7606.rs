//! RFC 7606: what becomes of the routes when an attribute is wrong.

use crate::rig::*;
use herald::rib::Attributes;
use herald::wire::{Message, Update};

fn read(on: On, octets: &[u8]) -> Update {
    match Message::decode(octets, &on.desk().context) {
        Ok(Message::Update(update)) => update,
        other => panic!("{other:?}"),
    }
}

/// MP_REACH_NLRI with one IPv6 route, and MP_UNREACH_NLRI with another.
fn reach() -> Vec<u8> {
    let hop = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    attribute(0x80, 14, &[&[0, 2, 1, 16][..], &hop, &[0, 32, 0x20, 1, 0x0d, 0xb8]].concat())
}

fn unreach() -> Vec<u8> {
    attribute(0x80, 15, &[0, 2, 1, 32, 0x20, 1, 0x0d, 0xb9])
}

#[test]
fn s2_treat_as_withdraw_takes_all_routes_of_the_message() {
    let attributes = [&reach()[..], &replaced(On::External, 1, &[0x40, 1, 1, 9])].concat();
    let octets = update(&[24, 203, 0, 113], &attributes, &NLRI);
    assert_eq!(fate(On::External, &octets), Fate::Withdrawn);
    let update = read(On::External, &octets);
    let gone: Vec<String> = update.gone().map(|prefix| prefix.to_string()).collect();
    assert_eq!(gone, ["203.0.113.0/24", "2001:db8::/32", "198.51.100.0/24"]);
    assert_eq!(update.announced().count(), 0);
}

#[test]
fn s2_attribute_discard_drops_the_attribute_and_goes_on() {
    let octets =
        update(&[], &[&On::External.mandatory()[..], &[0x40, 6, 1, 0, 0x80, 4, 4, 0, 0, 0, 9]].concat(), &NLRI);
    assert_eq!(fate(On::External, &octets), Fate::Discarded(vec![6]));
    let update = read(On::External, &octets);
    let codes: Vec<u8> = update.attributes.iter().map(|attribute| attribute.code()).collect();
    assert_eq!((codes, update.announced().count()), (vec![1, 2, 3, 4], 1));
}

#[test]
fn s3_what_ends_the_session_is_told_with_code_3() {
    let mandatory = On::External.mandatory();
    let mut long = update(&[], &mandatory, &NLRI);
    long[21..23].copy_from_slice(&be(300));
    for octets in [
        long,
        update(&[33], &[], &[]),
        update(&[], &mandatory, &[25, 1]),
        update(&[], &[0x80, 14, 2, 0, 2], &[]),
        update(&[], &[0x80, 15, 4, 0, 1, 1, 99], &[]),
        update(&[], &[&reach()[..], &reach()].concat(), &[]),
        update(&[], &[0x40, 1, 1, 9], &[]),
    ] {
        let (code, _) = fate(On::External, &octets).reset().expect("a reset");
        assert_eq!(code, 3, "{octets:?}");
    }
}

#[test]
fn s3_c_wrong_flags_withdraw_the_routes() {
    for (code, value) in [(1, &[0][..]), (2, &PATH[3..]), (3, &NEXT_HOP[3..])] {
        for flags in [0x00, 0x80, 0xc0] {
            let wrong = attribute(flags, code, value);
            assert_eq!(fate_instead(On::External, code, &wrong), Fate::Withdrawn, "type {code}, flags {flags:#x}");
        }
    }
    for (flags, code, value) in [(0xc0, 4, &[0, 0, 0, 1][..]), (0x80, 8, &[0, 1, 0, 2]), (0x80, 32, &[0; 12])] {
        assert_eq!(fate_of(On::External, &attribute(flags, code, value)), Fate::Withdrawn, "type {code}");
    }
}

#[test]
fn s3_d_without_a_mandatory_attribute_routes_are_withdrawn() {
    for (on, codes) in [(On::External, &[1, 2, 3][..]), (On::Internal, &[1, 2, 3, 5]), (On::Old, &[1, 2, 3])] {
        for code in codes {
            assert_eq!(fate_instead(on, *code, &[]), Fate::Withdrawn, "without type {code} on {on:?}");
        }
    }
    let ipv6 = update(&[], &[&reach()[..], &ORIGIN].concat(), &[]);
    assert_eq!(fate(On::External, &ipv6), Fate::Withdrawn, "an IPv6 route without AS_PATH");
}

#[test]
fn s3_e_faults_of_the_five_that_decide_withdraw_the_routes() {
    for (code, flags, values) in [
        (1, 0x40, &[&[3][..], &[], &[0, 0]][..]),
        (2, 0x40, &[&[2, 1, 0], &[9, 0], &[2, 0]]),
        (3, 0x40, &[&[1, 2, 3], &[], &[1; 16]]),
        (4, 0x80, &[&[0, 0, 1], &[], &[0; 5]]),
        (5, 0x40, &[&[0, 0, 1], &[], &[0; 5]]),
    ] {
        for value in values {
            let wrong = attribute(flags, code, value);
            let fate = if code == 4 { fate_of(On::Internal, &wrong) } else { fate_instead(On::Internal, code, &wrong) };
            assert_eq!(fate, Fate::Withdrawn, "type {code}: {value:?}");
        }
    }
}

#[test]
fn s3_f_faults_of_atomic_aggregate_and_aggregator_cost_only_them() {
    for len in [1, 2, 255] {
        assert_eq!(fate_of(On::External, &attribute(0x40, 6, &vec![0; len])), Fate::Discarded(vec![6]), "{len}");
    }
    for len in [0, 4, 6, 7, 9] {
        assert_eq!(fate_of(On::External, &attribute(0xc0, 7, &vec![1; len])), Fate::Discarded(vec![7]), "{len}");
    }
    for len in [0, 4, 7, 8] {
        assert_eq!(fate_of(On::Old, &attribute(0xc0, 7, &vec![1; len])), Fate::Discarded(vec![7]), "{len}");
    }
}

#[test]
fn s3_g_a_second_mp_attribute_is_3_1() {
    for twice in [[reach(), reach()].concat(), [unreach(), unreach()].concat()] {
        let octets = update(&[], &[&twice[..], &ORIGIN, &PATH].concat(), &[]);
        assert_eq!(fate(On::External, &octets).reset(), Some((3, 1)));
    }
}

#[test]
fn s3_g_a_second_one_of_any_other_type_is_dropped() {
    for (flags, code, first, second) in
        [(0x80, 4, &[0, 0, 0, 1][..], &[0, 0, 0, 2][..]), (0xc0, 99, &[1], &[2]), (0xc0, 8, &[0, 1, 0, 1], &[7])]
    {
        let both = [attribute(flags, code, first), attribute(flags, code, second)].concat();
        assert_eq!(fate_of(On::External, &both), Fate::Discarded(vec![code]));
        let update = read(On::External, &update(&[], &[&On::External.mandatory()[..], &both].concat(), &NLRI));
        let kept: Vec<_> = update.attributes.iter().filter(|attribute| attribute.code() == code).collect();
        let alone = [&On::External.mandatory()[..], &attribute(flags, code, first)].concat();
        let wanted = read(On::External, &self::update_of(&alone));
        assert_eq!(kept, [wanted.attributes.last().unwrap()], "the first one counts");
    }
}

fn update_of(attributes: &[u8]) -> Vec<u8> {
    update(&[], attributes, &NLRI)
}

#[test]
fn s3_h_of_several_faults_the_strongest_counts() {
    let (discard, withdraw, reset) = ([0x40, 6, 1, 0], [0x80, 4, 1, 0], [0x80, 14, 2, 0, 2]);
    let both = |one: &[u8], other: &[u8]| [one, other].concat();
    assert_eq!(fate_of(On::External, &both(&discard, &attribute(0xc0, 7, &[1]))), Fate::Discarded(vec![6, 7]));
    for (one, other, wanted) in [(&discard[..], &withdraw[..], Some(Fate::Withdrawn)), (&withdraw, &reset, None)] {
        for list in [both(one, other), both(other, one)] {
            let fate = fate_of(On::External, &list);
            match &wanted {
                Some(wanted) => assert_eq!(fate, *wanted),
                None => assert_eq!(fate.reset(), Some((3, 9))),
            }
        }
    }
}

#[test]
fn s3_i_withdrawn_routes_are_checked_like_announced_ones() {
    for bad in [&[33, 1, 2, 3, 4, 5][..], &[24, 1, 2], &[255]] {
        assert_eq!(fate(On::External, &update(bad, &[], &[])).reset(), Some((3, 10)), "{bad:?}");
        assert_eq!(fate(On::External, &update(&[], &On::External.mandatory(), bad)).reset(), Some((3, 10)));
    }
}

#[test]
fn s3_j_where_prefixes_cannot_be_told_the_session_ends() {
    for attribute in [&[0x80, 14, 5, 0, 2, 1, 16, 9][..], &[0x80, 15, 2, 0, 2], &[0x80, 14, 200, 0, 2, 1]] {
        assert_eq!(fate_of(On::External, attribute).reset(), Some((3, 9)), "{attribute:?}");
    }
}

#[test]
fn s4_a_broken_list_withdraws_the_routes_and_they_are_found_behind_it() {
    for broken in [&[0xc0, 99, 9, 1][..], &[0xc0], &[0xc0, 99], &[0xd0, 99, 0]] {
        let octets = update(&[], &[&On::External.mandatory()[..], broken].concat(), &NLRI);
        assert_eq!(fate(On::External, &octets), Fate::Withdrawn, "{broken:?}");
        assert_eq!(read(On::External, &octets).gone().next().unwrap().to_string(), "198.51.100.0/24");
    }
}

#[test]
fn s4_length_zero_is_an_error_where_it_is_no_length() {
    for (on, flags, code) in [
        (On::Internal, 0x40, 1),
        (On::Internal, 0x40, 3),
        (On::Internal, 0x40, 5),
        (On::Internal, 0x80, 4),
        (On::External, 0xc0, 7),
        (On::External, 0xc0, 8),
        (On::Internal, 0x80, 9),
        (On::Internal, 0x80, 10),
        (On::External, 0xc0, 16),
        (On::Old, 0xc0, 17),
        (On::Old, 0xc0, 18),
        (On::External, 0xc0, 25),
        (On::External, 0xc0, 32),
        (On::External, 0xc0, 35),
    ] {
        let empty = attribute(flags, code, &[]);
        let mandatory = matches!(code, 1 | 3 | 5);
        let fate = if mandatory { fate_instead(on, code, &empty) } else { fate_of(on, &empty) };
        assert_ne!(fate, Fate::Good, "type {code}");
    }
    assert_eq!(fate_of(On::External, &[0x40, 6, 0]), Fate::Good, "ATOMIC_AGGREGATE has no other");
    assert_eq!(fate_instead(On::Internal, 2, &[0x40, 2, 0]), Fate::Good, "an empty path is one");
}

/// Every UPDATE that a session sends in a life of announcements, changes and withdrawals.
fn life(on: On) -> Vec<Vec<u8>> {
    let mut desk = on.desk();
    let context = desk.context.clone();
    let mut all = Vec::new();
    for (prefixes, med) in [
        (&["198.51.100.1", "198.51.100.2", "2001:db8:1::1", "2001:db8:1::2"][..], 1),
        (&["198.51.100.2", "198.51.100.3", "2001:db8:1::2", "2001:db8:1::3"], 2),
        (&[], 0),
    ] {
        desk.plan(prefixes, Attributes { med: Some(med), ..Attributes::default() });
        all.extend(cut(desk.octets(), &context));
    }
    assert!(all.len() >= 10);
    all
}

#[test]
fn s5_1_an_mp_attribute_goes_first() {
    for on in [On::External, On::Internal, On::Old] {
        for octets in life(on) {
            let codes: Vec<u8> = attributes_of(&octets).iter().map(|(_, code, _)| *code).collect();
            assert!(codes.iter().skip(1).all(|code| *code != 14 && *code != 15), "{codes:?}");
        }
    }
}

#[test]
fn s5_1_a_message_carries_routes_in_one_place_only() {
    for on in [On::External, On::Internal, On::Old] {
        for octets in life(on) {
            let update = read(on, &octets);
            let mp = attributes_of(&octets).iter().filter(|(_, code, _)| *code == 14 || *code == 15).count();
            let carriers = mp + usize::from(!update.withdrawn.is_empty()) + usize::from(!update.nlri.is_empty());
            assert!(carriers <= 1, "{update:?}");
        }
    }
}

#[test]
fn s5_1_any_position_and_combination_is_read() {
    for attributes in [
        [&On::External.mandatory()[..], &reach(), &unreach()].concat(),
        [&unreach()[..], &On::External.mandatory(), &reach()].concat(),
        [&ORIGIN[..], &reach(), &PATH, &unreach(), &NEXT_HOP].concat(),
    ] {
        let octets = update(&[24, 203, 0, 113], &attributes, &NLRI);
        assert_eq!(fate(On::External, &octets), Fate::Good);
        let update = read(On::External, &octets);
        assert_eq!((update.announced().count(), update.gone().count()), (2, 2));
    }
}

#[test]
fn s5_2_with_no_route_in_sight_a_fault_that_withdraws_ends_the_session() {
    for octets in [&[0x40, 1, 1, 9][..], &[0x80, 4, 1, 0], &[0xc0, 8, 3, 0, 0, 0], &[0xc0, 35, 1, 0]] {
        assert!(fate_without_routes(On::External, octets).reset().is_some(), "{octets:?}");
    }
    assert_eq!(fate_without_routes(On::External, &[0x40, 6, 1, 0]), Fate::Discarded(vec![6]), "a discard does not");
}

#[test]
fn s5_3_prefixes_are_wrong_when_too_long_or_cut_off() {
    let mandatory = On::External.mandatory();
    for len in 0..=255_u8 {
        let needed = usize::from(len.div_ceil(8));
        let whole = [&[len][..], &vec![1; needed]].concat();
        let good = fate(On::External, &update(&[], &mandatory, &whole)) == Fate::Good;
        assert_eq!(good, len <= 32, "/{len} in the body");
        let unreach = attribute(0x80, 15, &[&[0, 2, 1][..], &whole].concat());
        let good = fate_without_routes(On::External, &unreach) == Fate::Good;
        assert_eq!(good, len <= 128, "/{len} in MP_UNREACH_NLRI");
        if (1..=128).contains(&len) {
            let short = attribute(0x80, 15, &[&[0, 2, 1][..], &whole[..whole.len() - 1]].concat());
            assert!(fate_without_routes(On::External, &short).reset().is_some(), "/{len} cut off");
        }
    }
}

#[test]
fn s5_3_mp_attributes_are_wrong_with_other_flags_and_too_short() {
    for (good, code, shortest) in [(reach(), 14, 5), (unreach(), 15, 3)] {
        for flags in [0x00, 0x40, 0xc0] {
            let wrong = [&[flags][..], &good[1..]].concat();
            assert_eq!(fate_of(On::External, &wrong).reset(), Some((3, 9)), "type {code}, flags {flags:#x}");
        }
        for len in 0..shortest {
            let short = attribute(0x80, code, &[0, 2, 1, 0, 0][..len]);
            assert_eq!(fate_of(On::External, &short).reset(), Some((3, 9)), "type {code}, {len} octets");
        }
        assert_eq!(fate_of(On::External, &good), Fate::Good);
    }
}

#[test]
fn s7_1_origin() {
    for value in [3, 4, 255] {
        assert_eq!(fate_instead(On::External, 1, &[0x40, 1, 1, value]), Fate::Withdrawn, "{value}");
    }
    for value in [0, 1, 2] {
        assert_eq!(fate_instead(On::External, 1, &[0x40, 1, 1, value]), Fate::Good, "{value}");
    }
}

#[test]
fn s7_2_as_path() {
    for path in
        [&[0, 1, 0, 0, 0, 9][..], &[5, 1, 0, 0, 0, 9], &[2, 0], &[2, 2, 0, 0, 0, 9], &[2], &[2, 1, 0, 0, 0, 9, 2]]
    {
        assert_eq!(fate_instead(On::External, 2, &attribute(0x40, 2, path)), Fate::Withdrawn, "{path:?}");
    }
}

#[test]
fn s7_3_next_hop() {
    for len in [0, 3, 5, 8, 16] {
        assert_eq!(fate_instead(On::External, 3, &attribute(0x40, 3, &vec![9; len])), Fate::Withdrawn, "{len}");
    }
}

#[test]
fn s7_4_multi_exit_disc() {
    for len in [0, 1, 3, 5, 8] {
        assert_eq!(fate_of(On::External, &attribute(0x80, 4, &vec![9; len])), Fate::Withdrawn, "{len}");
    }
}

#[test]
fn s7_5_local_pref() {
    for len in [0, 3, 4, 5] {
        assert_eq!(fate_of(On::External, &attribute(0x40, 5, &vec![9; len])), Fate::Discarded(vec![5]), "{len}");
        let inside = fate_instead(On::Internal, 5, &attribute(0x40, 5, &vec![9; len]));
        assert_eq!(inside, if len == 4 { Fate::Good } else { Fate::Withdrawn }, "{len}");
    }
}

#[test]
fn s7_8_communities() {
    for len in [0, 1, 3, 5, 7] {
        assert_eq!(fate_of(On::External, &attribute(0xc0, 8, &vec![9; len])), Fate::Withdrawn, "{len}");
    }
    assert_eq!(fate_of(On::External, &attribute(0xc0, 8, &[9; 8])), Fate::Good);
}

#[test]
fn s7_9_originator_id_and_s7_10_cluster_list() {
    for (code, lens) in [(9, &[4][..]), (10, &[4, 8, 40])] {
        for len in [0, 3, 4, 5, 8, 40] {
            let octets = attribute(0x80, code, &vec![9; len]);
            assert_eq!(fate_of(On::External, &octets), Fate::Discarded(vec![code]), "type {code}, {len} octets");
            let wanted = if lens.contains(&len) { Fate::Good } else { Fate::Withdrawn };
            assert_eq!(fate_of(On::Internal, &octets), wanted, "type {code}, {len} octets");
        }
    }
}

#[test]
fn s7_11_a_next_hop_of_impossible_length_ends_the_session() {
    for len in [0, 4, 15, 17, 24, 31, 33] {
        let value = [&[0, 2, 1, u8::try_from(len).unwrap()][..], &vec![9; len], &[0, 8, 0x20]].concat();
        assert_eq!(fate_of(On::External, &attribute(0x80, 14, &value)).reset(), Some((3, 9)), "{len}");
    }
}

#[test]
fn s7_14_extended_communities_and_s7_15_those_of_ipv6() {
    for (code, unit) in [(16, 8), (25, 20)] {
        for len in [0, 1, unit - 1, unit + 1] {
            assert_eq!(fate_of(On::External, &attribute(0xc0, code, &vec![9; len])), Fate::Withdrawn, "{code}: {len}");
        }
        for (kind, subtype) in [(0, 2), (0x3f, 0x77), (0x80, 0), (0xff, 0xff), (0x43, 1)] {
            let one = [&[kind, subtype][..], &vec![1; unit - 2]].concat();
            assert_eq!(fate_of(On::External, &attribute(0xc0, code, &one.repeat(2))), Fate::Good, "type {kind:#x}");
        }
    }
}
