//! The routers to peer with.

use super::error::{Finding, Place};
use super::names::{Names, nearest};
use super::raw;
use super::selector;
use super::transport::{self, Reach, RouterAdvertisements, Whereto};
use super::values::{asn, hold_time, number, session_address};
use crate::advertise::NodeSelector;
use crate::peer::settings::{InterfaceName, NextHopOverrides, Ttl, is_link_local};
use crate::peer::{Neighbor, PeerName};
use crate::rib::PrefixLimits;
use crate::wire::Family;
use ipnetwork::IpNetwork;
use serde_saphyr::Spanned;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A peer and the nodes that have a session with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// Which nodes.
    pub nodes: NodeSelector,
    /// One router, or all of a block.
    pub reach: Reach,
    /// How many prefixes the router accepts, where the file says so. A change ends no session.
    pub prefix_limits: PrefixLimits,
    /// The neighbour; of a block the pattern for all of them, with the block's first address; `::` where it is to be found.
    pub neighbor: Neighbor,
    /// The file that holds its password, which `neighbor` then lacks.
    pub password_file: Option<PathBuf>,
    /// Next hops that its routes have instead of ours.
    pub next_hops: NextHopOverrides,
    /// Whether we advertise ourselves on its interface.
    pub router_advertisements: RouterAdvertisements,
}

impl PeerConfig {
    /// Whether its segments carry TCP-MD5 signatures (RFC 2385), wherever the key is kept.
    pub fn is_signed(&self) -> bool {
        self.neighbor.password.is_some() || self.password_file.is_some()
    }
}

const FAMILIES: [(&str, Family); 2] = [("ipv4", Family::IPV4_UNICAST), ("ipv6", Family::IPV6_UNICAST)];

/// Names and peers; a peer with an error has its name only.
pub fn resolve(file: &raw::File, out: &mut Vec<Finding>) -> (Names, BTreeMap<Arc<str>, PeerConfig>) {
    let mut names = Names::new("peer", "peers");
    let mut peers = BTreeMap::new();
    let mut ends: BTreeMap<End, Vec<Dialled>> = BTreeMap::new();
    let mut ranges: Vec<(IpNetwork, Dialled)> = Vec::new();
    for object in file.peers.iter().flatten() {
        let name = names.give(Place::of(object), object.value.name.as_ref(), out);
        let Some((peer, name)) = peer(object, name.clone(), file, out).zip(name) else { continue };
        let raw = &object.value;
        let place = raw.address.as_ref().or(raw.range.as_ref()).or(raw.interface.as_ref()).map(Place::of);
        let second = Dialled { place: place.unwrap_or_default(), name: Arc::clone(&name), nodes: peer.nodes.clone() };
        match End::of(&peer) {
            Ok(end) => {
                let same = ends.entry(end.clone()).or_default();
                same.iter().for_each(|first| report_shared_end(&end, first, &second, out));
                same.push(second);
            }
            Err(range) => {
                ranges.iter().for_each(|first| report_shared_range(first, &(range, &second), out));
                ranges.push((range, second));
            }
        }
        peers.insert(name, peer);
    }
    (names, peers)
}

/// What two peers of one node cannot share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// An address and port, on an interface where it is link-local.
    At(SocketAddr, Option<InterfaceName>),
    /// The router that is found on an interface.
    On(InterfaceName),
}

impl End {
    /// The end of one peer; for a range, the block.
    fn of(peer: &PeerConfig) -> Result<Self, IpNetwork> {
        let neighbor = &peer.neighbor;
        match (peer.reach, &neighbor.interface) {
            (Reach::Range(range), _) => Err(range),
            (Reach::OnLink, Some(interface)) => Ok(Self::On(interface.clone())),
            (Reach::One | Reach::OnLink, _) => {
                Ok(Self::At(SocketAddr::new(neighbor.address, neighbor.port), neighbor.whereabouts().interface))
            }
        }
    }
}

/// A peer by its end; several may have the same one where no node can have a session with two of them.
#[derive(Debug)]
struct Dialled {
    place: Place,
    name: Arc<str>,
    nodes: NodeSelector,
}

fn report_shared_end(end: &End, first: &Dialled, second: &Dialled, out: &mut Vec<Finding>) {
    if first.nodes.is_disjoint(&second.nodes) {
        return;
    }
    let (one, same) = match end {
        End::At(..) => ("have one address", "the same address and port"),
        End::On(_) => ("look for the router of one interface", "the same interface"),
    };
    let title = format!("peers {:?} and {:?} {one}, and a node may have both", first.name, second.name);
    let help = "give them selectors that exclude one another, such as 'matchLabels: {rack: r1}' and '{rack: r2}'";
    out.push(Finding::error(second.place, title).related(first.place, same).help(help));
}

fn report_shared_range(first: &(IpNetwork, Dialled), second: &(IpNetwork, &Dialled), out: &mut Vec<Finding>) {
    let overlap = first.0.contains(second.0.network()) || second.0.contains(first.0.network());
    if !overlap || first.1.nodes.is_disjoint(&second.1.nodes) {
        return;
    }
    let title =
        format!("the ranges of peers {:?} and {:?} overlap, and a node may have both", first.1.name, second.1.name);
    let help = "split them, or give them selectors that exclude one another; a single router may have its own entry";
    out.push(Finding::error(second.1.place, title).related(first.1.place, "the other range").help(help));
}

fn peer(
    object: &Spanned<raw::Peer>,
    name: Option<Arc<str>>,
    file: &raw::File,
    out: &mut Vec<Finding>,
) -> Option<PeerConfig> {
    let raw = &object.value;
    let called = |what: &str| match &raw.name {
        Some(name) => format!("peer {:?} has no '{what}'", name.value),
        None => format!("this peer has no '{what}'"),
    };
    let place = raw.name.as_ref().map_or(Place::of(object), Place::of);
    let missing = |what: &str, help: &str, out: &mut Vec<Finding>| {
        out.push(Finding::error(place, called(what)).help(help));
    };
    let nowhere = |out: &mut Vec<Finding>| missing("address", "add 'address: 172.30.1.1', the router's address", out);
    let whereto = transport::whereto(raw, nowhere, out);
    let opening = transport::opening(raw, file.listen.as_ref(), out);
    let delay_open = transport::delay_open(raw, out);
    let number_of_as = match &raw.asn {
        Some(value) => asn(value, out),
        None => {
            missing("asn", "add 'asn: 64500', the router's AS number", out);
            None
        }
    };
    let port = raw.port.as_ref().map_or(Some(179), |port| number("port", port, 1..=65535, out));
    let hold_time = raw.hold_time.as_ref().map_or(Some(Duration::from_secs(90)), |value| hold_time(value, out));
    let send_hold_time = transport::send_hold_time(raw, hold_time, out);
    let graceful_restart = transport::graceful_restart(raw, out);
    let role = transport::role(raw, file.asn.as_ref(), out);
    let password = transport::password(raw, out);
    let password_file = transport::password_file(raw, out);
    let router_advertisements = transport::router_advertisements(raw, whereto.as_ref(), out);
    let source_address = source_address(raw, whereto.as_ref(), out);
    let families = families(raw, out);
    let next_hops = transport::next_hops(raw, families.as_ref(), out);
    let ttl = ttl(raw, whereto.as_ref(), out);
    let prefix_limits = prefix_limits(raw, families.as_ref(), out);
    let nodes = selector::resolve(raw.node_selector.as_ref(), out);
    let Whereto { address, reach, interface } = whereto?;
    let neighbor = Neighbor {
        name: PeerName(name?),
        address,
        interface,
        port: port?,
        asn: number_of_as?,
        hold_time: hold_time?,
        source_address: source_address?,
        families: families?,
        ttl: ttl?,
        opening: opening?,
        delay_open: delay_open?,
        send_hold_time: send_hold_time?,
        graceful_restart: graceful_restart?,
        message_size: transport::message_size(raw),
        role: role?,
        password: password?,
    };
    let (password_file, next_hops, router_advertisements) = (password_file?, next_hops?, router_advertisements?);
    let prefix_limits = prefix_limits?;
    Some(PeerConfig { nodes, reach, prefix_limits, neighbor, password_file, next_hops, router_advertisements })
}

/// `Some(None)`: none was asked for.
fn source_address(raw: &raw::Peer, whereto: Option<&Whereto>, out: &mut Vec<Finding>) -> Option<Option<IpAddr>> {
    let Some(value) = &raw.source_address else { return Some(None) };
    let source = session_address("sourceAddress", value, out)?;
    if whereto.is_some_and(is_on_link) {
        let title = "sourceAddress on a session over link-local addresses";
        let help = "remove it: the node's link-local address of that interface is the only possible one";
        out.push(Finding::error(Place::of(value), title).help(help));
        return None;
    }
    let peer = whereto.map(|whereto| whereto.address);
    let Some((peer, at)) = peer.zip(raw.address.as_ref().or(raw.range.as_ref()).map(Place::of)) else {
        return Some(Some(source));
    };
    let family = |address: IpAddr| if address.is_ipv4() { "IPv4" } else { "IPv6" };
    if source.is_ipv4() != peer.is_ipv4() {
        let title = format!("sourceAddress {source} is {}, but the peer's address is {}", family(source), family(peer));
        let help = format!("write an {} address of the node, or leave sourceAddress out", family(peer));
        out.push(Finding::error(Place::of(value), title).related(at, "the peer's address").help(help));
        return None;
    }
    if source == peer {
        let title = format!("sourceAddress {source} is the peer's own address");
        let help = "sourceAddress is an address of the node; leave it out to let the kernel choose";
        out.push(Finding::error(Place::of(value), title).related(at, "the peer's address").help(help));
        return None;
    }
    Some(Some(source))
}

fn families(raw: &raw::Peer, out: &mut Vec<Finding>) -> Option<BTreeSet<Family>> {
    let Some(list) = &raw.families else { return Some(FAMILIES.map(|(_, family)| family).into()) };
    let mut families = Some(BTreeSet::new());
    for word in list {
        match FAMILIES.iter().find(|(name, _)| *name == word.value) {
            Some((_, family)) => {
                if let Some(families) = &mut families {
                    families.insert(*family);
                }
            }
            None => {
                let title = format!("{:?} is no address family", word.value);
                let help = match nearest(&word.value, FAMILIES.map(|(name, _)| name)) {
                    Some(near) => format!("write {near}"),
                    None => "families are ipv4 and ipv6".to_owned(),
                };
                out.push(Finding::error(Place::of(word), title).help(help));
                families = None;
            }
        }
    }
    if list.is_empty() {
        let place = raw.name.as_ref().map(Place::of).unwrap_or_default();
        let help = "leave 'families' out for both, or write [ipv4] or [ipv6]";
        out.push(Finding::error(place, "this peer would carry no address family").help(help));
        return None;
    }
    families
}

/// `prefixLimit`: of two and more, because of nine tenths of one nothing is left.
fn prefix_limits(raw: &raw::Peer, families: Option<&BTreeSet<Family>>, out: &mut Vec<Finding>) -> Option<PrefixLimits> {
    let Some(limits) = &raw.prefix_limit else { return Some(PrefixLimits::default()) };
    let mut resolved = Some(PrefixLimits::default());
    let [(v4, ipv4), (v6, ipv6)] = FAMILIES;
    for (name, family, value) in [(v4, ipv4, &limits.ipv4), (v6, ipv6, &limits.ipv6)] {
        let Some(value) = value else { continue };
        if families.is_some_and(|carried| !carried.contains(&family)) {
            let title = format!("'prefixLimit' limits {name}, which this peer does not carry");
            out.push(Finding::warning(Place::of(value), title).help(format!("remove it, or add {name} to 'families'")));
        }
        let accepts = number(name, value, 2..=i64::from(u32::MAX), out);
        resolved = resolved.zip(accepts).map(|(mut limits, accepts)| {
            limits.0.insert(family, accepts);
            limits
        });
    }
    resolved
}

/// Whether the session is over link-local addresses.
fn is_on_link(whereto: &Whereto) -> bool {
    whereto.reach == Reach::OnLink || is_link_local(&whereto.address)
}

fn ttl(raw: &raw::Peer, whereto: Option<&Whereto>, out: &mut Vec<Finding>) -> Option<Ttl> {
    if let Some(multihop) = raw.ebgp_multihop.as_ref().filter(|_| whereto.is_some_and(is_on_link)) {
        let title = "ebgpMultihop on a session over link-local addresses";
        let help = "remove it: no packet with such an address passes a router";
        out.push(Finding::error(Place::of(multihop), title).help(help));
        return None;
    }
    match (&raw.ttl_security, &raw.ebgp_multihop) {
        (None, None) => Some(Ttl::Default),
        (Some(hops), None) => number("ttlSecurity", hops, 1..=254, out).map(Ttl::Security),
        (None, Some(ttl)) => number("ebgpMultihop", ttl, 1..=255, out).map(Ttl::Multihop),
        (Some(hops), Some(ttl)) => {
            let title = "ttlSecurity and ebgpMultihop exclude one another";
            let help = "ttlSecurity alone is enough: it takes the peer's distance in hops and is the safer of the two";
            out.push(Finding::error(Place::of(ttl), title).related(Place::of(hops), "already guarded here").help(help));
            None
        }
    }
}
