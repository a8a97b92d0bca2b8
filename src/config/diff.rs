//! What a new configuration means for what runs on one node.

use super::resolve::Config;
use crate::advertise::Node;
use crate::peer::Settings;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What differs for one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// By peer name; peers whose session goes on as it is are absent.
    pub peers: BTreeMap<Arc<str>, PeerChange>,
    /// Whether another plan is needed. A new plan never ends a session.
    pub policy: PolicyChange,
}

/// What happens to the session with one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerChange {
    /// It begins: the peer is new, or its selector now takes this node in.
    Added,
    /// It ends: the peer is gone, or its selector now leaves this node out.
    Removed,
    /// It must begin anew, for these reasons; at least one.
    Restart(Vec<Cause>),
}

/// Whether what is announced is decided by other rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyChange {
    /// The same rules.
    Same,
    /// Pools, advertisements, selectors or switches differ: plan anew and diff.
    Replan,
}

/// What of a session cannot change while it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Our AS number.
    LocalAsn,
    /// Our BGP Identifier.
    RouterId,
    /// The peer's address.
    Address,
    /// Its port.
    Port,
    /// Its AS number.
    Asn,
    /// The hold time proposed in our OPEN.
    HoldTime,
    /// The address we dial from.
    SourceAddress,
    /// The families offered in our OPEN.
    Families,
    /// The TTL of the connection.
    Ttl,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::LocalAsn => "our AS number",
            Cause::RouterId => "our router ID",
            Cause::Address => "address",
            Cause::Port => "port",
            Cause::Asn => "AS number",
            Cause::HoldTime => "hold time",
            Cause::SourceAddress => "source address",
            Cause::Families => "families",
            Cause::Ttl => "TTL",
        })
    }
}

/// What changes on the node `name` when `new` takes the place of `old`.
pub fn diff(old: &Config, new: &Config, name: &str, node: &Node) -> Changes {
    let (before, after) = (old.sessions(name, node), new.sessions(name, node));
    let gone = before.keys().filter(|peer| !after.contains_key(*peer));
    let gone = gone.map(|peer| (Arc::clone(peer), PeerChange::Removed));
    let here = after.iter().filter_map(|(peer, settings)| {
        let change = match before.get(peer).map(|running| restart_causes(running, settings)) {
            None => PeerChange::Added,
            Some(causes) if causes.is_empty() => return None,
            Some(causes) => PeerChange::Restart(causes),
        };
        Some((Arc::clone(peer), change))
    });
    let policy = if old.policy == new.policy { PolicyChange::Same } else { PolicyChange::Replan };
    Changes { peers: gone.chain(here).collect(), policy }
}

/// Why a session with the settings `running` must begin anew to have the settings `wanted`; empty: it need not.
pub fn restart_causes(running: &Settings, wanted: &Settings) -> Vec<Cause> {
    // Taken apart, so that a new field cannot be forgotten here.
    let Settings { identity, neighbor } = running;
    let crate::peer::Identity { asn: local_asn, router_id } = identity;
    let crate::peer::Neighbor { name: _, address, port, asn, hold_time, source_address, families, ttl } = neighbor;
    let other = &wanted.neighbor;
    let causes = [
        (Cause::LocalAsn, *local_asn != wanted.identity.asn),
        (Cause::RouterId, *router_id != wanted.identity.router_id),
        (Cause::Address, *address != other.address),
        (Cause::Port, *port != other.port),
        (Cause::Asn, *asn != other.asn),
        (Cause::HoldTime, *hold_time != other.hold_time),
        (Cause::SourceAddress, *source_address != other.source_address),
        (Cause::Families, *families != other.families),
        (Cause::Ttl, *ttl != other.ttl),
    ];
    causes.into_iter().filter(|(_, differs)| *differs).map(|(cause, _)| cause).collect()
}
