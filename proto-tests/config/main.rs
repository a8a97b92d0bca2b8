//! Reports, word for word: each `*.yaml` here is wrong or doubtful, and the `*.txt` beside it is what people are told.
//!
//! After a deliberate change: `HERALD_WRITE_REPORTS=1 cargo test --test config`, then read the difference.

use herald::config::{Config, Diagnostics, Severity, Style};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-tests/config")
}

fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder()).expect("the folder of this test exists");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("its entries can be read").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

fn found(path: &Path) -> Diagnostics {
    let name = path.file_name().expect("a file has a name").to_string_lossy();
    let text = fs::read_to_string(path).expect("a case is text");
    match Config::parse(&name, &text) {
        Ok((_, found)) => {
            assert_eq!(found.count(Severity::Error), 0, "{name} was accepted with errors");
            found
        }
        Err(found) => {
            assert_ne!(found.count(Severity::Error), 0, "{name} was refused without an error");
            found
        }
    }
}

#[test]
fn reports_are_as_reviewed() {
    let cases = cases();
    assert!(cases.len() >= 30, "only {} cases", cases.len());
    let mut differing = Vec::new();
    for path in &cases {
        let report = found(path).to_string();
        assert!(!report.is_empty(), "{} is here to be wrong or doubtful, and nothing was found", path.display());
        let beside = path.with_extension("txt");
        if std::env::var_os("HERALD_WRITE_REPORTS").is_some() {
            fs::write(&beside, &report).expect("the report can be written");
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        if report != expected {
            differing.push(format!("--- {}, as reviewed\n{expected}\n--- now\n{report}", beside.display()));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    let kept = fs::read_dir(folder()).expect("as above").filter_map(Result::ok).map(|entry| entry.path());
    let reports = kept.filter(|path| path.extension().is_some_and(|extension| extension == "txt")).count();
    assert_eq!(reports, cases.len(), "a report without its file");
}

#[test]
fn every_finding_says_where_and_what_to_do() {
    for path in cases() {
        let found = found(&path);
        let report = found.to_string();
        let name = path.file_name().expect("a file has a name").to_string_lossy();
        let helps = report.lines().filter(|line| line.trim_start().starts_with("= help:")).count();
        assert_eq!(helps, found.findings().len().min(50), "a finding without help:\n{report}");
        for finding in found.findings().iter().take(50) {
            let (line, column) = found.line_and_column(finding);
            let place = format!("--> {name}:{line}:{column}\n");
            assert!(report.contains(&place), "{place} is not in\n{report}");
        }
    }
}

#[test]
fn colours_are_only_colours() {
    for path in cases() {
        let found = found(&path);
        let mut plain = String::new();
        let coloured = found.render(Style::Coloured);
        let mut rest = coloured.as_str();
        while let Some(start) = rest.find('\u{1b}') {
            plain += &rest[..start];
            let end = rest[start..].find('m').expect("an escape sequence ends");
            rest = &rest[start + end + 1..];
        }
        plain += rest;
        assert_ne!(coloured, plain, "no colours for {}", path.display());
        assert_eq!(plain, found.render(Style::Plain));
    }
}

/// Texts that have once been a configuration: what was cut, doubled and pasted must be refused or accepted, never panic.
fn spoilt() -> impl Strategy<Value = String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let texts: Vec<String> = [root.join("config"), folder()]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).expect("the folder exists"))
        .map(|entry| entry.expect("its entries can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| fs::read_to_string(path).expect("a configuration is text"))
        .filter(|text| text.len() < 4000)
        .collect();
    let pieces = [
        "", " ", "\n", "\t", "- ", ": ", "{", "]", "'", "\"", "&a ", "*a", "ü", "0", "-1", "~", "!!str ", "/129", "::",
        "\r",
    ];
    let edit = (any::<Index>(), any::<Index>(), select(pieces.map(str::to_owned).to_vec()));
    (select(texts), proptest::collection::vec(edit, 1..6)).prop_map(|(mut text, edits)| {
        for (at, length, piece) in edits {
            let start = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.ceil_char_boundary((start + length.index(8)).min(text.len()));
            text.replace_range(start..end, &piece);
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn no_text_brings_it_down(text in spoilt()) {
        match Config::parse("spoilt.yaml", &text) {
            Ok((config, found)) => {
                prop_assert_eq!(found.count(Severity::Error), 0);
                // What was accepted holds together.
                for advertisement in &config.policy.advertisements {
                    prop_assert!(advertisement.pools.iter().all(|pool| config.policy.pools.contains_key(pool)));
                    prop_assert!(advertisement.peers.iter().all(|peer| config.peers.contains_key(peer)));
                }
                let mut ranges: Vec<_> = config.policy.pools.values().flat_map(|pool| pool.ranges.clone()).collect();
                ranges.sort();
                prop_assert!(ranges.iter().all(|(first, last)| first <= last && first.is_ipv4() == last.is_ipv4()));
                prop_assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
            }
            Err(found) => {
                prop_assert!(found.count(Severity::Error) > 0);
                prop_assert!(found.to_string().contains("spoilt.yaml:"));
            }
        }
    }
}

#[test]
fn a_thousand_racks_with_one_plan_are_read() {
    let mut text = "asn: 64512\npools: [{name: edge, addresses: [198.51.100.0/24]}]\n".to_owned();
    text += "advertisements: [{name: all}]\npeers:\n";
    for rack in 0..1000 {
        let selector = format!("{{matchLabels: {{rack: r{rack}}}}}");
        text += &format!("- {{name: tor-{rack}, address: 172.30.1.1, asn: 64500, nodeSelector: {selector}}}\n");
    }
    let began = std::time::Instant::now();
    let (config, found) = Config::parse("racks.yaml", &text).unwrap_or_else(|found| panic!("{found}"));
    println!("1000 peers of one address: {:?}", began.elapsed());
    assert_eq!((config.peers.len(), found.is_empty()), (1000, true));
    let twice = text.replace("rack: r999}", "rack: r0}");
    let found = Config::parse("racks.yaml", &twice).expect_err("racks 0 and 999 are one");
    assert!(found.to_string().contains("\"tor-0\" and \"tor-999\" have one address"), "{found}");
    assert_eq!(found.count(Severity::Error), 1);
}
