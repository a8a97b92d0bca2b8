//! Whether this speaker does its work: what `/readyz` says.

use super::handles::{Handles, Listing, PeerHandles, Standing};
use crate::condition::Conditions;
use crate::peer::status::EndOfRib;
use crate::peer::{PeerName, Phase};
use axum::http::StatusCode;
use std::time::{Duration, Instant};

/// A peer that was tried this long no longer holds readiness back: a rollout must not stop at a router that is down.
pub const TRIED: Duration = Duration::from_secs(30);

/// The answer: whether a rollout may go on, then what is not as it should be, which alone makes nobody unready.
pub fn answer(missing: Vec<String>, conditions: &Conditions) -> (StatusCode, String) {
    let (status, mut lines) = match missing.is_empty() {
        true => (StatusCode::OK, vec!["ready".to_owned()]),
        false => (StatusCode::SERVICE_UNAVAILABLE, missing),
    };
    lines.extend(conditions.lines());
    (status, lines.join("\n") + "\n")
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{Speakers, WatchState};
    use crate::peer::{Identity, Neighbor, Peer, Plan, Settings, Status};
    use crate::wire::{Asn, Family, RouterId};
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;
    use std::sync::Arc;
    use tokio::sync::watch;

    fn identity() -> Identity {
        Identity { asn: Asn(64512), router_id: RouterId::new(Ipv4Addr::new(192, 0, 2, 1)).unwrap() }
    }

    fn status(phase: Phase, started: Instant) -> Status {
        let neighbor = Neighbor::new("r1".into(), Ipv4Addr::LOCALHOST.into(), Asn(64513));
        let status = Peer::new(
            Settings { identity: identity(), neighbor, restart_state: crate::fsm::restart::RestartState::default() },
            1,
            started,
        )
        .status()
        .clone();
        Status { phase, last_down: Some((started, "nobody listens".to_owned())), ..status }
    }

    fn established(end_of_rib: EndOfRib, since: Instant) -> Phase {
        Phase::Established {
            since,
            local: (Ipv4Addr::LOCALHOST, 40000).into(),
            router_id: identity().router_id,
            hold_time: Duration::from_secs(90),
            families: vec![Family::IPV4_UNICAST],
            next_hops: BTreeMap::new(),
            end_of_rib,
            graceful: crate::fsm::restart::Graceful::No,
        }
    }

    /// What is missing with one peer.
    fn with(listing: Listing, standing: Standing, plan: Option<Plan>, status: Status, now: Instant) -> String {
        let peer = PeerHandles {
            status: watch::channel(status).1,
            plan: watch::channel(plan).1,
            transport: watch::channel(None).1,
            remarks: Vec::new(),
        };
        let speakers = Speakers { standing, peers: imbl::OrdMap::unit("r1".into(), peer), doubts: Arc::default() };
        let state = WatchState { name: "services".to_owned(), listing, last_event: None, trouble: None };
        let handles = Handles {
            node: "n1".into(),
            speakers: watch::channel(Arc::new(speakers)).1,
            watches: Arc::new(move || vec![state.clone()]),
            conditions: watch::channel(Arc::default()).1,
        };
        missing(&handles, now).join("; ")
    }

    #[test]
    fn a_peer_is_waited_for_until_it_has_everything_or_was_tried_for_half_a_minute() {
        let now = tokio::time::Instant::now().into_std();
        let after = |status: Status, seconds: f64| {
            let known = Standing::Known(identity());
            with(Listing::Complete, known, Some(Plan::default()), status, now + Duration::from_secs_f64(seconds))
        };
        let down = || status(Phase::Connect, now);
        assert_eq!(after(down(), 29.9), "peer r1: Connect: nobody listens");
        assert_eq!(after(down(), 30.0), "");
        let sending = || status(established(EndOfRib::Pending, now), now);
        assert_eq!(after(sending(), 1.0), "peer r1: the first table is still being sent");
        assert_eq!(after(sending(), 30.0), "");
        assert_eq!(after(status(established(EndOfRib::Sent(now), now), now), 0.1), "");
    }

    #[test]
    fn neither_time_nor_a_session_stands_in_for_what_is_not_known() {
        let now = tokio::time::Instant::now().into_std();
        let later = now + Duration::from_secs(3600);
        let done = || status(established(EndOfRib::Sent(now), now), now);
        let known = || Standing::Known(identity());
        let plan = || Some(Plan::default());
        assert_eq!(with(Listing::Pending, known(), plan(), done(), later), "services not read completely yet");
        assert_eq!(with(Listing::Complete, known(), None, done(), later), "peer r1: nothing planned yet");
        let waiting = Standing::Waiting("no router ID".to_owned());
        assert_eq!(with(Listing::Complete, waiting, plan(), done(), later), "no router ID");
    }
}
