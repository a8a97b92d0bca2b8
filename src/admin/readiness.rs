//! Whether this speaker does its work: what `/readyz` says.

use super::handles::{Before, Handles, Listing, PeerHandles, Speakers, Standing};
use crate::condition::Conditions;
use crate::peer::status::EndOfRib;
use crate::peer::{Extent, PeerName, Phase};
use axum::http::StatusCode;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// A peer that was tried this long no longer holds readiness back by itself: a rollout must not stop at a router that is down.
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

/// What is missing before this speaker does its work, a line each; empty: ready. Once it was, it stays ready: readiness says that a
/// rollout may go on, and what fails later is said otherwise.
pub fn look(handles: &Handles, now: Instant) -> Vec<String> {
    if handles.readiness.is_reached() {
        return Vec::new();
    }
    let missing = missing(handles, handles.readiness.before(), now);
    if missing.is_empty() {
        handles.readiness.reach();
    }
    missing
}

/// The routers that have a session and their table.
pub fn established(speakers: &Speakers) -> BTreeSet<IpAddr> {
    let up = |peer: &PeerHandles| {
        let status = peer.status.borrow();
        let up = match status.phase {
            Phase::Established { end_of_rib: EndOfRib::Sent(_), .. } => true,
            Phase::Established { end_of_rib: EndOfRib::Pending, .. } => is_doubtful(peer),
            Phase::Idle { .. } | Phase::Connect | Phase::Active | Phase::OpenSent | Phase::OpenConfirm => false,
        };
        up.then(|| status.address.ip())
    };
    speakers.peers.values().filter_map(up).collect()
}

/// Whether its table is not known to be whole: End-of-RIB then waits for a person, and a rollout does not.
fn is_doubtful(peer: &PeerHandles) -> bool {
    peer.plan.borrow().as_ref().is_some_and(|plan| plan.extent == Extent::Doubtful)
}

/// What is missing before this speaker is ready, a line each; empty: ready.
fn missing(handles: &Handles, before: &Before, now: Instant) -> Vec<String> {
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
    missing.extend(nobody_is_back(&speakers, before));
    missing
}

/// A version or a configuration with which no router speaks must not take the next node too: of the routers that had a session
/// before, one at least has it again. Which one does not matter, so that a dead router stops no rollout.
fn nobody_is_back(speakers: &Speakers, before: &Before) -> Option<String> {
    let up = established(speakers);
    let is_ours = |address: &IpAddr| {
        let known = speakers.peers.values().any(|peer| peer.status.borrow().address.ip() == *address);
        known || speakers.ranges.iter().any(|range| range.contains(*address))
    };
    let awaited: Vec<_> = match before {
        Before::Routers(routers) if routers.is_empty() => return None,
        Before::Routers(routers) => routers.iter().filter(|router| is_ours(router)).collect(),
        Before::Unknown => Vec::new(),
    };
    if !awaited.is_empty() {
        let back = awaited.iter().any(|router| up.contains(router));
        let all = awaited.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return (!back).then(|| {
            format!(
                "no router that had a session before has one now ({all}): 'herald peers' says what each of them answers"
            )
        });
    }
    // Others than before, or nobody knows: any one will do.
    let nobody = up.is_empty() && !speakers.peers.is_empty();
    nobody.then(|| "no router has a session yet: 'herald peers' says what each of them answers".to_owned())
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
        Phase::Established { end_of_rib: EndOfRib::Pending, .. } if is_doubtful(peer) => None,
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
    use crate::admin::handles::Readiness;
    use crate::admin::{Speakers, WatchState};
    use crate::peer::settings::RestartState;
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
        missing(&handles(listing, standing, plan, vec![status]), &Before::Routers(BTreeSet::new()), now).join("; ")
    }

    fn handles(listing: Listing, standing: Standing, plan: Option<Plan>, statuses: Vec<Status>) -> Handles {
        let of = |(n, status): (usize, Status)| {
            let peer = PeerHandles {
                status: watch::channel(status).1,
                plan: watch::channel(plan.clone()).1,
                transport: watch::channel(None).1,
                remarks: Vec::new(),
                entry: "r".into(),
                settings: Arc::new(Settings {
                    identity: identity(),
                    neighbor: Neighbor::new("r".into(), Ipv4Addr::LOCALHOST.into(), Asn(64500)),
                    restart_state: RestartState::default(),
                }),
            };
            (PeerName::from(format!("r{}", n + 1).as_str()), peer)
        };
        let peers = statuses.into_iter().enumerate().map(of).collect();
        let speakers = Speakers { standing, peers, doubts: Arc::default(), ranges: Arc::default() };
        let state = WatchState { name: "services".to_owned(), listing, last_event: None, trouble: None };
        Handles {
            node: "n1".into(),
            speakers: watch::channel(Arc::new(speakers)).1,
            watches: Arc::new(move || vec![state.clone()]),
            conditions: watch::channel(Arc::default()).1,
            liveness: watch::channel(Default::default()).1,
            readiness: Readiness::new(Before::Unknown),
        }
    }

    /// Peers at 127.0.0.1, 127.0.0.2, … that are up or not, long after they began.
    fn nodes(up: &[bool], now: Instant) -> Handles {
        let of = |(n, up): (usize, &bool)| {
            let phase = if *up { established(EndOfRib::Sent(now), now) } else { Phase::Connect };
            let host = u8::try_from(n + 1).unwrap();
            Status { address: (Ipv4Addr::new(127, 0, 0, host), 179).into(), ..status(phase, now - 2 * TRIED) }
        };
        let statuses = up.iter().enumerate().map(of).collect();
        handles(Listing::Complete, Standing::Known(identity()), Some(Plan::default()), statuses)
    }

    fn routers(hosts: &[u8]) -> Before {
        Before::Routers(hosts.iter().map(|host| IpAddr::from([127, 0, 0, *host])).collect())
    }

    #[test]
    fn one_router_of_those_before_is_enough_and_none_is_not() {
        let now = tokio::time::Instant::now().into_std();
        let blocked = |up: &[bool], before: &Before| !missing(&nodes(up, now), before, now).is_empty();
        for (up, before, expected) in [
            (&[false, false][..], routers(&[1, 2]), true),
            (&[true, false], routers(&[1, 2]), false),
            (&[false, true], routers(&[1]), true),
            // None was up before, or there is nobody to have: nothing to wait for.
            (&[false, false], routers(&[]), false),
            (&[], routers(&[1]), false),
            (&[], Before::Unknown, false),
            // Nobody wrote it down, or all of them were replaced: any one.
            (&[false, false], Before::Unknown, true),
            (&[false, true], Before::Unknown, false),
            (&[false], routers(&[9]), true),
            (&[true], routers(&[9]), false),
        ] {
            assert_eq!(blocked(up, &before), expected, "{up:?} {before:?}");
        }
    }

    #[test]
    fn a_router_of_a_range_that_has_not_come_back_is_waited_for() {
        let now = tokio::time::Instant::now().into_std();
        let mut handles = nodes(&[], now);
        let speakers = handles.speakers.borrow().clone();
        let ranges = Arc::new(vec!["127.0.0.0/29".parse().unwrap()]);
        handles.speakers = watch::channel(Arc::new(Speakers { ranges, ..(*speakers).clone() })).1;
        let missing = missing(&handles, &routers(&[4]), now);
        assert!(missing[0].contains("no router that had a session before has one now (127.0.0.4)"), "{missing:?}");
    }

    #[test]
    fn who_was_ready_once_stays_ready() {
        let now = tokio::time::Instant::now().into_std();
        let readiness = Readiness::new(Before::Unknown);
        let at = |up: bool| look(&Handles { readiness: readiness.clone(), ..nodes(&[up], now) }, now);
        assert!(!at(false).is_empty());
        assert!(at(true).is_empty());
        assert!(at(false).is_empty() && readiness.is_reached());
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
