//! What we write, two codecs of others read; and what they make of it is what we meant. Where it is not, the table says why.

use crate::generate;
use crate::oracle::{Oracle, Told, ours};
use crate::oracle_netgauze::NetGauze;
use crate::oracle_rustbgpd::Rustbgpd;
use crate::sayable::sayable;
use bytes::BytesMut;
use herald::wire::{
    Announce, AsPath, AsWidth, Asn, Bandwidth, Context, EndOfRib, ExtendedCommunity, Family, Message, Outbound,
    PeerKind, Prefix, Scope, Withdraw,
};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many messages each codec reads; they are the same in every run.
const MESSAGES: usize = 3000;

/// One way in which a codec differs, how often among [`MESSAGES`], and why that is no bug of ours.
type Difference = (&'static str, usize, &'static str);

/// Agrees on the path that AS_PATH and AS4_PATH make together, which both build.
const RUSTBGPD: &[Difference] = &[
    (
        "Aggregator",
        78,
        "it takes an AS4_AGGREGATOR without AGGREGATOR for one; RFC 6793 §4.2.3 speaks of both together",
    ),
    (
        "Unknown",
        185,
        "it drops unknown non-transitive attributes while reading (RFC 4271 §9); we keep them for the log",
    ),
    (
        "capability-AddPath",
        55,
        "an empty list is no capability to it: RFC 7911 §4 wants one or more; it keeps the octets",
    ),
    ("capability-Fqdn", 174, "it does not know code 73 and keeps the octets"),
    ("capability-PathsLimit", 70, "of several limits of one family it keeps one, and an empty list it keeps as octets"),
    ("capability-SoftwareVersion", 193, "it does not know code 75 and keeps the octets"),
    ("capability-Unknown", 318, "the other side of the lines above: octets that it keeps"),
];
const NETGAUZE: &[Difference] = &[
    ("As4Aggregator", 156, "it does not know attribute 18 and keeps the octets"),
    ("ExtendedCommunities", 1, "it reads sub-type 9 of type 0 and writes it as sub-type 2, a slip of its writer"),
    ("Unknown", 156, "the other side of AS4_AGGREGATOR: octets that it keeps"),
    ("capability-LinkLocalNextHop", 126, "it does not know code 77 and keeps the octets"),
    ("capability-PathsLimit", 122, "it does not know code 76 and keeps the octets"),
    (
        "capability-Role",
        96,
        "its numbers are those of an early draft: RFC 9234 §4.1 has route servers at 1 and 2, customer at 3",
    ),
    ("capability-SoftwareVersion", 133, "it does not know code 75 and keeps the octets"),
    ("capability-Unknown", 261, "the other side of the lines above: octets that it keeps"),
    (
        "refused: BgpNotificationMessageParsingError(UndefinedBgpErrorNotifica",
        67,
        "it does not know error code 8 of RFC 9687 §6",
    ),
    (
        "refused: BgpOpenMessageParsingError(ParameterError(UndefinedParameter",
        111,
        "it does not know the extended encoding of optional parameters (RFC 9072), which long lists need",
    ),
];

#[test]
fn rustbgpd_reads_what_we_write() {
    compare(&Rustbgpd, RUSTBGPD);
}

#[test]
fn netgauze_reads_what_we_write() {
    compare(&NetGauze, NETGAUZE);
}

fn compare(oracle: &dyn Oracle, wanted: &[Difference]) {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let mut examples: BTreeMap<String, String> = BTreeMap::new();
    let mut alike = 0;
    for (context, message) in messages() {
        let mut out = BytesMut::new();
        message.encode(&context, &mut out).unwrap();
        let differences = differences(&ours(&message, oracle), oracle.read(&out, &context));
        alike += usize::from(differences.is_empty());
        for (kind, example) in differences {
            *found.entry(kind.clone()).or_default() += 1;
            examples.entry(kind).or_insert(example);
        }
    }
    let table: BTreeMap<String, usize> = wanted.iter().map(|(kind, count, _)| ((*kind).to_owned(), *count)).collect();
    assert_eq!(
        found,
        table,
        "{alike} of {MESSAGES} alike; examples:\n{}",
        examples.iter().map(|(kind, text)| format!("{kind}: {}\n", &text[..text.len().min(900)])).collect::<String>()
    );
    assert!(wanted.iter().all(|(_, _, reason)| reason.len() > 20), "every difference has its reason");
}

/// What the writers of an announcer put out ([`Announce`], [`Withdraw`], [`EndOfRib`]) in every kind of session: both codecs
/// read the same from it as we do, without exception.
#[test]
fn what_an_announcer_sends_is_read_alike() {
    let mut read = 0;
    for context in sessions() {
        for octets in sent(&context) {
            let message = Message::decode(&octets, &context).unwrap();
            for oracle in [&Rustbgpd as &dyn Oracle, &NetGauze] {
                let differences = differences(&ours(&message, oracle), oracle.read(&octets, &context));
                assert!(differences.is_empty(), "{context:?}: {differences:#?}");
                read += 1;
            }
        }
    }
    assert_eq!(read, 2 * 16 * 8);
}

/// Both widths, both kinds of peer, both lengths, with and without path identifiers.
fn sessions() -> Vec<Context> {
    let mut all = Vec::new();
    for as_width in [AsWidth::Two, AsWidth::Four] {
        for peer_kind in [PeerKind::Internal, PeerKind::External] {
            for max_len in [4096, 65_535] {
                for ids in [generate::both_families(), [].into()] {
                    all.push(Context {
                        as_width,
                        peer_kind,
                        max_len,
                        families: generate::both_families(),
                        path_ids_received: ids.clone(),
                        path_ids_sent: ids,
                        ipv6_next_hops: [Family::IPV4_UNICAST].into(),
                        ..Context::before_open()
                    });
                }
            }
        }
    }
    all
}

fn sent(context: &Context) -> Vec<BytesMut> {
    let path = AsPath::sequence([Asn(4_200_000_000)]).prepended(Asn(4_200_000_000), 2);
    let bandwidth = Bandwidth::new(1.25e8).unwrap();
    let attributes = Outbound {
        med: Some(7),
        local_pref: Some(200),
        communities: &["no-export".parse().unwrap(), "65000:1".parse().unwrap()],
        extended_communities: &[
            ExtendedCommunity::link_bandwidth(Scope::Transitive, Asn(65_001), bandwidth),
            "rt:4200000000:9".parse().unwrap(),
        ],
        large_communities: &["4200000000:1:2".parse().unwrap()],
        only_to_customer: Some(Asn(4_200_000_000)),
        ..Outbound::new(&path)
    }
    .encode(context)
    .unwrap();
    let four: Vec<Prefix> = (0..2000u32).map(|n| Prefix::host(Ipv4Addr::from_bits(0x0a00_0000 + n).into())).collect();
    let six: Vec<Prefix> =
        (0..2000u128).map(|n| Prefix::host(Ipv6Addr::from_bits((0x2001_0db8 << 96) + n).into())).collect();
    let (hop4, hop6) = (IpAddr::from([192, 0, 2, 1]), "2001:db8::1".parse().unwrap());
    let link_local = Some("fe80::1".parse().unwrap());
    let mut messages = Vec::new();
    for (prefixes, next_hop, link_local) in
        [(&four, hop4, None), (&four, hop6, None), (&six, hop6, None), (&six, hop6, link_local)]
    {
        let mut out = BytesMut::new();
        let family = prefixes[0].family();
        Announce { attributes: &attributes, next_hop, link_local, family, prefixes }.encode(context, &mut out).unwrap();
        messages.push(out);
    }
    for prefixes in [&four, &six] {
        let (mut out, family) = (BytesMut::new(), prefixes[0].family());
        Withdraw { family, prefixes }.encode(context, &mut out).unwrap();
        messages.push(out.split());
        EndOfRib(family).encode(context, &mut out).unwrap();
        messages.push(out);
    }
    messages
}

/// The same messages always.
fn messages() -> impl Iterator<Item = (Context, Message)> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[9; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = generate::message().boxed();
    (0..MESSAGES).map(move |_| {
        let (context, message) = strategy.new_tree(&mut runner).unwrap().current();
        (context, sayable(message))
    })
}

/// Each kind of line that only one side has, with an example; or the reason why the other side has none at all.
fn differences(ours: &Told, theirs: Result<Told, String>) -> BTreeMap<String, String> {
    let theirs = match theirs {
        Ok(theirs) => theirs,
        Err(why) => {
            let words: String = why.chars().filter(|c| !c.is_ascii_digit()).take(60).collect();
            return [(format!("refused: {words}"), why)].into();
        }
    };
    let lines = ours.keys().chain(theirs.keys());
    lines
        .filter(|line| ours.get(*line) != theirs.get(*line))
        .map(|line| {
            let kind = line.split(' ').next().unwrap_or_default().to_owned();
            (kind, format!("ours {:?}, theirs {:?}: {line}", ours.get(line), theirs.get(line)))
        })
        .collect()
}
