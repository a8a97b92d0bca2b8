//! Messages that nobody here wrote: captures, route collectors, fuzzers' finds and proofs of concept.

use crate::hostile::{survive, survive_stream};
use crate::{generate, mrt};
use herald::wire::{AsWidth, Attribute, Context, Message, PeerKind, Update, Verdict};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of one corpus, or `None` if the corpora are not here, which is said aloud (past the capture of test output).
fn corpus(name: &str) -> Option<PathBuf> {
    match std::env::var_os("HERALD_CORPORA") {
        Some(root) => Some(Path::new(&root).join(name)),
        None => {
            say(&format!("left out: corpus {name} (HERALD_CORPORA is not set)"));
            None
        }
    }
}

fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error takes a line");
}

/// The files of a folder in order, README excepted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths: BTreeSet<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.into_iter().filter(|path| path.is_file() && !name(path).ends_with(".md")).collect()
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// The content of a file that gzip may have packed.
fn unpacked(path: &Path) -> Vec<u8> {
    if !name(path).ends_with(".gz") {
        return std::fs::read(path).unwrap();
    }
    let output = Command::new("gzip").arg("-dc").arg(path).output().expect("gzip is installed");
    assert!(output.status.success(), "gzip -dc {}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The contents of the plain files of a tar archive.
fn untar(mut archive: &[u8]) -> Vec<Vec<u8>> {
    let mut contents = Vec::new();
    while archive.len() >= 512 && archive[0] != 0 {
        let size = std::str::from_utf8(&archive[124..135]).unwrap().trim_matches(['\0', ' ']);
        let size = usize::from_str_radix(size, 8).unwrap();
        if matches!(archive[156], 0 | b'0') {
            contents.push(archive[512..512 + size].to_vec());
        }
        archive = &archive[512 + size.next_multiple_of(512)..];
    }
    contents
}

fn rows(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn octets(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn context(as_width: AsWidth, peer_kind: PeerKind) -> Context {
    Context { as_width, peer_kind, max_len: 65_535, families: generate::both_families() }
}

/// Every message of every route collector file, in the width that the file names. How many are refused is counted, since
/// a real router sent each of them; and what is understood is compared with what another decoder printed.
#[test]
fn route_collectors() {
    let Some(folder) = corpus("bgpdump-mrt") else { return };
    let mut seen: BTreeMap<usize, BTreeSet<Vec<u8>>> = BTreeMap::new();
    let (mut all, mut lines) = (0, 0);
    for path in files(&folder) {
        if name(&path).ends_with(".bgp.gz") {
            continue;
        }
        let records = mrt::messages(&unpacked(&path));
        all += records.len();
        if !records.is_empty() {
            let text = unpacked(&path.with_file_name(format!("{}.bgp.gz", name(&path))));
            lines += compare(name(&path), &records, &String::from_utf8(text).unwrap());
        }
        for record in records {
            seen.entry(record.width.octets()).or_default().insert(record.recorded.message);
        }
    }
    assert_eq!(all, 48_258);
    assert!(lines > 200_000, "{lines} lines compared");
    let mut distinct = Vec::new();
    for (width, octets) in [(AsWidth::Two, 2), (AsWidth::Four, 4)] {
        let messages = &seen[&octets];
        let context = context(width, PeerKind::External);
        let refused: Vec<_> = messages.iter().filter_map(|message| Message::decode(message, &context).err()).collect();
        for error in &refused {
            say(&format!("refused in {octets}-octet recordings: {error}"));
        }
        distinct.push((messages.len(), refused.len()));
        messages.iter().for_each(|message| survive(message));
    }
    say(&format!(
        "route collectors: {all} messages; distinct and refused, 2 octets: {:?}, 4 octets: {:?}; {lines} lines compared",
        distinct[0], distinct[1]
    ));
    assert_eq!(distinct.iter().map(|(count, _)| *count).collect::<Vec<_>>(), [14_206, 12_723]);
    assert_eq!(distinct.iter().map(|(_, refused)| *refused).collect::<Vec<_>>(), [0, 0]);
}

/// Compares what we understand of `records` with the lines that bgpdump printed for them, and returns how many agreed.
/// Messages with faults are left out on our side; their lines must be the only ones left over.
fn compare(file: &str, records: &[mrt::Record], text: &str) -> usize {
    let mut theirs: BTreeMap<String, usize> = BTreeMap::new();
    for line in text.lines() {
        if let Some(line) = their_line(line) {
            *theirs.entry(line).or_default() += 1;
        }
    }
    let (mut agreed, mut missed, mut faulty) = (0, Vec::new(), 0);
    for record in records {
        let context = context(record.width, PeerKind::External);
        let Ok(Message::Update(update)) = Message::decode(&record.recorded.message, &context) else { continue };
        if update.verdict() == Some(Verdict::TreatAsWithdraw) {
            faulty += update.gone().count();
            continue;
        }
        for line in our_lines(record, &update) {
            match theirs.get_mut(&line) {
                Some(count) if *count > 0 => {
                    *count -= 1;
                    agreed += 1;
                }
                _ => missed.push(line),
            }
        }
    }
    let left: Vec<_> = theirs.into_iter().filter(|(_, count)| *count > 0).collect();
    let left_count: usize = left.iter().map(|(_, count)| count).sum();
    say(&format!("{file}: {agreed} agree, {} only ours, {left_count} only theirs, {faulty} faulty", missed.len()));
    for line in missed.iter().take(5) {
        say(&format!("  ours   {line}"));
    }
    for (line, _) in left.iter().take(5) {
        say(&format!("  theirs {line}"));
    }
    agreed
}

/// `A|peer|prefix|path|origin|next hop|MED|communities`, or `W|peer|prefix`.
fn their_line(line: &str) -> Option<String> {
    let fields: Vec<&str> = line.split('|').collect();
    match fields[2] {
        "A" => {
            let [peer, prefix, path, origin, hop, med, communities] = [3, 5, 6, 7, 8, 10, 11].map(|at| fields[at]);
            Some(format!("A|{peer}|{prefix}|{path}|{origin}|{hop}|{med}|{communities}"))
        }
        "W" => Some(format!("W|{}|{}", fields[3], fields[5])),
        _ => None,
    }
}

fn our_lines(record: &mrt::Record, update: &Update) -> Vec<String> {
    let peer = record.recorded.peer;
    let (mut path, mut origin, mut med, mut communities) = (String::new(), "", 0, String::new());
    for attribute in &update.attributes {
        match attribute {
            Attribute::AsPath(value) => path = value.to_string(),
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
    let announced =
        update.announced().map(|(prefix, hop)| format!("A|{peer}|{prefix}|{path}|{origin}|{hop}|{med}|{communities}"));
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

/// Small files with OPEN, NOTIFICATION and ROUTE-REFRESH in them.
#[test]
fn mrt_samples() {
    let Some(folder) = corpus("mrtparse") else { return };
    let mut kinds: BTreeMap<u8, usize> = BTreeMap::new();
    for path in files(&folder) {
        for mrt::Record { width, recorded } in mrt::messages(&unpacked(&path)) {
            survive(&recorded.message);
            let message = Message::decode(&recorded.message, &context(width, PeerKind::External));
            assert!(message.is_ok(), "{}: {message:?}", name(&path));
            *kinds.entry(recorded.message[18]).or_default() += 1;
        }
    }
    say(&format!("mrt samples: messages by type {kinds:?}"));
    assert_eq!(kinds.values().sum::<usize>(), 154);
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
            ("CVE-2022-40302" | "CVE-2022-43681", "OPEN") => Some((2, 0)),
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
