//! What crosses the border: the objects that the index holds, by key, without anything that decides nothing here.

use super::allocation;
use crate::advertise::{Endpoint, Grant, Node, NodeName, Service, ServiceKey};
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// The kinds that decide what is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1` Service.
    Service,
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice,
    /// `v1` Node.
    Node,
    /// `Allocation` of ours.
    Allocation,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Service, Self::EndpointSlice, Self::Node, Self::Allocation];

    /// As a manifest writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::Allocation => "Allocation",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Namespace and name of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SliceKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A Service.
    Service(ServiceKey),
    /// An EndpointSlice.
    Slice(SliceKey),
    /// A Node.
    Node(NodeName),
    /// The `Allocation` of an address.
    Allocation(IpAddr),
}

impl Key {
    /// Of which kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Service(_) => Kind::Service,
            Self::Slice(_) => Kind::EndpointSlice,
            Self::Node(_) => Kind::Node,
            Self::Allocation(_) => Kind::Allocation,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(key) => write!(f, "Service {key}"),
            Self::Slice(key) => write!(f, "EndpointSlice {}/{}", key.namespace, key.name),
            Self::Node(name) => write!(f, "Node {name}"),
            Self::Allocation(address) => write!(f, "Allocation {}", allocation::name(*address)),
        }
    }
}

/// What an EndpointSlice says: where its service can be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The service of its label `kubernetes.io/service-name`.
    pub service: ServiceKey,
    /// Its servable endpoints; behind `Arc`, because the view shares the set where a service has one slice.
    pub endpoints: Arc<BTreeSet<Endpoint>>,
}

/// An object that the index holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A Service of type LoadBalancer.
    Service(ServiceKey, Arc<Service>),
    /// An EndpointSlice with at least one servable endpoint.
    Slice(SliceKey, Slice),
    /// A Node.
    Node(NodeName, Arc<Node>),
    /// What an allocator gave: an `Allocation` with holders.
    Allocation(IpAddr, Arc<Grant>),
}

impl Object {
    /// Which object this is.
    pub fn key(&self) -> Key {
        match self {
            Self::Service(key, _) => Key::Service(key.clone()),
            Self::Slice(key, _) => Key::Slice(key.clone()),
            Self::Node(name, _) => Key::Node(name.clone()),
            Self::Allocation(address, _) => Key::Allocation(*address),
        }
    }
}

/// What became of one Kubernetes object at the border.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// The index holds it.
    Held(Object),
    /// It decides nothing here (another service type, no servable endpoint): as good as absent.
    Irrelevant(Key),
    /// It makes no sense: the last good state of that object stays.
    Bad(Key),
    /// It does not even say which object it is.
    Nameless,
}

impl Reading {
    /// The key of an object that is there, good or bad.
    pub fn present(&self) -> Option<Key> {
        match self {
            Self::Held(object) => Some(object.key()),
            Self::Bad(key) => Some(key.clone()),
            Self::Irrelevant(_) | Self::Nameless => None,
        }
    }

    /// The key of an object that is there and decides nothing.
    pub fn irrelevant(&self) -> Option<Key> {
        match self {
            Self::Irrelevant(key) => Some(key.clone()),
            Self::Held(_) | Self::Bad(_) | Self::Nameless => None,
        }
    }
}
