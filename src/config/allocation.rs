//! Who may have which address: what the allocator reads.

use super::error::{Finding, Place};
use super::peers::PeerConfig;
use super::pools::range;
use super::raw;
use super::selector;
use super::transport::Reach;
use super::values::{duration, number};
use crate::advertise;
use crate::ipam::{Admission, AutoAssign, Edges, Intake, Pool, Quota, Quotas, SharingScope};
use serde_saphyr::Spanned;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long an address rests where the file does not say: long enough for caches of names to forget it.
const COOL_DOWN: Duration = Duration::from_secs(60);

/// The longest rest, a week.
const LONGEST_COOL_DOWN: u64 = 7 * 24 * 3600;

/// Who may have which address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allocation {
    /// The pools, by name.
    pub pools: Vec<Pool>,
    /// How many addresses a namespace may hold.
    pub quotas: Quotas,
    /// The addresses of the routers themselves: never given.
    pub peer_addresses: BTreeSet<IpAddr>,
}

/// What the file says about giving; `pools` are those of its pools that have a name, with their ranges.
pub fn resolve(
    raw: &raw::File,
    pools: &BTreeMap<Arc<str>, advertise::Pool>,
    peers: &BTreeMap<Arc<str>, PeerConfig>,
    out: &mut Vec<Finding>,
) -> Allocation {
    let mut resolved: BTreeMap<Arc<str>, Pool> = BTreeMap::new();
    for object in raw.pools.iter().flatten() {
        let named = object.value.name.as_ref().and_then(|name| pools.get_key_value(name.value.as_str()));
        let ranges = named.map(|(_, pool)| pool.ranges.as_slice()).unwrap_or_default();
        let terms = pool(&object.value, ranges, out);
        if let Some((name, _)) = named {
            resolved.insert(Arc::clone(name), Pool { name: Arc::clone(name), ..terms });
        }
    }
    let peer_addresses = peers.values().filter(|peer| peer.reach == Reach::One).map(|peer| peer.neighbor.address);
    Allocation {
        pools: resolved.into_values().collect(),
        quotas: quotas(raw.quotas.as_ref(), out),
        peer_addresses: peer_addresses.collect(),
    }
}

fn pool(raw: &raw::Pool, ranges: &[(IpAddr, IpAddr)], out: &mut Vec<Finding>) -> Pool {
    let is = |value: &Option<Spanned<bool>>| value.as_ref().is_some_and(|value| value.value);
    let priority = raw.priority.as_ref();
    let priority = priority.and_then(|value| number("priority", value, 0..=i64::from(u32::MAX) - 1, out));
    let cool_down = raw.cool_down.as_ref();
    let cool_down = cool_down.and_then(|value| duration("coolDown", value, 0..=LONGEST_COOL_DOWN, out));
    Pool {
        priority: priority.unwrap_or(u32::MAX),
        kept_out: kept_out(raw, ranges, out),
        edges: if is(&raw.exclude_zero_and255) { Edges::KeptOut } else { Edges::Given },
        auto_assign: match raw.auto_assign.as_ref().is_none_or(|value| value.value) {
            true => AutoAssign::Yes,
            false => AutoAssign::OnRequest,
        },
        intake: if is(&raw.draining) { Intake::Draining } else { Intake::Open },
        admission: admission(raw, out),
        sharing: if is(&raw.share_across_namespaces) { SharingScope::Cluster } else { SharingScope::Namespace },
        cool_down: cool_down.unwrap_or(COOL_DOWN),
        ..Pool::new("", ranges.to_vec())
    }
}

/// `exclude`. What lies in no range of the pool was probably meant for another one.
fn kept_out(raw: &raw::Pool, ranges: &[(IpAddr, IpAddr)], out: &mut Vec<Finding>) -> Vec<(IpAddr, IpAddr)> {
    let mut kept_out = Vec::new();
    for text in raw.exclude.iter().flatten() {
        let Some((first, last)) = range(text, out) else { continue };
        if !ranges.is_empty() && !ranges.iter().any(|(low, high)| first <= *high && *low <= last) {
            let title = format!("{} is not in this pool, so excluding it changes nothing", text.value);
            let help = "name addresses of this pool, or remove the entry";
            out.push(Finding::warning(Place::of(text), title).help(help));
        }
        kept_out.push((first, last));
    }
    kept_out
}

fn admission(raw: &raw::Pool, out: &mut Vec<Finding>) -> Admission {
    if raw.namespaces.as_ref().is_some_and(Vec::is_empty) {
        let place = raw.name.as_ref().map(Place::of).unwrap_or_default();
        let help = "leave 'namespaces' out for all of them, or name at least one";
        out.push(Finding::error(place, "this pool names no namespaces").help(help));
    }
    let mut namespaces: BTreeSet<Arc<str>> = BTreeSet::new();
    for name in raw.namespaces.iter().flatten() {
        check_namespace(Place::of(name), &name.value, out);
        if !namespaces.insert(name.value.as_str().into()) {
            let title = format!("namespace {:?} is named twice in this list", name.value);
            out.push(Finding::warning(Place::of(name), title).help("once is enough"));
        }
    }
    let by_label = |raw: &Option<raw::Selector>, what: &str, out: &mut Vec<Finding>| {
        raw.iter().map(|raw| selector::of_labels(raw, what, out)).collect()
    };
    Admission {
        namespaces,
        namespace_selectors: by_label(&raw.namespace_selector, "namespace", out),
        service_selectors: by_label(&raw.service_selector, "service", out),
    }
}

fn quotas(raw: Option<&raw::Quotas>, out: &mut Vec<Finding>) -> Quotas {
    let Some(raw) = raw else { return Quotas::default() };
    let mut limit = |what: &str, value: &Spanned<i64>| {
        number(what, value, 0..=i64::from(u32::MAX), out).map_or(Quota::Unlimited, Quota::Addresses)
    };
    let default = raw.default.as_ref().map_or(Quota::Unlimited, |value| limit("default", value));
    let by_namespace = raw.by_namespace.iter().flatten();
    let namespaces = by_namespace.clone().map(|(name, value)| (name.as_str().into(), limit(name, value))).collect();
    for (name, value) in by_namespace {
        check_namespace(Place::of(value), name, out);
    }
    Quotas { default, namespaces }
}

/// Kubernetes names namespaces as RFC 1123 names hosts.
fn check_namespace(place: Place, name: &str, out: &mut Vec<Finding>) {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 63 || !name.chars().all(fits) {
        let help = "use 1 to 63 lower-case letters, digits and '-'";
        out.push(Finding::error(place, format!("{name:?} is no name of a namespace")).help(help));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn read(pool: &str, more: &str) -> Allocation {
        let text = format!("asn: 64512\npools: [{{name: a, addresses: [198.51.100.0/24]{pool}}}]\n{more}");
        let config = Config::parse("test.yaml", &text).unwrap_or_else(|found| panic!("{found}")).0;
        Allocation::clone(&config.allocation)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_pool_that_says_nothing_serves_everybody_last() {
        let read = read("", "");
        let ranges = vec![(ip("198.51.100.0"), ip("198.51.100.255"))];
        let expected = Pool { cool_down: COOL_DOWN, ..Pool::new("a", ranges) };
        assert_eq!(
            read,
            Allocation { pools: vec![expected], quotas: Quotas::default(), peer_addresses: BTreeSet::new() }
        );
    }

    #[test]
    fn each_key_says_one_thing() {
        let plain = read("", "").pools.remove(0);
        let one = |key: &str| read(&format!(", {key}"), "").pools.remove(0);
        assert_eq!(one("autoAssign: true"), plain);
        assert_eq!(one("autoAssign: false"), Pool { auto_assign: AutoAssign::OnRequest, ..plain.clone() });
        assert_eq!(one("draining: true"), Pool { intake: Intake::Draining, ..plain.clone() });
        assert_eq!(one("excludeZeroAnd255: true"), Pool { edges: Edges::KeptOut, ..plain.clone() });
        assert_eq!(one("shareAcrossNamespaces: true"), Pool { sharing: SharingScope::Cluster, ..plain.clone() });
        assert_eq!(one("priority: 0"), Pool { priority: 0, ..plain.clone() });
        assert_eq!(one("coolDown: 0"), Pool { cool_down: Duration::ZERO, ..plain.clone() });
        assert_eq!(one("coolDown: 1h"), Pool { cool_down: Duration::from_secs(3600), ..plain.clone() });
        let kept_out = vec![(ip("198.51.100.1"), ip("198.51.100.1")), (ip("198.51.100.8"), ip("198.51.100.15"))];
        assert_eq!(one("exclude: [198.51.100.1, 198.51.100.8/29]"), Pool { kept_out, ..plain.clone() });
        let admission = Admission { namespaces: BTreeSet::from(["web".into()]), ..Admission::default() };
        assert_eq!(one("namespaces: [web]"), Pool { admission, ..plain.clone() });
        let selector = one("namespaceSelector: {matchLabels: {tier: edge}}").admission;
        assert_eq!((selector.namespace_selectors.len(), selector.service_selectors.len()), (1, 0));
        let selector = one("serviceSelector: {matchLabels: {tier: edge}}").admission;
        assert_eq!((selector.namespace_selectors.len(), selector.service_selectors.len()), (0, 1));
    }

    #[test]
    fn quotas_by_name_and_for_the_rest() {
        let quotas = read("", "quotas: {default: 3, byNamespace: {web: 0}}").quotas;
        assert_eq!((quotas.of("web"), quotas.of("other")), (Quota::Addresses(0), Quota::Addresses(3)));
        assert_eq!(read("", "quotas: {byNamespace: {web: 0}}").quotas.of("other"), Quota::Unlimited);
    }
}
