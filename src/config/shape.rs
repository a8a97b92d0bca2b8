//! From text to the schema; the one file that knows the YAML reader's errors.

use super::error::{Finding, Place};
use super::names::nearest;
use super::raw;
use serde_saphyr::Error;

/// Reads the file, or says where its shape is wrong.
pub fn read(text: &str) -> Result<raw::File, Finding> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| finding(text, error.without_snippet()))
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        // `yes` and `on` are text in YAML 1.2.
        strict_booleans: true,
        // The report is ours.
        with_snippet: false,
        // A file of a thousand peers has some 30,000 nodes; what nests deeper or repeats more is no configuration.
        budget: serde_saphyr::budget! { max_depth: 16, max_nodes: 200_000, max_aliases: 1_000 },
    }
}

/// The `password` of each peer by its `name`, whatever else is wrong with the text, as long as it is YAML.
pub fn passwords(text: &str) -> Vec<(String, String)> {
    #[derive(serde::Deserialize)]
    struct File {
        #[serde(default)]
        peers: Vec<Peer>,
    }
    #[derive(serde::Deserialize)]
    struct Peer {
        name: Option<String>,
        password: Option<String>,
    }
    let read = serde_saphyr::from_str_with_options::<File>(text, options());
    let peers = read.map(|file| file.peers).unwrap_or_default().into_iter();
    peers.filter_map(|peer| peer.name.zip(peer.password)).collect()
}

fn finding(text: &str, error: &Error) -> Finding {
    let place = error.location().map(|location| Place::of_failure(&location, text)).unwrap_or_default();
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
        Error::InvalidScalar { ty, .. } if ty.starts_with(['i', 'u']) => wrong(text, place, "a whole number"),
        Error::InvalidBooleanStrict { .. } => wrong(text, place, "true or false"),
        Error::Unexpected { expected: "sequence start", .. } => wrong(text, place, "a list"),
        Error::Unexpected { expected: "mapping start", .. } => wrong(text, place, "an object, keys with values"),
        Error::Unexpected { .. } | Error::NullIntoString { .. } => wrong(text, place, "one value"),
        Error::MultipleDocuments { .. } => Finding::error(place, "a second document begins here")
            .help("one file holds one configuration; remove what follows the line '---'"),
        Error::UnknownAnchor { .. } => Finding::error(place, "no anchor of this name was set before")
            .help("an alias *name repeats a value marked &name; quote the text if '*' is part of it"),
        Error::Budget { .. } | Error::AliasReplayLimitExceeded { .. } | Error::AliasExpansionLimitExceeded { .. } => {
            Finding::error(place, "the file is too large, nests too deep or repeats too much to be a configuration")
                .help("at most 200000 values, 16 levels and 1000 aliases are read")
        }
        Error::AliasError { error, .. } => finding(text, error),
        other => syntax(place, &other.to_string()),
    }
}

/// A value of another kind than its key takes.
fn wrong(text: &str, place: Place, kind: &str) -> Finding {
    let Some(Key { name, level }) = key_at(text, place) else {
        return Finding::error(place, format!("expected {kind}")).help(
            "a configuration is an object with the keys asn, peers, pools, advertisements and others; see config/*.yaml",
        );
    };
    let whose = match kind {
        "a list" => format!("'{name}'"),
        _ if LISTS.contains(&name.as_str()) => format!("each entry of '{name}'"),
        _ => format!("'{name}'"),
    };
    let help = match meant(text, place).filter(|_| name == "asn") {
        Some(number) => format!("write asn: {number}"),
        None => format!("write {}", example(&name, level, kind)),
    };
    Finding::error(place, format!("{whose} must be {kind}")).help(help)
}

/// The AS number that `AS64512` or, in two parts (RFC 5396), `65000.1` means.
fn meant(text: &str, place: Place) -> Option<u32> {
    let rest = &text[place.start_in(text)..];
    let word = rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.')).next()?;
    match word.split_once('.') {
        Some((high, low)) => Some(u32::from(high.parse::<u16>().ok()?) << 16 | u32::from(low.parse::<u16>().ok()?)),
        None => word.to_ascii_lowercase().strip_prefix("as")?.parse().ok(),
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

/// The text as reports show it: the value of every key that is `password`, or was meant to be, is stars, in as many characters
/// and octets.
pub fn masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(':') {
        let (before, after) = rest.split_at(at);
        shown += before;
        let line = shown.rsplit('\n').next().unwrap_or_default();
        let secret = if is_secret(key_before(line)) { secret_in(line, after) } else { 0..1 };
        let (colon, value) = (&after[..secret.start.max(1)], &after[secret.start.max(1)..secret.end]);
        shown += colon;
        shown.extend(value.chars().map(star));
        rest = &after[secret.end..];
    }
    shown + rest
}

/// The key that ends a piece of a line, without its quotes.
fn key_before(line: &str) -> &str {
    let bare = line.trim_end_matches([' ', '"', '\'']);
    bare.rsplit(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).next().unwrap_or_default()
}

/// Whether a key holds a secret, or may be meant to: `passwort`, `Password`, `md5-secret`. The file of one is none.
fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    let like = ["passw", "passphrase", "secret", "kennwort", "psk", "pwd", "md5", "authkey", "auth-key"];
    // The distance costs more than these, and every key of a large file is asked about.
    let near = || ["ass", "wor"].iter().any(|part| key.contains(part)) && nearest(&key, ["password"]).is_some();
    !key.ends_with("file") && (like.iter().any(|word| key.contains(word)) || near())
}

/// A star as wide as a character.
fn star(c: char) -> char {
    match (c, c.len_utf8()) {
        ('\n' | '\r', _) => c,
        (_, 1) => '*',
        (_, 2) => '×',
        (_, 3) => '•',
        (_, _) => '🞶',
    }
}

/// Where the value is in what follows the word `password`; empty where the word is no key. Rather too much than too little.
fn secret_in(line: &str, after: &str) -> std::ops::Range<usize> {
    let colon = after.trim_start_matches(['"', '\'']).trim_start_matches(' ');
    let Some(value) = colon.strip_prefix(':') else { return 0..0 };
    let value = value.trim_start_matches([' ', '\t']);
    let start = after.len() - value.len();
    let indent = |line: &str| line.len() - line.trim_start_matches([' ', '-']).len();
    // What goes on below, deeper than the key; blank lines at its end are none of it.
    let deeper = |below: &str| {
        let lines = below.split_inclusive('\n').scan(0, |end, next| {
            *end += next.len();
            Some((*end, next))
        });
        let block = lines.take_while(|(_, next)| next.trim().is_empty() || indent(next) > indent(line));
        block
            .filter(|(_, next)| !next.trim().is_empty())
            .last()
            .map_or(0, |(end, next)| end - next.len() + next.trim_end_matches(['\n', '\r']).len())
    };
    let len = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value[1..].find(quote).map_or(value.len(), |at| at + 2),
        Some('|' | '>') => {
            let mut lines = value.split_inclusive('\n');
            let head = lines.next().map_or(0, str::len);
            let block = lines.take_while(|next| next.trim().is_empty() || indent(next) > indent(line));
            head + block.map(str::len).sum::<usize>()
        }
        _ if line.contains('{') => value.find([',', '}']).unwrap_or(value.len()),
        _ => value.find('\n').map_or(value.len(), |at| at + deeper(&value[at..])),
    };
    start..start + len
}

/// The key that a value belongs to.
#[derive(Debug, PartialEq, Eq)]
struct Key {
    name: String,
    level: Level,
}

/// `peers` and `pools` mean one thing at the top and another in an advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Top,
    Inside,
}

/// The key whose value stands at a place: before it on its line, or where the list that holds it begins.
fn key_at(text: &str, place: Place) -> Option<Key> {
    let before = &text[..place.start_in(text)];
    let (above, line) = before.rsplit_once('\n').unwrap_or(("", before));
    if let Some(key) = line.rsplit(['{', ',']).find_map(key_of) {
        return Some(key);
    }
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    above.lines().rev().find(|l| indent(l) <= indent(line) && l.trim_end().ends_with(':')).and_then(key_of)
}

fn key_of(line: &str) -> Option<Key> {
    let (key, _) = line.split_once(':')?;
    let level = if key.starts_with([' ', '-']) { Level::Inside } else { Level::Top };
    let name = key.trim_matches([' ', '-', '"', '\'', '[']);
    let known = EXAMPLES.iter().any(|(known, _, _)| *known == name);
    known.then(|| Key { name: name.to_owned(), level })
}

fn example(name: &str, level: Level, kind: &str) -> String {
    let known = |wanted: Level| {
        let mut known = EXAMPLES.iter().filter(move |(key, at, _)| *key == name && *at == wanted);
        // `ipv4` is a number under `prefixLimit` and an address under `nextHop`.
        if kind == "one value" { known.next_back() } else { known.next() }
    };
    let other = match level {
        Level::Top => Level::Inside,
        Level::Inside => Level::Top,
    };
    known(level).or_else(|| known(other)).map_or_else(|| name.to_owned(), |(key, _, value)| format!("{key}: {value}"))
}

/// Keys without which a session would be less safe than the file seems to say.
const GUARDS: [&str; 3] = ["password", "passwordFile", "ttlSecurity"];

/// Keys with nothing behind them: to the reader they are as good as absent, to whoever wrote them they are not.
pub fn valueless(text: &str) -> Vec<Finding> {
    let mut lines = text.split_inclusive('\n').scan(0, |start, line| {
        *start += line.len();
        Some((*start - line.len(), line))
    });
    let mut found = Vec::new();
    while let Some((start, line)) = lines.next() {
        let code = code_of(line);
        let colons = code.match_indices(':').map(|(at, _)| at);
        for at in colons.filter(|at| is_empty(code, *at, || lines.clone().map(|(_, next)| next))) {
            let key = key_before(&code[..at]);
            if EXAMPLES.iter().any(|(known, _, _)| *known == key) {
                let begin = start + code[..at].rfind(key).unwrap_or(0);
                found.push(valueless_key(key, Place::at(begin, key.len()), code.starts_with(key)));
            }
        }
    }
    found
}

fn valueless_key(key: &str, place: Place, at_the_top: bool) -> Finding {
    let level = if at_the_top { Level::Top } else { Level::Inside };
    let title = format!("nothing stands behind '{key}'");
    let example = example(key, level, "one value");
    if GUARDS.contains(&key) {
        let help = "put its value behind it, or remove the key: without it the session is less safe";
        return Finding::error(place, title).help(help);
    }
    Finding::warning(place, format!("{title}, so it means as much as no such key"))
        .help(format!("write {example}, or remove it"))
}

/// A line without its comment.
fn code_of(line: &str) -> &str {
    match line.trim_start().starts_with('#') {
        true => "",
        false => line.split(" #").next().unwrap_or_default().trim_end(),
    }
}

/// Whether nothing stands behind the colon at a place of a line, nor on the lines after it.
fn is_empty<'a, Lines: Iterator<Item = &'a str>>(code: &str, colon: usize, below: impl Fn() -> Lines) -> bool {
    let value = code[colon + 1..].trim_start();
    let word = value.split([',', '}', ' ']).next().unwrap_or_default();
    let followed = !matches!(value.chars().next(), None | Some(',' | '}'));
    if followed {
        return ["~", "null", "Null", "NULL"].contains(&word) && code[colon + 1..].starts_with(' ');
    }
    if !value.is_empty() {
        return true;
    }
    if code.contains(['{', '"', '\'']) {
        return false;
    }
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let key = code[..colon].len() - code[..colon].trim_start_matches([' ', '-']).len();
    let next = below().map(str::trim_end).find(|line| !code_of(line).is_empty());
    !next.is_some_and(|next| indent(next) > key || (indent(next) == key && next.trim_start().starts_with('-')))
}

/// Keys whose values are lists.
const LISTS: &[&str] = &[
    "nodes",
    "peers",
    "pools",
    "advertisements",
    "families",
    "matchExpressions",
    "values",
    "addresses",
    "exclude",
    "namespaces",
    "communities",
];

/// How each key is written.
const EXAMPLES: &[(&str, Level, &str)] = &[
    ("asn", Level::Top, "64512"),
    ("routerId", Level::Top, "10.0.0.1"),
    ("nodes", Level::Top, "[{name: n1, routerId: 10.0.0.1}]"),
    ("peers", Level::Top, "[{name: tor-a, address: 172.30.1.1, asn: 64500}]"),
    ("pools", Level::Top, "[{name: edge, addresses: [198.51.100.0/24]}]"),
    ("advertisements", Level::Top, "[{name: edge-to-tors, pools: [edge], peers: [tor-a]}]"),
    ("listen", Level::Top, "{port: 179}"),
    ("services", Level::Top, "{classless: true}"),
    ("ignoreExcludeLabel", Level::Top, "true"),
    ("quotas", Level::Top, "{default: 10, byNamespace: {web: 50}}"),
    ("reload", Level::Top, "{patience: 60s}"),
    ("guard", Level::Top, "{hold: 60s, maxWithdraw: 25%}"),
    ("hold", Level::Inside, "60s"),
    ("maxWithdraw", Level::Inside, "25%"),
    ("confirm", Level::Inside, "\"0123456789abcdef\""),
    ("patience", Level::Inside, "60s"),
    ("classless", Level::Inside, "true"),
    ("default", Level::Inside, "10"),
    ("byNamespace", Level::Inside, "{web: 50}"),
    ("exclude", Level::Inside, "[198.51.100.1, 198.51.100.250-198.51.100.254]"),
    ("excludeZeroAnd255", Level::Inside, "true"),
    ("autoAssign", Level::Inside, "false"),
    ("priority", Level::Inside, "10"),
    ("namespaces", Level::Inside, "[web, shop]"),
    ("namespaceSelector", Level::Inside, "{matchLabels: {tier: public}}"),
    ("serviceSelector", Level::Inside, "{matchLabels: {exposure: internet}}"),
    ("draining", Level::Inside, "true"),
    ("announceNodeAddresses", Level::Inside, "true"),
    ("coolDown", Level::Inside, "60s"),
    ("shareAcrossNamespaces", Level::Inside, "true"),
    ("name", Level::Inside, "edge"),
    ("address", Level::Inside, "172.30.1.1"),
    ("range", Level::Inside, "172.30.1.0/24"),
    ("port", Level::Inside, "179"),
    ("holdTime", Level::Inside, "90s"),
    ("passive", Level::Inside, "true"),
    ("gracefulRestart", Level::Inside, "{restartTime: 120s}"),
    ("enabled", Level::Inside, "true"),
    ("restartTime", Level::Inside, "120s"),
    ("extendedMessages", Level::Inside, "true"),
    ("prefixLimit", Level::Inside, "{ipv4: 1000, ipv6: 1000}"),
    ("ipv4", Level::Inside, "1000"),
    ("ipv6", Level::Inside, "1000"),
    ("role", Level::Inside, "customer"),
    ("password", Level::Inside, "correct-horse"),
    ("passwordFile", Level::Inside, "/etc/herald-keys/tor-a"),
    ("interface", Level::Inside, "eth0"),
    ("routerAdvertisements", Level::Inside, "true"),
    ("nextHop", Level::Inside, "{ipv4: 172.30.1.11, ipv6: \"2001:db8:1::11\"}"),
    ("ipv4", Level::Inside, "172.30.1.11"),
    ("ipv6", Level::Inside, "2001:db8:1::11"),
    ("delayOpen", Level::Inside, "5s"),
    ("sendHoldTime", Level::Inside, "8m"),
    ("sourceAddress", Level::Inside, "172.30.1.11"),
    ("ttlSecurity", Level::Inside, "1"),
    ("ebgpMultihop", Level::Inside, "2"),
    ("families", Level::Inside, "[ipv4, ipv6]"),
    ("nodeSelector", Level::Inside, "{matchLabels: {rack: r1}}"),
    ("matchLabels", Level::Inside, "{rack: r1}"),
    ("matchExpressions", Level::Inside, "[{key: rack, operator: In, values: [r1, r2]}]"),
    ("key", Level::Inside, "rack"),
    ("operator", Level::Inside, "In"),
    ("values", Level::Inside, "[r1, r2]"),
    ("addresses", Level::Inside, "[198.51.100.0/24, 203.0.113.10-203.0.113.20]"),
    ("pools", Level::Inside, "[edge]"),
    ("peers", Level::Inside, "[tor-a]"),
    ("communities", Level::Inside, "[\"64512:100\", no-export]"),
    ("localPreference", Level::Inside, "200"),
    ("med", Level::Inside, "100"),
    ("prepend", Level::Inside, "2"),
    ("linkBandwidth", Level::Inside, "10Gbit/s"),
    ("announceWithoutEndpoints", Level::Inside, "true"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_like_a_password_is_not_shown_either() {
        for key in
            ["passwort", "Password", "pasword", "passwd", "md5Password", "authPassword", "secret", "tcp-md5", "psk"]
        {
            for text in [
                format!("- name: a\n  {key}: hunter2"),
                format!("- {{name: a, {key}: hunter2}}"),
                format!("- {{name: a, \"{key}\" : hunter2}}"),
                format!("- {key}:\n    hunter2\n  asn: 1"),
                format!("- {key}: one\n    hunter2\n\n    hunter2\n  asn: 1"),
                format!("- {{{key}:\n hunter2, asn: 1}}"),
            ] {
                let shown = masked(&text);
                assert!(!shown.contains("hunter2"), "{shown}");
                assert_eq!((shown.len(), shown.chars().count()), (text.len(), text.chars().count()));
                assert_eq!(shown.contains("asn: 1"), text.contains("asn: 1"), "{shown}");
            }
        }
        for text in ["passive: true", "key: rack", "- address: 10.0.0.1", "secretFile: /a", "a:b:c", ":"] {
            assert_eq!(masked(text), text);
        }
    }

    #[test]
    fn a_key_with_nothing_behind_it_is_found_where_it_stands() {
        let count = |text: &str| valueless(text).len();
        for text in [
            "password:\n",
            "- password: # to come\n",
            "peers:\n# none\npools: []\n",
            "- {password: , asn: 1}",
            "asn: ~",
            "{asn: null}",
        ] {
            assert_eq!(count(text), 1, "{text}");
        }
        for text in [
            "peers:\n- name: a\n",
            "peers:\n\n  # one\n  - name: a\n",
            "password: null1",
            "rack:\n",
            "# password:\n",
            "addresses:\n  [a]\n",
        ] {
            assert_eq!(count(text), 0, "{text}");
        }
    }

    #[test]
    fn no_report_shows_a_password() {
        for (text, shown) in [
            ("- name: a\n  password: hunter2, too\n  asn: 1", "- name: a\n  password: ************\n  asn: 1"),
            ("- {name: a, password: hunter2, asn: 1}", "- {name: a, password: *******, asn: 1}"),
            ("{password: 'a, b}', asn: 1}", "{password: *******, asn: 1}"),
            ("{\"password\": \"x\"}", "{\"password\": ***}"),
            ("  password: |\n    deep\n\n    secret\n  asn: 1", "  password: *\n********\n\n**********\n  asn: 1"),
            ("passwordFile: /etc/key", "passwordFile: /etc/key"),
            ("password: größe", "password: **××*"),
            ("password: \"never closed\nasn: 1", "password: *************\n******"),
        ] {
            assert_eq!(masked(text), shown);
            assert_eq!((shown.len(), shown.chars().count()), (text.len(), text.chars().count()));
        }
    }
}
