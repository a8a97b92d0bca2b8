//! Every type of attribute with every flags octet and lengths around the right one, judged by a table that knows nothing of
//! the codec.

use crate::generate;
use crate::verdicts::{Expected, LISTS, Session, expected, expected_without_routes, find};
use herald::wire::{AsWidth, Asn, Context, Error, Message, PeerKind, Update, Verdict};

fn context(session: Session) -> Context {
    let (as_width, peer_kind) = match session {
        Session::External => (AsWidth::Four, PeerKind::External),
        Session::Internal => (AsWidth::Four, PeerKind::Internal),
        Session::Old => (AsWidth::Two, PeerKind::External),
        Session::OldInternal => (AsWidth::Two, PeerKind::Internal),
    };
    Context { as_width, peer_kind, families: generate::both_families(), ..Context::before_open() }
}

fn decode(octets: &[u8], context: &Context) -> Result<Update, Error> {
    match Message::decode(octets, context)? {
        Message::Update(update) => Ok(update),
        other => panic!("{other:?}"),
    }
}

/// A whole UPDATE.
fn update(attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let len = |octets: usize| u16::try_from(octets).unwrap().to_be_bytes();
    let head = [&[0xff; 16][..], &len(23 + attributes.len() + nlri.len()), &[2, 0, 0], &len(attributes.len())].concat();
    [&head, attributes, nlri].concat()
}

fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len()).unwrap().to_be_bytes();
    let len = if flags & 0x10 == 0 { &len[1..] } else { &len[..] };
    [&[flags, code], len, value].concat()
}

/// The attributes that an announcement needs, without the one under attack.
fn needed(except: u8, session: Session) -> Vec<u8> {
    let codes: &[u8] = match session {
        Session::Internal | Session::OldInternal => &[1, 2, 3, 5],
        Session::External | Session::Old => &[1, 2, 3],
    };
    let wanted = codes.iter().filter(|code| **code != except);
    wanted.flat_map(|code| attribute(0x40, *code, find(*code, session).unwrap().right)).collect()
}

/// What was made of a message.
fn judged(read: &Result<Update, Error>) -> Expected {
    match read {
        Err(_) => Expected::Reset,
        Ok(update) => match update.verdict() {
            None => Expected::Good,
            Some(Verdict::AttributeDiscard) => Expected::Discard,
            Some(Verdict::TreatAsWithdraw) => Expected::Withdraw,
        },
    }
}

/// Values with lengths 0, right, right - 1 and right + 1; of a type without a right one 0, 1, 2 and 3.
fn values(code: u8, session: Session) -> Vec<Vec<u8>> {
    let Some(row) = find(code, session) else { return (0..4).map(|len| vec![0xff; len]).collect() };
    let longer = [row.right, &[0xff]].concat();
    let mut lens = vec![0, row.right.len().saturating_sub(1), row.right.len(), row.right.len() + 1];
    lens.dedup();
    lens.into_iter().map(|len| longer[..len].to_vec()).collect()
}

/// Runs the whole table over one session; returns how many messages that were.
fn attack(session: Session, nlri: &[u8], wanted: fn(u8, u8, usize, Session) -> Expected) -> usize {
    let context = context(session);
    let mut tried = 0;
    for code in 0..=255u8 {
        let needed = needed(code, session);
        for value in values(code, session) {
            for flags in 0..=255u8 {
                let octets = update(&[&needed[..], &attribute(flags, code, &value)].concat(), nlri);
                let read = decode(&octets, &context);
                let wanted = wanted(code, flags, value.len(), session);
                assert_eq!(
                    judged(&read),
                    wanted,
                    "{session:?}: type {code} flags {flags:#x} value {value:x?}: {read:?}"
                );
                if let (Ok(update), false) = (&read, nlri.is_empty()) {
                    let withdrawn = wanted == Expected::Withdraw;
                    let prefix = "10.0.0.0/8".parse().unwrap();
                    assert_eq!(update.gone().any(|gone| gone == prefix), withdrawn, "type {code} flags {flags:#x}");
                    assert_eq!(update.announced().any(|(announced, _)| announced == prefix), !withdrawn);
                }
                tried += 1;
            }
        }
    }
    tried
}

/// 256 types, 256 flags octets, four lengths; ATOMIC_AGGREGATE has only two, since none is the right one, and ORIGIN three.
const ALL: usize = 256 * (256 * 4 - 3);

#[test]
fn every_attribute_from_an_external_peer() {
    assert_eq!(attack(Session::External, &[8, 10], expected), ALL);
}

#[test]
fn every_attribute_from_an_internal_peer() {
    assert_eq!(attack(Session::Internal, &[8, 10], expected), ALL);
}

#[test]
fn every_attribute_from_an_old_speaker() {
    assert_eq!(attack(Session::Old, &[8, 10], expected), ALL);
}

#[test]
fn every_attribute_from_an_old_internal_speaker() {
    assert_eq!(attack(Session::OldInternal, &[8, 10], expected), ALL);
}

#[test]
fn every_attribute_where_nothing_is_announced() {
    assert_eq!(attack(Session::External, &[], expected_without_routes), ALL);
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn lists_with_one_thing_wrong() {
    let context = Context { first_as: Some(Asn(65_000)), ..context(Session::External) };
    for (name, list, wanted) in LISTS {
        let octets = update(&hex(&list.replace('M', "40010100 400206 0201 0000fde8 400304 c0000201")), &[8, 10]);
        let read = decode(&octets, &context);
        assert_eq!(judged(&read), *wanted, "{name}: {read:?}");
    }
    assert_eq!(LISTS.len(), 52);
}

/// The lengths in the body, and its prefixes (RFC 7606 §3 j, §5.3): nothing can be told then.
#[test]
fn bodies_that_reset() {
    let good = needed(0, Session::External);
    let cases: [(&str, Vec<u8>, u8); 7] = [
        (
            "withdrawn length over all",
            {
                let mut m = update(&good, &[8, 10]);
                m[20] = 200;
                m
            },
            1,
        ),
        (
            "withdrawn length one too long",
            {
                let mut m = update(&[], &[]);
                m[20] = 1;
                m
            },
            1,
        ),
        (
            "attribute length one too long",
            {
                let mut m = update(&good, &[]);
                m[22] += 1;
                m
            },
            1,
        ),
        ("prefix of 33 bits", update(&good, &[33, 1, 2, 3, 4, 5]), 10),
        ("prefix of 255 bits", update(&good, &[255]), 10),
        ("prefix cut off", update(&good, &[24, 1, 2]), 10),
        ("withdrawn prefix cut off", [&[0xff; 16][..], &[0, 25, 2, 0, 2, 24, 1, 0, 0]].concat(), 10),
    ];
    for (name, octets, subcode) in cases {
        let told = decode(&octets, &context(Session::External)).unwrap_err().notification();
        assert_eq!((told.code, told.subcode), (3, subcode), "{name}");
    }
}
