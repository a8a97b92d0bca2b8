//! Communities as they are written: standard, large and extended ones in one list.

use super::error::{Finding, Place};
use super::names::nearest;
use super::raw;
use crate::wire::{Bandwidth, Community, ExtendedCommunity, LargeCommunity};
use serde_saphyr::Spanned;
use std::collections::BTreeSet;

/// The communities of one list, each kind ascending and without duplicates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Communities {
    /// Two numbers, or a well-known name (RFC 1997).
    pub standard: BTreeSet<Community>,
    /// A word and two parts, or sixteen digits behind `0x` (RFC 4360).
    pub extended: BTreeSet<ExtendedCommunity>,
    /// Three numbers (RFC 8092).
    pub large: BTreeSet<LargeCommunity>,
}

/// The first words of extended communities.
const WORDS: [&str; 4] = ["rt", "ro", "link-bandwidth", "link-bandwidth-non-transitive"];

/// Reads a list; what is no community is reported.
pub fn resolve(raw: &raw::List<String>, out: &mut Vec<Finding>) -> Communities {
    let mut read = Communities::default();
    for text in raw.iter().flatten() {
        if is_extended(&text.value) {
            match text.value.parse::<ExtendedCommunity>() {
                Ok(community) => {
                    warn_of_zero(text, community, out);
                    read.extended.insert(community);
                }
                Err(_) => out.push(not_a_community(text).help(hint_extended(&text.value))),
            }
        } else if text.value.matches(':').count() == 2 {
            match text.value.parse::<LargeCommunity>() {
                Ok(community) => drop(read.large.insert(community)),
                Err(_) => out.push(
                    not_a_community(text)
                        .help("a large community is three numbers, each at most 4294967295, such as 64512:1:2"),
                ),
            }
        } else {
            match text.value.parse::<Community>() {
                Ok(community) => {
                    warn_of_meaning(text, community, out);
                    read.standard.insert(community);
                }
                Err(_) => out.push(not_a_community(text).help(hint(&text.value))),
            }
        }
    }
    read
}

/// A word before the first colon, or octets: no other kind of community begins so.
fn is_extended(text: &str) -> bool {
    text.starts_with("0x")
        || text.split_once(':').is_some_and(|(word, _)| word.starts_with(|c: char| c.is_alphabetic()))
}

fn not_a_community(text: &Spanned<String>) -> Finding {
    Finding::error(Place::of(text), format!("{:?} is no community", text.value))
}

fn hint_extended(text: &str) -> String {
    let word = text.split(':').next().unwrap_or_default();
    if text.starts_with("0x") {
        return "octets are sixteen hexadecimal digits behind 0x, such as 0x0002fc0000000064".to_owned();
    }
    if let (false, Some(near)) = (WORDS.contains(&word), nearest(word, WORDS)) {
        return format!("write {near}");
    }
    match word {
        "rt" | "ro" => format!(
            "write {word}:AS:NUMBER or {word}:IPV4-ADDRESS:NUMBER; NUMBER is at most 65535 behind an address or an AS above 65535"
        ),
        "link-bandwidth" | "link-bandwidth-non-transitive" => {
            format!("write {word}:AS:BYTES-PER-SECOND such as {word}:64512:125000000, or use the key 'linkBandwidth'")
        }
        _ => format!("an extended community begins with one of {}, or is 0x and 16 digits", WORDS.join(", ")),
    }
}

fn hint(text: &str) -> String {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [high, low] if high.parse::<u32>().is_ok() && low.parse::<u32>().is_ok() => {
            format!("both parts are at most 65535; a 4-octet AS needs a large community, such as {high}:{low}:0")
        }
        [word] if word.parse::<f64>().is_err() => match nearest(word, Community::names()) {
            Some(near) => format!("write {near}"),
            None => {
                let known: Vec<_> = Community::names().collect();
                format!("write AS:VALUE, GLOBAL:LOCAL1:LOCAL2, rt:AS:NUMBER, or one of {}", known.join(", "))
            }
        },
        _ => "write AS:VALUE such as 64512:100, or GLOBAL:LOCAL1:LOCAL2 such as 64512:1:2".to_owned(),
    }
}

fn warn_of_meaning(text: &Spanned<String>, community: Community, out: &mut Vec<Finding>) {
    let (meaning, help) = match community.to_string().as_str() {
        "blackhole" => {
            ("asks routers to drop all traffic to these services (RFC 7999)", "remove it unless that is wanted")
        }
        "graceful-shutdown" => (
            "asks routers to use these routes last, as before maintenance (RFC 8326)",
            "remove it unless that is wanted",
        ),
        "no-advertise" => (
            "keeps routes on the router that hears them: nobody behind it learns the address (RFC 1997)",
            "write no-export to keep them inside the router's AS",
        ),
        "llgr-stale" => (
            "calls these routes stale: routers use them last, or not at all (RFC 9494 §4.3)",
            "remove it unless that is wanted",
        ),
        _ => return,
    };
    out.push(Finding::warning(Place::of(text), format!("the community {:?} {meaning}", text.value)).help(help));
}

fn warn_of_zero(text: &Spanned<String>, community: ExtendedCommunity, out: &mut Vec<Finding>) {
    if community.bandwidth() == Bandwidth::new(0.0) {
        let title = format!("{:?} says that the link carries nothing", text.value);
        let help = "what routers make of that is theirs to choose (RFC 10005 §3.2); announce nothing instead";
        out.push(Finding::warning(Place::of(text), title).help(help));
    }
}
