//! Which of our addresses a router should send traffic to (RFC 4271 §5.1.3, RFC 2545 §3).

use super::seam::LocalEnd;
use crate::wire::{Context, Family};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Next hops of a session, and why a family has none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct NextHops {
    pub(super) found: BTreeMap<Family, IpAddr>,
    pub(super) missing: BTreeMap<Family, String>,
}

/// Chooses for each family: the session's own address, else one of its interface, else one of the node; a loopback address
/// of the other family only where there is nothing else, since it is the same one on every node. IPv4 routes without an
/// IPv4 address go by an IPv6 one where the session may (RFC 8950).
pub(super) fn choose(context: &Context, end: &LocalEnd, node_addresses: &[IpAddr]) -> NextHops {
    let local = end.local.ip().to_canonical();
    let mut others: Vec<IpAddr> = end.interface.iter().chain(node_addresses).map(|a| a.to_canonical()).collect();
    others.sort_by_key(IpAddr::is_loopback);
    let mut chosen = NextHops::default();
    let first = |of: Family| {
        let mut all = std::iter::once(local).chain(others.iter().copied());
        all.find(|address| family_of(address) == of && is_usable(address, &local))
    };
    for family in &context.families {
        let foreign = || context.ipv6_next_hops.contains(family).then(|| first(Family::IPV6_UNICAST)).flatten();
        match first(*family).or_else(foreign) {
            Some(address) => {
                chosen.found.insert(*family, address);
            }
            None => {
                chosen.missing.insert(*family, explain(*family));
            }
        }
    }
    chosen
}

fn family_of(address: &IpAddr) -> Family {
    if address.is_ipv4() { Family::IPV4_UNICAST } else { Family::IPV6_UNICAST }
}

/// A loopback address leads somewhere only for a peer on this very machine.
fn is_usable(address: &IpAddr, local: &IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !link_local
        && !address.is_unspecified()
        && !address.is_multicast()
        && (!address.is_loopback() || local.is_loopback())
}

fn explain(family: Family) -> String {
    let version = if family == Family::IPV4_UNICAST { "IPv4" } else { "IPv6" };
    format!(
        "no next hop: the session's interface has no usable {version} address and the node has no {version} InternalIP; \
         give it one, or peer over {version}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(ipv6_next_hops: &[Family]) -> Context {
        Context {
            families: [Family::IPV4_UNICAST, Family::IPV6_UNICAST].into(),
            ipv6_next_hops: ipv6_next_hops.iter().copied().collect(),
            ..Context::before_open()
        }
    }

    fn next_hops(local: &str, interface: &[&str], node: &[&str]) -> NextHops {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let end = LocalEnd {
            local: local.parse().unwrap(),
            remote: "192.0.2.254:179".parse().unwrap(),
            interface: parse(interface),
        };
        choose(&context(&[]), &end, &parse(node))
    }

    fn found(hops: &NextHops) -> Vec<String> {
        hops.found.values().map(ToString::to_string).collect()
    }

    #[test]
    fn the_session_s_address_and_the_interface_s_other_family() {
        let hops = next_hops("192.0.2.1:1", &["192.0.2.9", "192.0.2.1", "fe80::1", "2001:db8::1", "2001:db8::2"], &[]);
        assert_eq!(found(&hops), ["192.0.2.1", "2001:db8::1"]);
        let hops = next_hops("[2001:db8::2]:1", &["192.0.2.9", "2001:db8::1", "2001:db8::2"], &[]);
        assert_eq!(found(&hops), ["192.0.2.9", "2001:db8::2"]);
    }

    #[test]
    fn the_node_s_address_stands_in_and_without_it_the_family_is_missing() {
        let hops = next_hops("192.0.2.1:1", &["192.0.2.1", "fe80::1"], &["192.0.2.1", "2001:db8::7"]);
        assert_eq!(found(&hops), ["192.0.2.1", "2001:db8::7"]);
        let hops = next_hops("192.0.2.1:1", &["192.0.2.1", "fe80::1", "::1"], &["192.0.2.1"]);
        assert_eq!(found(&hops), ["192.0.2.1"]);
        assert!(hops.missing[&Family::IPV6_UNICAST].contains("no IPv6 InternalIP"));
    }

    #[test]
    fn a_mapped_address_is_never_sent() {
        let hops = next_hops("[::ffff:192.0.2.1]:1", &["::ffff:192.0.2.1"], &["::ffff:192.0.2.2"]);
        assert_eq!(found(&hops), ["192.0.2.1"]);
        assert!(hops.missing.contains_key(&Family::IPV6_UNICAST));
    }

    #[test]
    fn ipv4_routes_go_by_an_ipv6_address_where_they_may_and_must() {
        let end = |local: &str, interface: &[&str]| LocalEnd {
            local: local.parse().unwrap(),
            remote: "[2001:db8::fe]:179".parse().unwrap(),
            interface: interface.iter().map(|text| text.parse().unwrap()).collect(),
        };
        let choose = |end: &LocalEnd| found(&super::choose(&context(&[Family::IPV4_UNICAST]), end, &[]));
        assert_eq!(choose(&end("[2001:db8::1]:1", &["2001:db8::1"])), ["2001:db8::1", "2001:db8::1"]);
        assert_eq!(choose(&end("[2001:db8::1]:1", &["2001:db8::1", "192.0.2.1"])), ["192.0.2.1", "2001:db8::1"]);
        assert_eq!(choose(&end("[fe80::1]:1", &["fe80::1", "2001:db8::7"])), ["2001:db8::7", "2001:db8::7"]);
        assert!(choose(&end("[fe80::1]:1", &["fe80::1"])).is_empty(), "never a link-local one");
    }

    #[test]
    fn loopback_serves_loopback_sessions_only() {
        assert_eq!(found(&next_hops("127.0.0.1:1", &["127.0.0.1", "::1"], &[])), ["127.0.0.1", "::1"]);
        assert_eq!(found(&next_hops("192.0.2.1:1", &["127.0.0.1", "::1"], &["::1"])), ["192.0.2.1"]);
        let node = ["192.0.2.1", "2001:db8::7"];
        assert_eq!(found(&next_hops("127.0.0.11:1", &["127.0.0.1", "::1"], &node)), ["127.0.0.11", "2001:db8::7"]);
    }

    #[test]
    fn a_link_local_session_sends_a_global_address() {
        let hops = next_hops("[fe80::1]:1", &["fe80::1", "2001:db8::1"], &["192.0.2.1"]);
        assert_eq!(found(&hops), ["192.0.2.1", "2001:db8::1"]);
        assert!(next_hops("[fe80::1]:1", &["fe80::1"], &[]).found.is_empty());
    }
}
