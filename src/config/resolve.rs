//! Raw to sure.

use super::Diagnostics;
use crate::advertise::{NodeSelector, Policy};
use crate::peer::{Identity, Neighbor};
use crate::wire::{Asn, RouterId};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// A configuration that holds together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Our AS.
    pub asn: Asn,
    /// `routerId` for every node, for clusters of one.
    pub router_id: Option<RouterId>,
    /// `nodes[].routerId`: by node name.
    pub node_router_ids: BTreeMap<Arc<str>, RouterId>,
    /// Peers by name.
    pub peers: BTreeMap<Arc<str>, PeerConfig>,
    /// What is announced.
    pub policy: Arc<Policy>,
}

/// A peer and the nodes that have a session with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// Which nodes.
    pub nodes: NodeSelector,
    /// The neighbour.
    pub neighbor: Neighbor,
}

impl Config {
    /// Reads a configuration. `name` is the file's name for messages.
    ///
    /// # Errors
    /// The first error of shape, or all errors of meaning; warnings come along in both cases.
    pub fn parse(name: &str, text: &str) -> Result<(Self, Diagnostics), Diagnostics> {
        let _ = (name, text);
        todo!()
    }

    /// Who `node` is: its AS, and its router ID by override, `routerId`, first IPv4 InternalIP, or (IPv6-only) a hash of its name.
    pub fn identity(&self, node: &str, internal_ips: &[IpAddr]) -> Identity {
        let _ = (node, internal_ips);
        todo!()
    }
}
