//! The cluster as plain data: the little of it that decides what is announced.

use crate::wire::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// A node's name.
pub type NodeName = Arc<str>;

/// Namespace and name of a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// `spec.externalTrafficPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// Any node may take the traffic.
    Cluster,
    /// Only a node with an endpoint of its own.
    Local,
}

/// `status.loadBalancer.ingress[].ipMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpMode {
    /// The address is a destination on the node; announced.
    Vip,
    /// A proxy owns the address; not announced.
    Proxy,
}

/// One ingress entry that names an address (entries with only a hostname are not kept).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ingress {
    /// The address.
    pub ip: IpAddr,
    /// Its mode, `VIP` where unset.
    pub mode: IpMode,
}

/// A Service of type LoadBalancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// `metadata.uid`; empty in a manifest that gives none.
    pub uid: Arc<str>,
    /// `spec.loadBalancerClass`.
    pub load_balancer_class: Option<String>,
    /// The addresses in its status.
    pub ingress: Vec<Ingress>,
    /// `spec.externalTrafficPolicy`.
    pub traffic_policy: TrafficPolicy,
    /// Whether a deletion timestamp is set: withdrawn at once.
    pub lifecycle: Lifecycle,
}

/// Whether an object is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// No deletion timestamp.
    Live,
    /// A deletion timestamp is set.
    Deleting,
}

/// One endpoint of a service that can serve: `ready`, or `serving` while `terminating`. Others are not kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The family of its slice: traffic to an IPv6 address is served by IPv6 endpoints only.
    pub family: Family,
    /// The node it runs on, if its slice says so.
    pub node: Option<NodeName>,
}

/// A Node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `status.addresses` of type InternalIP, in order.
    pub internal_ips: Vec<IpAddr>,
    /// `status.addresses` of type ExternalIP, in order.
    pub external_ips: Vec<IpAddr>,
    /// Whether the condition `NetworkUnavailable` is True.
    pub network: Network,
}

impl Node {
    /// Every address that is the node's own.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.internal_ips.iter().chain(&self.external_ips).copied()
    }
}

/// The node condition `NetworkUnavailable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// Not True: absent, False or Unknown.
    #[default]
    Available,
    /// True: the node takes no traffic.
    Unavailable,
}

/// An address that an allocator of herald gave: an `Allocation` with holders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The pool it was given from.
    pub pool: Arc<str>,
    /// The services that have it, with their UIDs: another service of the same name has no part in it.
    pub holders: BTreeSet<(ServiceKey, Arc<str>)>,
}

/// The cluster as far as it decides what is announced. Persistent maps: a clone costs nothing, and a diff skips what did not change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// Services of type LoadBalancer.
    pub services: imbl::OrdMap<ServiceKey, Arc<Service>>,
    /// For every service with at least one servable endpoint: where they are, all slices taken together.
    pub endpoints: imbl::OrdMap<ServiceKey, Arc<BTreeSet<Endpoint>>>,
    /// Nodes.
    pub nodes: imbl::OrdMap<NodeName, Arc<Node>>,
    /// What an allocator of herald gave, by address.
    pub grants: imbl::OrdMap<IpAddr, Arc<Grant>>,
}

impl ClusterView {
    /// The pool that an address was given from to this service, as it lives; none where it has no such address of ours.
    pub fn granted(&self, key: &ServiceKey, service: &Service, address: IpAddr) -> Option<&Arc<str>> {
        let grant = self.grants.get(&address)?;
        grant.holders.contains(&(key.clone(), Arc::clone(&service.uid))).then_some(&grant.pool)
    }
}

/// The cluster as a source believes it to be, and what of it is missing only by inference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observation {
    /// As it is believed to be.
    pub view: ClusterView,
    /// What a list, a folder or a file no longer had.
    pub missing: Missing,
}

/// Objects (or labels and addresses in them) that no event deleted: something came back without them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Missing {
    /// None.
    #[default]
    Nothing,
    /// Some.
    Objects {
        /// The cluster as if they were still there.
        kept: ClusterView,
        /// Their kinds and names, ascending.
        names: Arc<[String]>,
        /// Grows with each that goes missing, so that it can be said which are accepted.
        step: u64,
    },
}

impl std::ops::Deref for Observation {
    type Target = ClusterView;

    fn deref(&self) -> &ClusterView {
        &self.view
    }
}
