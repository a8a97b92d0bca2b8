//! What the operator wants announced. `config` fills these types.

use super::cluster::Node;
use crate::rib::Attributes;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// The `loadBalancerClass` that is ours.
pub const LOAD_BALANCER_CLASS: &str = "herald.bgp/speaker";

/// The label that keeps a node from taking load-balancer traffic.
pub const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Everything that decides what is announced, beside the cluster itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Peers by name.
    pub peers: BTreeMap<Arc<str>, NodeSelector>,
    /// Pools by name; no two overlap.
    pub pools: BTreeMap<Arc<str>, Pool>,
    /// Advertisements, in the order of the file. Where several match one address and peer, their communities are joined,
    /// and of each other attribute the value that a router prefers is sent.
    pub advertisements: Vec<Advertisement>,
    /// Whether a Service without `loadBalancerClass` is ours.
    pub classless: Classless,
    /// What the exclude label does.
    pub exclude_label: ExcludeLabel,
    /// The addresses of the routers themselves: no service can have one.
    pub peer_addresses: BTreeSet<IpAddr>,
}

/// `services.classless`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Classless {
    /// Announce services that name no class.
    #[default]
    Announce,
    /// Leave them to others.
    Ignore,
}

/// `ignoreExcludeLabel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExcludeLabel {
    /// A node with [`EXCLUDE_LABEL`] announces nothing.
    #[default]
    Honour,
    /// For single-node control planes, which carry the label from their first day.
    Ignore,
}

/// Addresses that may be announced: disjoint inclusive ranges of one family each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pool {
    /// First and last address of each range, ascending.
    pub ranges: Vec<(IpAddr, IpAddr)>,
    /// What becomes of addresses in it that are a Node's.
    pub node_addresses: NodeAddresses,
}

/// `announceNodeAddresses` of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NodeAddresses {
    /// A status that shows a Node's address moves no traffic: routers reach the node by a route that is better than ours.
    #[default]
    Never,
    /// The operator wants it all the same.
    Announced,
}

impl Pool {
    /// Whether an address lies in the pool.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.ranges
            .iter()
            .any(|(first, last)| first.is_ipv4() == address.is_ipv4() && *first <= address && address <= *last)
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(first: u16, rest: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(first, rest, rest, rest, rest, rest, rest, rest))
}

/// Ranges that no router may ever learn from us, whatever a pool says: a service address in one of them either never
/// leaves a host or a link, or is no unicast address.
const NEVER_ANNOUNCED: &[(IpAddr, IpAddr, &str)] = &[
    (v4(0, 0, 0, 0), v4(0, 255, 255, 255), "0.0.0.0/8 (this network)"),
    (v4(127, 0, 0, 0), v4(127, 255, 255, 255), "127.0.0.0/8 (loopback)"),
    (v4(169, 254, 0, 0), v4(169, 254, 255, 255), "169.254.0.0/16 (link-local)"),
    (v4(224, 0, 0, 0), v4(239, 255, 255, 255), "224.0.0.0/4 (multicast)"),
    (v4(255, 255, 255, 255), v4(255, 255, 255, 255), "255.255.255.255 (broadcast)"),
    (v6(0, 0), IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 1)), "::/127 (unspecified and loopback)"),
    (
        IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0)),
        IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0xffff, 0xffff)),
        "::ffff:0:0/96 (IPv4-mapped)",
    ),
    (v6(0xfe80, 0), v6(0xfebf, 0xffff), "fe80::/10 (link-local)"),
    (v6(0xff00, 0), v6(0xffff, 0xffff), "ff00::/8 (multicast)"),
];

/// The range that must never be announced and that `first..=last` touches, if any. `first` and `last` are of one family.
pub fn never_announced(first: IpAddr, last: IpAddr) -> Option<&'static str> {
    // IpAddr orders all of IPv4 before all of IPv6, so ranges of different families never touch.
    NEVER_ANNOUNCED.iter().find(|(low, high, _)| first <= *high && *low <= last).map(|(_, _, name)| *name)
}

/// Which pools go to which peers, from which nodes, how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertisement {
    /// Its name.
    pub name: Arc<str>,
    /// Pool names; all pools where the file names none.
    pub pools: BTreeSet<Arc<str>>,
    /// Whether it also covers pools that the file has no longer.
    pub scope: Scope,
    /// Peer names; all peers where the file names none.
    pub peers: BTreeSet<Arc<str>>,
    /// The nodes that announce.
    pub nodes: NodeSelector,
    /// What the routes carry.
    pub attributes: Attributes,
    /// Whether a route needs a servable endpoint.
    pub endpoints: EndpointRule,
}

/// Which pools an advertisement covers beyond those that the file has. What was given from a pool that is gone is retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// Only those it names.
    #[default]
    Named,
    /// It names none: all there are, and all there were.
    Every,
}

/// `announceWithoutEndpoints`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EndpointRule {
    /// A route needs a servable endpoint.
    #[default]
    Required,
    /// With policy `Cluster`, announce whatever the endpoints do.
    NotRequired,
}

/// A label selector as Kubernetes defines it: all requirements hold. Empty selects every node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeSelector {
    /// The requirements.
    pub requirements: Vec<Requirement>,
}

/// One requirement on a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// The label has one of the values (`matchLabels` is this with one value).
    In(String, BTreeSet<String>),
    /// The label is absent or has none of the values.
    NotIn(String, BTreeSet<String>),
    /// The label is present.
    Exists(String),
    /// The label is absent.
    DoesNotExist(String),
}

impl Requirement {
    /// The label that it is about.
    pub fn key(&self) -> &str {
        match self {
            Requirement::In(key, _)
            | Requirement::NotIn(key, _)
            | Requirement::Exists(key)
            | Requirement::DoesNotExist(key) => key,
        }
    }
}

impl NodeSelector {
    /// Whether a node has what the selector asks.
    pub fn matches(&self, node: &Node) -> bool {
        self.requirements.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => node.labels.get(key).is_some_and(|value| values.contains(value)),
            Requirement::NotIn(key, values) => node.labels.get(key).is_none_or(|value| !values.contains(value)),
            Requirement::Exists(key) => node.labels.contains_key(key),
            Requirement::DoesNotExist(key) => !node.labels.contains_key(key),
        })
    }
}

/// Whether requirements can hold together. `Err` names a label that would have to be two things at once.
///
/// Exact, because a label may have any value: a contradiction exists only where one label is asked for and forbidden,
/// or where the values allowed have nothing left in common.
///
/// # Errors
/// The label's key.
pub fn satisfiable<'a>(requirements: impl IntoIterator<Item = &'a Requirement>) -> Result<(), &'a str> {
    let mut by_key: BTreeMap<&str, Vec<&Requirement>> = BTreeMap::new();
    for requirement in requirements {
        by_key.entry(requirement.key()).or_default().push(requirement);
    }
    match by_key.into_iter().find(|(_, about)| is_contradiction(about)) {
        Some((key, _)) => Err(key),
        None => Ok(()),
    }
}

/// Whether requirements on one label exclude one another.
fn is_contradiction(about: &[&Requirement]) -> bool {
    let absent = about.iter().any(|requirement| matches!(requirement, Requirement::DoesNotExist(_)));
    let present = about.iter().any(|r| matches!(r, Requirement::Exists(_) | Requirement::In(_, _)));
    let allowed = about.iter().filter_map(|requirement| match requirement {
        Requirement::In(_, values) => Some(values),
        Requirement::NotIn(_, _) | Requirement::Exists(_) | Requirement::DoesNotExist(_) => None,
    });
    let refused = |value: &String| {
        about.iter().any(|requirement| match requirement {
            Requirement::In(_, values) => !values.contains(value),
            Requirement::NotIn(_, values) => values.contains(value),
            Requirement::Exists(_) | Requirement::DoesNotExist(_) => false,
        })
    };
    (absent && present) || allowed.into_iter().next().is_some_and(|values| values.iter().all(refused))
}

impl NodeSelector {
    /// Whether no node can match both selectors: proven from the selectors alone.
    pub fn is_disjoint(&self, other: &NodeSelector) -> bool {
        // Two requirements usually settle it; a file with a thousand peers asks this half a million times.
        let pairs = self.requirements.iter().flat_map(|a| other.requirements.iter().map(move |b| [a, b]));
        pairs.filter(|[a, b]| a.key() == b.key()).any(|pair| is_contradiction(&pair))
            || satisfiable(self.requirements.iter().chain(&other.requirements)).is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> BTreeSet<String> {
        text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    /// All requirements on one label with values from {a, b}.
    fn requirements() -> Vec<Requirement> {
        let values = ["a", "b", "a b"].map(words);
        let r#in = values.iter().map(|values| Requirement::In("k".to_owned(), values.clone()));
        let not_in = values.iter().map(|values| Requirement::NotIn("k".to_owned(), values.clone()));
        let rest = [Requirement::Exists("k".to_owned()), Requirement::DoesNotExist("k".to_owned())];
        r#in.chain(not_in).chain(rest).collect()
    }

    #[test]
    fn requirements_are_satisfiable_exactly_where_a_node_satisfies_them() {
        // A label that is absent, or has a value named in a requirement, or another one: no other case differs.
        let nodes = [None, Some("a"), Some("b"), Some("other")].map(|value| Node {
            labels: value.map(|value| ("k".to_owned(), value.to_owned())).into_iter().collect(),
            ..Node::default()
        });
        let all = requirements();
        let mut impossible = 0;
        for x in &all {
            for y in &all {
                for z in &all {
                    let selector = NodeSelector { requirements: vec![x.clone(), y.clone(), z.clone()] };
                    let possible = nodes.iter().any(|node| selector.matches(node));
                    assert_eq!(satisfiable(&selector.requirements).is_ok(), possible, "{selector:?}");
                    impossible += usize::from(!possible);
                }
            }
        }
        assert!(impossible > 100, "{impossible}");
    }

    #[test]
    fn labels_do_not_mix() {
        let one = |key: &str, value: &str| Requirement::In(key.to_owned(), words(value));
        let selector = |requirements| NodeSelector { requirements };
        assert!(!selector(vec![one("k", "a")]).is_disjoint(&selector(vec![one("l", "b")])));
        assert!(selector(vec![one("k", "a"), one("l", "a")]).is_disjoint(&selector(vec![one("l", "b")])));
        assert!(!NodeSelector::default().is_disjoint(&NodeSelector::default()));
    }

    /// Policy names the range to people and the way out of a session is the last line behind it: neither may forget one.
    #[test]
    fn what_is_never_announced_is_also_barred_on_its_way_out() {
        for (first, last, name) in NEVER_ANNOUNCED {
            for address in [first, last] {
                assert!(crate::rib::Barred::of(&crate::wire::Prefix::host(*address)).is_some(), "{address} of {name}");
            }
        }
    }

    #[test]
    fn what_touches_a_forbidden_range_is_named() {
        let range = |first: &str, last: &str| never_announced(first.parse().unwrap(), last.parse().unwrap());
        for (first, last, forbidden) in [
            ("0.0.0.0", "255.255.255.255", true),
            ("0.255.255.255", "1.0.0.0", true),
            ("1.0.0.0", "126.255.255.255", false),
            ("128.0.0.0", "169.253.255.255", false),
            ("169.255.0.0", "223.255.255.255", false),
            ("223.255.255.255", "224.0.0.0", true),
            ("240.0.0.0", "255.255.255.254", false),
            ("255.255.255.255", "255.255.255.255", true),
            ("::", "::", true),
            ("::1", "::1", true),
            ("::2", "::fffe:ffff:ffff", false),
            ("::ffff:0.0.0.0", "::ffff:0.0.0.0", true),
            ("::1:0:0:0", "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false),
            ("fe80::", "fe80::", true),
            ("febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fec0::", true),
            ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false),
            ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true),
        ] {
            assert_eq!(range(first, last).is_some(), forbidden, "{first}-{last}");
        }
    }
}
