//! The planner against a model that thinks of nothing but the words of the rule, over random histories; and its price.

mod guard;
mod model;
mod price;

use herald::advertise::cluster::{Lifecycle, Network};
use herald::advertise::policy::{
    Classless, EXCLUDE_LABEL, EndpointRule, ExcludeLabel, LOAD_BALANCER_CLASS, NodeAddresses, Requirement, Scope,
};
use herald::advertise::{
    Advertisement, ClusterView, Decision, Endpoint, Grant, Ingress, IpMode, Node, NodeSelector, Place, Plan, Planner,
    Policy, Pool, Service, ServiceKey, TrafficPolicy, decide,
};
use herald::rib::{Attributes, NextHop, RouteSet};
use herald::wire::{Bandwidth, Community, ExtendedCommunity, Family, LargeCommunity, Prefix};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::TestRunner;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const PEERS: [&str; 3] = ["p1", "p2", "p3"];
const POOLS: [&str; 4] = ["low", "high", "v6", "evil"];
/// In pools, outside of them, and never to be announced whatever a pool says.
const ADDRESSES: [&str; 12] = [
    "10.0.0.0",
    "10.0.0.1",
    "10.0.0.3",
    "10.0.0.4",
    "10.0.0.7",
    "10.0.0.8",
    "2001:db8::1",
    "2001:db8::2",
    "127.0.0.1",
    "169.254.1.1",
    "224.0.0.5",
    "::1",
];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn key() -> impl Strategy<Value = ServiceKey> {
    (select(&["default", "web"]), select(&["a", "b", "c", "d"]))
        .prop_map(|(namespace, name)| ServiceKey { namespace: namespace.into(), name: name.into() })
}

fn service() -> impl Strategy<Value = Service> {
    let class = prop_oneof![
        6 => Just(Some(LOAD_BALANCER_CLASS.to_owned())),
        3 => Just(None),
        1 => Just(Some("example.com/other".to_owned())),
    ];
    let address = prop_oneof![3 => select(&ADDRESSES[..5]), 1 => select(&ADDRESSES)];
    let mode = prop_oneof![8 => Just(IpMode::Vip), 1 => Just(IpMode::Proxy)];
    let ingress = vec((address, mode), 0..4);
    let traffic_policy = select(&[TrafficPolicy::Cluster, TrafficPolicy::Local]);
    let lifecycle = prop_oneof![9 => Just(Lifecycle::Live), 1 => Just(Lifecycle::Deleting)];
    (uid(), class, ingress, traffic_policy, lifecycle).prop_map(
        |(uid, load_balancer_class, ingress, traffic_policy, lifecycle)| {
            let ingress = ingress.into_iter().map(|(address, mode)| Ingress { ip: ip(address), mode }).collect();
            Service { uid, load_balancer_class, ingress, traffic_policy, lifecycle }
        },
    )
}

/// Mostly the same, so that what was given is mostly given to who lives.
fn uid() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![5 => Just("u".into()), 1 => Just("other".into())]
}

/// What an allocator gave, from a pool of today or one that is gone.
fn grant() -> impl Strategy<Value = Grant> {
    let pool = prop_oneof![4 => select(&POOLS), 1 => Just("gone")];
    (pool, btree_set((key(), uid()), 2..7)).prop_map(|(pool, holders)| Grant { pool: pool.into(), holders })
}

fn endpoints() -> impl Strategy<Value = BTreeSet<Endpoint>> {
    let node = prop_oneof![1 => Just(None), 8 => select(&NODES).prop_map(|name| Some(name.into()))];
    let family = select(&[Family::IPV4_UNICAST, Family::IPV6_UNICAST]);
    btree_set((family, node).prop_map(|(family, node)| Endpoint { family, node }), 0..4)
}

fn node() -> impl Strategy<Value = Node> {
    let labels = btree_map(select(&["rack", "zone"]), select(&["1", "2"]), 0..3);
    let excluded = prop_oneof![12 => Just(false), 1 => Just(true)];
    let network = prop_oneof![12 => Just(Network::Available), 1 => Just(Network::Unavailable)];
    let own = || prop_oneof![4 => Just(None), 1 => select(&ADDRESSES).prop_map(|address| Some(ip(address)))];
    (labels, excluded, network, own(), own()).prop_map(|(labels, excluded, network, inner, outer)| {
        let mut labels: BTreeMap<String, String> =
            labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        if excluded {
            labels.insert(EXCLUDE_LABEL.to_owned(), String::new());
        }
        Node { labels, internal_ips: inner.into_iter().collect(), external_ips: outer.into_iter().collect(), network }
    })
}

fn selector() -> impl Strategy<Value = NodeSelector> {
    let values = || btree_set(select(&["1", "2", "3"]).prop_map(str::to_owned), 1..3);
    let label = || select(&["rack", "zone"]).prop_map(str::to_owned);
    let requirement = prop_oneof![
        (label(), values()).prop_map(|(key, values)| Requirement::In(key, values)),
        (label(), values()).prop_map(|(key, values)| Requirement::NotIn(key, values)),
        label().prop_map(Requirement::Exists),
        label().prop_map(Requirement::DoesNotExist),
    ];
    prop_oneof![6 => Just(Vec::new()), 1 => vec(requirement, 1..3)]
        .prop_map(|requirements| NodeSelector { requirements })
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let communities = btree_set((1u32..4).prop_map(Community), 0..3);
    let large = btree_set((1u32..3).prop_map(|n| LargeCommunity { global: n, local1: 0, local2: 0 }), 0..2);
    let local_pref = prop_oneof![1 => Just(None), 3 => (100u32..103).prop_map(Some)];
    let extended = btree_set((1u8..3).prop_map(|n| ExtendedCommunity([0, 2, 0, 1, 0, 0, 0, n])), 0..2);
    let numbers = (option::of(0u32..3), option::of(0u8..3), option::of(1u8..3));
    (communities, extended, large, local_pref, numbers).prop_map(
        |(communities, extended, large, local_pref, (med, prepend, rate))| Attributes {
            next_hop: NextHop::Own,
            med,
            local_pref,
            communities: communities.into_iter().collect(),
            extended_communities: extended.into_iter().collect(),
            large_communities: large.into_iter().collect(),
            link_bandwidth: rate.and_then(|rate| Bandwidth::new(rate.into())),
            prepend,
        },
    )
}

fn advertisement() -> impl Strategy<Value = Advertisement> {
    let names = |all: &'static [&'static str]| {
        subsequence(all, all.len() - 2..=all.len())
            .prop_map(|names| names.into_iter().map(Arc::from).collect::<BTreeSet<Arc<str>>>())
    };
    let endpoints = select(&[EndpointRule::Required, EndpointRule::NotRequired]);
    let scope = select(&[Scope::Named, Scope::Every]);
    (names(&POOLS), scope, names(&PEERS), selector(), attributes(), endpoints).prop_map(
        |(pools, scope, peers, nodes, attributes, endpoints)| Advertisement {
            name: "to be named".into(),
            pools,
            scope,
            peers,
            nodes,
            attributes,
            endpoints,
        },
    )
}

/// Pools as `config` would let them through, and one that it would not.
fn pools() -> impl Strategy<Value = BTreeMap<Arc<str>, Pool>> {
    let ranges = |texts: &[(&str, &str)]| Pool {
        ranges: texts.iter().map(|(a, b)| (ip(a), ip(b))).collect(),
        ..Pool::default()
    };
    let all = BTreeMap::from([
        ("low", ranges(&[("10.0.0.0", "10.0.0.1"), ("10.0.0.3", "10.0.0.3")])),
        ("high", ranges(&[("10.0.0.4", "10.0.0.7")])),
        ("v6", ranges(&[("2001:db8::1", "2001:db8::1")])),
        ("evil", ranges(&[("127.0.0.0", "255.255.255.255"), ("::", "::ffff")])),
    ]);
    let node_addresses = prop_oneof![3 => Just(NodeAddresses::Never), 1 => Just(NodeAddresses::Announced)];
    (subsequence(&POOLS, 2..=POOLS.len()), node_addresses).prop_map(move |(names, node_addresses)| {
        let pool = |name| (Arc::from(name), Pool { node_addresses, ..all[name].clone() });
        names.into_iter().map(pool).collect()
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let peers = btree_map(select(&PEERS).prop_map(Arc::from), selector(), 1..4);
    let classless = select(&[Classless::Announce, Classless::Ignore]);
    let exclude_label = select(&[ExcludeLabel::Honour, ExcludeLabel::Ignore]);
    let peer_addresses = prop_oneof![4 => Just(BTreeSet::new()), 1 => btree_set(select(&ADDRESSES).prop_map(ip), 1..3)];
    (peers, pools(), vec(advertisement(), 1..5), classless, exclude_label, peer_addresses).prop_map(
        |(peers, pools, mut advertisements, classless, exclude_label, peer_addresses)| {
            for (n, advertisement) in advertisements.iter_mut().enumerate() {
                advertisement.name = format!("adv-{n}").into();
            }
            Policy { peers, pools, advertisements, classless, exclude_label, peer_addresses }
        },
    )
}

/// One step of a history. A plan is taken after each batch of steps.
#[derive(Debug, Clone)]
enum Step {
    Service(ServiceKey, Option<Service>),
    Endpoints(ServiceKey, BTreeSet<Endpoint>),
    Node(&'static str, Option<Node>),
    Grant(&'static str, Option<Grant>),
    Policy(Policy),
    OtherNode(&'static str),
    /// The same policy as another value in memory.
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (key(), service()).prop_map(|(key, service)| Step::Service(key, Some(service))),
        2 => key().prop_map(|key| Step::Service(key, None)),
        8 => (key(), endpoints()).prop_map(|(key, endpoints)| Step::Endpoints(key, endpoints)),
        3 => (select(&NODES), node()).prop_map(|(name, node)| Step::Node(name, Some(node))),
        1 => select(&NODES).prop_map(|name| Step::Node(name, None)),
        6 => (select(&ADDRESSES), grant()).prop_map(|(address, grant)| Step::Grant(address, Some(grant))),
        2 => select(&ADDRESSES).prop_map(|address| Step::Grant(address, None)),
        2 => policy().prop_map(Step::Policy),
        1 => select(&NODES).prop_map(Step::OtherNode),
        1 => Just(Step::Reload),
    ]
}

#[derive(Debug)]
struct World {
    view: ClusterView,
    policy: Arc<Policy>,
    node: &'static str,
}

impl World {
    fn apply(&mut self, step: Step) {
        match step {
            Step::Service(key, Some(service)) => drop(self.view.services.insert(key, Arc::new(service))),
            Step::Service(key, None) => drop(self.view.services.remove(&key)),
            // The view keeps no empty sets, but nothing bad may come of one.
            Step::Endpoints(key, endpoints) if endpoints.is_empty() => drop(self.view.endpoints.remove(&key)),
            Step::Endpoints(key, endpoints) => drop(self.view.endpoints.insert(key, Arc::new(endpoints))),
            Step::Node(name, Some(node)) => drop(self.view.nodes.insert(name.into(), Arc::new(node))),
            Step::Node(name, None) => drop(self.view.nodes.remove(name)),
            Step::Grant(address, Some(grant)) => drop(self.view.grants.insert(ip(address), Arc::new(grant))),
            Step::Grant(address, None) => drop(self.view.grants.remove(&ip(address))),
            Step::Policy(policy) => self.policy = Arc::new(policy),
            Step::OtherNode(node) => self.node = node,
            Step::Reload => self.policy = Arc::new((*self.policy).clone()),
        }
    }
}

/// A cluster with something in it.
fn world() -> impl Strategy<Value = World> {
    let grants = vec((select(&ADDRESSES[..8]), grant()), 8);
    let beginning = (policy(), vec(node(), 3), vec((key(), service(), endpoints()), 6), grants);
    beginning.prop_map(|(policy, nodes, services, grants)| {
        let mut world = World { view: ClusterView::default(), policy: Arc::new(policy), node: "n1" };
        for (name, node) in NODES.into_iter().zip(nodes) {
            world.apply(Step::Node(name, Some(node)));
        }
        for (key, service, endpoints) in services {
            world.apply(Step::Service(key.clone(), Some(service)));
            world.apply(Step::Endpoints(key, endpoints));
        }
        grants.into_iter().for_each(|(address, grant)| world.apply(Step::Grant(address, Some(grant))));
        world
    })
}

#[test]
fn an_incremental_plan_is_what_the_rule_says() {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) };
    let (plans, joined, retained) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let checked = TestRunner::new(config).run(&(world(), vec(vec(step(), 1..5), 1..25)), |(mut world, history)| {
        let mut planner = Planner::default();
        for batch in history {
            batch.into_iter().for_each(|step| world.apply(step));
            let plan = planner.plan(&world.view, &world.policy, world.node);
            check(&world, &plan)?;
            plans.set(plans.get() + 1);
            let beyond = plan.routes.values().any(|routes| routes.iter().any(|(prefix, _)| kept(&plan, prefix)));
            retained.set(retained.get() + usize::from(beyond));
            joined.set(joined.get() + usize::from(plan.routes.values().any(|routes| several(&world, routes))));
        }
        Ok(())
    });
    checked.unwrap_or_else(|error| panic!("{error}"));
    // A test of nothing would pass too: one plan in twenty, at least, must hold routes of several advertisements.
    let (plans, joined) = (plans.get(), joined.get());
    let retained = retained.get();
    println!("{plans} plans, {joined} with routes of several advertisements, {retained} with retained ones");
    assert!(retained * 40 > plans, "only {retained} of {plans} plans hold a retained route");
    assert!(joined * 20 > plans, "only {joined} of {plans} plans hold a route of several advertisements");
}

fn kept(plan: &Plan, prefix: &Prefix) -> bool {
    plan.retained.contains(&prefix.address())
}

fn several(world: &World, routes: &RouteSet) -> bool {
    let single: BTreeSet<_> = world.policy.advertisements.iter().map(|a| &a.attributes).collect();
    routes.iter().any(|(_, attributes)| !single.contains(&**attributes))
}

fn check(world: &World, plan: &Plan) -> Result<(), TestCaseError> {
    let expected = model::routes(&world.view, &world.policy, world.node);
    let of_peer = |routes: &RouteSet| routes.iter().map(|(prefix, a)| (*prefix, (**a).clone())).collect();
    let got: BTreeMap<String, BTreeMap<Prefix, Attributes>> =
        plan.routes.iter().map(|(peer, routes)| (peer.to_string(), of_peer(routes))).collect();
    prop_assert_eq!(&got, &expected);
    // Every route lies in a pool or is said to be retained, and none is both.
    for prefix in plan.routes.values().flat_map(|routes| routes.iter().map(|(prefix, _)| prefix)) {
        prop_assert_eq!(kept(plan, prefix), !model::in_any_pool(&world.policy, prefix.address()), "{}", prefix);
    }
    let fresh = Planner::default().plan(&world.view, &world.policy, world.node);
    prop_assert_eq!(plan, &fresh);
    // Equal policy is one value, so that grouping by attributes can go by pointer.
    let all: Vec<_> = plan.routes.values().flat_map(|routes| routes.iter().map(|(_, a)| a)).collect();
    for (a, b) in all.iter().zip(all.iter().skip(1)) {
        prop_assert_eq!(a == b, Arc::ptr_eq(a, b));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn a_decision_is_what_the_plan_does((mut world, history) in (world(), vec(step(), 1..40))) {
        history.into_iter().for_each(|step| world.apply(step));
        let plan = Planner::default().plan(&world.view, &world.policy, world.node);
        let nowhere = ServiceKey { namespace: "default".into(), name: "nobody".into() };
        for peer in PEERS.into_iter().chain(["p9"]) {
            for address in ADDRESSES.map(ip) {
                let mut wanted = false;
                for key in world.view.services.keys().chain([&nowhere]) {
                    let decision = decide(&world.view, &world.policy, world.node, peer, key, address);
                    let names = model::advertisements(&world.view, &world.policy, world.node, peer, key, address);
                    match decision {
                        Decision::Announced { advertisements, place } => {
                            let inside = model::in_any_pool(&world.policy, address);
                            prop_assert_eq!(place, if inside { Place::InPool } else { Place::OutsidePool });
                            prop_assert_eq!(advertisements.iter().map(|a| a.to_string()).collect::<Vec<_>>(), names);
                            wanted = true;
                        }
                        Decision::NotAnnounced(reason) => {
                            prop_assert!(names.is_empty(), "{} for {:?}", reason, names);
                            prop_assert!(!reason.to_string().is_empty());
                        }
                    }
                }
                let routes = plan.routes.get(peer);
                let announced = routes.is_some_and(|routes| routes.attributes(&Prefix::host(address)).is_some());
                prop_assert_eq!(wanted, announced, "{} to {}", address, peer);
            }
        }
    }
}
