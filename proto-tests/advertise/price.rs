//! What a plan costs: the figures are printed, the law is asserted (a change costs a change, not a table).

use super::{
    Advertisement, Attributes, ClusterView, Endpoint, Ingress, IpMode, Node, NodeSelector, Planner, Policy, Pool,
};
use super::{EndpointRule, Family, Lifecycle, Scope, Service, ServiceKey, TrafficPolicy};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Fewer without optimisation: the law is the same, and the suite has a budget.
const SERVICES: u32 = if cfg!(debug_assertions) { 20_000 } else { 100_000 };

fn key(n: u32) -> ServiceKey {
    ServiceKey { namespace: format!("ns-{}", n % 100).into(), name: format!("svc-{n}").into() }
}

fn on(node: &str) -> Arc<BTreeSet<Endpoint>> {
    Arc::new(BTreeSet::from([Endpoint { family: Family::IPV4_UNICAST, node: Some(node.into()) }]))
}

fn view() -> ClusterView {
    let base = u32::from(Ipv4Addr::new(10, 64, 0, 0));
    let service = |n: u32| Service {
        uid: "u".into(),
        load_balancer_class: None,
        ingress: vec![Ingress { ip: IpAddr::V4(Ipv4Addr::from(base + n)), mode: IpMode::Vip }],
        traffic_policy: if n.is_multiple_of(2) { TrafficPolicy::Cluster } else { TrafficPolicy::Local },
        lifecycle: Lifecycle::Live,
    };
    ClusterView {
        services: (0..SERVICES).map(|n| (key(n), Arc::new(service(n)))).collect(),
        endpoints: (0..SERVICES).map(|n| (key(n), on("n1"))).collect(),
        nodes: [(Arc::from("n1"), Arc::new(Node::default()))].into_iter().collect(),
        grants: imbl::OrdMap::new(),
    }
}

fn policy(local_pref: u32) -> Arc<Policy> {
    let peers = ["a", "b"].map(Arc::<str>::from);
    let range = (IpAddr::V4(Ipv4Addr::new(10, 64, 0, 0)), IpAddr::V4(Ipv4Addr::new(10, 127, 255, 255)));
    Arc::new(Policy {
        peers: peers.iter().map(|peer| (Arc::clone(peer), NodeSelector::default())).collect(),
        pools: BTreeMap::from([(Arc::from("all"), Pool { ranges: vec![range], ..Pool::default() })]),
        advertisements: vec![Advertisement {
            name: "all".into(),
            pools: BTreeSet::from([Arc::from("all")]),
            scope: Scope::Named,
            peers: peers.into(),
            nodes: NodeSelector::default(),
            attributes: Attributes { local_pref: Some(local_pref), ..Attributes::default() },
            endpoints: EndpointRule::Required,
        }],
        ..Policy::default()
    })
}

/// Time on a processor, so that a busy machine changes nothing: the first number of the thread's `schedstat`.
fn on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts what a thread ran");
    let nanoseconds = text.split(' ').next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.expect("the first number is nanoseconds on a processor"))
}

/// For what takes long.
fn busy(work: impl FnOnce()) -> Duration {
    let start = on_cpu();
    work();
    on_cpu() - start
}

/// For what is over before the kernel counts it; take the median of many.
fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort();
    samples[samples.len() / 2]
}

#[test]
fn a_change_costs_a_change() {
    let (mut view, first, second) = (view(), policy(100), policy(200));
    let mut planner = Planner::default();
    let mut plan = Default::default();
    let full = busy(|| plan = planner.plan(&view, &first, "n1"));
    let routes: usize = plan.routes.values().map(|routes| routes.len()).sum();
    assert_eq!(routes, 2 * SERVICES as usize);

    let other = busy(|| plan = planner.plan(&view, &second, "n1"));
    let again = median((0..100).map(|_| timed(|| plan = planner.plan(&view, &second, "n1"))).collect());
    let mut flips = Vec::new();
    for n in 0..500 {
        // Local services: an endpoint that leaves this node takes the route with it, on both peers.
        let (key, held) = (key((n * 7919) % SERVICES / 2 * 2 + 1), plan.clone());
        for (endpoints, change) in [(on("n2"), 1), (on("n1"), 1)] {
            view.endpoints.insert(key.clone(), endpoints);
            let before = plan.clone();
            flips.push(timed(|| plan = planner.plan(&view, &second, "n1")));
            for (peer, routes) in &plan.routes {
                assert_eq!(before.routes[peer].changes(routes).count(), change);
            }
        }
        assert!(plan.routes.iter().all(|(peer, routes)| held.routes[peer].changes(routes).next().is_none()));
    }
    let flip = median(flips);
    println!(
        "{SERVICES} services, 2 peers: full plan {full:?} and another policy {other:?} on a processor; \
         nothing changed {again:?}, one endpoint changed {flip:?} (medians)"
    );
    assert!(flip * 100 < full, "one change costs {flip:?}, a full plan {full:?}");
    assert!(again * 100 < full, "no change costs {again:?}, a full plan {full:?}");
}
