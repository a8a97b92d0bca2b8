//! Connections that routers open: where we listen, and whose they are.

use super::supervised::Supervised;
use crate::condition::{Conditions, Reason};
use crate::config::{Config, Listen, PeerConfig, Reach};
use crate::net::Accepted;
use crate::net::listener::{self, Failures, Lines, Rules};
use crate::peer::{Neighbor, PeerName};
use crate::wire::CeaseSubcode;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Connections that may wait to be looked at.
const QUEUE: usize = 64;

/// Connections at a time that are told why they are turned away.
const REFUSALS: usize = 8;

/// Peers of one range at a time. Who is in the block could otherwise have us keep any number.
pub const RANGE_LIMIT: usize = 256;

/// The door for routers: it follows the configuration.
pub struct Door {
    open: Option<(Listen, Supervised)>,
    rules: watch::Sender<Rules>,
    failures: (watch::Sender<Failures>, watch::Receiver<Failures>),
    sender: mpsc::Sender<Accepted>,
    accepted: mpsc::Receiver<Accepted>,
    conditions: watch::Sender<Conditions>,
    refusals: JoinSet<()>,
}

impl Door {
    /// Nowhere yet. `conditions`: where it says that an address cannot be had, or that what listens has a bug.
    pub fn closed(conditions: watch::Sender<Conditions>) -> Self {
        let (sender, accepted) = mpsc::channel(QUEUE);
        let (rules, failures) = (watch::channel(Rules::new()).0, watch::channel(Failures::new()));
        Self { open: None, rules, failures, sender, accepted, conditions, refusals: JoinSet::new() }
    }

    /// Listens where the configuration says, and nowhere else, for whom the rules name, as they say.
    pub fn follow(&mut self, listen: Option<&Listen>, rules: Rules) {
        self.rules.send_if_modified(|held| {
            let changed = *held != rules;
            *held = rules;
            changed
        });
        if self.open.as_ref().map(|(open, _)| open) == listen {
            return;
        }
        // Closed before another one opens: both may want the same port.
        self.open = None;
        self.failures.0.send_if_modified(|failures| !std::mem::take(failures).is_empty());
        self.conditions.send_modify(|mine| mine.clear_all(Reason::ListenFailed));
        self.open = listen.map(|listen| {
            let (rules, to, failures) = (self.rules.subscribe(), self.sender.clone(), self.failures.0.clone());
            let lines = Lines { rules, to, failures, conditions: self.conditions.clone() };
            let on = listen.clone();
            let serve = move || listener::run(on.clone(), lines.clone());
            (listen.clone(), Supervised::spawn("listener", self.conditions.clone(), serve))
        });
    }

    /// Turns a connection away with a Cease (RFC 4486 §4). Of very many at once it is not waited for whether they take it.
    pub fn refuse(&mut self, accepted: Accepted, why: CeaseSubcode) {
        while self.refusals.try_join_next().is_some() {}
        if self.refusals.len() < REFUSALS {
            self.refusals.spawn(accepted.refuse(why));
        } else {
            accepted.refuse_at_once(why);
        }
    }

    /// Keys that could not be installed.
    pub fn failures(&self) -> Failures {
        self.failures.1.borrow().clone()
    }

    /// The next connection, or `None` when keys failed or no longer do. May be dropped and called again.
    pub async fn news(&mut self) -> Option<Accepted> {
        // Both senders are ours: neither can end.
        tokio::select! {
            accepted = self.accepted.recv() => accepted,
            _ = self.failures.1.changed() => None,
        }
    }
}

/// A peer of a range: which entry it comes from, and its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The entry's name; its advertisements are this peer's.
    pub range: Arc<str>,
    /// The router's address.
    pub address: IpAddr,
}

impl Member {
    /// The member of a range of this node that a router would be.
    pub fn of(config: &Config, here: &BTreeSet<Arc<str>>, address: IpAddr) -> Option<Self> {
        let found = here.iter().find(|name| match config.peers.get(*name).map(|peer| &peer.reach) {
            Some(Reach::Range(range)) => range.contains(address),
            Some(Reach::One | Reach::OnLink) | None => false,
        });
        found.map(|range| Self { range: Arc::clone(range), address })
    }

    /// Its name: that of the range, and the address.
    pub fn name(&self) -> PeerName {
        PeerName(format!("{}/{}", self.range, self.address).into())
    }

    /// The neighbour that it is by its range's entry, if it still is one.
    pub fn neighbor(&self, peer: &PeerConfig) -> Option<Neighbor> {
        match peer.reach {
            Reach::Range(range) if range.contains(self.address) => {
                Some(Neighbor { name: self.name(), address: self.address, ..peer.neighbor.clone() })
            }
            Reach::One | Reach::OnLink | Reach::Range(_) => None,
        }
    }
}
