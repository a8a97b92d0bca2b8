//! Why an address is or is not announced.

use super::cluster::ServiceKey;
use std::net::IpAddr;
use std::sync::Arc;

/// The answer for one address of one service towards one peer, computed on demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Announced under these advertisements.
    Announced {
        /// Names of the advertisements that match.
        advertisements: Vec<Arc<str>>,
    },
    /// Not announced: the first reason that holds.
    NotAnnounced(Reason),
}

/// Why not. `Display` says it for people, with what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// To be completed with the room.
    #[error("{service} is being deleted")]
    Deleting {
        /// Which.
        service: ServiceKey,
    },
    /// The address is in no pool.
    #[error("{address} is in no pool: add it to one under 'pools'")]
    OutsidePools {
        /// Which.
        address: IpAddr,
    },
}
