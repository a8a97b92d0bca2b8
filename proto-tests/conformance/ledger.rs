//! The ledger: a table an RFC (`rfcNNNN.tsv`), a row a clause, and behind each a test or a reason. What is counted here must
//! be found in the tables, what is in the tables must be found in the texts and among the tests.
//!
//! After a deliberate change of tests: `HERALD_WRITE_DOCS=1 cargo test --test conformance`, then read the difference in
//! `docs/conformance.md`.

use crate::extract::{self, Era};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the clauses of an RFC come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Its text.
    Text(Era),
    /// What is known about it, in our words: its text is not at hand.
    Facts,
}

use Source::{Facts, Text};

/// Capitals oblige.
const NEW: Source = Text(Era::Capitals);
/// Written before RFC 2119, or without it.
const EARLY: Source = Text(Era::AnyCase);

/// What must be there: RFC, source, clauses with a test, clauses with a reason.
const COUNTS: [(u32, Source, usize, usize); 34] = [
    (1997, EARLY, 1, 4),
    (2385, EARLY, 1, 9),
    (2545, EARLY, 5, 7),
    (2918, EARLY, 2, 4),
    (4271, NEW, 73, 59),
    (4360, NEW, 0, 3),
    (4486, NEW, 0, 1),
    (4724, NEW, 15, 16),
    (4760, NEW, 4, 5),
    (5082, NEW, 1, 6),
    (5492, NEW, 9, 1),
    (5668, NEW, 0, 0),
    (6286, EARLY, 2, 1),
    (6608, NEW, 3, 0),
    (6793, NEW, 33, 1),
    (7313, NEW, 8, 2),
    (7606, NEW, 49, 10),
    (7607, NEW, 5, 0),
    (7911, NEW, 7, 2),
    (7999, NEW, 0, 3),
    (8092, NEW, 8, 0),
    (8212, NEW, 1, 1),
    (8326, NEW, 0, 0),
    (8538, Facts, 5, 5),
    (8654, NEW, 7, 2),
    (8950, NEW, 5, 1),
    (9003, NEW, 5, 0),
    (9072, NEW, 9, 0),
    (9234, NEW, 8, 13),
    (9384, Facts, 0, 0),
    (9494, NEW, 8, 22),
    (9687, Facts, 3, 0),
    (9774, NEW, 2, 2),
    (10005, Facts, 4, 0),
];

/// What stands behind a clause.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Test(String),
    Reason(String),
}

#[derive(Debug)]
struct Row {
    id: String,
    keyword: String,
    hash: String,
    verdict: Verdict,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn folder() -> PathBuf {
    root().join("proto-tests/conformance")
}

/// The rows of an RFC; the first line says where they come from.
fn table(rfc: u32, source: Source) -> Vec<Row> {
    let path = folder().join(format!("rfc{rfc}.tsv"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let said = match source {
        Text(_) => "text",
        Facts => "facts",
    };
    assert_eq!(text.lines().next(), Some(&*format!("# RFC {rfc}, source {said}")), "{}", path.display());
    text.lines().filter(|line| !line.starts_with('#')).map(row).collect()
}

fn row(line: &str) -> Row {
    let [id, keyword, hash, verdict, text] = line.split('\t').collect::<Vec<_>>()[..] else {
        panic!("five columns: {line}")
    };
    let verdict = match verdict {
        "test" => Verdict::Test(text.to_owned()),
        "reason" => Verdict::Reason(text.to_owned()),
        other => panic!("{id}: {other} is no verdict"),
    };
    Row { id: id.to_owned(), keyword: keyword.to_owned(), hash: hash.to_owned(), verdict }
}

fn rows() -> Vec<Row> {
    COUNTS.iter().flat_map(|(rfc, source, ..)| table(*rfc, *source)).collect()
}

fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).expect("standard error takes a line");
}

#[test]
fn every_clause_has_a_test_or_a_reason_and_the_counts_are_these() {
    for (rfc, source, tested, reasoned) in COUNTS {
        let rows = table(rfc, source);
        let tests = rows.iter().filter(|row| matches!(row.verdict, Verdict::Test(_))).count();
        assert_eq!((tests, rows.len() - tests), (tested, reasoned), "RFC {rfc}: with a test, with a reason");
        let ids: BTreeSet<_> = rows.iter().map(|row| &row.id).collect();
        assert_eq!(ids.len(), rows.len(), "RFC {rfc}: an id stands twice");
        for row in &rows {
            assert!(row.id.starts_with(&format!("{rfc}-")), "{}", row.id);
            if let Verdict::Reason(reason) = &row.verdict {
                assert!(reason.split_whitespace().count() >= 5, "{}: {reason:?} is no reason", row.id);
                assert_deviation_is_stated(rfc, row, reason);
            }
        }
    }
    let tables = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let tables = tables.filter(|path| path.extension().is_some_and(|extension| extension == "tsv")).count();
    assert_eq!(tables, COUNTS.len(), "a table that is not counted");
}

/// What we do otherwise on purpose stands in ARCHITECTURE.md too, by RFC and section.
fn assert_deviation_is_stated(rfc: u32, row: &Row, reason: &str) {
    if !reason.starts_with("deviation") {
        return;
    }
    let section = row.id.split('-').nth(1).expect("an id has a section");
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("it is there");
    let (_, deviations) = page.split_once("## Deviations from the RFCs").expect("a chapter");
    let cited = format!("RFC {rfc} §{section}");
    assert!(deviations.contains(&cited), "{}: ARCHITECTURE.md does not name {cited} among the deviations", row.id);
}

/// Holds the tables against the texts, where they are at hand.
#[test]
fn the_clauses_are_those_of_the_texts() {
    let Some(texts) = std::env::var_os("HERALD_RFCS") else {
        say("left out: the texts of the RFCs (HERALD_RFCS is not set)");
        return;
    };
    let mut read = 0;
    for (rfc, source, ..) in COUNTS {
        let Text(era) = source else { continue };
        let path = Path::new(&texts).join(format!("rfc{rfc}.txt"));
        let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let text = String::from_utf8_lossy(&text);
        let found = extract::clauses(rfc, &text, era);
        assert_eq!(found.len(), extract::plain_count(&text, era), "RFC {rfc}: a keyword outside every clause");
        let found: Vec<_> = found.iter().map(|c| (&*c.id, c.keyword, &*c.hash)).collect();
        let rows = table(rfc, source);
        let written: Vec<_> = rows.iter().map(|row| (&*row.id, &*row.keyword, &*row.hash)).collect();
        assert_eq!(found, written, "RFC {rfc}: the text on the left, the table on the right");
        read += 1;
    }
    say(&format!("{read} texts read"));
    assert_eq!(read, COUNTS.iter().filter(|(_, source, ..)| *source != Facts).count());
}

/// Tests of this suite, as its own harness lists them.
fn compiled(more: &[&str]) -> BTreeSet<String> {
    let own = std::env::current_exe().expect("a test knows its own file");
    let output = Command::new(own).args(["--list", "--format", "terse"]).args(more).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("names are text");
    text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// Every test that the ledger names: after `test`, joined by ` + `, and inside reasons wherever `::` stands.
fn named() -> BTreeSet<String> {
    let of = |row: Row| match row.verdict {
        Verdict::Test(tests) => tests.split(" + ").map(str::to_owned).collect::<Vec<_>>(),
        Verdict::Reason(reason) => {
            let words = reason.split_whitespace().map(|word| word.trim_matches(['(', ')', ',', ';', '.']));
            words.filter(|word| word.contains("::")).map(str::to_owned).collect()
        }
    };
    rows().into_iter().flat_map(of).collect()
}

#[test]
fn every_test_that_is_named_exists_and_runs() {
    let (own, ignored) = (compiled(&[]), compiled(&["--ignored"]));
    assert!(own.len() > 100, "the harness listed {} tests", own.len());
    assert_eq!(ignored, BTreeSet::new(), "an ignored test shows nothing");
    for test in named() {
        match test.split_once("::") {
            Some((file, path)) if file.contains('/') => foreign(file, path),
            _ => assert!(own.contains(&test), "{test} is named in the ledger and is no test of this suite"),
        }
    }
}

/// A test of another suite (`suite/file::name`) or of a file under `src` (`src/room/file::tests::name`), by its source.
fn foreign(file: &str, path: &str) {
    let folder = if file.starts_with("src/") { root() } else { root().join("proto-tests") };
    let file = folder.join(format!("{file}.rs"));
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let (mut items, mut parts) = (syntax.items, path.split("::").peekable());
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            let found = items.iter().any(|item| matches!(item, syn::Item::Fn(f) if f.sig.ident == part && is_test(f)));
            assert!(found, "{path} is named in the ledger and is no test in {}", file.display());
            return;
        }
        let inner = items.into_iter().find_map(|item| match item {
            syn::Item::Mod(module) if module.ident == part => module.content.map(|(_, items)| items),
            _ => None,
        });
        items = inner.unwrap_or_else(|| panic!("no module {part} in {}", file.display()));
    }
}

fn is_test(function: &syn::ItemFn) -> bool {
    let has = |name: &str| {
        let last = |attribute: &syn::Attribute| attribute.path().segments.last().is_some_and(|s| s.ident == name);
        function.attrs.iter().any(last)
    };
    has("test") && !has("ignore")
}

#[test]
fn every_test_of_a_clause_is_named() {
    let named = named();
    let idle: Vec<_> = compiled(&[]).into_iter().filter(|t| t.starts_with("rfc") && !named.contains(t)).collect();
    assert_eq!(idle, [""; 0], "tests that no clause names");
}

/// The table for people.
fn summary() -> String {
    let mut text = String::from("| RFC | clauses | tested | with a reason | found in |\n|---|---|---|---|---|\n");
    let (mut tests, mut reasons) = (0, 0);
    for (rfc, source, tested, reasoned) in COUNTS {
        let source = match source {
            Text(_) => "its text",
            Facts => "our notes on it",
        };
        text += &format!("| {rfc} | {} | {tested} | {reasoned} | {source} |\n", tested + reasoned);
        (tests, reasons) = (tests + tested, reasons + reasoned);
    }
    text + &format!("| all {} | {} | {tests} | {reasons} | |\n", COUNTS.len(), tests + reasons)
}

#[test]
fn zz_the_table_is_printed_and_docs_are_fresh() {
    let path = root().join("docs/conformance.md");
    let text = format!(
        "# Conformance\n\n\
         Every MUST, MUST NOT, SHALL and REQUIRED of these RFCs is a row of a table in `proto-tests/conformance`, and behind each stands\n\
         a test or the reason why there is none: most reasons are that herald announces and accepts no routes. In the oldest ones, which\n\
         were written before RFC 2119, small letters count as well. Written by `HERALD_WRITE_DOCS=1 cargo test --test conformance`.\n\n{}",
        summary()
    );
    if std::env::var_os("HERALD_WRITE_DOCS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    say(&summary());
    assert_eq!(fs::read_to_string(&path).unwrap_or_default(), text, "docs/conformance.md is older than the ledger");
}
