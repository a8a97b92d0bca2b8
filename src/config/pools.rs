//! Addresses that may be announced.

use super::error::{Finding, Place};
use super::names::Names;
use super::raw;
use crate::advertise::Pool;
use crate::advertise::policy::{NodeAddresses, never_announced};
use crate::wire::Prefix;
use crate::wire::prefix::PrefixError;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// One entry of one pool.
#[derive(Debug, Clone)]
struct Entry {
    first: IpAddr,
    last: IpAddr,
    pool: Arc<str>,
    place: Place,
    text: String,
}

/// Names and pools.
pub fn resolve(raw: &raw::List<raw::Pool>, out: &mut Vec<Finding>) -> (Names, BTreeMap<Arc<str>, Pool>) {
    let mut names = Names::new("pool", "pools");
    let mut pools = BTreeMap::new();
    let mut entries = Vec::new();
    for object in raw.iter().flatten() {
        let name = names.give(Place::of(object), object.value.name.as_ref(), out);
        let addresses = object.value.addresses.as_deref().unwrap_or_default();
        // What was given from it is retained under its name.
        let is_given_up = object.value.addresses.is_some() && object.value.draining.as_ref().is_some_and(|d| d.value);
        if addresses.is_empty() && !is_given_up {
            let place = object.value.name.as_ref().map_or(Place::of(object), Place::of);
            let help = "add 'addresses: [198.51.100.0/24]'; blocks, ranges (FIRST-LAST) and single addresses will do";
            out.push(Finding::error(place, "this pool has no addresses").help(help));
        }
        let ranges: Vec<_> = addresses.iter().filter_map(|text| Some((text, range(text, out)?))).collect();
        let Some(name) = name else { continue };
        entries.extend(ranges.iter().map(|(text, (first, last))| Entry {
            first: *first,
            last: *last,
            pool: Arc::clone(&name),
            place: Place::of(text),
            text: text.value.clone(),
        }));
        let mut ranges: Vec<_> = ranges.into_iter().map(|(_, range)| range).collect();
        ranges.sort();
        let node_addresses = match object.value.announce_node_addresses.as_ref().is_some_and(|value| value.value) {
            true => NodeAddresses::Announced,
            false => NodeAddresses::Never,
        };
        pools.insert(name, Pool { ranges, node_addresses });
    }
    report_overlaps(entries, out);
    (names, pools)
}

/// Reports every entry that begins inside an earlier one; with the range that reaches furthest, so that each is named once.
fn report_overlaps(mut entries: Vec<Entry>, out: &mut Vec<Finding>) {
    entries.sort_by_key(|entry| (entry.first, entry.last, entry.place));
    let mut reach: Option<Entry> = None;
    for entry in entries {
        if let Some(before) = reach.as_ref().filter(|before| entry.first <= before.last) {
            let (earlier, later) = if before.place < entry.place { (before, &entry) } else { (&entry, before) };
            let title = if earlier.pool == later.pool {
                format!("{} overlaps {} in pool {:?}", later.text, earlier.text, later.pool)
            } else {
                format!("{} in pool {:?} overlaps {} in pool {:?}", later.text, later.pool, earlier.text, earlier.pool)
            };
            let finding =
                Finding::error(later.place, title).related(earlier.place, "these addresses are already taken");
            out.push(finding.help("leave the addresses in one of the two"));
        }
        if reach.as_ref().is_none_or(|before| before.last < entry.last) {
            reach = Some(entry);
        }
    }
}

/// First and last address of an entry.
pub fn range(text: &Spanned<String>, out: &mut Vec<Finding>) -> Option<(IpAddr, IpAddr)> {
    let place = Place::of(text);
    let (first, last) = match text.value.split_once('-') {
        Some((first, last)) => bounds(place, first.trim(), last.trim(), out)?,
        None => block(place, &text.value, out)?,
    };
    if let Some(range) = never_announced(first, last) {
        let title = match (first, last) {
            (first, last) if everything(first) == (first, last) => {
                format!("{} is the default route, which is never announced", text.value)
            }
            (_, _) => format!("{} holds addresses of {range}, which are never announced", text.value),
        };
        out.push(Finding::error(place, title).help("name the addresses that services may have, and only those"));
        return None;
    }
    Some((first, last))
}

fn bounds(place: Place, first: &str, last: &str, out: &mut Vec<Finding>) -> Option<(IpAddr, IpAddr)> {
    let mut address = |text: &str| {
        let parsed = text.parse::<IpAddr>().ok();
        if parsed.is_none() {
            let help = "write FIRST-LAST with two addresses, such as 203.0.113.10-203.0.113.20";
            out.push(Finding::error(place, format!("{text:?} is no IP address")).help(help));
        }
        parsed
    };
    let (first, last) = (address(first), address(last));
    let (first, last) = (first?, last?);
    if first.is_ipv4() != last.is_ipv4() {
        let help = "both ends of a range are IPv4 or both are IPv6";
        out.push(Finding::error(place, "this range begins in one address family and ends in the other").help(help));
        return None;
    }
    if last < first {
        out.push(Finding::error(place, "this range ends before it begins").help(format!("write {last}-{first}")));
        return None;
    }
    Some((first, last))
}

fn block(place: Place, text: &str, out: &mut Vec<Finding>) -> Option<(IpAddr, IpAddr)> {
    let finding = match text.parse::<Prefix>() {
        Ok(prefix) => return Some((prefix.address(), last_address(&prefix))),
        Err(PrefixError::HostBits { given, network }) => {
            let address = given.split('/').next().unwrap_or_default();
            Finding::error(place, format!("{given} has bits set to the right of its length"))
                .help(format!("write {network} for the whole block, or {address} for the one address"))
        }
        Err(PrefixError::TooLong { address, len }) => {
            let longest = if address.is_ipv4() { 32 } else { 128 };
            Finding::error(place, format!("a prefix of {len} bits is too long for {address}"))
                .help(format!("write /{longest} or less"))
        }
        Err(PrefixError::Malformed(given)) => Finding::error(place, format!("{given:?} is no block of addresses"))
            .help("write 198.51.100.0/24, 2001:db8:5::/64, a range FIRST-LAST or one address"),
    };
    out.push(finding);
    None
}

fn last_address(prefix: &Prefix) -> IpAddr {
    match prefix.address() {
        IpAddr::V4(first) => {
            let host_bits = u32::MAX.checked_shr(u32::from(prefix.len())).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(first.to_bits() | host_bits))
        }
        IpAddr::V6(first) => {
            let host_bits = u128::MAX.checked_shr(u32::from(prefix.len())).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(first.to_bits() | host_bits))
        }
    }
}

/// First and last address of a family.
fn everything(of: IpAddr) -> (IpAddr, IpAddr) {
    match of {
        IpAddr::V4(_) => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::BROADCAST)),
        IpAddr::V6(_) => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::from_bits(u128::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_that_is_given_up_keeps_its_name_without_addresses() {
        let read = |pool: &str| super::super::Config::parse("test.yaml", &format!("asn: 64512\npools: [{pool}]\n"));
        let config = read("{name: edge, addresses: [], draining: true}").unwrap().0;
        assert!(config.policy.pools["edge"].ranges.is_empty());
        for unclear in ["{name: edge, addresses: []}", "{name: edge, draining: true}"] {
            assert!(read(unclear).is_err(), "{unclear}");
        }
    }

    #[test]
    fn blocks_end_where_they_end() {
        for (block, last) in [
            ("10.0.0.0/8", "10.255.255.255"),
            ("10.0.0.1/32", "10.0.0.1"),
            ("0.0.0.0/0", "255.255.255.255"),
            ("2001:db8::/127", "2001:db8::1"),
            ("::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            assert_eq!(last_address(&block.parse().unwrap()).to_string(), last);
        }
    }
}
