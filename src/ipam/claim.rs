//! What a Service asks for.

use super::family::{Families, Family};
use super::labels::Labels;
use super::name::{Rank, ServiceName, Uid};
use super::terms::Terms;
use super::timestamp::Timestamp;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// Which pool may serve.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PoolChoice {
    /// Any that gives without being asked.
    #[default]
    Any,
    /// This one.
    Named(Arc<str>),
}

/// What becomes of an address that would not be given today.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Renumber {
    /// It stays.
    #[default]
    Stay,
    /// It is exchanged for a regular one, the new one secured first.
    Move,
}

/// A Service of type LoadBalancer that is ours to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its UID.
    pub uid: Uid,
    /// Its namespace and name.
    pub service: ServiceName,
    /// `metadata.creationTimestamp`: the older is served first.
    pub created: Timestamp,
    /// Its families.
    pub families: Families,
    /// Addresses it names; a family without one is served from a pool.
    pub addresses: BTreeSet<IpAddr>,
    /// The pool it names.
    pub pool: PoolChoice,
    /// On which terms it would hold an address.
    pub terms: Arc<Terms>,
    /// Its labels.
    pub labels: Arc<Labels>,
    /// Its namespace's labels.
    pub namespace_labels: Arc<Labels>,
    /// Whether it asks to leave an irregular address.
    pub renumber: Renumber,
    /// The addresses that its status shows now. What it shows is let go only when it is shown no longer.
    pub shown: Vec<IpAddr>,
}

impl Claim {
    /// Its place in the queue.
    pub fn rank(&self) -> Rank {
        Rank { created: self.created, service: self.service.clone(), uid: self.uid.clone() }
    }

    /// The address it names in a family.
    pub fn exact(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| Family::of(*address) == family)
    }

    /// Whether its status shows an address.
    pub fn shows(&self, address: IpAddr) -> bool {
        self.shown.contains(&address)
    }
}
