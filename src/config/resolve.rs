//! Raw to sure.

use super::advertisements;
use super::allocation::{self, Allocation};
use super::error::{Diagnostics, Finding, Place, Severity};
use super::guard;
use super::listen::{self, Listen};
use super::names::Names;
use super::peers::{self, PeerConfig};
use super::pools;
use super::raw;
use super::review::Review;
use super::shape;
use super::transport::Reach;
use super::values::{asn, duration, router_id};
use crate::advertise::guard::fingerprint;
use crate::advertise::policy::{Classless, ExcludeLabel};
use crate::advertise::{Limits, Policy};
use crate::wire::{Asn, RouterId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// `reload.patience` where nothing is said: more than a router's retry after a reset, less than anybody waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration that holds together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Our AS.
    pub asn: Asn,
    /// `routerId` for every node, for clusters of one.
    pub router_id: Option<RouterId>,
    /// `nodes[].routerId`: by node name.
    pub node_router_ids: BTreeMap<Arc<str>, RouterId>,
    /// Where routers may dial us; nowhere where absent.
    pub listen: Option<Listen>,
    /// Peers by name.
    pub peers: BTreeMap<Arc<str>, PeerConfig>,
    /// What is announced.
    pub policy: Arc<Policy>,
    /// Who may have which address.
    pub allocation: Arc<Allocation>,
    /// `reload.patience`: how long a session that a change reset may take to come back, where we dial.
    pub patience: Duration,
    /// How much may be withdrawn at once.
    pub guard: Limits,
}

impl Config {
    /// Reads a configuration. `name` is the file's name for messages.
    ///
    /// # Errors
    /// The first error of shape, or all errors of meaning; warnings come along in both cases.
    pub fn parse(name: &str, text: &str) -> Result<(Self, Diagnostics), Diagnostics> {
        // Neither a byte-order mark nor the line ends of another system are part of what people see.
        let text = &text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
        let mut out = Vec::new();
        let config = match shape::read(text) {
            Ok(raw) => {
                out.extend(shape::valueless(text));
                resolve(&raw, &mut out)
            }
            Err(finding) => {
                out.push(finding);
                None
            }
        };
        let found = Diagnostics::new(name, &shape::masked(text), out);
        match config {
            Some(config) if found.count(Severity::Error) == 0 => Ok((config, found)),
            Some(_) | None => Err(found),
        }
    }
}

impl Config {
    /// What tells it from others, `guard` apart: the same on all nodes that have the same file. No secret is in it.
    pub fn fingerprint(&self) -> String {
        let plain = Self { guard: Limits::default(), ..self.clone() };
        fingerprint([format!("{plain:?}").as_str()])
    }
}

/// The configuration, if nothing in it is wrong.
fn resolve(raw: &raw::File, out: &mut Vec<Finding>) -> Option<Config> {
    let asn = match &raw.asn {
        Some(value) => asn(value, out),
        None => {
            let help = "add 'asn: 64512' at the top: the AS number of this cluster's nodes";
            out.push(Finding::error(Place::default(), "'asn' is missing").help(help));
            None
        }
    };
    let own_router_id = raw.router_id.as_ref().map(|value| router_id(value, out));
    let node_router_ids = nodes(&raw.nodes, out);
    let listen = listen::resolve(raw.listen.as_ref(), out);
    let (peer_names, peers) = peers::resolve(raw, out);
    let (pool_names, pools) = pools::resolve(&raw.pools, out);
    let advertisements = advertisements::resolve(&raw.advertisements, &pool_names, &peer_names, out);
    let allocation = allocation::resolve(raw, &pools, &peers, out);
    let guard = guard::resolve(raw.guard.as_ref(), out);
    let classless = raw.services.as_ref().and_then(|services| services.classless.as_ref());
    let policy = Policy {
        peers: peers.iter().map(|(name, peer)| (Arc::clone(name), peer.nodes.clone())).collect(),
        peer_addresses: peers.values().filter(|peer| peer.reach == Reach::One).map(|p| p.neighbor.address).collect(),
        pools,
        advertisements,
        classless: match classless.is_none_or(|value| value.value) {
            true => Classless::Announce,
            false => Classless::Ignore,
        },
        exclude_label: match raw.ignore_exclude_label.as_ref().is_some_and(|value| value.value) {
            true => ExcludeLabel::Ignore,
            false => ExcludeLabel::Honour,
        },
    };
    let patience = raw.reload.as_ref().and_then(|reload| reload.patience.as_ref());
    let patience = patience.map_or(Some(PATIENCE), |value| duration("patience", value, 1..=3600, out));
    if out.iter().any(|finding| finding.severity() == Severity::Error) {
        return None;
    }
    let asn = asn?;
    Review { raw, asn, peers: &peers, policy: &policy }.run(out);
    let (router_id, policy, allocation) = (own_router_id.flatten(), Arc::new(policy), Arc::new(allocation));
    Some(Config { asn, router_id, node_router_ids, listen, peers, policy, allocation, patience: patience?, guard })
}

fn nodes(raw: &raw::List<raw::Node>, out: &mut Vec<Finding>) -> BTreeMap<Arc<str>, RouterId> {
    let mut names = Names::new("node", "nodes");
    let mut ids: BTreeMap<Arc<str>, RouterId> = BTreeMap::new();
    let mut places: BTreeMap<RouterId, Place> = BTreeMap::new();
    for object in raw.iter().flatten() {
        let name = names.give(Place::of(object), object.value.name.as_ref(), out);
        let Some(value) = &object.value.router_id else {
            let place = object.value.name.as_ref().map_or(Place::of(object), Place::of);
            let help = "add 'routerId: 10.0.0.1', or remove the entry: a node needs none here";
            out.push(Finding::error(place, "nothing is said about this node").help(help));
            continue;
        };
        let Some(id) = router_id(value, out) else { continue };
        if let Some(first) = places.get(&id) {
            let title = format!("two nodes would have the router ID {id}");
            let help =
                "a router refuses or resets one of two sessions with the same ID (RFC 6286 §2.1); give each its own";
            out.push(Finding::error(Place::of(value), title).related(*first, "it is taken here").help(help));
        }
        places.entry(id).or_insert(Place::of(value));
        if let Some(name) = name {
            ids.insert(name, id);
        }
    }
    ids
}
