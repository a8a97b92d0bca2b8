//! Reports, word for word: each `*.yaml` here is wrong or doubtful, and the `*.txt` beside it is what people are told.
//!
//! After a deliberate change: `HERALD_WRITE_REPORTS=1 cargo test --test config`, then read the difference.

use herald::config::{Config, Diagnostics, Severity, Style};
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
