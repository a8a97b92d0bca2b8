//! The rule in the words of its description, without a thought for cost. Shares no code with the planner: pools,
//! selectors and forbidden ranges are read here once more.

use herald::advertise::cluster::{Lifecycle, Network};
use herald::advertise::policy::{Classless, EndpointRule, ExcludeLabel, NodeAddresses, Requirement, Scope};
use herald::advertise::{Advertisement, ClusterView, IpMode, Node, NodeSelector, Policy, ServiceKey, TrafficPolicy};
use herald::rib::Attributes;
use herald::wire::Prefix;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What each peer with a session should be told.
pub fn routes(view: &ClusterView, policy: &Policy, node: &str) -> BTreeMap<String, BTreeMap<Prefix, Attributes>> {
    let mut all = BTreeMap::new();
    let Some(this) = view.nodes.get(node) else { return all };
    for (peer, nodes) in &policy.peers {
        if !selects(nodes, this) {
            continue;
        }
        let mut routes: BTreeMap<Prefix, Attributes> = BTreeMap::new();
        let mut best: BTreeMap<IpAddr, BTreeSet<String>> = BTreeMap::new();
        for (key, service) in &view.services {
            for entry in &service.ingress {
                // Whatever any of the services that hold an address brings with it, the route has.
                let names = advertisements(view, policy, node, peer, key, entry.ip);
                best.entry(entry.ip).or_default().extend(names);
            }
        }
        for (address, names) in best {
            if !names.is_empty() {
                routes.insert(Prefix::host(address), carried(policy, &names));
            }
        }
        all.insert(peer.to_string(), routes);
    }
    all
}

/// The advertisements under which a service wants an address announced; none: it does not.
pub fn advertisements(
    view: &ClusterView,
    policy: &Policy,
    node: &str,
    peer: &str,
    key: &ServiceKey,
    address: IpAddr,
) -> Vec<String> {
    let none = Vec::new();
    let Some(service) = view.services.get(key) else { return none };
    let Some(this) = view.nodes.get(node) else { return none };
    let Some(session) = policy.peers.get(peer) else { return none };
    if !selects(session, this) || service.lifecycle == Lifecycle::Deleting || this.network == Network::Unavailable {
        return none;
    }
    let excluded = this.labels.keys().any(|label| label == "node.kubernetes.io/exclude-from-external-load-balancers");
    if excluded && policy.exclude_label == ExcludeLabel::Honour {
        return none;
    }
    let class_is_ours = match service.load_balancer_class.as_deref() {
        Some(class) => class == "herald.bgp/speaker",
        None => policy.classless == Classless::Announce,
    };
    let is_vip = service.ingress.iter().any(|entry| entry.ip == address && entry.mode == IpMode::Vip);
    if !class_is_ours || !is_vip || forbidden(address) {
        return none;
    }
    let held = view.grants.get(&address);
    let held = held.filter(|grant| grant.holders.iter().any(|(holder, uid)| holder == key && **uid == *service.uid));
    let of_a_node =
        view.nodes.values().any(|node| node.internal_ips.contains(&address) || node.external_ips.contains(&address));
    let wished = policy.pools.values().any(|pool| {
        pool.node_addresses == NodeAddresses::Announced && pool.ranges.iter().any(|range| within(address, *range))
    });
    if policy.peer_addresses.contains(&address) || of_a_node && held.is_none() && !wished {
        return none;
    }
    let afi = if address.is_ipv4() { 1 } else { 2 };
    let mut servable: Vec<_> = view.endpoints.get(key).map(|all| all.iter().cloned().collect()).unwrap_or_default();
    servable.retain(|endpoint| endpoint.family.afi == afi);
    let here = servable.iter().any(|endpoint| endpoint.node.as_deref() == Some(node));
    let holds = |rule: EndpointRule| match service.traffic_policy {
        TrafficPolicy::Local => here,
        TrafficPolicy::Cluster => !servable.is_empty() || rule == EndpointRule::NotRequired,
    };
    let in_pool = |name: &str| policy.pools.get(name).is_some_and(|p| p.ranges.iter().any(|r| within(address, *r)));
    // Given to this very service, from a pool that has the address no longer.
    let given = held.filter(|_| !in_any_pool(policy, address));
    let given_from = |a: &Advertisement| {
        given.is_some_and(|grant| {
            let known = policy.pools.contains_key(&grant.pool);
            if known { a.pools.contains(&grant.pool) } else { a.scope == Scope::Every }
        })
    };
    policy
        .advertisements
        .iter()
        .filter(|a| a.peers.contains(peer) && selects(&a.nodes, this) && holds(a.endpoints))
        .filter(|a| a.pools.iter().any(|pool| in_pool(pool)) || given_from(a))
        .map(|a| a.name.to_string())
        .collect()
}

/// Whether a pool of today has an address.
pub fn in_any_pool(policy: &Policy, address: IpAddr) -> bool {
    policy.pools.values().any(|pool| pool.ranges.iter().any(|range| within(address, *range)))
}

fn carried(policy: &Policy, names: &BTreeSet<String>) -> Attributes {
    let mut carried = Attributes::default();
    for advertisement in policy.advertisements.iter().filter(|a| names.contains(&*a.name)) {
        carried.communities.extend(&advertisement.attributes.communities);
        carried.large_communities.extend(&advertisement.attributes.large_communities);
        carried.extended_communities.extend(&advertisement.attributes.extended_communities);
        carried.med = lower(carried.med, advertisement.attributes.med);
        carried.prepend = lower(carried.prepend, advertisement.attributes.prepend);
        carried.link_bandwidth = lower(carried.link_bandwidth, advertisement.attributes.link_bandwidth);
        carried.local_pref = carried.local_pref.max(advertisement.attributes.local_pref);
    }
    carried.communities.sort();
    carried.communities.dedup();
    carried.large_communities.sort();
    carried.large_communities.dedup();
    carried.extended_communities.sort();
    carried.extended_communities.dedup();
    carried
}

/// The lower of two that are there, or the one that is.
fn lower<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn within(address: IpAddr, (first, last): (IpAddr, IpAddr)) -> bool {
    address.is_ipv4() == first.is_ipv4() && (number(first)..=number(last)).contains(&number(address))
}

fn forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.octets()[0] == 0 || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            let is_link_local = v6.segments()[0] & 0xffc0 == 0xfe80;
            v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_multicast()
                || is_link_local
                || v6.to_ipv4_mapped().is_some()
        }
    }
}

fn selects(selector: &NodeSelector, node: &Node) -> bool {
    for requirement in &selector.requirements {
        let holds = match requirement {
            Requirement::Exists(key) => node.labels.contains_key(key),
            Requirement::DoesNotExist(key) => !node.labels.contains_key(key),
            Requirement::In(key, values) => values.iter().any(|value| node.labels.get(key) == Some(value)),
            Requirement::NotIn(key, values) => !values.iter().any(|value| node.labels.get(key) == Some(value)),
        };
        if !holds {
            return false;
        }
    }
    true
}
