//! UPDATEs that we send: full to the octet, one kind each, nothing lost, nothing twice.

use crate::generate;
use bytes::{Bytes, BytesMut};
use herald::wire::{
    Announce, AsPath, AsWidth, Asn, Attribute, Community, Context, EncodeError, EndOfRib, ExtendedCommunity, Family,
    LargeCommunity, Message, Outbound, PeerKind, Prefix, Update, Withdraw, frame,
};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const IPV4: Family = Family::IPV4_UNICAST;
const IPV6: Family = Family::IPV6_UNICAST;

fn context(max_len: usize) -> Context {
    Context {
        as_width: AsWidth::Four,
        peer_kind: PeerKind::External,
        max_len,
        families: generate::both_families(),
        ipv6_next_hops: [IPV4].into(),
        ..Context::before_open()
    }
}

fn block(communities: usize, large: usize) -> Bytes {
    let as_path = AsPath::sequence([Asn(65_000)]);
    let large: Vec<_> = (0..large as u32).map(|local2| LargeCommunity { global: 1, local1: 2, local2 }).collect();
    Outbound {
        communities: &vec![Community(7); communities],
        extended_communities: if large.is_empty() { &[] } else { &[ExtendedCommunity([0, 2, 0, 1, 0, 0, 0, 2])] },
        large_communities: &large,
        ..Outbound::new(&as_path)
    }
    .encode(&context(4096))
    .unwrap()
}

fn hosts4(count: u32) -> Vec<Prefix> {
    (0..count).map(|at| Prefix::host(Ipv4Addr::from(0x0a00_0000 + at).into())).collect()
}

fn hosts6(count: u32) -> Vec<Prefix> {
    (0..count).map(|at| Prefix::host(Ipv6Addr::from((0x2001_0db8 << 96) + u128::from(at)).into())).collect()
}

fn hop(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Calls a writer until all prefixes are taken.
fn drain(
    prefixes: &[Prefix],
    mut write: impl FnMut(&[Prefix], &mut BytesMut) -> Result<usize, EncodeError>,
) -> BytesMut {
    let (mut out, mut rest) = (BytesMut::new(), prefixes);
    while !rest.is_empty() {
        let taken = write(rest, &mut out).unwrap();
        assert!(taken > 0, "a writer that takes nothing would be called for ever");
        rest = &rest[taken..];
    }
    out
}

/// The messages in `stream` with their lengths.
fn messages(mut stream: BytesMut, context: &Context) -> Vec<(usize, Update)> {
    let mut read = Vec::new();
    while let Some(cut) = frame(&mut stream, context).unwrap() {
        match Message::decode(&cut, context) {
            Ok(Message::Update(update)) => read.push((cut.len(), update)),
            other => panic!("not an UPDATE: {other:?}"),
        }
    }
    assert!(stream.is_empty());
    read
}

/// How many different ways of carrying prefixes a message uses (RFC 7606 §5.1 allows one).
fn carriers(update: &Update) -> usize {
    let mp = |attribute: &&Attribute| matches!(attribute, Attribute::MpReach(_) | Attribute::MpUnreach(_));
    usize::from(!update.withdrawn.is_empty())
        + usize::from(!update.nlri.is_empty())
        + update.attributes.iter().filter(mp).count()
}

#[test]
fn the_counts_of_the_books() {
    let (four, six) = (hosts4(20_000), hosts6(20_000));
    let plain = block(0, 0);
    for (max_len, attributes, next_hop, prefixes, wanted) in [
        (4096, &plain, hop("192.0.2.1"), &four, 810),
        (65_535, &plain, hop("192.0.2.1"), &four, 13_098),
        (4096, &block(4, 0), hop("192.0.2.1"), &four, 806),
        (65_535, &block(4, 0), hop("192.0.2.1"), &four, 13_094),
        (4096, &block(4, 2), hop("192.0.2.1"), &four, 799),
        (65_535, &block(4, 2), hop("192.0.2.1"), &four, 13_087),
        (4096, &plain, hop("2001:db8::1"), &four, 807),
        (65_535, &plain, hop("2001:db8::1"), &four, 13_094),
        (4096, &plain, hop("2001:db8::1"), &six, 237),
        (65_535, &plain, hop("2001:db8::1"), &six, 3851),
    ] {
        let mut out = BytesMut::new();
        let announce = Announce { attributes, next_hop, link_local: None, family: prefixes[0].family(), prefixes };
        assert_eq!(announce.encode(&context(max_len), &mut out), Ok(wanted), "{max_len} {next_hop}");
        assert!(out.len() <= max_len);
    }
    for (max_len, prefixes, wanted) in
        [(4096, &four, 814), (65_535, &four, 13_102), (4096, &six, 239), (65_535, &six, 3853)]
    {
        let mut out = BytesMut::new();
        let withdraw = Withdraw { family: prefixes[0].family(), prefixes };
        assert_eq!(withdraw.encode(&context(max_len), &mut out), Ok(wanted), "{max_len}");
        assert!(out.len() <= max_len);
    }
}

#[test]
fn the_counts_of_the_books_with_path_identifiers_and_two_next_hops() {
    let (four, six) = (hosts4(20_000), hosts6(20_000));
    let plain = block(0, 0);
    let both = generate::both_families();
    for (max_len, next_hop, prefixes, wanted) in [
        (4096, hop("192.0.2.1"), &four, 450),
        (65_535, hop("192.0.2.1"), &four, 7276),
        (4096, hop("2001:db8::1"), &six, 192),
    ] {
        let context = Context { path_ids_sent: both.clone(), ..context(max_len) };
        let family = prefixes[0].family();
        let announce = Announce { attributes: &plain, next_hop, link_local: None, family, prefixes };
        let mut out = BytesMut::new();
        assert_eq!(announce.encode(&context, &mut out), Ok(wanted), "{max_len} {next_hop}");
    }
    let link_local = Some("fe80::1".parse().unwrap());
    for (max_len, prefixes, wanted) in [(4096, &four, 803), (4096, &six, 236), (65_535, &six, 3850)] {
        let (next_hop, family) = (hop("2001:db8::1"), prefixes[0].family());
        let announce = Announce { attributes: &plain, next_hop, link_local, family, prefixes };
        let mut out = BytesMut::new();
        assert_eq!(announce.encode(&context(max_len), &mut out), Ok(wanted), "{max_len} {family}");
    }
}

#[test]
fn a_hundred_thousand_host_routes_are_124_messages() {
    let prefixes = hosts4(100_000);
    for (max_len, wanted) in [(4096, 124), (65_535, 8)] {
        let context = context(max_len);
        let attributes = block(0, 0);
        let out = drain(&prefixes, |rest, out| {
            let next_hop = hop("192.0.2.1");
            Announce { attributes: &attributes, next_hop, link_local: None, family: IPV4, prefixes: rest }
                .encode(&context, out)
        });
        let read = messages(out, &context);
        assert_eq!(read.len(), wanted);
        let back: Vec<Prefix> = read.into_iter().flat_map(|(_, update)| update.nlri).map(|nlri| nlri.prefix).collect();
        assert_eq!(back, prefixes);
    }
}

#[test]
fn ends_of_rib_are_read_as_such() {
    let context = context(4096);
    for family in [IPV4, IPV6] {
        let mut out = BytesMut::new();
        EndOfRib(family).encode(&context, &mut out).unwrap();
        assert_eq!(messages(out, &context)[0].1.end_of_rib(), Some(family));
    }
}

/// A family, and a next hop that its prefixes can have.
fn kind() -> impl Strategy<Value = (Family, IpAddr)> {
    prop_oneof![Just((IPV4, hop("192.0.2.1"))), Just((IPV4, hop("2001:db8::1"))), Just((IPV6, hop("2001:db8::1")))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn announcements_lose_nothing_and_are_full(
        ((family, next_hop), prefixes) in kind().prop_flat_map(|kind| (Just(kind), generate::prefixes(kind.0, 1500))),
        communities in 0..1000usize,
        large in 0..3usize,
        max_len in prop_oneof![Just(4096usize), Just(4097), Just(65_535)],
    ) {
        let (context, attributes) = (context(max_len), block(communities, large));
        let overhead = attributes.len() + 19 + 4 + if next_hop.is_ipv4() { 7 } else { 4 + 21 };
        prop_assume!(overhead + 17 <= max_len);
        let out = drain(&prefixes, |rest, out| {
            Announce { attributes: &attributes, next_hop, link_local: None, family, prefixes: rest }.encode(&context, out)
        });
        let read = messages(out, &context);
        let back: Vec<_> = read.iter().flat_map(|(_, update)| update.announced()).collect();
        prop_assert_eq!(back, prefixes.iter().map(|prefix| (*prefix, next_hop)).collect::<Vec<_>>());
        let mut sent = 0;
        for (len, update) in &read {
            prop_assert!(*len <= max_len);
            prop_assert_eq!(carriers(update), 1);
            prop_assert_eq!(update.gone().count(), 0);
            prop_assert!(update.faults.is_empty());
            let mp_at = update.attributes.iter().position(|attribute| matches!(attribute, Attribute::MpReach(_)));
            prop_assert!(matches!(mp_at, None | Some(0)), "MP_REACH_NLRI comes first");
            sent += update.announced().count();
            full(*len, prefixes.get(sent), max_len)?;
        }
    }

    #[test]
    fn withdrawals_lose_nothing_and_are_full(
        prefixes in prop_oneof![generate::prefixes(IPV4, 1500), generate::prefixes(IPV6, 1500)],
        max_len in prop_oneof![Just(4096usize), Just(65_535)],
    ) {
        let (context, family) = (context(max_len), prefixes[0].family());
        let out = drain(&prefixes, |rest, out| Withdraw { family, prefixes: rest }.encode(&context, out));
        let read = messages(out, &context);
        prop_assert_eq!(read.iter().flat_map(|(_, update)| update.gone()).collect::<Vec<_>>(), prefixes.clone());
        let mut sent = 0;
        for (len, update) in &read {
            prop_assert!(*len <= max_len);
            prop_assert_eq!(carriers(update), 1);
            prop_assert_eq!(update.end_of_rib(), None);
            sent += update.gone().count();
            full(*len, prefixes.get(sent), max_len)?;
        }
    }
}

/// A message was closed only because the next prefix did not fit. (One octet of grace: a value that grows past 255 octets
/// takes a longer length field.)
fn full(len: usize, next: Option<&Prefix>, max_len: usize) -> Result<(), TestCaseError> {
    if let Some(next) = next {
        let octets = 1 + usize::from(next.len().div_ceil(8));
        prop_assert!(len + octets + 1 > max_len, "{len} octets, and {next} was left for another message");
    }
    Ok(())
}
