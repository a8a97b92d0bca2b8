//! How a connection to a peer comes about: who dials, how long things may take.

use super::error::{Finding, Place};
use super::names::nearest;
use super::raw;
use super::values::{address_on_link, duration, interface, session_address};
use crate::peer::settings::{
    InterfaceName, MessageSize, NextHopOverrides, Offer, Opening, Password, Role, SendHoldTime, is_link_local,
};
use crate::wire::Family;
use ipnetwork::IpNetwork;
use serde_saphyr::Spanned;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which routers an entry stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The one at its address.
    One,
    /// Each one of this block that dials us.
    Range(IpNetwork),
    /// The one that is found on the entry's interface, by its router flag in the kernel's neighbour table.
    OnLink,
}

/// Whether we say on an interface that we are there (RFC 4861 §4.2), for routers that wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouterAdvertisements {
    /// As hosts do.
    Silent,
    /// Sent, with a lifetime of zero: nobody takes us for a default router.
    Sent,
}

/// Where the routers of an entry are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereto {
    /// The router's address; of a block the first one stands for all, of one that is to be found `::`.
    pub address: IpAddr,
    /// Which of them.
    pub reach: Reach,
    /// The interface that the session is bound to.
    pub interface: Option<InterfaceName>,
}

/// The peer's address, or the block that its routers are in, or the interface that it is looked for on.
pub fn whereto(raw: &raw::Peer, missing: impl FnOnce(&mut Vec<Finding>), out: &mut Vec<Finding>) -> Option<Whereto> {
    let interface = raw.interface.as_ref().map(|value| interface(value, out));
    let on_link = interface.is_some();
    let found = match (&raw.address, &raw.range) {
        (Some(address), None) if on_link => address_on_link(address, out).map(|address| (address, Reach::One)),
        (Some(address), None) => session_address("address", address, out).map(|address| (address, Reach::One)),
        (None, Some(range)) => block(range, out).map(|block| (block.network(), Reach::Range(block))),
        (Some(address), Some(range)) => {
            let help = "keep 'address' for one router, or 'range' for all routers of a block that dial us";
            let title = "'address' and 'range' exclude one another";
            let finding = Finding::error(Place::of(range), title);
            out.push(finding.related(Place::of(address), "one router is named here").help(help));
            None
        }
        (None, None) if on_link => Some((Ipv6Addr::UNSPECIFIED.into(), Reach::OnLink)),
        (None, None) => {
            missing(out);
            None
        }
    };
    let (address, reach) = found?;
    Some(Whereto { address, reach, interface: interface.map_or(Some(None), |name| name.map(Some))? })
}

/// `routerAdvertisements`: on the link of an IPv6 session, whose interface is named.
pub fn router_advertisements(
    raw: &raw::Peer,
    whereto: Option<&Whereto>,
    out: &mut Vec<Finding>,
) -> Option<RouterAdvertisements> {
    let Some(value) = raw.router_advertisements.as_ref().filter(|wanted| wanted.value) else {
        return Some(RouterAdvertisements::Silent);
    };
    let (title, help) = match whereto? {
        Whereto { interface: None, .. } => (
            "routerAdvertisements without an interface to send them on",
            "add 'interface: eth0', the interface that leads to the router",
        ),
        Whereto { address: IpAddr::V4(_), .. } => (
            "routerAdvertisements are IPv6, and this session is IPv4",
            "remove them, or leave 'address' out so that the router is found by its IPv6 link-local address",
        ),
        Whereto { interface: Some(_), address: IpAddr::V6(_), .. } => return Some(RouterAdvertisements::Sent),
    };
    out.push(Finding::error(Place::of(value), title).help(help));
    None
}

/// `nextHop`: an address of the family, for families that the session offers.
pub fn next_hops(
    raw: &raw::Peer,
    families: Option<&BTreeSet<Family>>,
    out: &mut Vec<Finding>,
) -> Option<NextHopOverrides> {
    let Some(raw) = &raw.next_hop else { return Some(NextHopOverrides::new()) };
    let mut all = Some(NextHopOverrides::new());
    for (key, value, family) in [("ipv4", &raw.ipv4, Family::IPV4_UNICAST), ("ipv6", &raw.ipv6, Family::IPV6_UNICAST)] {
        let Some(value) = value else { continue };
        match next_hop(key, value, (family, families), out) {
            Some(address) => {
                if let Some(all) = &mut all {
                    all.insert(family, address);
                }
            }
            None => all = None,
        }
    }
    all
}

fn next_hop(
    key: &str,
    value: &Spanned<String>,
    (family, families): (Family, Option<&BTreeSet<Family>>),
    out: &mut Vec<Finding>,
) -> Option<IpAddr> {
    let address = session_address(key, value, out)?;
    let (title, help) = if address.is_ipv4() != (family == Family::IPV4_UNICAST) {
        let other = if address.is_ipv4() { "ipv4" } else { "ipv6" };
        (format!("{address} is no next hop for {key} routes"), format!("write it as '{other}: {address}'"))
    } else if address.is_loopback() {
        (format!("{address} leads a router to itself"), "write an address of the node that the router can reach".into())
    } else if families.is_some_and(|families| !families.contains(&family)) {
        let help = format!("add {key} to 'families', or remove it here");
        (format!("a next hop for {key} routes, which this session does not carry"), help)
    } else {
        return Some(address);
    };
    out.push(Finding::error(Place::of(value), title).help(help));
    None
}

fn block(value: &Spanned<String>, out: &mut Vec<Finding>) -> Option<IpNetwork> {
    let place = Place::of(value);
    let network = value.value.contains('/').then(|| value.value.parse::<IpNetwork>().ok()).flatten();
    let Some(network) = network else {
        let title = format!("{:?} is no block of addresses", value.value);
        out.push(Finding::error(place, title).help("write it as 172.30.1.0/24 or 2001:db8:1::/64"));
        return None;
    };
    if network.ip() != network.network() {
        let title = format!("{network} has bits set behind its prefix length");
        out.push(Finding::error(place, title).help(format!("write {}/{}", network.network(), network.prefix())));
        return None;
    }
    if is_link_local(&network.ip()) {
        let title = format!("{network} is link-local and means nothing without an interface");
        let help = "write 'interface: eth0' instead of the range: the router on that interface is found";
        out.push(Finding::error(place, title).help(help));
        return None;
    }
    let widest = if network.is_ipv4() { 8 } else { 32 };
    if network.prefix() < widest {
        let help = format!("give the block that the routers are in, /{widest} at the widest");
        out.push(Finding::error(place, format!("{network} takes in half the world")).help(help));
        return None;
    }
    Some(network)
}

/// Who dials. In a range the routers do.
pub fn opening(raw: &raw::Peer, listen: Option<&raw::Listen>, out: &mut Vec<Finding>) -> Option<Opening> {
    let passive = raw.passive.as_ref().filter(|passive| passive.value);
    let needs = passive
        .map(|value| (Place::of(value), "'passive'"))
        .or(raw.range.as_ref().map(|range| (Place::of(range), "'range'")));
    match needs {
        Some((place, what)) if listen.is_none() => {
            let title = format!("{what} leaves dialling to the router, but nothing listens here");
            out.push(Finding::error(place, title).help("add 'listen: {port: 179}' at the top of the file"));
            None
        }
        Some(_) => Some(Opening::Passive),
        None => Some(Opening::Active),
    }
}

/// `delayOpen`, none where absent.
pub fn delay_open(raw: &raw::Peer, out: &mut Vec<Finding>) -> Option<Duration> {
    let Some(value) = &raw.delay_open else { return Some(Duration::ZERO) };
    duration("delayOpen", value, 0..=240, out)
}

/// `sendHoldTime`: more than the hold time (RFC 9687 §4.4), or 0 for no limit.
pub fn send_hold_time(raw: &raw::Peer, hold_time: Option<Duration>, out: &mut Vec<Finding>) -> Option<SendHoldTime> {
    let Some(value) = &raw.send_hold_time else { return Some(SendHoldTime::Recommended) };
    let time = duration("sendHoldTime", value, 0..=86_400, out)?;
    let hold_time = hold_time?;
    if !time.is_zero() && time <= hold_time {
        let title =
            format!("a send hold time of {} s is not above the hold time of {} s", time.as_secs(), hold_time.as_secs());
        let help = format!(
            "leave it out for the larger of 8m and twice the hold time, or write {}s (RFC 9687 §4.4)",
            2 * hold_time.as_secs()
        );
        out.push(Finding::error(Place::of(value), title).help(help));
        return None;
    }
    Some(SendHoldTime::Fixed(time))
}

/// The restart time where none is given, and the longest that its 12 bits can say (RFC 4724 §3).
const RESTART_TIME: Duration = Duration::from_secs(120);
const RESTART_TIME_MAX: u64 = 4095;

/// `gracefulRestart`: off where absent, on where present unless it says otherwise.
pub fn graceful_restart(raw: &raw::Peer, out: &mut Vec<Finding>) -> Option<Option<Offer>> {
    let Some(raw) = &raw.graceful_restart else { return Some(None) };
    let time = raw.restart_time.as_ref();
    let restart_time =
        time.map_or(Some(RESTART_TIME), |value| duration("restartTime", value, 1..=RESTART_TIME_MAX, out))?;
    let enabled = raw.enabled.as_ref().is_none_or(|enabled| enabled.value);
    Some(enabled.then_some(Offer { restart_time }))
}

const ROLES: [(&str, Role); 5] = [
    ("provider", Role::Provider),
    ("routeServer", Role::RouteServer),
    ("routeServerClient", Role::RouteServerClient),
    ("customer", Role::Customer),
    ("peer", Role::Peer),
];

/// `role`: what we are to the router; between two ASes only (RFC 9234 §4.1).
pub fn role(raw: &raw::Peer, own: Option<&Spanned<i64>>, out: &mut Vec<Finding>) -> Option<Option<Role>> {
    let Some(value) = &raw.role else { return Some(None) };
    let place = Place::of(value);
    let Some((_, role)) = ROLES.iter().find(|(name, _)| *name == value.value) else {
        let title = format!("{:?} is no role", value.value);
        let help = match nearest(&value.value, ROLES.map(|(name, _)| name)) {
            Some(near) => format!("write {near}"),
            None => {
                "write what this cluster is to the router: customer as a rule, else peer, provider, routeServer or \
                     routeServerClient"
                    .to_owned()
            }
        };
        out.push(Finding::error(place, title).help(help));
        return None;
    };
    let internal = own.zip(raw.asn.as_ref()).is_some_and(|(ours, theirs)| ours.value == theirs.value);
    if internal {
        let help = "remove it: roles are between two ASes (RFC 9234 §4.1)";
        out.push(Finding::error(place, "a router in our own AS has no role").help(help));
        return None;
    }
    Some(Some(*role))
}

/// `extendedMessages`, off where absent.
pub fn message_size(raw: &raw::Peer) -> MessageSize {
    match raw.extended_messages.as_ref().is_some_and(|wanted| wanted.value) {
        true => MessageSize::Extended,
        false => MessageSize::Standard,
    }
}

/// `password`. What is wrong with it is said at the peer's name: a report must not show it.
pub fn password(raw: &raw::Peer, out: &mut Vec<Finding>) -> Option<Option<Password>> {
    let Some(value) = &raw.password else { return Some(None) };
    let password = Password::new(value.value.as_bytes());
    if password.is_none() {
        let place = raw.name.as_ref().map(Place::of).unwrap_or_default();
        let title = format!("the password of this peer has {} octets", value.value.len());
        out.push(Finding::error(place, title).help("give it 1 to 80 octets; the router needs the same"));
        return None;
    }
    Some(password)
}

/// `passwordFile`: where the password is read from, and again whenever the file changes.
pub fn password_file(raw: &raw::Peer, out: &mut Vec<Finding>) -> Option<Option<PathBuf>> {
    let Some(value) = &raw.password_file else { return Some(None) };
    let place = Place::of(value);
    if raw.password.is_some() {
        // Nothing points at the password itself: a report must not show it.
        let help = "keep one of the two; a file may change without a new configuration";
        out.push(Finding::error(place, "'passwordFile' beside 'password'").help(help));
        return None;
    }
    let path = Path::new(&value.value);
    if !path.is_absolute() {
        let title = format!("the password file {:?} is not named from the root", value.value);
        out.push(Finding::error(place, title).help("write the whole path, such as /etc/herald-keys/tor-a"));
        return None;
    }
    Some(Some(path.to_owned()))
}
