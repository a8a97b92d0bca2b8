//! What the operator wants announced. `config` fills these types.

use super::cluster::Node;
use crate::rib::Attributes;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
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
