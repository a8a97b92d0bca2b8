//! The looking glass: peers and routes as the JSON of `/v1` and the tables of the command line show them. Moments are
//! RFC 3339 timestamps, never durations: two readers at two times see the same.

use super::handles::{Handles, PeerHandles, Standing};
use crate::peer::status::NO_COMMON_FAMILY;
use crate::peer::status::{self, Consequence, EndOfRib, Graceful};
use crate::peer::transport::{self, Signed};
use crate::peer::{Limit, PeerName, Phase, Plan, Status};
use crate::rib::{Attributes, NextHop};
use crate::wire::{Bandwidth, Family, Prefix};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

/// `/v1/peers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peers {
    /// This node.
    pub node: String,
    /// Our AS, once known.
    pub asn: Option<u32>,
    /// Our BGP Identifier, once known.
    pub router_id: Option<String>,
    /// Why no session is begun, where that is so.
    pub waiting: Option<String>,
    /// What is doubtful about the configuration in this cluster.
    pub doubts: Vec<String>,
    /// What is not as it should be, a line each: kind, what it is about, words.
    pub conditions: Vec<String>,
    /// By name.
    pub peers: Vec<Peer>,
}

/// One peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Its name in the configuration.
    pub name: String,
    /// Where we dial.
    pub address: IpAddr,
    /// The interface that the session is bound to.
    pub interface: Option<String>,
    /// TCP port.
    pub port: u16,
    /// Its AS.
    pub asn: u32,
    /// The state of RFC 4271 §8.2.2.
    pub state: String,
    /// When we began with it.
    pub started: Timestamp,
    /// When the next attempt is due, while one is waited for.
    pub retry_at: Option<Timestamp>,
    /// What exists only in Established.
    pub session: Option<Session>,
    /// What the kernel says about the session's socket.
    pub transport: Option<Transport>,
    /// Why and when the last session or attempt ended.
    pub last_down: Option<Down>,
    /// What is wrong beside the session: a password file that cannot be read any more, say.
    pub remarks: Vec<String>,
    /// Times Established was reached.
    pub established_count: u64,
    /// Routes that should be announced, a family; absent before the first plan.
    pub planned: Option<BTreeMap<String, usize>>,
    /// Routes it holds from us, a family.
    pub advertised: BTreeMap<String, usize>,
    /// Families of which nothing can be announced on this session, and why.
    pub unannounced: BTreeMap<String, String>,
    /// Routes wanted that never leave, and why (the first few).
    pub barred: Vec<String>,
    /// Families of the session of which the router accepts only so many prefixes.
    pub prefix_limits: BTreeMap<String, PrefixLimit>,
    /// Routes it offered; parsed and discarded.
    pub discarded: u64,
    /// What was malformed in what it sent, and what came of it (RFC 7606 §2).
    pub malformed: Vec<Malformed>,
    /// The newest messages with something malformed in them, newest last (the first few of many at once).
    pub incidents: Vec<Incident>,
    /// Messages sent, by name.
    pub sent: BTreeMap<String, u64>,
    /// Messages received, by name.
    pub received: BTreeMap<String, u64>,
    /// The newest NOTIFICATIONs of both directions, newest last.
    pub notifications: Vec<String>,
}

/// Something malformed, counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Malformed {
    /// What was wrong.
    pub cause: String,
    /// What came of it.
    pub consequence: String,
    /// How often.
    pub count: u64,
}

/// A message with something malformed in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Incident {
    /// Counted from 1 since the peer began.
    pub number: u64,
    /// What came of it.
    pub consequence: String,
    /// What was wrong.
    pub what: String,
    /// The prefixes that it is about, where they can be told.
    pub nlri: String,
    /// The message, or its beginning, in hexadecimal.
    pub octets: String,
}

/// How many prefixes of a family a router accepts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrefixLimit {
    /// As configured.
    pub accepts: u32,
    /// The most that are sent: 90 % of it.
    pub most: usize,
    /// Routes that are not sent because of it.
    pub held_back: usize,
}

/// An Established session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Since when.
    pub since: Timestamp,
    /// Our end.
    pub local: String,
    /// The peer's BGP Identifier.
    pub router_id: String,
    /// Negotiated hold time in seconds.
    pub hold_time_seconds: u64,
    /// Whether the peer keeps our routes when the session ends: `no`, `withoutNotification` or `withNotification`.
    pub graceful_restart: String,
    /// Families both offered.
    pub families: Vec<String>,
    /// Next hop sent, a family.
    pub next_hops: BTreeMap<String, IpAddr>,
    /// When the first table and its End-of-RIB were out.
    pub end_of_rib: Option<Timestamp>,
}

/// The options of a session's socket, read from the live one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transport {
    /// Our end.
    pub local: String,
    /// The router's end.
    pub remote: String,
    /// The interface that the socket is bound to (SO_BINDTODEVICE).
    pub interface: Option<String>,
    /// TTL or hop limit sent (IP_TTL, IPV6_UNICAST_HOPS).
    pub ttl: u8,
    /// The least that is accepted (IP_MINTTL, IPV6_MINHOPCOUNT; RFC 5082); 0: any.
    pub least_ttl: u8,
    /// TOS or traffic class: 192 is DSCP CS6.
    pub traffic_class: u8,
    /// TCP_USER_TIMEOUT; absent: the kernel's own.
    pub user_timeout_milliseconds: Option<u64>,
    /// Octets of data a segment (TCP_MAXSEG).
    pub segment_size: u16,
    /// TCP-MD5: `no`, or `keyInstalled`: the kernel took the key for this very socket. It cannot be read back without
    /// CAP_NET_ADMIN (which `ss -ti` has as root), so this one is not read, but what the kernel answered.
    pub md5: String,
}

/// The end of a session or attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Down {
    /// When.
    pub at: Timestamp,
    /// Why, spelled out.
    pub reason: String,
}

/// `/v1/routes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Routes {
    /// This node.
    pub node: String,
    /// What is not as it should be, a line each.
    pub conditions: Vec<String>,
    /// By peer, then by prefix.
    pub routes: Vec<Route>,
}

/// One route towards one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// The peer.
    pub peer: String,
    /// The address block.
    pub prefix: String,
    /// Whether the session is there to carry it.
    pub state: RouteState,
    /// Where the router should send the traffic; absent while no session decides it.
    pub next_hop: Option<IpAddr>,
    /// LOCAL_PREF, where configured.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC, where configured.
    pub med: Option<u32>,
    /// Times that our AS stands in the path beyond the once that it must, where configured.
    pub prepend: Option<u8>,
    /// Link bandwidth in bytes per second, where configured.
    pub link_bandwidth: Option<u64>,
    /// Communities, then extended, then large communities.
    pub communities: Vec<String>,
    /// How the address stands with the pools of today.
    pub place: RoutePlace,
}

/// How a route's address stands with the pools of today.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RoutePlace {
    /// A pool has it.
    InPool,
    /// None has: it was given from one that was edited since, and stays until its service is renumbered.
    OutsidePool,
}

/// Where a planned route stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RouteState {
    /// The session is Established and carries this family.
    Announced,
    /// The first table of this session is still being sent.
    Sending,
    /// No session.
    NoSession,
    /// The session does not carry this family, or has no next hop for it.
    FamilyNotCarried,
    /// It would be one more than the router is trusted to accept.
    HeldBack,
}

impl RouteState {
    /// For a table.
    pub fn text(self) -> &'static str {
        match self {
            RouteState::Announced => "announced",
            RouteState::Sending => "sending",
            RouteState::NoSession => "no session",
            RouteState::FamilyNotCarried => "family not carried",
            RouteState::HeldBack => "held back",
        }
    }
}

/// One moment on both clocks, to turn instants into timestamps.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    instant: Instant,
    wall: Timestamp,
}

impl Clock {
    /// The present.
    pub fn now() -> Self {
        Self { instant: tokio::time::Instant::now().into_std(), wall: Timestamp::now() }
    }

    /// When `then` was (or will be), to the second.
    pub fn timestamp(&self, then: Instant) -> Timestamp {
        let apart = |d: std::time::Duration| SignedDuration::try_from(d).unwrap_or(SignedDuration::MAX);
        let moment = match then.checked_duration_since(self.instant) {
            Some(ahead) => self.wall.saturating_add(apart(ahead)),
            None => self.wall.saturating_sub(apart(self.instant.duration_since(then))),
        };
        moment.ok().and_then(|moment| moment.round(jiff::Unit::Second).ok()).unwrap_or(self.wall)
    }
}

/// The node as it is now, still without peers, and each of them as it is when its turn comes.
pub fn peers(handles: &Handles, clock: Clock) -> (Peers, impl Iterator<Item = Peer> + use<>) {
    let speakers = handles.speakers.borrow().clone();
    let (identity, waiting) = match &speakers.standing {
        Standing::Waiting(why) => (None, Some(why.clone())),
        Standing::Known(identity) => (Some(*identity), None),
    };
    let peers: Vec<_> = speakers.peers.values().cloned().collect();
    let whole = Peers {
        node: handles.node.to_string(),
        asn: identity.map(|us| us.asn.0),
        router_id: identity.map(|us| us.router_id.to_string()),
        waiting,
        doubts: speakers.doubts.to_vec(),
        conditions: handles.conditions.borrow().lines(),
        peers: Vec::new(),
    };
    let peers = peers.into_iter().map(move |peer| {
        let (status, plan) = peer.now();
        let remarks = peer.remarks.into_iter().chain(useless(&status.phase)).collect();
        let transport = peer.transport.borrow().as_ref().map(Transport::of);
        Peer { transport, remarks, ..Peer::of(&status, plan.as_ref(), clock) }
    });
    (whole, peers)
}

/// A session that is up and carries nothing.
fn useless(phase: &Phase) -> Option<String> {
    let empty = matches!(phase, Phase::Established { families, .. } if families.is_empty());
    empty.then(|| NO_COMMON_FAMILY.to_owned())
}

impl Peer {
    fn of(status: &Status, plan: Option<&Plan>, clock: Clock) -> Self {
        let names = |counts: &BTreeMap<&'static str, u64>| {
            counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        Self {
            name: status.name.to_string(),
            address: status.address.ip(),
            interface: status.interface.as_ref().map(ToString::to_string),
            port: status.address.port(),
            asn: status.asn.0,
            state: status.phase.name().to_owned(),
            started: clock.timestamp(status.started),
            retry_at: match &status.phase {
                Phase::Idle { retry_at } => retry_at.map(|at| clock.timestamp(at)),
                Phase::Connect | Phase::Active | Phase::OpenSent | Phase::OpenConfirm | Phase::Established { .. } => {
                    None
                }
            },
            session: Session::of(&status.phase, clock),
            transport: None,
            remarks: Vec::new(),
            last_down: status
                .last_down
                .as_ref()
                .map(|(at, reason)| Down { at: clock.timestamp(*at), reason: reason.clone() }),
            established_count: status.established_count,
            planned: plan.map(|plan| count(plan.routes.iter().map(|(prefix, _)| prefix.family()))),
            advertised: by_text(&status.advertised),
            unannounced: by_text(&status.unannounced),
            barred: status.barred.clone(),
            prefix_limits: status.limits.iter().map(|(family, limit)| (family.to_string(), limit.into())).collect(),
            discarded: status.discarded,
            malformed: status.malformed.iter().map(|(what, count)| Malformed::of(*what, *count)).collect(),
            incidents: status.incidents.iter().map(Incident::from).collect(),
            sent: names(&status.sent),
            received: names(&status.received),
            notifications: status.notifications.clone(),
        }
    }
}

impl Transport {
    fn of(of: &transport::Transport) -> Self {
        Self {
            local: of.local.to_string(),
            remote: of.remote.to_string(),
            interface: of.interface.as_ref().map(ToString::to_string),
            ttl: of.ttl,
            least_ttl: of.least_ttl,
            traffic_class: of.traffic_class,
            user_timeout_milliseconds: of.user_timeout.and_then(|time| u64::try_from(time.as_millis()).ok()),
            segment_size: of.segment_size,
            md5: match of.signed {
                Signed::No => "no",
                Signed::KeyInstalled => "keyInstalled",
            }
            .to_owned(),
        }
    }
}

impl Malformed {
    fn of((cause, consequence): (&str, Consequence), count: u64) -> Self {
        Self { cause: cause.to_owned(), consequence: consequence.name().to_owned(), count }
    }
}

impl From<&status::Incident> for Incident {
    fn from(incident: &status::Incident) -> Self {
        let status::Incident { number, consequence, what, nlri, octets } = incident.clone();
        Self { number, consequence: consequence.name().to_owned(), what, nlri, octets }
    }
}

impl From<&Limit> for PrefixLimit {
    fn from(Limit { accepts, most, held_back, room: _ }: &Limit) -> Self {
        Self { accepts: *accepts, most: *most, held_back: held_back.len() }
    }
}

impl Session {
    fn of(phase: &Phase, clock: Clock) -> Option<Self> {
        let Phase::Established { since, local, router_id, hold_time, graceful, families, next_hops, end_of_rib } =
            phase
        else {
            return None;
        };
        Some(Self {
            since: clock.timestamp(*since),
            local: local.to_string(),
            router_id: router_id.to_string(),
            hold_time_seconds: hold_time.as_secs(),
            graceful_restart: match graceful {
                Graceful::No => "no",
                Graceful::WithoutNotification => "withoutNotification",
                Graceful::WithNotification => "withNotification",
            }
            .to_owned(),
            families: families.iter().map(ToString::to_string).collect(),
            next_hops: by_text(next_hops),
            end_of_rib: match end_of_rib {
                EndOfRib::Pending => None,
                EndOfRib::Sent(at) => Some(clock.timestamp(*at)),
            },
        })
    }
}

fn by_text<V: Clone>(families: &BTreeMap<Family, V>) -> BTreeMap<String, V> {
    families.iter().map(|(family, value)| (family.to_string(), value.clone())).collect()
}

fn count(families: impl Iterator<Item = Family>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    families.for_each(|family| *counts.entry(family).or_insert(0) += 1);
    by_text(&counts)
}

/// The node, still without routes, and its routes, all or those of one peer.
pub fn routes(handles: &Handles, only: Option<&str>) -> (Routes, impl Iterator<Item = Route> + use<>) {
    let speakers = handles.speakers.borrow().clone();
    let wanted = |name: &PeerName| only.is_none_or(|only| only == &*name.0);
    let peers: Vec<_> = speakers.peers.iter().filter(|(name, _)| wanted(name)).map(|(_, peer)| peer.clone()).collect();
    let whole =
        Routes { node: handles.node.to_string(), conditions: handles.conditions.borrow().lines(), routes: Vec::new() };
    (whole, peers.into_iter().flat_map(|peer| routes_of(&peer)))
}

/// One after the other, of the plan as it is when the first is asked for.
fn routes_of(peer: &PeerHandles) -> impl Iterator<Item = Route> + use<> {
    let (status, plan) = peer.now();
    let mut last = None;
    std::iter::from_fn(move || {
        let plan = plan.as_ref()?;
        let (prefix, attributes) = plan.routes.next(last.as_ref())?;
        last = Some(*prefix);
        Some(Route::of(&status, plan, prefix, attributes))
    })
}

impl Route {
    fn of(status: &Status, plan: &Plan, prefix: &Prefix, attributes: &Attributes) -> Self {
        let own = match &status.phase {
            Phase::Established { next_hops, .. } => next_hops.get(&prefix.family()).copied(),
            Phase::Idle { .. } | Phase::Connect | Phase::Active | Phase::OpenSent | Phase::OpenConfirm => None,
        };
        let extended = attributes.extended_communities.iter().map(ToString::to_string);
        let large = attributes.large_communities.iter().map(ToString::to_string);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a finite rate that is not negative"
        )]
        let rounded = |rate: Bandwidth| rate.bytes_per_second().round() as u64;
        Self {
            peer: status.name.to_string(),
            prefix: prefix.to_string(),
            state: RouteState::of(prefix, status),
            next_hop: match attributes.next_hop {
                NextHop::Own => own,
                NextHop::Address(address) => Some(address),
            },
            local_pref: attributes.local_pref,
            med: attributes.med,
            prepend: attributes.prepend,
            link_bandwidth: attributes.link_bandwidth.map(rounded),
            communities: attributes.communities.iter().map(ToString::to_string).chain(extended).chain(large).collect(),
            place: if plan.bounds.retains(prefix) { RoutePlace::OutsidePool } else { RoutePlace::InPool },
        }
    }
}

impl RouteState {
    fn of(prefix: &Prefix, status: &Status) -> Self {
        let family = prefix.family();
        match &status.phase {
            Phase::Idle { .. } | Phase::Connect | Phase::Active | Phase::OpenSent | Phase::OpenConfirm => {
                Self::NoSession
            }
            Phase::Established { families, .. }
                if !families.contains(&family) || status.unannounced.contains_key(&family) =>
            {
                Self::FamilyNotCarried
            }
            Phase::Established { .. }
                if status.limits.get(&family).is_some_and(|limit| limit.held_back.contains(prefix)) =>
            {
                Self::HeldBack
            }
            Phase::Established { end_of_rib: EndOfRib::Pending, .. } => Self::Sending,
            Phase::Established { end_of_rib: EndOfRib::Sent(_), .. } => Self::Announced,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn instants_become_timestamps_of_past_and_future() {
        let clock =
            Clock { instant: tokio::time::Instant::now().into_std(), wall: "2026-11-24T10:00:00Z".parse().unwrap() };
        let text = |then| clock.timestamp(then).to_string();
        assert_eq!(text(clock.instant - Duration::from_millis(90_400)), "2026-11-24T09:58:30Z");
        assert_eq!(text(clock.instant + Duration::from_secs(5)), "2026-11-24T10:00:05Z");
    }
}
