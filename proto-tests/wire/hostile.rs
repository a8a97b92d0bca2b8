//! Octets that mean harm: whatever comes, there is an answer and never a panic.

use crate::generate;
use bytes::BytesMut;
use herald::wire::{AsWidth, Asn, Context, Error, Family, Message, PeerKind, Update, frame};
use proptest::prelude::*;

/// Every kind of session.
pub fn contexts() -> Vec<Context> {
    let mut all = Vec::new();
    for as_width in [AsWidth::Two, AsWidth::Four] {
        for peer_kind in [PeerKind::Internal, PeerKind::External] {
            for max_len in [4096, 65_535] {
                let plain = Context {
                    as_width,
                    peer_kind,
                    max_len,
                    families: generate::both_families(),
                    ..Context::before_open()
                };
                all.push(Context {
                    path_ids_received: generate::both_families(),
                    path_ids_sent: generate::both_families(),
                    ipv6_next_hops: [Family::IPV4_UNICAST].into(),
                    first_as: Some(Asn(65_000)),
                    ..plain.clone()
                });
                all.push(plain);
            }
        }
    }
    all
}

/// Reads one message in every kind of session and looks at everything that comes of it.
pub fn survive(octets: &[u8]) {
    for context in contexts() {
        match Message::decode(octets, &context) {
            Ok(message) => examine(&message, &context),
            Err(error) => refuse(&error),
        }
    }
}

/// Reads a stream to its end or to its first error.
pub fn survive_stream(octets: &[u8]) {
    for context in contexts() {
        let mut stream = BytesMut::from(octets);
        loop {
            match frame(&mut stream, &context) {
                Ok(Some(cut)) => survive(&cut),
                Ok(None) => break,
                Err(error) => {
                    refuse(&error);
                    break;
                }
            }
        }
    }
}

/// What was read can be written, and reads the same again, if nothing in it was at fault.
fn examine(message: &Message, context: &Context) {
    if let Message::Notification(notification) = message {
        assert!(notification.to_string().chars().all(|c| !c.is_control()), "{notification:?}");
    }
    if let Message::Update(update) = message {
        let (announced, gone) = (update.announced().count() + update.astray().count(), update.gone().count());
        let _ = (update.as_path(), update.aggregator());
        if update.end_of_rib().is_some() {
            assert_eq!((announced, gone), (0, 0));
        }
        for fault in &update.faults {
            assert!(!fault.to_string().is_empty());
        }
        if !update.faults.is_empty() {
            return;
        }
    }
    let mut out = BytesMut::new();
    if message.encode(context, &mut out).is_ok() {
        assert_eq!(Message::decode(&out, context).as_ref(), Ok(message));
    }
}

/// What the peer is told can be sent, and what the log says is a line.
fn refuse(error: &Error) {
    let text = error.to_string();
    assert!(!text.is_empty() && text.chars().all(|c| !c.is_control()), "{text:?}");
    let notification = error.notification();
    assert!((1..=7).contains(&notification.code), "{error:?}");
    let mut out = BytesMut::new();
    Message::Notification(notification).encode(&Context::before_open(), &mut out).unwrap();
    assert!(out.len() <= 4096);
}

/// One thing done to a message.
#[derive(Debug, Clone)]
enum Harm {
    Flip(prop::sample::Index, u8),
    Overwrite(prop::sample::Index, Vec<u8>),
    Insert(prop::sample::Index, Vec<u8>),
    Truncate(prop::sample::Index),
    Extend(Vec<u8>),
}

fn harm() -> impl Strategy<Value = Harm> {
    let octets = || proptest::collection::vec(any::<u8>(), 1..9);
    prop_oneof![
        (any::<prop::sample::Index>(), 0..8u8).prop_map(|(at, bit)| Harm::Flip(at, bit)),
        (any::<prop::sample::Index>(), octets()).prop_map(|(at, with)| Harm::Overwrite(at, with)),
        (any::<prop::sample::Index>(), octets()).prop_map(|(at, what)| Harm::Insert(at, what)),
        any::<prop::sample::Index>().prop_map(Harm::Truncate),
        octets().prop_map(Harm::Extend),
    ]
}

fn apply(harm: Harm, octets: &mut Vec<u8>) {
    let body = |index: prop::sample::Index, len: usize| if len > 19 { 19 + index.index(len - 19) } else { len };
    match harm {
        Harm::Flip(at, bit) => {
            let at = body(at, octets.len());
            if let Some(octet) = octets.get_mut(at) {
                *octet ^= 1 << bit;
            }
        }
        Harm::Overwrite(at, with) => {
            let at = body(at, octets.len());
            octets.iter_mut().skip(at).zip(with).for_each(|(octet, new)| *octet = new);
        }
        Harm::Insert(at, what) => {
            let at = body(at, octets.len());
            octets.splice(at..at, what);
        }
        Harm::Truncate(at) => octets.truncate(body(at, octets.len())),
        Harm::Extend(with) => octets.extend(with),
    }
}

/// Lets the header tell the truth, so that the harm reaches what is behind it.
fn with_true_length(octets: &mut [u8]) {
    if let (Ok(len), Some(field)) = (u16::try_from(octets.len()), octets.get_mut(16..18)) {
        field.copy_from_slice(&len.to_be_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_octets(body in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..8u8) {
        survive(&body);
        let mut octets = [&[0xff; 18][..], &[kind], &body].concat();
        survive(&octets);
        with_true_length(&mut octets);
        survive(&octets);
        survive_stream(&octets);
    }

    #[test]
    fn harmed_messages(
        (context, message) in generate::message(),
        harms in proptest::collection::vec(harm(), 1..4),
    ) {
        let mut out = BytesMut::new();
        message.encode(&context, &mut out).unwrap();
        let mut octets = out.to_vec();
        harms.into_iter().for_each(|harm| apply(harm, &mut octets));
        survive_stream(&octets);
        survive(&octets);
        with_true_length(&mut octets);
        survive(&octets);
    }
}

/// A message that announces 10.0.0.0/8 with all that it needs, and `attribute` before or after it.
fn announcement(before: &[u8], after: &[u8]) -> Vec<u8> {
    let needed =
        [0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe8, 0x40, 3, 4, 192, 0, 2, 1, 0x40, 5, 4, 0, 0, 0, 100];
    let attributes = [before, &needed, after].concat();
    let len = u16::try_from(attributes.len()).unwrap().to_be_bytes();
    let mut octets = [&[0xff; 18][..], &[2, 0, 0], &len, &attributes, &[8, 10]].concat();
    with_true_length(&mut octets);
    octets
}

fn read(octets: &[u8], peer_kind: PeerKind) -> Result<Update, Error> {
    let families = generate::both_families();
    let context = Context { as_width: AsWidth::Four, peer_kind, families, ..Context::before_open() };
    match Message::decode(octets, &context)? {
        Message::Update(update) => Ok(update),
        other => panic!("{other:?}"),
    }
}

/// An attribute with any flags octet; its length field is as long as the flags say.
fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len()).unwrap().to_be_bytes();
    let len = if flags & 0x10 == 0 { &len[1..] } else { &len[..] };
    [&[flags, code], len, value].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// One more bad attribute never makes a message better.
    #[test]
    fn more_faults_never_weaken_the_verdict(
        bad in proptest::collection::vec((any::<u8>(), any::<u8>(), proptest::collection::vec(any::<u8>(), 0..9)), 1..6),
    ) {
        let mut strongest = None;
        let mut octets = Vec::new();
        for (flags, code, value) in bad {
            octets.extend(attribute(flags, code, &value));
            match read(&announcement(&[], &octets), PeerKind::External) {
                Ok(update) => {
                    prop_assert!(update.verdict() >= strongest);
                    strongest = update.verdict();
                }
                Err(_) => break,
            }
        }
    }
}

/// Attributes of an UPDATE in every order (the class of CVE-2026-41643: AS4_PATH before AS_PATH).
#[test]
fn attributes_in_any_order() {
    let parts: [Vec<u8>; 6] = [
        attribute(0x40, 1, &[0]),
        attribute(0x40, 2, &[2, 1, 0x5b, 0xa0]),
        attribute(0x40, 3, &[192, 0, 2, 1]),
        attribute(0x80, 14, &[0, 1, 1, 4, 192, 0, 2, 1, 0, 8, 11]),
        attribute(0xc0, 17, &[2, 1, 0, 1, 0, 0]),
        attribute(0xc0, 18, &[0, 1, 0, 0, 1, 2, 3, 4]),
    ];
    let context = Context { families: generate::both_families(), ..Context::before_open() };
    let mut tried = 0;
    permute(&mut (0..parts.len()).collect(), 0, &mut |order| {
        let attributes: Vec<u8> = order.iter().flat_map(|at| parts[*at].clone()).collect();
        let len = u16::try_from(attributes.len()).unwrap().to_be_bytes();
        let mut octets = [&[0xff; 18][..], &[2, 0, 0], &len, &attributes, &[8, 10]].concat();
        with_true_length(&mut octets);
        let Ok(Message::Update(update)) = Message::decode(&octets, &context) else { panic!("{order:?}") };
        assert_eq!((update.faults.len(), update.announced().count()), (0, 2), "{order:?}");
        survive(&octets);
        tried += 1;
    });
    assert_eq!(tried, 720);
}

fn permute(order: &mut Vec<usize>, from: usize, visit: &mut impl FnMut(&[usize])) {
    if from == order.len() {
        return visit(order);
    }
    for at in from..order.len() {
        order.swap(from, at);
        permute(order, from + 1, visit);
        order.swap(from, at);
    }
}
