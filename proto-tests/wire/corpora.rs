//! Messages that nobody here wrote: captures, route collectors, fuzzers' finds and proofs of concept.

use super::tar::untar;
use crate::hostile::{survive, survive_stream};
use crate::{generate, mrt};
use herald::wire::{AsWidth, Attribute, Context, Family, Message, PeerKind, Prefix, Update, Verdict};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of one corpus, or `None` if the corpora are not here, which is said aloud (past the capture of test output).
pub fn corpus(name: &str) -> Option<PathBuf> {
    match std::env::var_os("HERALD_CORPORA") {
        Some(root) => Some(Path::new(&root).join(name)),
        None => {
            say(&format!("left out: corpus {name} (HERALD_CORPORA is not set)"));
            None
        }
    }
}

pub fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).expect("standard error takes a line");
}

/// The files of a folder in order, README excepted.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths: BTreeSet<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.into_iter().filter(|path| path.is_file() && !name(path).ends_with(".md")).collect()
}

pub fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// The content of a file that gzip may have packed.
pub fn unpacked(path: &Path) -> Vec<u8> {
    if !name(path).ends_with(".gz") {
        return std::fs::read(path).unwrap();
    }
    let output = Command::new("gzip").arg("-dc").arg(path).output().expect("gzip is installed");
    assert!(output.status.success(), "gzip -dc {}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    output.stdout
}

pub fn rows(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn octets(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn context(as_width: AsWidth, peer_kind: PeerKind) -> Context {
    let families = generate::both_families();
    // What captures hold was agreed on before they begin.
    let ipv6_next_hops = [Family::IPV4_UNICAST].into();
    Context { as_width, peer_kind, max_len: 65_535, families, ipv6_next_hops, ..Context::before_open() }
}

/// How our reading of a route collector's file compares with the lines that bgpdump printed for it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Comparison {
    /// Lines that both have.
    agreed: usize,
    /// Lines that only we have.
    only_ours: usize,
    /// Lines that only bgpdump has.
    only_theirs: usize,
    /// Of those: prefixes that are treated as withdrawn here for a fault, such as an AS_SET.
    faulty: usize,
    /// Routes whose path is put together from AS_PATH and AS4_PATH, here and there.
    two_paths: usize,
    /// Routes that are ignored here for an impossible next hop; they are compared all the same.
    astray: usize,
    /// Messages that end the session here.
    refused: usize,
}

/// Every message of every route collector file, in the width that the file names, compared with what another decoder
/// printed. What only bgpdump has is accounted for: 38 prefixes with AS_SET and 151 of IPv4 multicast in 2007, and one UPDATE
/// whose last prefix is cut off.
#[test]
fn route_collectors() {
    let Some(folder) = corpus("bgpdump-mrt") else { return };
    let mut distinct: BTreeMap<usize, BTreeSet<Vec<u8>>> = BTreeMap::new();
    let mut compared = BTreeMap::new();
    for path in files(&folder) {
        if name(&path).ends_with(".bgp.gz") {
            continue;
        }
        let records = mrt::messages(&unpacked(&path));
        if !records.is_empty() {
            let text = unpacked(&path.with_file_name(format!("{}.bgp.gz", name(&path))));
            compared.insert(name(&path).to_owned(), compare(&records, &String::from_utf8(text).unwrap()));
        }
        for record in records {
            distinct.entry(record.width.octets()).or_default().insert(record.recorded.message);
        }
    }
    let refused = |width: AsWidth| {
        let messages = &distinct[&width.octets()];
        let context = context(width, PeerKind::External);
        messages.iter().filter(|message| Message::decode(message, &context).is_err()).count()
    };
    let counts = [AsWidth::Two, AsWidth::Four].map(|width| (distinct[&width.octets()].len(), refused(width)));
    say(&format!("route collectors: (distinct messages, refused) of 2 and 4 octets: {counts:?}"));
    for (file, comparison) in &compared {
        say(&format!("  {file}: {comparison:?}"));
    }
    assert_eq!(counts, [(14_206, 1), (12_723, 0)]);
    let wanted = [
        ("updates.20020722.2238.gz", Comparison { agreed: 3244, ..Comparison::default() }),
        (
            "updates.20070211.0141.gz",
            Comparison { agreed: 53_468, only_theirs: 189, faulty: 38, ..Comparison::default() },
        ),
        ("updates.20071015.1505.gz", Comparison { agreed: 10_496, astray: 21, ..Comparison::default() }),
        ("updates.20100722.2015.gz", Comparison { agreed: 5614, two_paths: 10, ..Comparison::default() }),
        ("updates.20160811.1600.gz", Comparison { agreed: 41_212, ..Comparison::default() }),
        ("updates.long_withdrawal.gz", Comparison { agreed: 4096, ..Comparison::default() }),
        ("updates.nlri_mask_trailing_bits.gz", Comparison { only_theirs: 1, refused: 1, ..Comparison::default() }),
    ];
    assert_eq!(compared, wanted.map(|(file, comparison)| (file.to_owned(), comparison)).into());
}

/// Everything that a real router ever sent into these files, in every kind of session.
#[test]
fn route_collectors_under_every_context() {
    let Some(folder) = corpus("bgpdump-mrt") else { return };
    let paths = files(&folder).into_iter().filter(|path| !name(path).ends_with(".bgp.gz"));
    let messages: BTreeSet<_> =
        paths.flat_map(|path| mrt::messages(&unpacked(&path))).map(|record| record.recorded.message).collect();
    messages.iter().for_each(|message| survive(message));
    assert!(messages.len() > 26_000, "{}", messages.len());
}

fn compare(records: &[mrt::Record], text: &str) -> Comparison {
    let mut theirs: BTreeMap<String, usize> = BTreeMap::new();
    for line in text.lines().filter_map(their_line) {
        *theirs.entry(line).or_default() += 1;
    }
    let mut comparison = Comparison::default();
    for record in records {
        let context = context(record.width, PeerKind::External);
        let update = match Message::decode(&record.recorded.message, &context) {
            Ok(Message::Update(update)) => update,
            Ok(_) => continue,
            Err(_) => {
                comparison.refused += 1;
                continue;
            }
        };
        if update.verdict() == Some(Verdict::TreatAsWithdraw) {
            comparison.faulty += update.gone().count();
            continue;
        }
        if update.attributes.iter().any(|attribute| matches!(attribute, Attribute::As4Path(_))) {
            comparison.two_paths += update.announced().count();
        }
        comparison.astray += update.astray().count();
        for line in our_lines(record, &update) {
            match theirs.get_mut(&line) {
                Some(count) if *count > 0 => {
                    *count -= 1;
                    comparison.agreed += 1;
                }
                _ => comparison.only_ours += 1,
            }
        }
    }
    comparison.only_theirs = theirs.values().sum();
    comparison
}

/// `A|peer|prefix|path|origin|next hop|MED|communities`, or `W|peer|prefix`.
fn their_line(line: &str) -> Option<String> {
    let fields: Vec<&str> = line.split('|').collect();
    // Addresses are printed in more than one way.
    let address = |at: usize| fields[at].parse::<IpAddr>().unwrap();
    match fields[2] {
        "A" => {
            let [prefix, path, origin, med, communities] = [5, 6, 7, 10, 11].map(|at| fields[at]);
            let (peer, hop, prefix) = (address(3), address(8), prefix.parse::<Prefix>().unwrap());
            Some(format!("A|{peer}|{prefix}|{path}|{origin}|{hop}|{med}|{communities}"))
        }
        "W" => Some(format!("W|{}|{}", address(3), fields[5].parse::<Prefix>().unwrap())),
        _ => None,
    }
}

fn our_lines(record: &mrt::Record, update: &Update) -> Vec<String> {
    let peer = record.recorded.peer;
    let path = update.as_path().unwrap_or_default();
    let (mut origin, mut med, mut communities) = ("", 0, String::new());
    for attribute in &update.attributes {
        match attribute {
            Attribute::Origin(value) => origin = ["IGP", "EGP", "INCOMPLETE"][*value as usize],
            Attribute::MultiExitDisc(value) => med = *value,
            Attribute::Communities(list) => {
                let texts: Vec<_> = list.iter().map(|one| community(one.0)).collect();
                communities = texts.join(" ");
            }
            _ => {}
        }
    }
    let gone = update.gone().map(|prefix| format!("W|{peer}|{prefix}"));
    let announced = update
        .announced()
        .chain(update.astray())
        .map(|(prefix, hop)| format!("A|{peer}|{prefix}|{path}|{origin}|{hop}|{med}|{communities}"));
    gone.chain(announced).collect()
}

/// As bgpdump prints it.
fn community(value: u32) -> String {
    match value {
        0xffff_ff01 => "no-export".into(),
        0xffff_ff02 => "no-advertise".into(),
        0xffff_ff03 => "local-AS".into(),
        _ => format!("{}:{}", value >> 16, value & 0xffff),
    }
}

/// Small files with OPEN, NOTIFICATION and ROUTE-REFRESH in them. What is refused was recorded with path identifiers (RFC
/// 7911), which its record does not say.
#[test]
fn mrt_samples() {
    let Some(folder) = corpus("mrtparse") else { return };
    let mut kinds: BTreeMap<u8, usize> = BTreeMap::new();
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for path in files(&folder) {
        for mrt::Record { width, recorded } in mrt::messages(&unpacked(&path)) {
            survive(&recorded.message);
            if Message::decode(&recorded.message, &context(width, PeerKind::External)).is_err() {
                *refused.entry(name(&path).to_owned()).or_default() += 1;
            }
            *kinds.entry(recorded.message[18]).or_default() += 1;
        }
    }
    say(&format!("mrt samples: messages by type {kinds:?}, refused {refused:?}"));
    assert_eq!(kinds.values().sum::<usize>(), 154);
    assert_eq!(refused, [("bird6_bgp".to_owned(), 6), ("bird_bgp".to_owned(), 6)].into());
}

/// The corpus of fuzzers that other speakers are tested with.
#[test]
fn fuzzers_finds() {
    let Some(folder) = corpus("qlyoung-corpi") else { return };
    for (archive, count) in [("bgpd-unique.tar.gz", 2443), ("bird-unique.tar.gz", 292)] {
        let streams = untar(&unpacked(&folder.join(archive)));
        assert_eq!(streams.len(), count, "{archive}");
        for stream in &streams {
            survive_stream(stream);
            survive(stream);
        }
        say(&format!("{archive}: {count} streams survived"));
    }
}

/// Captures, many of them made to crash a printer. Messages are found by their marker; what a packet border cut off is
/// harm enough.
#[test]
fn captures() {
    let Some(folder) = corpus("tcpdump") else { return };
    let (mut captures, mut messages, mut good) = (0, 0, 0);
    for path in files(&folder) {
        captures += 1;
        let file = unpacked(&path);
        let mut at = 0;
        while let Some(next) = file[at..].windows(16).position(|window| window == [0xff; 16]) {
            at += next;
            let len = file.get(at + 16..at + 18).map_or(0, |len| usize::from(u16::from_be_bytes([len[0], len[1]])));
            let message = &file[at..file.len().min(at + len.max(19))];
            survive(message);
            survive_stream(&file[at..]);
            messages += 1;
            good += usize::from(Message::decode(message, &context(AsWidth::Four, PeerKind::Internal)).is_ok());
            at += 16;
        }
    }
    say(&format!("captures: {captures} files, {messages} markers, {good} messages read"));
    assert_eq!(captures, 39);
    assert!(messages >= 150 && good >= 120, "{messages} {good}");
}

/// Messages with lengths that crashed another decoder. As they are, their marker is wrong; with a right one, and with a
/// right length too, they must be survived.
#[test]
fn bad_lengths() {
    let Some(folder) = corpus("gobgp/bad-len") else { return };
    let mut cases = 0;
    for path in files(&folder) {
        let mut message = std::fs::read(&path).unwrap();
        assert!(Message::decode(&message, &Context::before_open()).is_err(), "{}", name(&path));
        message[..16].fill(0xff);
        survive(&message);
        survive_stream(&message);
        for kind in 1..=5 {
            let len = u16::try_from(message.len()).unwrap();
            message[16..18].copy_from_slice(&len.to_be_bytes());
            message[18] = kind;
            survive(&message);
        }
        cases += 1;
    }
    assert_eq!(cases, 11);
}

/// UPDATE bodies that a fuzzer of another decoder found, written as Go strings.
#[test]
fn update_bodies() {
    let Some(folder) = corpus("corebgp") else { return };
    let mut cases = 0;
    for path in files(&folder) {
        let text = std::fs::read_to_string(&path).unwrap();
        let quoted = text.lines().nth(1).and_then(|line| line.strip_prefix("[]byte(\"")?.strip_suffix("\")")).unwrap();
        let body = go_string(quoted);
        let len = u16::try_from(19 + body.len()).unwrap().to_be_bytes();
        survive(&[&[0xff; 16][..], &len, &[2], &body].concat());
        cases += 1;
    }
    assert_eq!(cases, 2);
}

/// Text with `\xHH` in it.
fn go_string(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = match rest.strip_prefix("\\x") {
            Some(hex) => {
                octets.push(u8::from_str_radix(&hex[..2], 16).unwrap());
                4
            }
            None => {
                assert!(first.is_ascii() && first != '\\', "another escape in {text}");
                octets.push(first as u8);
                1
            }
        };
        rest = &rest[taken..];
    }
    octets
}

/// OPENs of real routers.
#[test]
fn opens_of_routers() {
    let Some(folder) = corpus("metallb") else { return };
    let mut cases = 0;
    for path in files(&folder) {
        let octets = std::fs::read(&path).unwrap();
        let message = Message::decode(&octets, &Context::before_open());
        assert!(matches!(message, Ok(Message::Open(_))), "{}: {message:?}", name(&path));
        survive(&octets);
        cases += 1;
    }
    assert_eq!(cases, 4);
}

/// The verdicts of OpenBGPD on eight attributes of wrong length.
#[test]
fn verdicts_of_openbgpd() {
    let Some(folder) = corpus("openbgpd") else { return };
    let rows = rows(&folder.join("attr-cases.jsonl"));
    assert_eq!(rows.len(), 16);
    for row in rows {
        let kind = match row["peer_sort"].as_str() {
            Some("ebgp") => PeerKind::External,
            _ => PeerKind::Internal,
        };
        let message = Message::decode(&octets(&row["update_hex"]), &context(AsWidth::Four, kind));
        let Ok(Message::Update(update)) = message else { panic!("{row}: {message:?}") };
        let verdict = match update.verdict() {
            Some(Verdict::TreatAsWithdraw) => "withdraw",
            Some(Verdict::AttributeDiscard) => "discard",
            None => "good",
        };
        assert_eq!(verdict, row["expect"], "{row}: {:?}", update.faults);
    }
}

/// Messages that brought other speakers down, and what they get here.
#[test]
fn proofs_of_concept() {
    let Some(folder) = corpus("cve-poc") else { return };
    let rows = rows(&folder.join("messages.jsonl"));
    assert_eq!(rows.len(), 8);
    for row in rows {
        let message = octets(&row["hex"]);
        survive(&message);
        let told = Message::decode(&message, &context(AsWidth::Four, PeerKind::External))
            .err()
            .map(|error| (error.notification().code, error.notification().subcode));
        let wanted = match (row["cve"].as_str().unwrap(), row["name"].as_str().unwrap()) {
            ("CVE-2022-40302", "OPEN") => Some((2, 4)),
            ("CVE-2022-43681", "OPEN") => Some((2, 0)),
            ("CVE-2023-47235" | "CVE-2023-46753", "UPDATE") => Some((3, 10)),
            ("CVE-2023-47235" | "CVE-2023-46753", "OPEN" | "KEEPALIVE") => None,
            other => panic!("a case without a wanted answer: {other:?}"),
        };
        assert_eq!(told, wanted, "{row}");
    }
}

/// What another speaker's decoder is tested with. Most are of families that are kept unread here.
#[test]
fn decoder_cases() {
    let Some(folder) = corpus("exabgp") else { return };
    let rows = rows(&folder.join("decoding.jsonl"));
    assert_eq!(rows.len(), 22);
    let mut whole = 0;
    for row in rows {
        let message = octets(&row["hex"]);
        survive(&message);
        if row["full_message"] == true {
            whole += 1;
            let read = Message::decode(&message, &context(AsWidth::Four, PeerKind::Internal));
            assert!(read.is_ok(), "{}: {read:?}", row["file"]);
        }
    }
    assert_eq!(whole, 16);
}
