//! RFC 6793: AS numbers of four octets.

use crate::rig::*;
use herald::peer::Settings;
use herald::rib::Attributes;
use herald::wire::as_path::{Segment, SegmentKind};
use herald::wire::{Aggregator, AsPath, AsWidth, Asn, Attribute, Capability, Context, Message, Outbound, Update};

const LARGE: Asn = Asn(4_200_000_001);

fn large() -> Settings {
    with(|settings| settings.identity.asn = LARGE)
}

/// Type and value of the attributes of one announcement to a router with that OPEN.
fn told(settings: Settings, old: bool) -> Vec<(u8, Vec<u8>)> {
    let open = if old { old_open(&settings) } else { open_to(&settings) };
    let mut desk = Desk::established_by(settings, &open);
    desk.plan(&["198.51.100.1"], Attributes::default());
    let context = desk.context.clone();
    let all = cut(desk.octets(), &context);
    attributes_of(&all[0]).into_iter().map(|(_, code, value)| (code, value)).collect()
}

fn value(attributes: &[(u8, Vec<u8>)], code: u8) -> Option<&[u8]> {
    attributes.iter().find(|(found, _)| *found == code).map(|(_, value)| &value[..])
}

#[test]
fn s4_1_capability_65_goes_out_with_our_number() {
    for settings in [settings(), large()] {
        let asn = settings.identity.asn;
        let open = Desk::open_sent(settings).open();
        assert!(open.capabilities.contains(&Capability::FourOctetAs(asn)), "{open:?}");
    }
}

#[test]
fn s4_1_the_number_in_the_capability_counts_and_not_my_as() {
    let settings = with(|settings| settings.neighbor.asn = LARGE);
    let mut open = open_to(&settings);
    open.my_as = 64_999;
    assert_eq!(answer_to_open(settings.clone(), &octets_of(&open)), None);
    open.my_as = 64_513;
    let settings = with(|settings| settings.neighbor.asn = THEIRS);
    let refused = answer_to_open(settings, &octets_of(&open)).unwrap();
    assert_eq!((refused.code, refused.subcode), (2, 2), "my_as would fit");
}

#[test]
fn s4_1_between_new_speakers_numbers_take_four_octets_and_there_is_no_as4_path() {
    let sent = told(large(), false);
    assert_eq!(value(&sent, 2), Some(&[2, 1, 0xfa, 0x56, 0xea, 0x01][..]));
    assert_eq!((value(&sent, 17), value(&sent, 18)), (None, None));
}

#[test]
fn s4_1_from_a_new_speaker_four_octets_are_read() {
    assert_eq!(fate_of(On::External, &attribute(0xc0, 7, &[0, 0, 0xfc, 1, 1, 2, 3, 4])), Fate::Good);
    assert_eq!(fate_of(On::External, &attribute(0xc0, 7, &[0xfc, 1, 1, 2, 3, 4])), Fate::Discarded(vec![7]));
    assert_eq!(fate_instead(On::External, 2, &OLD_PATH), Fate::Withdrawn);
    assert_eq!(fate_instead(On::Old, 2, &OLD_PATH), Fate::Good);
}

#[test]
fn s4_1_as4_attributes_of_a_new_speaker_are_discarded() {
    let path = attribute(0xc0, 17, &[2, 1, 0, 1, 0, 0]);
    let aggregator = attribute(0xc0, 18, &[0, 1, 0, 0, 1, 2, 3, 4]);
    for on in [On::External, On::Internal] {
        assert_eq!(fate_of(on, &path), Fate::Discarded(vec![17]));
        assert_eq!(fate_of(on, &aggregator), Fate::Discarded(vec![18]));
    }
}

#[test]
fn s4_2_1_as_trans_stands_for_a_number_that_does_not_fit_my_as() {
    let octets = Desk::open_sent(large()).octets();
    assert_eq!(octets[20..22], 23_456_u16.to_be_bytes());
    let octets = Desk::open_sent(settings()).octets();
    assert_eq!(octets[20..22], 64_512_u16.to_be_bytes());
}

#[test]
fn s4_2_2_an_old_speaker_is_sent_two_octets_and_as4_path_where_they_do_not_do() {
    let sent = told(large(), true);
    assert_eq!(value(&sent, 2), Some(&[2, 1, 0x5b, 0xa0][..]));
    assert_eq!(value(&sent, 17), Some(&[2, 1, 0xfa, 0x56, 0xea, 0x01][..]));
    let sent = told(settings(), true);
    assert_eq!(value(&sent, 2), Some(&[2, 1, 0xfc, 0][..]));
    assert_eq!(value(&sent, 17), None, "the number fits");
}

#[test]
fn s4_2_2_no_aggregator_is_sent_in_either_form() {
    for settings in [settings(), large()] {
        let sent = told(settings, true);
        assert_eq!((value(&sent, 7), value(&sent, 18)), (None, None));
    }
}

fn segment(kind: SegmentKind, asns: &[u32]) -> Segment {
    Segment { kind, asns: asns.iter().copied().map(Asn).collect() }
}

#[test]
fn s4_2_2_confederation_segments_stay_out_of_as4_path() {
    let path = AsPath {
        segments: vec![
            segment(SegmentKind::ConfedSequence, &[64_600]),
            segment(SegmentKind::ConfedSet, &[64_601]),
            segment(SegmentKind::Sequence, &[LARGE.0]),
        ],
    };
    let context = Context { as_width: AsWidth::Two, ..Context::before_open() };
    let block = Outbound::new(&path).encode(&context).unwrap();
    let as4_path = attribute(0xc0, 17, &[2, 1, 0xfa, 0x56, 0xea, 0x01]);
    assert!(block.windows(as4_path.len()).any(|octets| octets == as4_path), "{block:?}");
}

/// What an old speaker's UPDATE with these attributes says.
fn heard(path: &[u8], more: &[&[u8]]) -> Update {
    let attributes = [&ORIGIN[..], &attribute(0x40, 2, path), &NEXT_HOP, &more.concat()].concat();
    let octets = update(&[], &attributes, &NLRI);
    let context = On::Old.desk().context;
    fate(On::Old, &octets);
    match Message::decode(&octets, &context) {
        Ok(Message::Update(update)) => update,
        other => panic!("{other:?}"),
    }
}

const TWO: [u8; 6] = [2, 2, 0xfc, 0x01, 0x5b, 0xa0];

fn as4_path(asns: &[u32]) -> Vec<u8> {
    let numbers: Vec<u8> = asns.iter().flat_map(|asn| asn.to_be_bytes()).collect();
    attribute(0xc0, 17, &[&[2, u8::try_from(asns.len()).unwrap()][..], &numbers].concat())
}

fn aggregator(asn: u16) -> Vec<u8> {
    attribute(0xc0, 7, &[&asn.to_be_bytes()[..], &[1, 2, 3, 4]].concat())
}

fn as4_aggregator() -> Vec<u8> {
    attribute(0xc0, 18, &[&70_000_u32.to_be_bytes()[..], &[5, 6, 7, 8]].concat())
}

#[test]
fn s4_2_3_as4_attributes_of_an_old_speaker_come_beside_the_others() {
    let update = heard(&TWO, &[&as4_path(&[64_513, LARGE.0]), &aggregator(23_456), &as4_aggregator()]);
    assert_eq!(update.faults, []);
    let codes: Vec<u8> = update.attributes.iter().map(Attribute::code).collect();
    assert_eq!(codes, [1, 2, 3, 17, 7, 18]);
}

#[test]
fn s4_2_3_where_an_old_speaker_aggregated_the_old_attributes_count() {
    let update = heard(&TWO, &[&as4_path(&[64_513, LARGE.0]), &aggregator(64_777), &as4_aggregator()]);
    assert_eq!(update.aggregator().unwrap(), Aggregator { asn: Asn(64_777), address: [1, 2, 3, 4].into() });
    assert_eq!(update.as_path().unwrap(), AsPath::sequence([Asn(64_513), Asn(23_456)]));
}

#[test]
fn s4_2_3_behind_as_trans_the_new_attributes_count() {
    let update = heard(&TWO, &[&as4_path(&[64_513, LARGE.0]), &aggregator(23_456), &as4_aggregator()]);
    assert_eq!(update.aggregator().unwrap(), Aggregator { asn: Asn(70_000), address: [5, 6, 7, 8].into() });
    assert_eq!(update.as_path().unwrap(), AsPath::sequence([Asn(64_513), LARGE]));
}

#[test]
fn s4_2_3_an_as4_path_longer_than_the_path_is_ignored() {
    let update = heard(&TWO, &[&as4_path(&[1, 2, 3])]);
    assert_eq!(update.as_path().unwrap(), AsPath::sequence([Asn(64_513), Asn(23_456)]));
}

#[test]
fn s4_2_3_what_as4_path_lacks_comes_from_the_front_of_the_path() {
    let path = [2, 4, 0xfc, 0x01, 0, 5, 0x5b, 0xa0, 0x5b, 0xa0];
    let update = heard(&path, &[&as4_path(&[70_001, 70_002])]);
    // How the numbers are cut into segments says nothing.
    assert_eq!(update.as_path().unwrap().asns().collect::<Vec<_>>(), [64_513, 5, 70_001, 70_002].map(Asn));
}

#[test]
fn s4_2_3_confederation_segments_in_front_are_kept() {
    let narrow = AsPath {
        segments: vec![segment(SegmentKind::ConfedSequence, &[64_600]), segment(SegmentKind::Sequence, &[5, 23_456])],
    };
    let whole = narrow.merged(&AsPath::sequence([Asn(70_001)]));
    let kinds: Vec<_> = whole.segments.iter().map(|segment| segment.kind).collect();
    assert_eq!(kinds[0], SegmentKind::ConfedSequence);
    assert_eq!(whole.asns().collect::<Vec<_>>(), [64_600, 5, 70_001].map(Asn));
}

#[test]
fn s6_confederation_segments_in_as4_path_are_dropped_and_the_rest_is_read() {
    let as4_path = attribute(0xc0, 17, &[3, 1, 0, 0, 0, 9, 2, 1, 0, 1, 0x11, 0x71]);
    let update = heard(&TWO, &[&as4_path]);
    assert_eq!(update.faults, []);
    assert!(update.attributes.contains(&Attribute::As4Path(AsPath::sequence([Asn(70_001)]))), "{update:?}");
}

#[test]
fn s6_a_malformed_as4_path_is_discarded() {
    for value in [&[][..], &[2], &[2, 1, 0, 1], &[2, 0], &[9, 1, 0, 1, 0, 0], &[2, 1, 0, 1, 0, 0, 2]] {
        assert_eq!(fate_of(On::Old, &attribute(0xc0, 17, value)), Fate::Discarded(vec![17]), "{value:?}");
    }
}

#[test]
fn s6_an_as4_aggregator_of_another_length_is_discarded() {
    for len in [0, 6, 7, 9, 16] {
        let value = vec![1; len];
        assert_eq!(fate_of(On::Old, &attribute(0xc0, 18, &value)), Fate::Discarded(vec![18]), "{len} octets");
    }
    assert_eq!(fate_of(On::Old, &attribute(0xc0, 18, &[1; 8])), Fate::Good);
}
