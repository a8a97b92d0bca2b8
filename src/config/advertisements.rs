//! Which pools go to which peers, from which nodes, how.

use super::communities;
use super::error::{Finding, Place};
use super::names::Names;
use super::raw;
use super::selector;
use super::values::{number, rate};
use crate::advertise::Advertisement;
use crate::advertise::policy::{EndpointRule, Scope};
use crate::rib::Attributes;
use serde_saphyr::Spanned;

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
    let endpoints = match raw.announce_without_endpoints.as_ref().is_some_and(|value| value.value) {
        true => EndpointRule::NotRequired,
        false => EndpointRule::Required,
    };
    let attributes = attributes(raw, out);
    Some(Advertisement { name: name?, pools, scope, peers, nodes, attributes, endpoints })
}

/// What the routes carry. A value that was refused is absent, and its error keeps all of it from being used.
fn attributes(raw: &raw::Advertisement, out: &mut Vec<Finding>) -> Attributes {
    let communities = communities::resolve(&raw.communities, out);
    let mut number32 = |what: &str, value: &Option<Spanned<i64>>| {
        value.as_ref().and_then(|value| number(what, value, 0..=i64::from(u32::MAX), out))
    };
    let local_pref = number32("localPreference", &raw.local_preference);
    let med = number32("med", &raw.med);
    let most = i64::from(Attributes::PREPEND_MAX);
    let prepend = raw.prepend.as_ref().and_then(|value| number("prepend", value, 0..=most, out));
    let link_bandwidth = raw.link_bandwidth.as_ref().and_then(|value| rate("linkBandwidth", value, out));
    Attributes {
        med,
        local_pref,
        communities: communities.standard.into_iter().collect(),
        extended_communities: communities.extended.into_iter().collect(),
        large_communities: communities.large.into_iter().collect(),
        link_bandwidth,
        prepend,
        ..Attributes::default()
    }
}
