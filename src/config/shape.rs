//! From text to the schema; the one file that knows the YAML reader's errors.

use super::error::{Finding, Place};
use super::names::{listed, nearest};
use super::raw;
use serde_saphyr::Error;

/// Reads the file, or says where its shape is wrong.
pub fn read(text: &str) -> Result<raw::File, Finding> {
    let options = serde_saphyr::options! {
        // `yes` and `on` are text in YAML 1.2.
        strict_booleans: true,
        // The report is ours.
        with_snippet: false,
        // A file of a thousand peers has some 30,000 nodes; what nests deeper or repeats more is no configuration.
        budget: serde_saphyr::budget! { max_depth: 16, max_nodes: 200_000, max_aliases: 1_000 },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| finding(text, error.without_snippet()))
}

fn finding(text: &str, error: &Error) -> Finding {
    let place = error.location().map(|location| Place::at(&location)).unwrap_or_default();
    let key = key_at(text, place);
    let wrong = |what: &str| match &key {
        Some(key) => Finding::error(place, format!("'{key}' must be {what}")).help(example(key)),
        None => Finding::error(place, format!("here must be {what}")).help(example("")),
    };
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            let finding = Finding::error(place, format!("unknown key {field:?}"));
            match nearest(field, expected.iter().copied()) {
                Some(near) => finding.help(format!("write {near}")),
                None => finding.help(format!("known keys here: {}", expected.join(", "))),
            }
        }
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("key");
            Finding::error(place, format!("{key:?} is given twice")).help("remove one of the two")
        }
        Error::InvalidScalar { ty, .. } if ty.starts_with(['i', 'u']) => wrong("a whole number"),
        Error::InvalidBooleanStrict { .. } => wrong("true or false"),
        Error::Unexpected { expected: "sequence start", .. } => wrong("a list"),
        Error::Unexpected { expected: "mapping start", .. } => wrong("an object, keys with values"),
        Error::Unexpected { .. } | Error::NullIntoString { .. } => wrong("one value"),
        Error::MultipleDocuments { .. } => Finding::error(place, "a second document begins here")
            .help("one file holds one configuration; remove what follows the line '---'"),
        Error::UnknownAnchor { .. } => Finding::error(place, "no anchor of this name was set before")
            .help("an alias *name repeats a value marked &name; quote the text if '*' is part of it"),
        Error::Budget { .. } | Error::AliasReplayLimitExceeded { .. } | Error::AliasExpansionLimitExceeded { .. } => {
            Finding::error(place, "the file is too large or nests too deep to be a configuration")
                .help("at most 200000 values, 16 levels and 1000 aliases are read")
        }
        Error::AliasError { error, .. } => finding(text, error),
        other => syntax(place, &other.to_string()),
    }
}

/// What the reader says about text that is no YAML; its own note of the place is left out.
fn syntax(place: Place, message: &str) -> Finding {
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    let help = match message {
        m if m.contains("tab") => "indent with spaces",
        m if m.contains("unclosed bracket") => "close it, or quote the text if the bracket is part of it",
        m if m.contains("unclosed quote") => "close the quote",
        m if m.contains("mapping values are not allowed") => {
            "look at the indentation of this line; quote the text if ': ' is part of it"
        }
        m if m.contains("multiline text") => "look at the indentation of the next line",
        _ => "this is no valid YAML; look at indentation, quotes and brackets around here",
    };
    Finding::error(place, message).help(help)
}

/// The key whose value stands at a place: before it on its line, or where the list that holds it begins.
fn key_at(text: &str, place: Place) -> Option<String> {
    let before = text.get(..place.start_in(text))?;
    let mut lines = before.lines().rev();
    let line = lines.next().filter(|_| !before.ends_with('\n'));
    if let Some(key) = line.and_then(|line| key_of(line.rsplit(['{', ',']).next()?)) {
        return Some(key);
    }
    let indent = |line: &str| line.len() - line.trim_start_matches([' ', '-']).len();
    let depth = line.map_or(0, indent);
    before
        .lines()
        .rev()
        .skip(usize::from(line.is_some()))
        .find(|l| indent(l) <= depth && l.trim_end().ends_with(':'))
        .and_then(key_of)
}

fn key_of(line: &str) -> Option<String> {
    let key = line.split_once(':')?.0.trim_matches([' ', '-', '"', '\'', '[', '{']);
    (!key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric())).then(|| key.to_owned())
}

/// How a key is written.
fn example(key: &str) -> String {
    const EXAMPLES: &[(&str, &str)] = &[
        ("asn", "asn: 64512"),
        ("routerId", "routerId: 10.0.0.1"),
        ("nodes", "nodes: [{name: n1, routerId: 10.0.0.1}]"),
        ("peers", "peers: a list of {name, address, asn}; in an advertisement a list of names"),
        ("pools", "pools: a list of {name, addresses}; in an advertisement a list of names"),
        ("advertisements", "advertisements: a list of {name, pools, peers}"),
        ("services", "services: {classless: true}"),
        ("classless", "classless: true"),
        ("ignoreExcludeLabel", "ignoreExcludeLabel: true"),
        ("name", "name: edge"),
        ("address", "address: 172.30.1.1"),
        ("port", "port: 179"),
        ("holdTime", "holdTime: 90s"),
        ("sourceAddress", "sourceAddress: 172.30.1.11"),
        ("ttlSecurity", "ttlSecurity: 1"),
        ("ebgpMultihop", "ebgpMultihop: 2"),
        ("families", "families: [ipv4, ipv6]"),
        ("nodeSelector", "nodeSelector: {matchLabels: {rack: r1}}"),
        ("matchLabels", "matchLabels: {rack: r1}"),
        ("matchExpressions", "matchExpressions: [{key: rack, operator: In, values: [r1, r2]}]"),
        ("key", "key: rack"),
        ("operator", "operator: In"),
        ("values", "values: [r1, r2]"),
        ("addresses", "addresses: [198.51.100.0/24, 203.0.113.10-203.0.113.20]"),
        ("communities", "communities: [\"64512:100\", no-export]"),
        ("localPreference", "localPreference: 200"),
        ("announceWithoutEndpoints", "announceWithoutEndpoints: true"),
    ];
    match EXAMPLES.iter().find(|(known, _)| *known == key) {
        Some((_, example)) => format!("write {example}"),
        None => format!("the file has the keys {}", listed(["asn", "peers", "pools", "advertisements"].into_iter())),
    }
}
