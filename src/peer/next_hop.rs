//! Which of our addresses a router should send traffic to (RFC 4271 §5.1.3, RFC 2545 §3).

use super::seam::{LocalEnd, Plan};
use super::settings::is_link_local;
use crate::wire::{Context, Family};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// Next hops of a session, and why a family has none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct NextHops {
    pub(super) found: BTreeMap<Family, IpAddr>,
    /// Our link-local address, for each family that sends it beside the next hop.
    pub(super) link_locals: BTreeMap<Family, Ipv6Addr>,
    pub(super) missing: BTreeMap<Family, String>,
}

/// Chooses for each family: what is fixed; else the session's own address, else one of its interface, else one of the Node that the
/// kernel has; a loopback address of the other family only where there is nothing else, since it is the same one on every node.
/// IPv4 routes without an IPv4 address go by an IPv6 one where the session may (RFC 8950).
///
/// On a link-local session the node's IPv4 address comes after that: the router has no IPv4 on the link to resolve it by.
/// There our link-local address goes along with a next hop of ours, which the router then need not look for.
pub(super) fn choose(context: &Context, end: &LocalEnd, plan: &Plan) -> NextHops {
    let Plan { node_addresses, next_hops: fixed, .. } = plan;
    let local = end.local.ip().to_canonical();
    // On the interface, what the Node calls its own goes first, whatever the kernel says of it.
    let named = end.interface.iter().chain(&end.unfit).filter(|address| node_addresses.contains(address));
    let on_interface: Vec<IpAddr> = named.chain(&end.interface).map(IpAddr::to_canonical).collect();
    // Who peers over loopback sends nothing over a network: what the Node is called will do.
    let is_here = |address: &&IpAddr| local.is_loopback() || !plan.absent.contains(address);
    let of_the_node = node_addresses.iter().filter(is_here).map(IpAddr::to_canonical);
    let mut others: Vec<IpAddr> = on_interface.iter().copied().chain(of_the_node).collect();
    others.sort_by_key(IpAddr::is_loopback);
    let mut chosen = NextHops::default();
    let usable = |of: Family, address: &IpAddr| family_of(address) == of && is_usable(address, &local);
    let first = |of: Family| std::iter::once(&local).chain(&others).find(|address| usable(of, address)).copied();
    let on_link = |of: Family| on_interface.iter().copied().find(|address| usable(of, address));
    for family in &context.families {
        if let Some(address) = fixed.get(family) {
            chosen.found.insert(*family, *address);
            continue;
        }
        let foreign = || context.ipv6_next_hops.contains(family).then(|| first(Family::IPV6_UNICAST)).flatten();
        let own = match is_link_local(&local) {
            true => on_link(*family).or_else(foreign).or_else(|| first(*family)),
            false => first(*family).or_else(foreign),
        };
        match own {
            Some(address) => {
                chosen.found.insert(*family, address);
                if let (IpAddr::V6(_), IpAddr::V6(local), true) = (address, local, is_link_local(&local)) {
                    chosen.link_locals.insert(*family, local);
                }
            }
            None => {
                chosen.missing.insert(*family, explain(*family, plan));
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

fn explain(family: Family, plan: &Plan) -> String {
    let version = if family == Family::IPV4_UNICAST { "IPv4" } else { "IPv6" };
    let absent =
        plan.node_addresses.iter().find(|address| family_of(address) == family && plan.absent.contains(address));
    match absent {
        Some(address) => format!(
            "no next hop: the session's interface has no usable {version} address, and no interface of this node has its \
             InternalIP {address}, so that what a router sends there would be lost; give the node that address, or name another \
             with 'nextHop', or peer over {version}"
        ),
        None => format!(
            "no next hop: the session's interface has no usable {version} address and the node has no {version} InternalIP; \
             give it one, or peer over {version}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::settings::NextHopOverrides;

    fn context(ipv6_next_hops: &[Family]) -> Context {
        Context {
            families: [Family::IPV4_UNICAST, Family::IPV6_UNICAST].into(),
            ipv6_next_hops: ipv6_next_hops.iter().copied().collect(),
            ..Context::before_open()
        }
    }

    fn plan(node_addresses: &[IpAddr], next_hops: &NextHopOverrides) -> Plan {
        Plan { node_addresses: node_addresses.to_vec(), next_hops: next_hops.clone(), ..Plan::default() }
    }

    fn next_hops(local: &str, interface: &[&str], node: &[&str]) -> NextHops {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let end = LocalEnd {
            local: local.parse().unwrap(),
            remote: "192.0.2.254:179".parse().unwrap(),
            interface: parse(interface),
            unfit: Vec::new(),
        };
        choose(&context(&[]), &end, &plan(&parse(node), &[].into()))
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
    fn what_the_node_names_goes_first_on_the_interface_and_an_unfit_one_only_then() {
        let end = LocalEnd {
            local: "192.0.2.1:1".parse().unwrap(),
            remote: "192.0.2.254:179".parse().unwrap(),
            interface: ["192.0.2.1", "2001:db8::1", "2001:db8::2"].map(|text| text.parse().unwrap()).into(),
            unfit: vec!["2001:db8::9".parse().unwrap()],
        };
        let chosen = |node: &[&str]| {
            let node: Vec<IpAddr> = node.iter().map(|text| text.parse().unwrap()).collect();
            found(&choose(&context(&[]), &end, &plan(&node, &[].into())))[1].clone()
        };
        assert_eq!(chosen(&[]), "2001:db8::1");
        assert_eq!(chosen(&["2001:db8::2"]), "2001:db8::2");
        assert_eq!(chosen(&["2001:db8::9"]), "2001:db8::9", "DHCPv6 gives /128");
    }

    #[test]
    fn what_the_node_names_and_the_kernel_lacks_is_none() {
        let named: Vec<IpAddr> = ["2001:db8::7", "2001:db8::8"].map(|text| text.parse().unwrap()).into();
        let end = |local: &str| LocalEnd {
            local: local.parse().unwrap(),
            remote: "192.0.2.254:179".parse().unwrap(),
            interface: Vec::new(),
            unfit: Vec::new(),
        };
        let chosen = |local: &str, absent: &[IpAddr]| {
            let plan = Plan { absent: absent.iter().copied().collect(), ..plan(&named, &[].into()) };
            choose(&context(&[]), &end(local), &plan)
        };
        assert_eq!(found(&chosen("192.0.2.1:1", &[])), ["192.0.2.1", "2001:db8::7"]);
        assert_eq!(found(&chosen("192.0.2.1:1", &named[..1])), ["192.0.2.1", "2001:db8::8"]);
        let none = chosen("192.0.2.1:1", &named);
        assert_eq!(found(&none), ["192.0.2.1"]);
        let why = &none.missing[&Family::IPV6_UNICAST];
        assert!(why.contains("no interface of this node has its InternalIP 2001:db8::7"), "{why}");
        assert_eq!(
            found(&chosen("127.0.0.1:1", &named)),
            ["127.0.0.1", "2001:db8::7"],
            "nothing is sent over loopback"
        );
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
            unfit: Vec::new(),
        };
        let choose = |end: &LocalEnd| found(&super::choose(&context(&[Family::IPV4_UNICAST]), end, &Plan::default()));
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
        assert_eq!(hops.link_locals, [(Family::IPV6_UNICAST, "fe80::1".parse().unwrap())].into());
        assert!(next_hops("[fe80::1]:1", &["fe80::1"], &[]).found.is_empty());
        assert!(next_hops("[2001:db8::1]:1", &["fe80::1"], &[]).link_locals.is_empty(), "16 octets elsewhere");
    }

    #[test]
    fn a_router_on_an_unnumbered_link_is_not_sent_to_an_ipv4_address_elsewhere() {
        let end = LocalEnd {
            local: "[fe80::1]:1".parse().unwrap(),
            remote: "[fe80::2]:179".parse().unwrap(),
            interface: vec!["fe80::1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            unfit: Vec::new(),
        };
        let node = ["10.0.0.1".parse().unwrap()];
        let both = choose(&context(&[Family::IPV4_UNICAST]), &end, &plan(&node, &[].into()));
        assert_eq!(found(&both), ["2001:db8::1", "2001:db8::1"]);
        assert_eq!(both.link_locals.len(), 2);
        let plain = choose(&context(&[]), &end, &plan(&node, &[].into()));
        assert_eq!(found(&plain), ["10.0.0.1", "2001:db8::1"], "without RFC 8950 there is no other");
        assert_eq!(plain.link_locals.keys().collect::<Vec<_>>(), [&Family::IPV6_UNICAST]);
        let numbered =
            LocalEnd { interface: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()], ..end };
        let hops = choose(&context(&[Family::IPV4_UNICAST]), &numbered, &plan(&node, &[].into()));
        assert_eq!(found(&hops), ["192.0.2.1", "2001:db8::1"]);
    }

    #[test]
    fn what_is_fixed_goes_before_everything_and_alone() {
        let end = LocalEnd {
            local: "[fe80::1]:1".parse().unwrap(),
            remote: "[fe80::2]:179".parse().unwrap(),
            interface: vec!["fe80::1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            unfit: Vec::new(),
        };
        let fixed = [
            (Family::IPV4_UNICAST, "192.0.2.99".parse().unwrap()),
            (Family::IPV6_UNICAST, "2001:db8::99".parse().unwrap()),
        ];
        let hops = choose(&context(&[Family::IPV4_UNICAST]), &end, &plan(&[], &fixed.into()));
        assert_eq!(found(&hops), ["192.0.2.99", "2001:db8::99"]);
        assert!(hops.link_locals.is_empty(), "our link-local address does not lead to an address that is not ours");
        let only_v4 = choose(&context(&[]), &end, &plan(&[], &[fixed[0]].into()));
        assert_eq!(found(&only_v4), ["192.0.2.99", "2001:db8::1"]);
    }
}
