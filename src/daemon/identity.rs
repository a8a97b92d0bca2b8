//! Who this node is in BGP, and whether another node claims to be the same.

use crate::advertise::{ClusterView, Node, NodeName};
use crate::config::Config;
use crate::peer::Identity;
use crate::wire::RouterId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What this node's identity is made of. Once taken from the Node it is kept: a new address must not end sessions.
#[derive(Debug, Default)]
pub struct Identities {
    /// The identity that was derived from the Node's addresses.
    derived: Option<Identity>,
}

impl Identities {
    /// Our identity, or why it is not known yet. Only where the configuration names no router ID is the Node needed.
    ///
    /// # Errors
    /// The Node, or an InternalIP of it, is needed and not there; in words.
    pub fn ours(&mut self, config: &Config, view: Option<&ClusterView>, node: &str) -> Result<Identity, String> {
        if config.router_id.is_some() || config.node_router_ids.contains_key(node) {
            return Ok(config.identity(node, &[]));
        }
        if let Some(identity) = self.derived.filter(|identity| identity.asn == config.asn) {
            return Ok(identity);
        }
        let view = view.ok_or_else(|| {
            format!("the router ID comes from the InternalIP of node {node}, and the cluster was not read yet")
        })?;
        let found = view.nodes.get(node).ok_or_else(|| {
            format!("there is no node {node}, and no routerId is configured: check --node, or set routerId")
        })?;
        if found.internal_ips.is_empty() {
            return Err(format!("node {node} has no InternalIP yet, and no routerId is configured"));
        }
        Ok(*self.derived.insert(config.identity(node, &found.internal_ips)))
    }
}

/// Router IDs that more than one node has. Looked for again only when nodes or configuration changed.
#[derive(Debug, Default)]
pub struct Conflicts {
    of: Option<(Arc<Config>, Nodes)>,
    found: Vec<String>,
}

type Nodes = imbl::OrdMap<NodeName, Arc<Node>>;

impl Conflicts {
    /// The conflicts, in words. A router that peers with two nodes of one ID takes them for one speaker, or refuses the second.
    pub fn among(&mut self, config: &Arc<Config>, nodes: &Nodes) -> &[String] {
        let same = self.of.as_ref().is_some_and(|(of, among)| Arc::ptr_eq(of, config) && among.ptr_eq(nodes));
        if !same {
            self.found = conflicts(config, nodes);
            self.of = Some((config.clone(), nodes.clone()));
        }
        &self.found
    }
}

fn conflicts(config: &Config, nodes: &Nodes) -> Vec<String> {
    let mut holders: BTreeMap<RouterId, Vec<NodeName>> = BTreeMap::new();
    for (name, node) in nodes {
        holders.entry(config.identity(name, &node.internal_ips).router_id).or_default().push(name.clone());
    }
    let shared = holders.into_iter().filter(|(_, nodes)| nodes.len() > 1);
    shared
        .map(|(id, nodes)| {
            let count = nodes.len();
            format!("router ID {id} belongs to {count} nodes ({}): give each its own under 'nodes'", nodes.join(", "))
        })
        .collect()
}
