//! Handles on the state that other rooms publish; all that the admin room knows.

use super::heartbeat::Liveness;
use crate::advertise::NodeName;
use crate::condition::Conditions;
use crate::peer::transport::Transport;
use crate::peer::{Identity, PeerName, Plan, Settings, Status};
use ipnetwork::IpNetwork;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::sync::watch;

/// What the admin room reads.
#[derive(Clone)]
pub struct Handles {
    /// This node.
    pub node: NodeName,
    /// The running peers, by the speaker.
    pub speakers: watch::Receiver<Arc<Speakers>>,
    /// The state of the watches, asked when somebody wants to know.
    pub watches: Arc<dyn Fn() -> Vec<WatchState> + Send + Sync>,
    /// Whether a rollout may go on.
    pub readiness: Readiness,
    /// What is not as it should be, anywhere in the process.
    pub conditions: watch::Receiver<Arc<Conditions>>,
    /// Whether the threads of the process go on.
    pub liveness: watch::Receiver<Liveness>,
}

impl fmt::Debug for Handles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handles").field("node", &self.node).field("speakers", &self.speakers).finish_non_exhaustive()
    }
}

/// Which routers had a session with this node before this process began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// Nobody wrote it down.
    Unknown,
    /// These; possibly none.
    Routers(BTreeSet<IpAddr>),
}

/// What readiness hangs on beside the present, and whether it was reached once.
#[derive(Debug, Clone)]
pub struct Readiness {
    before: Arc<Before>,
    reached: Arc<OnceLock<()>>,
}

impl Readiness {
    /// Not reached yet.
    pub fn new(before: Before) -> Self {
        Self { before: Arc::new(before), reached: Arc::default() }
    }

    /// Who had a session before this process.
    pub fn before(&self) -> &Before {
        &self.before
    }

    /// Whether this process was ready once.
    pub fn is_reached(&self) -> bool {
        self.reached.get().is_some()
    }

    pub(super) fn reach(&self) {
        self.reached.get_or_init(|| ());
    }
}

/// The speaker's side: who we are, who runs, whether a plan was made.
#[derive(Debug, Clone)]
pub struct Speakers {
    /// Who this node is in BGP.
    pub standing: Standing,
    /// Running peers.
    pub peers: imbl::OrdMap<PeerName, PeerHandles>,
    /// What is doubtful about the configuration in this cluster, in words.
    pub doubts: Arc<Vec<String>>,
    /// The ranges from which routers may dial.
    pub ranges: Arc<Vec<IpNetwork>>,
}

/// Whether this node knows its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Not yet; why, for people.
    Waiting(String),
    /// Known.
    Known(Identity),
}

/// One running peer: its status, and what should be announced to it.
#[derive(Debug, Clone)]
pub struct PeerHandles {
    /// Published by its driver.
    pub status: watch::Receiver<Status>,
    /// Published by the speaker; `None` before the first plan.
    pub plan: watch::Receiver<Option<Plan>>,
    /// Published by its driver: the options of the session's socket. `None` without a session.
    pub transport: watch::Receiver<Option<Transport>>,
    /// What is wrong beside the session, in words.
    pub remarks: Vec<String>,
    /// The entry under `peers` that it comes from: its own name, but for a router of a range.
    pub entry: Arc<str>,
    /// What its session was begun with, or would be.
    pub settings: Arc<Settings>,
}

impl PeerHandles {
    /// Status and plan as they are now. Copied, because whoever publishes waits while a reader holds the original.
    pub fn now(&self) -> (Status, Option<Plan>) {
        (self.status.borrow().clone(), self.plan.borrow().clone())
    }
}

/// One source of the cluster's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchState {
    /// What is watched: `services`, `manifests`.
    pub name: String,
    /// Whether it was read completely.
    pub listing: Listing,
    /// When it was last known to be current.
    pub last_event: Option<Instant>,
    /// What is wrong with it now, in words.
    pub trouble: Option<String>,
}

/// Whether a source was read completely once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// Not yet.
    Pending,
    /// Once at least.
    Complete,
}
