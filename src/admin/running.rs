//! What runs, for somebody who has another configuration in his hand: `/v1/running`, on the Unix socket alone.

use super::handles::{PeerHandles, Speakers};
use crate::config::diff::written_terms;
use crate::peer::{PeerName, Phase};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// `/v1/running`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    /// That of the speaker: what is said of peers is compared by the same version only.
    pub version: String,
    /// This node.
    pub node: String,
    /// It, as the cluster has it; absent until the cluster was read once.
    pub seen: Option<Seen>,
    /// What tells the configuration in use from others, `guard` apart.
    pub fingerprint: String,
    /// What is not as it should be, a line each.
    pub conditions: Vec<String>,
    /// By name.
    pub peers: Vec<RunningPeer>,
}

/// A node in its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its InternalIPs, in order.
    pub internal_ips: Vec<IpAddr>,
}

/// A peer of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunningPeer {
    /// Its name.
    pub name: String,
    /// The entry of the configuration that it comes from.
    pub entry: String,
    /// Its router.
    pub address: IpAddr,
    /// Where its session stands (RFC 4271 §8.2.2).
    pub session: Established,
    /// What that was begun with, to be compared and not to be read; no password.
    pub terms: BTreeMap<String, String>,
}

/// Whether a session is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Established {
    /// It is.
    Up,
    /// It is not: nothing is lost when it begins anew.
    Down,
}

/// The peers that run.
pub fn peers(speakers: &Speakers) -> Vec<RunningPeer> {
    speakers.peers.iter().map(|(name, handles)| peer(name, handles)).collect()
}

fn peer(name: &PeerName, handles: &PeerHandles) -> RunningPeer {
    let up = matches!(handles.status.borrow().phase, Phase::Established { .. });
    RunningPeer {
        name: name.to_string(),
        entry: handles.entry.to_string(),
        address: handles.settings.neighbor.address,
        session: if up { Established::Up } else { Established::Down },
        terms: written_terms(&handles.settings),
    }
}
