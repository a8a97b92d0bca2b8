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
    /// Advertisements, in the order of the file. Where several match one address and peer, their communities are joined
    /// and the highest local preference wins.
    pub advertisements: Vec<Advertisement>,
    /// Whether a Service without `loadBalancerClass` is ours.
    pub classless: Classless,
    /// What the exclude label does.
    pub exclude_label: ExcludeLabel,
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
    /// Peer names; all peers where the file names none.
    pub peers: BTreeSet<Arc<str>>,
    /// The nodes that announce.
    pub nodes: NodeSelector,
    /// What the routes carry.
    pub attributes: Attributes,
    /// Whether a route needs a servable endpoint.
    pub endpoints: EndpointRule,
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
    #[derive(Default)]
    struct Demand<'a> {
        allowed: Option<BTreeSet<&'a str>>,
        refused: BTreeSet<&'a str>,
        present: Option<bool>,
    }
    let mut demands: BTreeMap<&str, Demand<'_>> = BTreeMap::new();
    for requirement in requirements {
        let (key, wanted) = match requirement {
            Requirement::In(key, _) | Requirement::Exists(key) => (key.as_str(), Some(true)),
            Requirement::DoesNotExist(key) => (key.as_str(), Some(false)),
            Requirement::NotIn(key, _) => (key.as_str(), None),
        };
        let demand = demands.entry(key).or_default();
        if wanted.is_some_and(|wanted| demand.present.is_some_and(|present| present != wanted)) {
            return Err(key);
        }
        demand.present = wanted.or(demand.present);
        match requirement {
            Requirement::In(_, values) => {
                let values: BTreeSet<&str> = values.iter().map(String::as_str).collect();
                demand.allowed = Some(match demand.allowed.take() {
                    Some(before) => before.intersection(&values).copied().collect(),
                    None => values,
                });
            }
            Requirement::NotIn(_, values) => demand.refused.extend(values.iter().map(String::as_str)),
            Requirement::Exists(_) | Requirement::DoesNotExist(_) => {}
        }
    }
    match demands.into_iter().find(|(_, d)| d.allowed.as_ref().is_some_and(|a| a.is_subset(&d.refused))) {
        Some((key, _)) => Err(key),
        None => Ok(()),
    }
}

impl NodeSelector {
    /// Whether no node can match both selectors: proven from the selectors alone.
    pub fn is_disjoint(&self, other: &NodeSelector) -> bool {
        satisfiable(self.requirements.iter().chain(&other.requirements)).is_err()
    }
}
