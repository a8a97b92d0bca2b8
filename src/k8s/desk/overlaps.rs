//! Pools that overlap what the cluster uses itself: doubtful, and allowed. What a node has is never given; the rest is the
//! operator's to mend, since nobody here knows which of the two was meant.

use super::Footprint;
use crate::ipam::Pool;
use crate::wire::Prefix;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Doubts that are told; of more, only how many they are.
const TOLD: usize = 16;

/// Every pool that overlaps an address of a node, the pods of a node, or a range of ClusterIPs, in words.
pub(super) fn overlaps(
    pools: &[Pool],
    nodes: &BTreeMap<Arc<str>, Footprint>,
    service_cidrs: &BTreeMap<Arc<str>, Vec<Prefix>>,
) -> Vec<String> {
    let mut found = Vec::new();
    for pool in pools {
        for (name, node) in nodes {
            found.extend(node.addresses.iter().filter(|address| touches(pool, **address, **address)).map(|address| {
                format!("pool {} holds {address}, which node {name} has: it is never given to a service", pool.name)
            }));
            found.extend(node.pod_cidrs.iter().filter(|cidr| overlap(pool, cidr)).map(|cidr| {
                format!(
                    "pool {} overlaps {cidr}, where the pods of node {name} are: take it out of the pool",
                    pool.name
                )
            }));
        }
        for (name, cidrs) in service_cidrs {
            found.extend(cidrs.iter().filter(|cidr| overlap(pool, cidr)).map(|cidr| {
                format!(
                    "pool {} overlaps {cidr}, the ClusterIPs of ServiceCIDR {name}: take it out of the pool",
                    pool.name
                )
            }));
        }
    }
    if found.len() > TOLD {
        let more = found.len() - TOLD;
        found.truncate(TOLD);
        found.push(format!("{more} more overlaps of pools with addresses of the cluster"));
    }
    found
}

fn overlap(pool: &Pool, cidr: &Prefix) -> bool {
    touches(pool, cidr.address(), cidr.last_address())
}

/// Addresses of one family come before all of the other: ranges of two never touch.
fn touches(pool: &Pool, first: IpAddr, last: IpAddr) -> bool {
    pool.ranges.iter().any(|(low, high)| first <= *high && *low <= last)
}
