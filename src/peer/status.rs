//! What is known about a peer, for people and for metrics.

use super::settings::{InterfaceName, PeerName, Settings};
use crate::wire::{Asn, Family, Prefix, RouterId};
use imbl::OrdSet;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

pub use crate::fsm::restart::Graceful;

/// What is wrong with a session of no family (RFC 4760 §8: each is used only where both sides offered it).
pub const NO_COMMON_FAMILY: &str = "no common family: the session is up and nothing can be announced on it; activate IPv4 or \
                                    IPv6 unicast for this node on the router, or correct 'families' here";

/// A snapshot of one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its name in the configuration.
    pub name: PeerName,
    /// Where we dial; `::` while a router is looked for.
    pub address: SocketAddr,
    /// The interface that the session is bound to.
    pub interface: Option<InterfaceName>,
    /// Its configured AS.
    pub asn: Asn,
    /// Where the session stands.
    pub phase: Phase,
    /// When this peer was first started.
    pub started: Instant,
    /// Why the last session or attempt ended, spelled out, and when.
    pub last_down: Option<(Instant, String)>,
    /// Whether this peer had the whole table and its End-of-RIB at least once.
    pub first_table: FirstTable,
    /// Times Established was reached.
    pub established_count: u64,
    /// Connections that were closed because another one was kept (RFC 4271 §6.8).
    pub collisions: u64,
    /// Messages sent and received, by message name.
    pub sent: BTreeMap<&'static str, u64>,
    /// See `sent`.
    pub received: BTreeMap<&'static str, u64>,
    /// NOTIFICATIONs sent and received, newest last, spelled out; at most 8 are kept.
    pub notifications: Vec<String>,
    /// Routes the peer holds from us, a family.
    pub advertised: BTreeMap<Family, usize>,
    /// Families of which nothing can be announced on this session, and why.
    pub unannounced: BTreeMap<Family, String>,
    /// Routes wanted that never leave (a default route, loopback and the like), spelled out; at most 8 are named.
    pub barred: Vec<String>,
    /// Families of the session of which the peer accepts only so many routes.
    pub limits: BTreeMap<Family, Limit>,
    /// Routes a peer offered that were parsed and discarded.
    pub discarded: u64,
    /// Malformed attributes in a peer's UPDATEs that the session survived (RFC 7606).
    pub faults: u64,
    /// What was malformed in what the peer sent, by cause and consequence: how often.
    pub malformed: BTreeMap<(&'static str, Consequence), u64>,
    /// Messages with something malformed in them, all of them.
    pub incident_count: u64,
    /// The newest of them that are spelled out, newest last; at most 8 are kept, and of many at once only the first few.
    pub incidents: Vec<Incident>,
}

/// What came of something malformed (RFC 7606 §2), weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Consequence {
    /// A route whose next hop no host can have was ignored (RFC 4271 §6.3).
    RoutesIgnored,
    /// The attribute was dropped.
    AttributeDiscard,
    /// The routes of the message were taken as withdrawn.
    TreatAsWithdraw,
    /// The session ended.
    SessionReset,
}

impl Consequence {
    /// As RFC 7606 names it, for labels.
    pub fn name(self) -> &'static str {
        match self {
            Consequence::RoutesIgnored => "routes-ignored",
            Consequence::AttributeDiscard => "attribute-discard",
            Consequence::TreatAsWithdraw => "treat-as-withdraw",
            Consequence::SessionReset => "session-reset",
        }
    }
}

/// A message with something malformed in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// Counted from 1 since the peer began.
    pub number: u64,
    /// The strongest of all faults.
    pub consequence: Consequence,
    /// What was wrong, with the octets of each attribute.
    pub what: String,
    /// The prefixes that the message is about; empty where they cannot be told.
    pub nlri: String,
    /// The message, or its beginning, in hexadecimal.
    pub octets: String,
}

/// How many routes of a family a peer accepts, and how we keep below that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// As configured: what the peer accepts.
    pub accepts: u32,
    /// The most that are sent: 90 % of it.
    pub most: usize,
    /// Routes that are not sent, because then there would be more.
    pub held_back: OrdSet<Prefix>,
    /// How near the limit is.
    pub room: Room,
}

/// How near a limit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// Less than 75 % of what the peer accepts is sent.
    Ample,
    /// 75 % and more, and everything wanted is sent.
    Scarce,
    /// Something is held back.
    Full,
}

/// Where a session stands: the states of RFC 4271 §8.2.2 with what exists only in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Waiting before the next attempt; `None` when stopped.
    Idle {
        /// When we dial again.
        retry_at: Option<Instant>,
    },
    /// TCP is being opened.
    Connect,
    /// Waiting for a connection.
    Active,
    /// Our OPEN is out.
    OpenSent,
    /// Both OPENs are in.
    OpenConfirm,
    /// Routes flow.
    Established {
        /// Since when.
        since: Instant,
        /// Our end of the connection.
        local: SocketAddr,
        /// The peer's BGP Identifier.
        router_id: RouterId,
        /// The smaller of both hold times.
        hold_time: Duration,
        /// Whether the peer keeps our routes when the session ends.
        graceful: Graceful,
        /// Families both offered.
        families: Vec<Family>,
        /// Next hop sent, a family.
        next_hops: BTreeMap<Family, IpAddr>,
        /// Whether the first complete plan and its End-of-RIB went out.
        end_of_rib: EndOfRib,
    },
}

/// Whether a peer ever had the whole table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstTable {
    /// Not yet.
    Pending,
    /// Once at least, on this session or an earlier one.
    Sent,
}

/// Whether the initial table was sent completely (RFC 4724 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOfRib {
    /// No plan yet, or the first table is still being sent.
    Pending,
    /// Sent at this moment.
    Sent(Instant),
}

impl Status {
    /// The status of a peer that must not be begun with, since `since`; why, for people.
    pub fn held_back(settings: &Settings, since: Instant, why: &str, now: Instant) -> Self {
        Self { last_down: Some((now, why.to_owned())), ..Self::at_rest(settings, since) }
    }

    /// The status of a peer that was made and not started.
    pub(super) fn at_rest(settings: &Settings, now: Instant) -> Self {
        let neighbor = &settings.neighbor;
        Self {
            name: neighbor.name.clone(),
            address: SocketAddr::new(neighbor.address, neighbor.port),
            interface: neighbor.interface.clone(),
            asn: neighbor.asn,
            phase: Phase::Idle { retry_at: None },
            started: now,
            last_down: None,
            first_table: FirstTable::Pending,
            established_count: 0,
            collisions: 0,
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
            notifications: Vec::new(),
            advertised: BTreeMap::new(),
            unannounced: BTreeMap::new(),
            barred: Vec::new(),
            limits: BTreeMap::new(),
            discarded: 0,
            faults: 0,
            malformed: BTreeMap::new(),
            incident_count: 0,
            incidents: Vec::new(),
        }
    }
}

impl Phase {
    /// The state's name in RFC 4271 §8.2.2.
    pub fn name(&self) -> &'static str {
        match self {
            Phase::Idle { .. } => "Idle",
            Phase::Connect => "Connect",
            Phase::Active => "Active",
            Phase::OpenSent => "OpenSent",
            Phase::OpenConfirm => "OpenConfirm",
            Phase::Established { .. } => "Established",
        }
    }
}
