//! Why an address is or is not announced: the rule, one question a function.
//!
//! [`decide`] asks the questions in order for one address and one peer. The planner asks the same functions, each as
//! rarely as its answer can change; there is no second copy of the rule.

use super::cluster::{
    ClusterView, Endpoint, Ingress, IpMode, Lifecycle, Network, Node, NodeName, Service, ServiceKey, TrafficPolicy,
};
use super::policy::{
    Advertisement, Classless, EXCLUDE_LABEL, EndpointRule, ExcludeLabel, LOAD_BALANCER_CLASS, NodeAddresses, Policy,
    Scope, never_announced,
};
use crate::rib::{Attributes, NextHop};
use crate::wire::Prefix;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// The answer for one address of one service towards one peer, computed on demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Announced under these advertisements.
    Announced {
        /// Names of the advertisements that match.
        advertisements: Vec<Arc<str>>,
        /// Whether a pool of today has the address.
        place: Place,
    },
    /// Not announced: the first reason that holds.
    NotAnnounced(Reason),
}

/// How an announced address stands with the pools of today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It lies in a pool.
    InPool,
    /// It lies in none, and is retained: it was given from one that was edited since, and its service has it still. It goes
    /// under the advertisements of the pool that it was given from, until the service is renumbered.
    OutsidePool,
}

/// Why not. `Display` says it for people, with what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// No such Service of type LoadBalancer.
    #[error("{service} is not known here: no Service of type LoadBalancer has that name")]
    UnknownService {
        /// Which.
        service: ServiceKey,
    },
    /// It asks for another implementation.
    #[error("{service} has loadBalancerClass {class:?}, which is not ours ({LOAD_BALANCER_CLASS:?})")]
    OtherClass {
        /// Which.
        service: ServiceKey,
        /// What it asks for.
        class: String,
    },
    /// It names no class, and such services are left to others.
    #[error(
        "{service} names no loadBalancerClass and 'services.classless' is false: \
         set its class to {LOAD_BALANCER_CLASS:?}, or turn that switch on"
    )]
    Classless {
        /// Which.
        service: ServiceKey,
    },
    /// It has a deletion timestamp.
    #[error("{service} is being deleted")]
    Deleting {
        /// Which.
        service: ServiceKey,
    },
    /// Its status does not hold the address.
    #[error("{address} is not among the ingress addresses in the status of {service}")]
    NotIngress {
        /// Which.
        service: ServiceKey,
        /// What was asked for.
        address: IpAddr,
    },
    /// A proxy owns the address.
    #[error("{address} of {service} has ipMode Proxy: traffic goes to the proxy, not to the nodes")]
    Proxy {
        /// Which.
        service: ServiceKey,
        /// The address.
        address: IpAddr,
    },
    /// No router may learn such an address from us.
    #[error("{address} lies in {range}, which is never announced")]
    NeverAnnounced {
        /// The address.
        address: IpAddr,
        /// The range it lies in.
        range: &'static str,
    },
    /// A configured peer has the address.
    #[error("{address} is the address of a router under 'peers', and is never announced: give the service another one")]
    PeerAddress {
        /// The address.
        address: IpAddr,
    },
    /// A Node has the address.
    #[error(
        "{address} is an address of node {node}, and is not announced: give the service another one, or set \
         'announceNodeAddresses: true' on the pool that has it"
    )]
    NodeAddress {
        /// The address.
        address: IpAddr,
        /// Whose it is.
        node: String,
    },
    /// The address is in no pool.
    #[error("{address} is in no pool: add it to one under 'pools'")]
    OutsidePools {
        /// Which.
        address: IpAddr,
    },
    /// The cluster shows no such node.
    #[error("node {node} is not known: there is no Node object of that name")]
    UnknownNode {
        /// Which.
        node: String,
    },
    /// The node condition `NetworkUnavailable` is True.
    #[error("node {node} has the condition NetworkUnavailable: its pod network is not ready")]
    NetworkUnavailable {
        /// Which.
        node: String,
    },
    /// The node has the exclude label.
    #[error("node {node} has the label {EXCLUDE_LABEL}: remove it, or set 'ignoreExcludeLabel: true'")]
    Excluded {
        /// Which.
        node: String,
    },
    /// The configuration names no such peer.
    #[error("there is no peer {peer:?} under 'peers'")]
    UnknownPeer {
        /// Which.
        peer: String,
    },
    /// The peer's node selector leaves this node out.
    #[error("node {node} has no session with {peer}: the peer's 'nodeSelector' does not select it")]
    NoSession {
        /// The node.
        node: String,
        /// The peer.
        peer: String,
    },
    /// No advertisement names the pool.
    #[error("no advertisement covers pool {pool}: name it under 'advertisements'")]
    PoolNotAdvertised {
        /// The pool of the address.
        pool: Arc<str>,
    },
    /// Advertisements of the pool go to other peers only.
    #[error("no advertisement of pool {pool} goes to {peer}: add the peer to one of them")]
    NotToPeer {
        /// The pool of the address.
        pool: Arc<str>,
        /// The peer.
        peer: String,
    },
    /// Advertisements of the pool to the peer are made by other nodes only.
    #[error("no advertisement of pool {pool} to {peer} is made from node {node}: their 'nodeSelector' leaves it out")]
    NotFromNode {
        /// The pool of the address.
        pool: Arc<str>,
        /// The peer.
        peer: String,
        /// The node.
        node: String,
    },
    /// Policy `Cluster`, and nothing can serve.
    #[error(
        "{service} has no endpoint that can serve; 'announceWithoutEndpoints: true' would announce it all the same"
    )]
    NoEndpoints {
        /// Which.
        service: ServiceKey,
    },
    /// Policy `Local`, and nothing on this node can serve.
    #[error("{service} has externalTrafficPolicy Local and no endpoint that can serve on node {node}")]
    NoLocalEndpoint {
        /// Which.
        service: ServiceKey,
        /// The node.
        node: String,
    },
}

/// How much speaks for an address at this node, apart from advertisements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grade {
    /// No servable endpoint, and policy `Cluster`: only advertisements that do not require one apply.
    Bare,
    /// Traffic that arrives here can be served: every advertisement applies.
    Served,
}

/// Whether `service` wants `address` announced from `node` to `peer`, and if not, the first reason why not.
///
/// An address that several services hold is announced where any of them wants it.
pub fn decide(
    view: &ClusterView,
    policy: &Policy,
    node: &str,
    peer: &str,
    service: &ServiceKey,
    address: IpAddr,
) -> Decision {
    match matching(view, policy, node, peer, service, address) {
        Ok((advertisements, place)) => {
            let advertisements = advertisements.into_iter().map(|a| Arc::clone(&a.name)).collect();
            Decision::Announced { advertisements, place }
        }
        Err(reason) => Decision::NotAnnounced(reason),
    }
}

fn matching<'a>(
    view: &ClusterView,
    policy: &'a Policy,
    node: &str,
    peer: &str,
    key: &ServiceKey,
    address: IpAddr,
) -> Result<(Vec<&'a Advertisement>, Place), Reason> {
    let service = view.services.get(key).ok_or_else(|| Reason::UnknownService { service: key.clone() })?;
    ours(policy, key, service)?;
    holds(key, service, address)?;
    let pools = PoolIndex::new(policy);
    let (pool, place) = match (pools.find(address), view.granted(key, service, address)) {
        (Ok(pool), given) => {
            let owner = view.nodes.iter().find(|(_, node)| node.addresses().any(|own| own == address));
            if let (Some((node, _)), None, NodeAddresses::Never) = (owner, given, pools.node_addresses(pool)) {
                return Err(Reason::NodeAddress { address, node: node.to_string() });
            }
            (pools.name(pool), Place::InPool)
        }
        (Err(Reason::OutsidePools { .. }), Some(pool)) => (pool, Place::OutsidePool),
        (Err(reason), _) => return Err(reason),
    };
    let this = view.nodes.get(node).ok_or_else(|| Reason::UnknownNode { node: node.to_owned() })?;
    in_service(policy, node, this)?;
    session(policy, node, this, peer)?;
    let applicable = applicable(policy, node, this, peer, pool)?;
    let grade = grade(key, service, view.endpoints.get(key).map(Arc::as_ref), address, &Arc::from(node))?;
    let remaining = under(grade, applicable);
    if remaining.is_empty() { Err(Reason::NoEndpoints { service: key.clone() }) } else { Ok((remaining, place)) }
}

/// Whether the service is one that we announce at all.
pub(super) fn ours(policy: &Policy, key: &ServiceKey, service: &Service) -> Result<(), Reason> {
    match (&service.load_balancer_class, policy.classless) {
        (Some(class), _) if class == LOAD_BALANCER_CLASS => {}
        (Some(class), _) => return Err(Reason::OtherClass { service: key.clone(), class: class.clone() }),
        (None, Classless::Announce) => {}
        (None, Classless::Ignore) => return Err(Reason::Classless { service: key.clone() }),
    }
    match service.lifecycle {
        Lifecycle::Live => Ok(()),
        Lifecycle::Deleting => Err(Reason::Deleting { service: key.clone() }),
    }
}

/// Whether nodes, and not a proxy, are the destination of an ingress entry.
pub(super) fn is_destination(ingress: &Ingress) -> bool {
    match ingress.mode {
        IpMode::Vip => true,
        IpMode::Proxy => false,
    }
}

fn holds(key: &ServiceKey, service: &Service, address: IpAddr) -> Result<(), Reason> {
    let mut entries = service.ingress.iter().filter(|entry| entry.ip == address).peekable();
    if entries.peek().is_none() {
        return Err(Reason::NotIngress { service: key.clone(), address });
    }
    if entries.any(is_destination) { Ok(()) } else { Err(Reason::Proxy { service: key.clone(), address }) }
}

/// What the traffic policy makes of the endpoints of the address's family (`None`: not one of any can serve).
pub(super) fn grade(
    key: &ServiceKey,
    service: &Service,
    endpoints: Option<&BTreeSet<Endpoint>>,
    address: IpAddr,
    here: &NodeName,
) -> Result<Grade, Reason> {
    let family = Prefix::host(address).family();
    let anywhere = || endpoints.is_some_and(|all| all.iter().any(|endpoint| endpoint.family == family));
    let local = || endpoints.is_some_and(|all| all.contains(&Endpoint { family, node: Some(here.clone()) }));
    match service.traffic_policy {
        TrafficPolicy::Cluster if anywhere() => Ok(Grade::Served),
        TrafficPolicy::Cluster => Ok(Grade::Bare),
        TrafficPolicy::Local if local() => Ok(Grade::Served),
        TrafficPolicy::Local => Err(Reason::NoLocalEndpoint { service: key.clone(), node: here.to_string() }),
    }
}

/// Why a node announces nothing at all, whatever its services do; `None`: it may.
pub fn out_of_service(view: &ClusterView, policy: &Policy, node: &str) -> Option<Reason> {
    match view.nodes.get(node) {
        Some(this) => in_service(policy, node, this).err(),
        None => Some(Reason::UnknownNode { node: node.to_owned() }),
    }
}

/// Whether the node takes traffic from outside at all.
pub(super) fn in_service(policy: &Policy, name: &str, node: &Node) -> Result<(), Reason> {
    match node.network {
        Network::Available => {}
        Network::Unavailable => return Err(Reason::NetworkUnavailable { node: name.to_owned() }),
    }
    match policy.exclude_label {
        ExcludeLabel::Honour if node.labels.contains_key(EXCLUDE_LABEL) => {
            Err(Reason::Excluded { node: name.to_owned() })
        }
        ExcludeLabel::Honour | ExcludeLabel::Ignore => Ok(()),
    }
}

/// Whether the node has a session with the peer.
pub(super) fn session(policy: &Policy, name: &str, node: &Node, peer: &str) -> Result<(), Reason> {
    let selector = policy.peers.get(peer).ok_or_else(|| Reason::UnknownPeer { peer: peer.to_owned() })?;
    if selector.matches(node) {
        Ok(())
    } else {
        Err(Reason::NoSession { node: name.to_owned(), peer: peer.to_owned() })
    }
}

/// The advertisements of a pool from a node to a peer; at least one.
pub(super) fn applicable<'a>(
    policy: &'a Policy,
    name: &str,
    node: &Node,
    peer: &str,
    pool: &Arc<str>,
) -> Result<Vec<&'a Advertisement>, Reason> {
    let of_pool: Vec<_> = policy.advertisements.iter().filter(|a| covers(a, policy, pool)).collect();
    if of_pool.is_empty() {
        return Err(Reason::PoolNotAdvertised { pool: Arc::clone(pool) });
    }
    let to_peer: Vec<_> = of_pool.into_iter().filter(|a| a.peers.contains(peer)).collect();
    if to_peer.is_empty() {
        return Err(Reason::NotToPeer { pool: Arc::clone(pool), peer: peer.to_owned() });
    }
    let from_node: Vec<_> = to_peer.into_iter().filter(|a| a.nodes.matches(node)).collect();
    if from_node.is_empty() {
        let (peer, node) = (peer.to_owned(), name.to_owned());
        return Err(Reason::NotFromNode { pool: Arc::clone(pool), peer, node });
    }
    Ok(from_node)
}

/// Whether an advertisement is about a pool: one of today, or one that the file has no longer.
fn covers(advertisement: &Advertisement, policy: &Policy, pool: &Arc<str>) -> bool {
    match (policy.pools.contains_key(pool), advertisement.scope) {
        (true, _) => advertisement.pools.contains(pool),
        (false, scope) => scope == Scope::Every,
    }
}

/// Those of the applicable advertisements that stand under a grade; possibly none.
pub(super) fn under(grade: Grade, applicable: Vec<&Advertisement>) -> Vec<&Advertisement> {
    applicable
        .into_iter()
        .filter(|advertisement| match (grade, advertisement.endpoints) {
            (Grade::Served, EndpointRule::Required | EndpointRule::NotRequired) => true,
            (Grade::Bare, EndpointRule::NotRequired) => true,
            (Grade::Bare, EndpointRule::Required) => false,
        })
        .collect()
}

/// What a route under several advertisements carries: all their communities, the highest LOCAL_PREF, the lowest
/// MULTI_EXIT_DISC, the fewest prepended numbers (each the one a router prefers), the lowest link bandwidth (the one that
/// counts among several, RFC 10005 §4), and the first next hop that is not our own. One that says nothing has no say.
pub(super) fn joined(advertisements: &[&Advertisement]) -> Attributes {
    let all = || advertisements.iter().map(|advertisement| &advertisement.attributes);
    let communities: BTreeSet<_> = all().flat_map(|a| a.communities.iter().copied()).collect();
    let extended_communities: BTreeSet<_> = all().flat_map(|a| a.extended_communities.iter().copied()).collect();
    let large_communities: BTreeSet<_> = all().flat_map(|a| a.large_communities.iter().copied()).collect();
    Attributes {
        next_hop: all().map(|a| a.next_hop).find(|next_hop| *next_hop != NextHop::Own).unwrap_or_default(),
        med: all().filter_map(|a| a.med).min(),
        local_pref: all().filter_map(|a| a.local_pref).max(),
        communities: communities.into_iter().collect(),
        extended_communities: extended_communities.into_iter().collect(),
        large_communities: large_communities.into_iter().collect(),
        link_bandwidth: all().filter_map(|a| a.link_bandwidth).min(),
        prepend: all().filter_map(|a| a.prepend).min(),
    }
}

/// Finds the pool of an address in logarithmic time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct PoolIndex {
    names: Vec<Arc<str>>,
    /// What becomes of a Node's addresses, a pool.
    node_addresses: Vec<NodeAddresses>,
    peer_addresses: BTreeSet<IpAddr>,
    /// First and last address and the pool's place in `names`, ascending; pools do not overlap.
    ranges: Vec<(IpAddr, IpAddr, usize)>,
}

impl PoolIndex {
    pub(super) fn new(policy: &Policy) -> Self {
        let names = policy.pools.keys().cloned().collect();
        let of_pool = |(index, pool): (usize, &super::Pool)| {
            pool.ranges.iter().map(move |(first, last)| (*first, *last, index)).collect::<Vec<_>>()
        };
        let mut ranges: Vec<_> = policy.pools.values().enumerate().flat_map(of_pool).collect();
        ranges.sort();
        let node_addresses = policy.pools.values().map(|pool| pool.node_addresses).collect();
        Self { names, node_addresses, peer_addresses: policy.peer_addresses.clone(), ranges }
    }

    /// What becomes of a Node's address in a pool; in one that the file has no longer, nothing.
    pub(super) fn node_addresses(&self, pool: usize) -> NodeAddresses {
        self.node_addresses.get(pool).copied().unwrap_or_default()
    }

    pub(super) fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    pub(super) fn name(&self, pool: usize) -> &Arc<str> {
        &self.names[pool]
    }

    /// The place of a pool by name; all that the file has no longer share one behind the others.
    pub(super) fn slot(&self, pool: &str) -> usize {
        self.names.binary_search_by(|name| (**name).cmp(pool)).unwrap_or(self.names.len())
    }

    /// The pool of an address that may be announced.
    pub(super) fn find(&self, address: IpAddr) -> Result<usize, Reason> {
        if let Some(range) = never_announced(address, address) {
            return Err(Reason::NeverAnnounced { address, range });
        }
        if self.peer_addresses.contains(&address) {
            return Err(Reason::PeerAddress { address });
        }
        let after = self.ranges.partition_point(|(first, _, _)| *first <= address);
        match self.ranges[..after].last() {
            Some((_, last, pool)) if address <= *last => Ok(*pool),
            Some(_) | None => Err(Reason::OutsidePools { address }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advertise::{Grant, NodeSelector, Pool};
    use crate::wire::Family;
    use std::collections::BTreeMap;

    /// A cluster and a policy in which service default/web announces 198.51.100.1 from n1 to tor.
    #[derive(Clone)]
    struct Scene {
        service: Service,
        endpoints: BTreeSet<Endpoint>,
        node: Node,
        policy: Policy,
        grant: Option<Grant>,
        asked: (&'static str, &'static str, &'static str, IpAddr),
    }

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

    impl Scene {
        fn new() -> Self {
            let advertisement = Advertisement {
                name: "all".into(),
                pools: BTreeSet::from(["edge".into()]),
                scope: Scope::Named,
                peers: BTreeSet::from(["tor".into()]),
                nodes: NodeSelector::default(),
                attributes: Attributes::default(),
                endpoints: EndpointRule::Required,
            };
            let policy = Policy {
                peers: BTreeMap::from([("tor".into(), NodeSelector::default())]),
                pools: BTreeMap::from([("edge".into(), Pool { ranges: vec![(ADDRESS, ADDRESS)], ..Pool::default() })]),
                advertisements: vec![advertisement],
                ..Policy::default()
            };
            let service = Service {
                uid: "u-1".into(),
                load_balancer_class: None,
                ingress: vec![Ingress { ip: ADDRESS, mode: IpMode::Vip }],
                traffic_policy: TrafficPolicy::Cluster,
                lifecycle: Lifecycle::Live,
            };
            let endpoints = BTreeSet::from([Endpoint { family: Family::IPV4_UNICAST, node: Some("n2".into()) }]);
            let asked = ("n1", "tor", "web", ADDRESS);
            Self { service, endpoints, node: Node::default(), policy, grant: None, asked }
        }

        /// The reason in words, or the names of advertisements.
        fn answer(&self) -> String {
            let key = |name: &str| ServiceKey { namespace: "default".into(), name: name.into() };
            let mut view = ClusterView::default();
            view.services.insert(key("web"), Arc::new(self.service.clone()));
            view.endpoints.insert(key("web"), Arc::new(self.endpoints.clone()));
            view.nodes.insert("n1".into(), Arc::new(self.node.clone()));
            view.grants.extend(self.grant.clone().map(|grant| (ADDRESS, Arc::new(grant))));
            let (node, peer, service, address) = self.asked;
            match decide(&view, &self.policy, node, peer, &key(service), address) {
                Decision::Announced { advertisements, place: Place::InPool } => {
                    format!("under {}", advertisements.join(" "))
                }
                Decision::Announced { advertisements, place: Place::OutsidePool } => {
                    format!("outside, under {}", advertisements.join(" "))
                }
                Decision::NotAnnounced(reason) => reason.to_string(),
            }
        }
    }

    type Change = fn(&mut Scene);

    /// In the order in which they are asked: a scene that has this reason and all later ones gives this one.
    const REASONS: &[(&str, Change)] = &[
        ("no Service of type LoadBalancer has that name", |s| s.asked.2 = "nobody"),
        ("\"example.com/x\", which is not ours (\"herald.bgp/speaker\")", |s| {
            s.service.load_balancer_class = Some("example.com/x".to_owned());
        }),
        ("default/web names no loadBalancerClass and 'services.classless' is false", |s| {
            s.service.load_balancer_class = None;
            s.policy.classless = Classless::Ignore;
        }),
        ("default/web is being deleted", |s| s.service.lifecycle = Lifecycle::Deleting),
        ("198.51.100.9 is not among the ingress addresses", |s| s.asked.3 = "198.51.100.9".parse().unwrap()),
        ("has ipMode Proxy", |s| s.service.ingress[0].mode = IpMode::Proxy),
        ("198.51.100.1 is the address of a router under 'peers'", |s| {
            s.policy.peer_addresses.insert(ADDRESS);
        }),
        ("198.51.100.1 is in no pool", |s| s.policy.pools.clear()),
        ("198.51.100.1 is an address of node n1", |s| s.node.external_ips = vec![ADDRESS]),
        ("node n9 is not known", |s| s.asked.0 = "n9"),
        ("has the condition NetworkUnavailable", |s| s.node.network = Network::Unavailable),
        ("has the label node.kubernetes.io/exclude-from-external-load-balancers", |s| {
            s.node.labels.insert(EXCLUDE_LABEL.to_owned(), String::new());
        }),
        ("there is no peer \"spine\"", |s| s.asked.1 = "spine"),
        ("node n1 has no session with tor", |s| {
            s.policy.peers.insert("tor".into(), unmatched());
        }),
        ("no advertisement covers pool edge", |s| s.policy.advertisements[0].pools.clear()),
        ("no advertisement of pool edge goes to tor", |s| s.policy.advertisements[0].peers.clear()),
        ("is made from node n1", |s| s.policy.advertisements[0].nodes = unmatched()),
        ("default/web has no endpoint that can serve; 'announceWithoutEndpoints", |s| s.endpoints.clear()),
    ];

    fn unmatched() -> NodeSelector {
        NodeSelector { requirements: vec![crate::advertise::policy::Requirement::Exists("no-such-label".to_owned())] }
    }

    #[test]
    fn each_reason_is_given_in_words() {
        assert_eq!(Scene::new().answer(), "under all");
        for (words, change) in REASONS {
            let mut scene = Scene::new();
            change(&mut scene);
            assert!(scene.answer().contains(words), "{} instead of {words}", scene.answer());
        }
    }

    #[test]
    fn the_first_reason_is_given() {
        // Later reasons first, so that the earlier one has the last word where two change the same thing.
        for (first, (words, _)) in REASONS.iter().enumerate() {
            let mut scene = Scene::new();
            REASONS[first..].iter().rev().for_each(|(_, change)| change(&mut scene));
            assert!(scene.answer().contains(words), "{} instead of {words}", scene.answer());
        }
    }

    #[test]
    fn local_asks_for_an_endpoint_here_whatever_the_advertisement_says() {
        let mut scene = Scene::new();
        scene.service.traffic_policy = TrafficPolicy::Local;
        scene.policy.advertisements[0].endpoints = EndpointRule::NotRequired;
        assert!(scene.answer().contains("has externalTrafficPolicy Local and no endpoint that can serve on node n1"));
        scene.endpoints.insert(Endpoint { family: Family::IPV6_UNICAST, node: Some("n1".into()) });
        assert!(scene.answer().contains("no endpoint that can serve on node n1"), "IPv6 does not serve IPv4");
        scene.endpoints.insert(Endpoint { family: Family::IPV4_UNICAST, node: Some("n1".into()) });
        assert_eq!(scene.answer(), "under all");
    }

    #[test]
    fn an_address_is_served_by_endpoints_of_its_own_family_only() {
        let mut scene = Scene::new();
        scene.endpoints = BTreeSet::from([Endpoint { family: Family::IPV6_UNICAST, node: Some("n2".into()) }]);
        assert!(scene.answer().contains("no endpoint"), "{}", scene.answer());
    }

    #[test]
    fn a_pool_cannot_open_what_is_never_announced() {
        let mut scene = Scene::new();
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        scene.service.ingress[0].ip = loopback;
        scene.asked.3 = loopback;
        scene.policy.pools.insert("edge".into(), Pool { ranges: vec![(loopback, loopback)], ..Pool::default() });
        assert_eq!(scene.answer(), "127.0.0.1 lies in 127.0.0.0/8 (loopback), which is never announced");
    }

    /// The pool was edited away from under an address that was given from it.
    fn edited() -> Scene {
        let elsewhere: IpAddr = "203.0.113.1".parse().unwrap();
        let mut scene = Scene::new();
        scene.policy.pools.insert("edge".into(), Pool { ranges: vec![(elsewhere, elsewhere)], ..Pool::default() });
        let holder = ServiceKey { namespace: "default".into(), name: "web".into() };
        scene.grant = Some(Grant { pool: "edge".into(), holders: BTreeSet::from([(holder, "u-1".into())]) });
        scene
    }

    #[test]
    fn what_was_given_stays_announced_under_its_last_pool() {
        let mut scene = edited();
        assert_eq!(scene.answer(), "outside, under all");
        scene.policy.advertisements[0].pools = BTreeSet::from(["other".into()]);
        assert!(scene.answer().contains("no advertisement covers pool edge"), "{}", scene.answer());
        // The whole pool is gone: only what covers everything covers it.
        let mut scene = edited();
        scene.policy.pools.clear();
        scene.policy.advertisements[0].pools.clear();
        assert!(scene.answer().contains("no advertisement covers pool edge"), "{}", scene.answer());
        scene.policy.advertisements[0].scope = Scope::Every;
        assert_eq!(scene.answer(), "outside, under all");
    }

    #[test]
    fn a_nodes_address_is_announced_only_where_it_was_given_or_the_pool_says_so() {
        let mut scene = Scene::new();
        scene.node.internal_ips = vec![ADDRESS];
        assert!(scene.answer().starts_with("198.51.100.1 is an address of node n1"), "{}", scene.answer());
        let holder = ServiceKey { namespace: "default".into(), name: "web".into() };
        let mut given = scene.clone();
        given.grant = Some(Grant { pool: "edge".into(), holders: BTreeSet::from([(holder, "u-1".into())]) });
        assert_eq!(given.answer(), "under all", "no kubelet takes a Service's address away");
        scene.policy.pools.get_mut("edge").unwrap().node_addresses = NodeAddresses::Announced;
        assert_eq!(scene.answer(), "under all");
    }

    #[test]
    fn nobody_retains_what_was_not_given_to_him() {
        let nobody: &[Change] = &[
            |scene| scene.grant = None,
            |scene| scene.service.uid = "u-2".into(),
            |scene| scene.grant.as_mut().unwrap().holders.clear(),
        ];
        for change in nobody {
            let mut scene = edited();
            change(&mut scene);
            assert!(scene.answer().contains("198.51.100.1 is in no pool"), "{}", scene.answer());
        }
        let mut scene = edited();
        scene.service.lifecycle = Lifecycle::Deleting;
        assert!(scene.answer().contains("being deleted"), "{}", scene.answer());
    }

    #[test]
    fn switches_turn_reasons_off() {
        let mut scene = Scene::new();
        scene.node.labels.insert(EXCLUDE_LABEL.to_owned(), String::new());
        scene.policy.exclude_label = ExcludeLabel::Ignore;
        scene.policy.classless = Classless::Ignore;
        scene.service.load_balancer_class = Some(LOAD_BALANCER_CLASS.to_owned());
        scene.policy.advertisements[0].endpoints = EndpointRule::NotRequired;
        scene.endpoints.clear();
        assert_eq!(scene.answer(), "under all");
    }
}
