//! What the sessions of this node are to be, as far as configuration and cluster say it: the one value that the thread *control*
//! hands to the thread *sessions*. What happens on the wire and on links is added there.

use super::keys::KeyRing;
use crate::admin::Standing;
use crate::advertise;
use crate::config::Config;
use crate::peer::Extent;
use crate::rib::Bounds;
use crate::wire::Prefix;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What should be so. A new one never means that the old one was wrong: whoever reads late reads the newest.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The configuration in use.
    pub config: Arc<Config>,
    /// Passwords of the files that it names.
    pub keys: Arc<KeyRing>,
    /// The entries under `peers` whose selector takes this node in; one whose selector cannot be judged yet is absent.
    pub here: Arc<BTreeSet<Arc<str>>>,
    /// Who this node is in BGP.
    pub standing: Standing,
    /// The newest plan; `None` until the cluster was read completely once.
    pub planned: Option<Arc<Planned>>,
    /// What is doubtful about the configuration in this cluster, in words.
    pub doubts: Arc<Vec<String>>,
}

/// A plan, with the Node's addresses that go along with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Routes by entry under `peers`.
    pub routes: advertise::Plan,
    /// The Node's InternalIPs.
    pub node_addresses: Vec<IpAddr>,
    /// The Node's labels.
    pub node_labels: BTreeMap<String, String>,
    /// The last line behind policy.
    pub bounds: Bounds,
    /// What a process before this one announced, while it is doubted that these routes are all.
    pub doubted: Arc<BTreeSet<Prefix>>,
}

impl Planned {
    /// Whether End-of-RIB may follow the routes.
    pub fn extent(&self) -> Extent {
        if self.doubted.is_empty() { Extent::Whole } else { Extent::Doubtful }
    }
}

impl Spec {
    /// Before anything was read: nobody is spoken with.
    pub fn unknown(config: Arc<Config>) -> Self {
        Self {
            config,
            keys: Arc::default(),
            here: Arc::default(),
            standing: Standing::Waiting("starting".to_owned()),
            planned: None,
            doubts: Arc::default(),
        }
    }

    /// Whether peers, keys and identity are the same values as those of `other`, so that only routes can differ.
    pub fn has_peers_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
            && Arc::ptr_eq(&self.keys, &other.keys)
            && Arc::ptr_eq(&self.here, &other.here)
            && self.standing == other.standing
    }
}
