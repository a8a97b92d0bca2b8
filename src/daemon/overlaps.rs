//! Pools that hold addresses of this node's own links.

use crate::advertise::Pool;
use crate::condition::{Conditions, Reason};
use crate::net::addresses::Address;
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The pools that overlap a subnet of this node. Who lives on that link asks for such an address there (ARP, RFC 4861), and nobody
/// answers: it is reached through a router alone. Loopback and link-local subnets are nobody's link.
pub fn of(pools: &BTreeMap<Arc<str>, Pool>, addresses: &BTreeSet<Address>) -> Conditions {
    let mut found = Conditions::default();
    for (name, pool) in pools {
        let subnets: BTreeSet<String> = addresses
            .iter()
            .filter_map(subnet)
            .filter(|subnet| meets(pool, subnet))
            .map(|net| net.to_string())
            .collect();
        if !subnets.is_empty() {
            let subnets = subnets.into_iter().collect::<Vec<_>>().join(", ");
            let message = format!(
                "this node is on {subnets}, which the pool overlaps: neighbours on that link ask there for its addresses, and nobody \
                 answers; take them out of the pool, or give it addresses of their own"
            );
            found.set(Reason::PoolOnLink, name, message);
        }
    }
    found
}

/// What is on the link of an address; `None` for one that stands alone.
fn subnet(address: &Address) -> Option<IpNetwork> {
    let is_single = address.length == if address.ip.is_ipv4() { 32 } else { 128 };
    let is_link_local = match address.ip {
        std::net::IpAddr::V4(ip) => ip.is_link_local(),
        std::net::IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let net = IpNetwork::new(address.ip, address.length).ok()?;
    let net = IpNetwork::new(net.network(), net.prefix()).ok()?;
    (!is_single && !is_link_local && !address.ip.is_loopback()).then_some(net)
}

fn meets(pool: &Pool, subnet: &IpNetwork) -> bool {
    let (first, last) = (subnet.network(), subnet.broadcast());
    pool.ranges.iter().any(|(from, to)| from.is_ipv4() == first.is_ipv4() && *from <= last && first <= *to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advertise::policy::NodeAddresses;
    use crate::net::addresses::State;

    #[test]
    fn a_pool_that_holds_addresses_of_a_link_is_named_with_the_link_and_no_other() {
        let address =
            |ip: &str, length| Address { interface: 2, ip: ip.parse().unwrap(), length, state: State::Settled };
        let pool = |from: &str, to: &str| Pool {
            ranges: vec![(from.parse().unwrap(), to.parse().unwrap())],
            node_addresses: NodeAddresses::Never,
        };
        let addresses = [
            address("10.0.0.5", 24),
            address("127.0.0.1", 8),
            address("169.254.7.7", 16),
            address("198.51.100.9", 32),
            address("fe80::5", 64),
            address("2001:db8::5", 64),
        ];
        let of = |pool| of(&[("p".into(), pool)].into(), &addresses.into());
        let said = of(pool("10.0.0.255", "10.0.1.3"));
        assert!(said.words(Reason::PoolOnLink, "p").is_some_and(|words| words.contains("10.0.0.0/24")), "{said:?}");
        assert!(of(pool("2001:db8::8:0", "2001:db8::9:0")).contains(Reason::PoolOnLink, "p"));
        for (from, to) in [("10.0.1.0", "10.0.1.9"), ("127.0.0.7", "127.0.0.8"), ("169.254.7.0", "169.254.7.1")] {
            assert_eq!(of(pool(from, to)), Conditions::default());
        }
        for (from, to) in
            [("198.51.100.0", "198.51.100.255"), ("fe80::7", "fe80::8"), ("2001:db8:0:1::", "2001:db8:0:2::")]
        {
            assert_eq!(of(pool(from, to)), Conditions::default());
        }
    }
}
