//! Whether this speaker does its work: what `/readyz` says.

use super::handles::{Handles, Listing, PeerHandles, Standing};
use crate::peer::status::EndOfRib;
use crate::peer::{PeerName, Phase};
use std::time::{Duration, Instant};

/// A peer that was tried this long no longer holds readiness back: a rollout must not stop at a router that is down.
pub const TRIED: Duration = Duration::from_secs(30);

/// What is missing before this speaker is ready, a line each; empty: ready.
pub fn missing(handles: &Handles, now: Instant) -> Vec<String> {
    let mut missing = Vec::new();
    for watch in (handles.watches)() {
        if watch.listing == Listing::Pending {
            let why = watch.trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
            missing.push(format!("{} not read completely yet{why}", watch.name));
        }
    }
    let speakers = handles.speakers.borrow().clone();
    if let Standing::Waiting(why) = &speakers.standing {
        missing.push(why.clone());
    }
    missing.extend(speakers.peers.iter().filter_map(|(name, peer)| lacks(name, peer, now)));
    missing
}

fn lacks(name: &PeerName, peer: &PeerHandles, now: Instant) -> Option<String> {
    if peer.plan.borrow().is_none() {
        return Some(format!("peer {name}: nothing planned yet"));
    }
    let status = peer.status.borrow();
    if now.saturating_duration_since(status.started) >= TRIED {
        return None;
    }
    match &status.phase {
        Phase::Established { end_of_rib: EndOfRib::Sent(_), .. } => None,
        Phase::Established { end_of_rib: EndOfRib::Pending, .. } => {
            Some(format!("peer {name}: the first table is still being sent"))
        }
        phase @ (Phase::Idle { .. } | Phase::Connect | Phase::Active | Phase::OpenSent | Phase::OpenConfirm) => {
            let why = status.last_down.as_ref().map(|(_, why)| format!(": {why}")).unwrap_or_default();
            Some(format!("peer {name}: {}{why}", phase.name()))
        }
    }
}
