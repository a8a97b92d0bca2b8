//! Who this node is in BGP, and what is doubtful about that in this cluster.

use crate::admin::Standing;
use crate::advertise::ClusterView;
use crate::config::Config;
use crate::peer::Identity;
use std::sync::Arc;

/// What this node's identity is made of. Once taken from the Node it is kept: a new address must not end sessions.
#[derive(Debug, Default)]
pub struct Identities {
    /// The identity that was derived from the Node's addresses.
    derived: Option<Identity>,
}

impl Identities {
    /// One that goes on from what was known before: a new address must not end sessions.
    pub fn keeping(standing: &Standing) -> Self {
        match standing {
            Standing::Known(identity) => Self { derived: Some(*identity) },
            Standing::Waiting(_) => Self::default(),
        }
    }

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

/// What is doubtful about the configuration in this cluster, and cannot be seen in the file alone: router IDs that more
/// than one node has, and selectors that match no node. Looked for again only when nodes or configuration changed.
#[derive(Debug, Default)]
pub struct Doubts {
    of: Option<(Arc<Config>, ClusterView)>,
    found: Vec<String>,
}

impl Doubts {
    /// The doubts, in words.
    pub fn about(&mut self, config: &Arc<Config>, view: &ClusterView) -> &[String] {
        let same = self.of.as_ref().is_some_and(|(of, seen)| Arc::ptr_eq(of, config) && seen.nodes.ptr_eq(&view.nodes));
        if !same {
            self.found = doubts(config, view);
            self.of = Some((config.clone(), ClusterView { nodes: view.nodes.clone(), ..ClusterView::default() }));
        }
        &self.found
    }
}

fn doubts(config: &Config, view: &ClusterView) -> Vec<String> {
    // A router that peers with two nodes of one ID takes them for one speaker, or refuses the second.
    let shared = config.shared_router_ids(view).into_iter().map(|(id, nodes)| {
        let count = nodes.len();
        format!("router ID {id} belongs to {count} nodes ({}): give each its own under 'nodes'", nodes.join(", "))
    });
    shared.chain(config.idle_selectors(view)).collect()
}
