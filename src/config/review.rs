//! Doubts that only the whole shows. Runs on a configuration without errors.

use super::error::{Finding, Place};
use super::names::listed;
use super::peers::PeerConfig;
use super::raw;
use super::transport::Reach;
use crate::advertise::{Advertisement, NodeSelector, Policy};
use crate::wire::{Asn, ExtendedCommunity, Family, PeerKind, Scope};
use serde_saphyr::Spanned;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Octets of communities, of all three kinds, that one route may carry. A message has 4096 (RFC 4271 §4), and a route
/// must still fit beside them.
const LARGEST_COMMUNITIES: usize = 2048;

/// Everything that a review looks at.
#[derive(Debug, Clone, Copy)]
pub struct Review<'a> {
    /// The file.
    pub raw: &'a raw::File,
    /// Our AS.
    pub asn: Asn,
    /// The peers.
    pub peers: &'a BTreeMap<Arc<str>, PeerConfig>,
    /// What is announced.
    pub policy: &'a Policy,
}

impl Review<'_> {
    /// Adds what it finds.
    pub fn run(self, out: &mut Vec<Finding>) {
        if self.peers.is_empty() {
            let place = self.raw.asn.as_ref().map(Place::of).unwrap_or_default();
            let help = "list the routers under 'peers', each with name, address and asn";
            out.push(Finding::warning(place, "there are no peers, so nothing is announced").help(help));
        }
        for object in self.raw.peers.iter().flatten() {
            self.peer(&object.value, out);
        }
        for object in self.raw.pools.iter().flatten() {
            self.pool(&object.value, out);
        }
        for (object, resolved) in self.raw.advertisements.iter().flatten().zip(&self.policy.advertisements) {
            self.advertisement(&object.value, resolved, out);
        }
    }

    fn peer(&self, raw: &raw::Peer, out: &mut Vec<Finding>) {
        let address = raw.address.as_ref().or(raw.range.as_ref());
        let Some((name, address)) = raw.name.as_ref().zip(address) else { return };
        let Some(peer) = self.peers.get(name.value.as_str()) else { return };
        let reaching: Vec<_> = self.policy.advertisements.iter().filter(|a| reaches(a, &name.value, peer)).collect();
        if reaching.is_empty() {
            let title = format!("no advertisement reaches peer {:?}, so it is told nothing", name.value);
            let named = self.policy.advertisements.iter().any(|a| a.peers.contains(name.value.as_str()));
            let help = match named {
                true => "it is named, but its nodes are not among those that announce; compare the nodeSelectors",
                false => "name it under 'peers' of an advertisement",
            };
            out.push(Finding::warning(Place::of(name), title).help(help));
        }
        let pool = self.policy.pools.iter().find(|(_, pool)| pool.contains(peer.neighbor.address));
        if let Some((pool, _)) = pool {
            let title = format!("the address of peer {:?} lies in pool {pool:?}", name.value);
            let help = "a service with the router's own address would cut the session; take it out of the pool";
            out.push(Finding::warning(Place::of(address), title).help(help));
        }
        let internal = peer.neighbor.asn == self.asn;
        if let Some(multihop) = raw.ebgp_multihop.as_ref().filter(|_| internal) {
            let title = format!("ebgpMultihop on {:?}, which is in our own AS", name.value);
            let help = "iBGP peers may be routers away already; remove it, or correct the AS number";
            out.push(Finding::warning(Place::of(multihop), title).help(help));
        }
        self.unsigned(name, address, peer, out);
        self.communities(name, &reaching, out);
        self.weights(name, &reaching, out);
    }

    /// The kernel knows keys by block and no exception from them: who dials from a block with a key must sign (RFC 2385).
    fn unsigned(&self, name: &Spanned<String>, at: &Spanned<String>, peer: &PeerConfig, out: &mut Vec<Finding>) {
        if peer.is_signed() || peer.reach != Reach::One {
            return;
        }
        let asks_for_a_key = |(_, other): &(&Arc<str>, &PeerConfig)| {
            let within = matches!(other.reach, Reach::Range(range) if range.contains(peer.neighbor.address));
            within && other.is_signed() && !other.nodes.is_disjoint(&peer.nodes)
        };
        if let Some((range, _)) = self.peers.iter().find(asks_for_a_key) {
            let title = format!("{:?} has no password, but lies in the range of {range:?}, which has one", name.value);
            let help =
                "when this router dials without that key the kernel drops it unheard; give it a password of its own";
            out.push(Finding::warning(Place::of(at), title).help(help));
        }
    }

    /// Routers weigh paths only where each of them has a bandwidth (RFC 10005 §4).
    fn weights(&self, peer: &Spanned<String>, reaching: &[&Advertisement], out: &mut Vec<Finding>) {
        for pool in self.policy.pools.keys() {
            let of_pool: Vec<_> = reaching.iter().filter(|a| a.pools.contains(pool)).collect();
            let [with, without] = [true, false].map(|wanted| of_pool.iter().find(|a| has_bandwidth(a) == wanted));
            let everywhere = of_pool.iter().any(|a| has_bandwidth(a) && a.nodes.requirements.is_empty());
            if let (Some(with), Some(without), false) = (with, without, everywhere) {
                let title = format!(
                    "towards {:?} some nodes may announce pool {pool:?} with a link bandwidth and others without",
                    peer.value
                );
                let help = format!(
                    "{:?} has one and {:?} has none: routers share traffic equally unless every path has one (RFC 10005 §4)",
                    with.name, without.name
                );
                out.push(Finding::warning(Place::of(peer), title).help(help));
            }
        }
    }

    /// What routes to one peer carry at most must fit beside a route in one message.
    fn communities(&self, peer: &Spanned<String>, reaching: &[&Advertisement], out: &mut Vec<Finding>) {
        let standard: BTreeSet<_> = reaching.iter().flat_map(|a| &a.attributes.communities).collect();
        let extended: BTreeSet<_> = reaching.iter().flat_map(|a| &a.attributes.extended_communities).collect();
        let large: BTreeSet<_> = reaching.iter().flat_map(|a| &a.attributes.large_communities).collect();
        let bandwidths = usize::from(reaching.iter().any(|a| a.attributes.link_bandwidth.is_some()));
        let octets = standard.len() * 4 + (extended.len() + bandwidths) * 8 + large.len() * 12;
        if octets > LARGEST_COMMUNITIES {
            let title = format!("routes to {:?} may carry communities of {octets} octets", peer.value);
            let help = format!(
                "a route has room for {LARGEST_COMMUNITIES}; a community takes 4, an extended one 8, a large one 12"
            );
            out.push(Finding::error(Place::of(peer), title).help(help));
        }
    }

    fn pool(&self, raw: &raw::Pool, out: &mut Vec<Finding>) {
        if let Some(wish) = raw.announce_node_addresses.as_ref().filter(|wish| wish.value) {
            let title = "addresses of nodes are announced where a Service's status shows them".to_owned();
            let help = "whoever writes a status then draws a node's traffic, its sessions with routers included, to every node; \
                        keep it for addresses that are meant so";
            out.push(Finding::warning(Place::of(wish), title).help(help));
        }
        let Some((name, pool)) =
            raw.name.as_ref().and_then(|name| Some((name, self.policy.pools.get(name.value.as_str())?)))
        else {
            return;
        };
        let covering = || self.policy.advertisements.iter().filter(|a| a.pools.contains(name.value.as_str()));
        for (family, is_ipv4) in [("IPv4", true), ("IPv6", false)] {
            let holds = pool.ranges.iter().any(|(first, _)| first.is_ipv4() == is_ipv4);
            let wanted = if is_ipv4 { Family::IPV4_UNICAST } else { Family::IPV6_UNICAST };
            let carries = |peer: &Arc<str>| self.peers.get(peer).is_some_and(|p| p.neighbor.families.contains(&wanted));
            let mut told = covering().flat_map(|a| &a.peers).peekable();
            if holds && told.peek().is_some() && !told.any(carries) {
                let title = format!(
                    "pool {:?} has {family} addresses, but no peer that it goes to carries {family}",
                    name.value
                );
                let help = format!("add {} to 'families' of such a peer", family.to_lowercase());
                out.push(Finding::warning(Place::of(name), title).help(help));
            }
        }
        if covering().next().is_none() {
            let title = format!("no advertisement covers pool {:?}, so it is not announced", name.value);
            let help = "name it under 'pools' of an advertisement";
            out.push(Finding::warning(Place::of(name), title).help(help));
        }
    }

    /// What only one kind of peer is told, where the other kind is named.
    fn for_one_kind(&self, raw: &raw::Advertisement, resolved: &Advertisement, out: &mut Vec<Finding>) {
        let of_kind = |kind: PeerKind| {
            let is = |peer: &PeerConfig| match kind {
                PeerKind::Internal => peer.neighbor.asn == self.asn,
                PeerKind::External => peer.neighbor.asn != self.asn,
            };
            listed(resolved.peers.iter().filter(|peer| self.peers.get(*peer).is_some_and(is)).map(Arc::as_ref))
        };
        let (internal, external) = (of_kind(PeerKind::Internal), of_kind(PeerKind::External));
        if let Some(value) = raw.local_preference.as_ref().filter(|_| !external.is_empty()) {
            let title = format!("LOCAL_PREF is not sent to eBGP peers: {external}");
            let help = "it means something inside an AS only (RFC 4271 §5.1.5); use a community that the router maps";
            out.push(Finding::warning(Place::of(value), title).help(help));
        }
        if let Some(value) = raw.prepend.as_ref().filter(|value| value.value > 0 && !internal.is_empty()) {
            let title = format!("paths to iBGP peers are not lengthened: {internal}");
            let help =
                "they would take our AS in a path for a loop (RFC 4271 §9.1.2); use localPreference towards them";
            out.push(Finding::warning(Place::of(value), title).help(help));
        }
        for text in raw.communities.iter().flatten().filter(|_| !external.is_empty()) {
            let inside = text.value.parse::<ExtendedCommunity>().ok().filter(|one| one.scope() == Scope::NonTransitive);
            let Some(community) = inside else { continue };
            let finding = match community.bandwidth() {
                None => {
                    Finding::warning(Place::of(text), format!("{:?} is not sent to eBGP peers: {external}", text.value))
                        .help("it is of a type that stays inside an AS (RFC 4360 §6)")
                }
                Some(_) => Finding::warning(
                    Place::of(text),
                    format!("{:?} may not survive the way to eBGP peers: {external}", text.value),
                )
                .help("most routers drop what is non-transitive there; write link-bandwidth, or the key linkBandwidth"),
            };
            out.push(finding);
        }
    }

    fn advertisement(&self, raw: &raw::Advertisement, resolved: &Advertisement, out: &mut Vec<Finding>) {
        self.for_one_kind(raw, resolved, out);
        bandwidths(raw, resolved, out);
        // A selector that contradicts itself was reported where it stands.
        let possible = |selector: &NodeSelector| !selector.is_disjoint(&NodeSelector::default());
        for named in raw.peers.iter().flatten().filter(|_| possible(&resolved.nodes)) {
            let Some(peer) = self.peers.get(named.value.as_str()) else { continue };
            if possible(&peer.nodes) && peer.nodes.is_disjoint(&resolved.nodes) {
                let title = format!("no node announces {:?} to {:?}", resolved.name, named.value);
                let help = "the nodeSelectors of the advertisement and of the peer exclude one another";
                out.push(Finding::warning(Place::of(named), title).help(help));
            }
        }
    }
}

/// A rate that stands there twice: routers take the lower one (RFC 10005 §4).
fn bandwidths(raw: &raw::Advertisement, resolved: &Advertisement, out: &mut Vec<Finding>) {
    let attributes = &resolved.attributes;
    let all = attributes.extended_communities.iter().filter_map(ExtendedCommunity::bandwidth);
    let rates: BTreeSet<_> = all.chain(attributes.link_bandwidth).collect();
    if rates.len() > 1 {
        let place = raw.link_bandwidth.as_ref().map(Place::of);
        let place = place.or(raw.name.as_ref().map(Place::of)).unwrap_or_default();
        let title = format!("{:?} gives its routes link bandwidths that differ", resolved.name);
        let help = "keep one: routers take the lowest (RFC 10005 §4)";
        out.push(Finding::warning(place, title).help(help));
    }
}

/// Whether routes say what the link carries, as far as is known: by the key or by a community.
fn has_bandwidth(advertisement: &Advertisement) -> bool {
    let attributes = &advertisement.attributes;
    attributes.link_bandwidth.is_some() || attributes.extended_communities.iter().any(|one| one.bandwidth().is_some())
}

fn reaches(advertisement: &Advertisement, name: &str, peer: &PeerConfig) -> bool {
    advertisement.peers.contains(name) && !advertisement.nodes.is_disjoint(&peer.nodes)
}
