//! How a connection to a peer comes about: who dials, how long things may take.

use super::error::{Finding, Place};
use super::names::nearest;
use super::raw;
use super::values::{duration, session_address};
use crate::peer::settings::{MessageSize, Offer, Opening, Password, Role, SendHoldTime};
use ipnetwork::IpNetwork;
use serde_saphyr::Spanned;
use std::net::IpAddr;
use std::time::Duration;

/// Which routers an entry stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The one at its address.
    One,
    /// Each one of this block that dials us.
    Range(IpNetwork),
}

/// The peer's address, or the block that its routers are in: then the first address stands for all.
pub fn reach(
    raw: &raw::Peer,
    missing: impl FnOnce(&mut Vec<Finding>),
    out: &mut Vec<Finding>,
) -> Option<(IpAddr, Reach)> {
    match (&raw.address, &raw.range) {
        (Some(address), None) => Some((session_address("address", address, out)?, Reach::One)),
        (None, Some(range)) => {
            let network = block(range, out)?;
            Some((network.network(), Reach::Range(network)))
        }
        (Some(address), Some(range)) => {
            let help = "keep 'address' for one router, or 'range' for all routers of a block that dial us";
            let title = "'address' and 'range' exclude one another";
            out.push(
                Finding::error(Place::of(range), title)
                    .related(Place::of(address), "one router is named here")
                    .help(help),
            );
            None
        }
        (None, None) => {
            missing(out);
            None
        }
    }
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
