//! Connections that routers open: where we listen, and whose they are.

use crate::advertise::NodeSelector;
use crate::config::{Config, Listen, Reach};
use crate::net::Accepted;
use crate::net::listener::{self, Keys};
use crate::peer::{Neighbor, PeerName};
use ipnetwork::IpNetwork;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

/// Connections that may wait to be looked at.
const QUEUE: usize = 64;

/// Peers of one range at a time. Who is in the block could otherwise have us keep any number.
pub const RANGE_LIMIT: usize = 256;

/// The door for routers: it follows the configuration.
pub struct Door {
    open: Option<(Listen, AbortOnDropHandle<()>)>,
    keys: watch::Sender<Keys>,
    sender: mpsc::Sender<Accepted>,
    accepted: mpsc::Receiver<Accepted>,
}

impl Door {
    /// Nowhere yet.
    pub fn closed() -> Self {
        let (sender, accepted) = mpsc::channel(QUEUE);
        Self { open: None, keys: watch::channel(Keys::new()).0, sender, accepted }
    }

    /// Listens where the configuration says, and nowhere else; whoever has a key must sign with it.
    pub fn follow(&mut self, listen: Option<&Listen>, keys: Keys) {
        self.keys.send_if_modified(|held| {
            let changed = *held != keys;
            *held = keys;
            changed
        });
        if self.open.as_ref().map(|(open, _)| open) == listen {
            return;
        }
        // Closed before another one opens: both may want the same port.
        self.open = None;
        self.open = listen.map(|listen| {
            let serve = listener::run(listen.clone(), self.keys.subscribe(), self.sender.clone());
            (listen.clone(), AbortOnDropHandle::new(tokio::spawn(serve)))
        });
    }

    /// The next connection. May be dropped and called again.
    pub async fn accept(&mut self) -> Accepted {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }
}

/// The keys of this configuration's peers, by the addresses that they hold for.
pub fn keys(config: &Config, here: impl Fn(&NodeSelector) -> bool) -> Keys {
    let peers = config.peers.values().filter(|peer| here(&peer.nodes));
    let keys = peers.filter_map(|peer| {
        let whom = match peer.reach {
            Reach::One => IpNetwork::from(peer.neighbor.address),
            Reach::Range(range) => range,
        };
        Some((whom, peer.neighbor.password.clone()?))
    });
    keys.collect()
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
    /// The member of a range of this configuration that a router would be.
    pub fn of(config: &Config, address: IpAddr, here: impl Fn(&NodeSelector) -> bool) -> Option<Self> {
        let of = |range: IpNetwork| range.contains(address);
        let found = config.peers.iter().find(|(_, peer)| match peer.reach {
            Reach::One => false,
            Reach::Range(range) => of(range) && here(&peer.nodes),
        });
        found.map(|(range, _)| Self { range: Arc::clone(range), address })
    }

    /// Its name: that of the range, and the address.
    pub fn name(&self) -> PeerName {
        PeerName(format!("{}/{}", self.range, self.address).into())
    }

    /// The neighbour that it is in this configuration, if it still is one.
    pub fn neighbor(&self, config: &Config, here: impl Fn(&NodeSelector) -> bool) -> Option<Neighbor> {
        let peer = config.peers.get(&self.range).filter(|peer| here(&peer.nodes))?;
        match peer.reach {
            Reach::Range(range) if range.contains(self.address) => {
                Some(Neighbor { name: self.name(), address: self.address, ..peer.neighbor.clone() })
            }
            Reach::One | Reach::Range(_) => None,
        }
    }
}
