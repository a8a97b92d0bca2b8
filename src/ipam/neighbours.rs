//! Addresses that others have: nodes, and services that are not ours. They are never given, and never touched.

use super::name::{ServiceName, Uid};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A Service that is not ours, with the addresses in its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Its UID.
    pub uid: Uid,
    /// Its namespace and name.
    pub service: ServiceName,
    /// The addresses in its status.
    pub addresses: BTreeSet<IpAddr>,
}

/// Whose an address is, if it is a neighbour's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// A node's, or a router's that is a peer.
    Node,
    /// Shown by this Service, which is not ours.
    Foreign(ServiceName),
}

/// All that neighbours have.
#[derive(Debug, Clone, Default)]
pub struct Neighbours {
    nodes: BTreeSet<IpAddr>,
    foreign: BTreeMap<Uid, Foreign>,
    by_address: BTreeMap<IpAddr, BTreeSet<Uid>>,
}

impl Neighbours {
    /// Whose an address is. A node goes before a Service, and of several services the first by UID is named.
    pub fn block(&self, address: IpAddr) -> Option<Block> {
        if self.nodes.contains(&address) {
            return Some(Block::Node);
        }
        let uid = self.by_address.get(&address)?.first()?;
        Some(Block::Foreign(self.foreign[uid].service.clone()))
    }

    /// Whether anybody has it.
    pub fn has(&self, address: IpAddr) -> bool {
        self.nodes.contains(&address) || self.by_address.contains_key(&address)
    }

    /// All addresses that anybody has.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.nodes.iter().chain(self.by_address.keys()).copied().collect()
    }

    /// The nodes' addresses.
    pub fn nodes(&self) -> &BTreeSet<IpAddr> {
        &self.nodes
    }

    /// Replaces the nodes' addresses.
    pub fn set_nodes(&mut self, nodes: BTreeSet<IpAddr>) {
        self.nodes = nodes;
    }

    /// What a Service that is not ours was known to show.
    pub fn shown_by(&self, uid: &Uid) -> BTreeSet<IpAddr> {
        self.foreign.get(uid).map(|foreign| foreign.addresses.clone()).unwrap_or_default()
    }

    /// Replaces what a Service shows.
    pub fn put(&mut self, foreign: Foreign) {
        self.drop(&foreign.uid);
        for address in &foreign.addresses {
            self.by_address.entry(*address).or_default().insert(foreign.uid.clone());
        }
        self.foreign.insert(foreign.uid.clone(), foreign);
    }

    /// Forgets a Service.
    pub fn drop(&mut self, uid: &Uid) {
        for address in self.foreign.remove(uid).map(|foreign| foreign.addresses).unwrap_or_default() {
            if let Some(uids) = self.by_address.get_mut(&address) {
                uids.remove(uid);
                if uids.is_empty() {
                    self.by_address.remove(&address);
                }
            }
        }
    }
}
