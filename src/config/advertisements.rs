//! Which pools go to which peers, from which nodes, how.

use super::error::{Finding, Place};
use super::names::Names;
use super::raw;
use super::selector;
use super::values::number;
use crate::advertise::Advertisement;
use crate::advertise::policy::{EndpointRule, Scope};
use crate::rib::Attributes;
use crate::wire::{Community, LargeCommunity};
use serde_saphyr::Spanned;
use std::collections::BTreeSet;

/// The advertisements, in the order of the file.
pub fn resolve(
    raw: &raw::List<raw::Advertisement>,
    pools: &Names,
    peers: &Names,
    out: &mut Vec<Finding>,
) -> Vec<Advertisement> {
    let mut names = Names::new("advertisement", "advertisements");
    raw.iter().flatten().filter_map(|object| advertisement(object, &mut names, pools, peers, out)).collect()
}

fn advertisement(
    object: &Spanned<raw::Advertisement>,
    names: &mut Names,
    pools: &Names,
    peers: &Names,
    out: &mut Vec<Finding>,
) -> Option<Advertisement> {
    let raw = &object.value;
    let name = names.give(Place::of(object), raw.name.as_ref(), out);
    let place = raw.name.as_ref().map_or(Place::of(object), Place::of);
    for (key, list) in [("pools", &raw.pools), ("peers", &raw.peers)] {
        if list.as_ref().is_some_and(Vec::is_empty) {
            let help = format!("leave '{key}' out for all of them, or name at least one");
            out.push(Finding::error(place, format!("this advertisement names no {key}")).help(help));
        }
    }
    let scope = if raw.pools.is_some() { Scope::Named } else { Scope::Every };
    let pools = pools.chosen(&raw.pools, out);
    let peers = peers.chosen(&raw.peers, out);
    let nodes = selector::resolve(raw.node_selector.as_ref(), out);
    let (communities, large_communities) = communities(&raw.communities, out);
    let local_pref = raw.local_preference.as_ref();
    let local_pref = local_pref.map(|value| number("localPreference", value, 0..=i64::from(u32::MAX), out));
    let endpoints = match raw.announce_without_endpoints.as_ref().is_some_and(|value| value.value) {
        true => EndpointRule::NotRequired,
        false => EndpointRule::Required,
    };
    let attributes =
        Attributes { local_pref: local_pref.flatten(), communities, large_communities, ..Attributes::default() };
    Some(Advertisement { name: name?, pools, scope, peers, nodes, attributes, endpoints })
}

/// Ascending and without duplicates.
fn communities(raw: &raw::List<String>, out: &mut Vec<Finding>) -> (Vec<Community>, Vec<LargeCommunity>) {
    let (mut standard, mut large) = (BTreeSet::new(), BTreeSet::new());
    for text in raw.iter().flatten() {
        let parts: Vec<&str> = text.value.split(':').collect();
        match parts.as_slice() {
            [_, _, _] => match text.value.parse::<LargeCommunity>() {
                Ok(community) => drop(large.insert(community)),
                Err(_) => out.push(
                    not_a_community(text)
                        .help("a large community is three numbers, each at most 4294967295, such as 64512:1:2"),
                ),
            },
            _ => match text.value.parse::<Community>() {
                Ok(community) => {
                    warn_of_meaning(text, community, out);
                    standard.insert(community);
                }
                Err(_) => out.push(not_a_community(text).help(hint(&parts))),
            },
        }
    }
    (standard.into_iter().collect(), large.into_iter().collect())
}

fn not_a_community(text: &Spanned<String>) -> Finding {
    Finding::error(Place::of(text), format!("{:?} is no community", text.value))
}

fn hint(parts: &[&str]) -> String {
    match parts {
        [high, low] if high.parse::<u32>().is_ok() && low.parse::<u32>().is_ok() => {
            format!("both parts are at most 65535; a 4-octet AS needs a large community, such as {high}:{low}:0")
        }
        [word] if word.parse::<f64>().is_err() => {
            let known =
                ["no-export", "no-advertise", "no-export-subconfed", "no-peer", "graceful-shutdown", "blackhole"];
            match super::names::nearest(word, known) {
                Some(near) => format!("write {near}"),
                None => format!("write AS:VALUE, GLOBAL:LOCAL1:LOCAL2, or one of {}", known.join(", ")),
            }
        }
        _ => "write AS:VALUE such as 64512:100, or GLOBAL:LOCAL1:LOCAL2 such as 64512:1:2".to_owned(),
    }
}

fn warn_of_meaning(text: &Spanned<String>, community: Community, out: &mut Vec<Finding>) {
    let meaning = match community.to_string().as_str() {
        "blackhole" => "asks routers to drop all traffic to these services (RFC 7999)",
        "graceful-shutdown" => "asks routers to use these routes last, as before maintenance (RFC 8326)",
        _ => return,
    };
    let title = format!("the community {:?} {meaning}", text.value);
    out.push(Finding::warning(Place::of(text), title).help("remove it unless that is wanted"));
}
