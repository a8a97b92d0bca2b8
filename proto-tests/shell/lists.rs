//! What an API server's list no longer has, though nobody deleted it.

use crate::fake_api::{ALLOCATIONS, FakeApi, NODES, SERVICES, SLICES, Snapshot};
use crate::guard::{ALL, guarded, number};
use crate::process::Stage;
use crate::router::{Entry, Manner, Router, newest, table};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// An API server beside the test; it ends with it.
pub struct Cluster {
    pub api: FakeApi,
    pub address: SocketAddr,
    /// Its thread runs for as long as this is held.
    _running: oneshot::Sender<()>,
}

pub fn service(name: &str, address: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "uid": name},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], "externalTrafficPolicy": "Cluster"},
        "status": {"loadBalancer": {"ingress": [{"ip": address}]}},
    })
}

pub fn slice(of: &str) -> Value {
    json!({
        "metadata": {"name": format!("{of}-1"), "namespace": "shop", "labels": {"kubernetes.io/service-name": of}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.1.5"], "nodeName": "n1", "conditions": {"ready": true}}],
    })
}

impl Cluster {
    pub fn new() -> Self {
        let (running, stop) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                tell.send((FakeApi::serve_on(listener), address)).unwrap();
                let _ = stop.await;
            });
        });
        let (api, address) = told.recv().unwrap();
        Self { api, address, _running: running }
    }

    /// Five services with an endpoint each; answers what was there before them.
    pub fn fill(&self) -> Snapshot {
        let empty = self.api.snapshot();
        let addresses = json!([{"type": "InternalIP", "address": "192.0.2.11"}]);
        self.api.put(NODES, json!({"metadata": {"name": "n1"}, "status": {"addresses": addresses}}));
        for (n, prefix) in ALL.iter().enumerate() {
            let name = format!("s{n}");
            self.api.put(SERVICES, service(&name, prefix.trim_end_matches("/32")));
            self.api.put(SLICES, slice(&name));
        }
        empty
    }

    /// A speaker that has announced all of it, with this guard.
    fn announced(&self, router: &Router, guard: &str) -> Stage {
        let mut stage = Stage::new();
        stage.write("herald.yaml", &guarded(router, guard));
        stage.start_in_a_cluster("n1", self.address, &[]);
        router.wait_for_table(&ALL);
        stage
    }
}

fn holds(stage: &Stage) -> bool {
    stage.ask("/readyz").1.contains("GuardHolds")
}

/// Rights that see less, a proxy that filters, an API server that lags: a kind at a time, and all at once. What comes back one by one
/// takes nothing of the others along, however long nothing was there.
#[test]
fn a_list_without_the_objects_of_a_kind_withdraws_nothing_and_they_may_come_back() {
    let router = Router::start(94, Manner::Ordinary);
    let cluster = Cluster::new();
    cluster.fill();
    let stage = cluster.announced(&router, "  hold: 5s\n");
    let kinds: [&[&str]; 4] = [&[SERVICES], &[SLICES], &[NODES], &[SERVICES, SLICES, NODES, ALLOCATIONS]];
    for kinds in kinds {
        cluster.api.lose(kinds);
        stage.wait("the guard to hold", || holds(&stage));
        let said = stage.ask("/readyz").1;
        assert!(said.contains("herald confirm "), "{kinds:?}: {said}");
        let shown = String::from_utf8(stage.show(&["peers"]).stdout).unwrap();
        assert!(shown.contains("GuardHolds"), "{kinds:?}: {shown}");
        assert!(stage.ask("/metrics").1.contains("herald_conditions{reason=\"GuardHolds\"} 1"), "{kinds:?}");
        router.wait_for_table(&ALL);
        cluster.fill();
        stage.wait("nothing is held", || !holds(&stage));
    }
    let log = router.log();
    assert!(!log.iter().any(|entry| matches!(entry, Entry::Withdraw(_))), "{log:?}");
}

/// A database that was restored from an empty copy: all kinds at once, and versions that count from the beginning.
#[test]
fn a_server_that_comes_back_empty_withdraws_nothing_until_it_is_confirmed() {
    let router = Router::start(95, Manner::Ordinary);
    let cluster = Cluster::new();
    let empty = cluster.fill();
    let stage = cluster.announced(&router, "  hold: 1s\n");
    cluster.api.put_back(empty);
    stage.wait("the guard to hold", || holds(&stage));
    router.wait_for_table(&ALL);
    let number = number(&stage.ask("/readyz").1);
    assert!(stage.show(&["confirm", &number]).status.success());
    router.wait_for_table(&[]);
    stage.wait("nothing is held", || !holds(&stage));
}

/// What an allocator gave stays announced when its pool is edited away, by the advertisements of that pool; where those are replaced
/// in the same edit, nothing would be left.
#[test]
fn a_pool_and_its_advertisement_replaced_in_one_edit_withdraw_nothing_until_it_is_confirmed() {
    let router = Router::start(88, Manner::Ordinary);
    let cluster = Cluster::new();
    cluster.fill();
    for (n, prefix) in ALL.iter().enumerate() {
        let (address, name) = (prefix.trim_end_matches("/32"), format!("s{n}"));
        let holder = json!({"namespace": "shop", "name": name, "uid": name, "ports": [{"protocol": "TCP", "port": 80}],
                            "externalTrafficPolicy": "Cluster"});
        let object = format!("v4-{}", address.replace('.', "-"));
        let spec = json!({"address": address, "pool": "pool", "holders": [holder]});
        cluster.api.put(ALLOCATIONS, json!({"metadata": {"name": object}, "spec": spec}));
    }
    let stage = cluster.announced(&router, "  hold: 20s\n");
    let before = guarded(&router, "  hold: 20s\n").replace("- name: all\n", "- name: all\n  pools: [pool]\n");
    stage.write("herald.yaml", &before);
    stage.signal("HUP");
    stage.wait_for_log("new configuration");
    let other =
        before.replace("- name: pool\n  addresses: [198.51.100.0/24,", "- name: other\n  addresses: [203.0.113.0/24,");
    stage.write("herald.yaml", &other.replace("pools: [pool]", "pools: [other]"));
    stage.wait("the guard to hold", || holds(&stage));
    router.wait_for_table(&ALL);
    let said = stage.ask("/readyz").1;
    assert!(said.contains("5 routes of 5 addresses to r1 stay announced"), "{said}");
    assert!(said.contains("until that is confirmed"), "{said}");
    // With the first service of the new pool something would be left, and what is said says so.
    cluster.api.put(SLICES, slice("new"));
    cluster.api.put(SERVICES, service("new", "203.0.113.1"));
    stage.wait("a time to be said", || stage.ask("/readyz").1.contains("withdrawn in"));
    let said = stage.ask("/readyz").1;
    assert!(stage.show(&["confirm", &number(&said)]).status.success());
    router.wait_for_table(&["203.0.113.1/32"]);
}

/// A restart onto an answer that is much smaller than what the process before announced: what is there is announced, and a router
/// with graceful restart is not told that it is all.
#[test]
fn a_restart_onto_an_empty_answer_ends_no_routers_graceful_restart() {
    let router = Router::start(97, Manner::Graceful);
    let cluster = Cluster::new();
    let empty = cluster.fill();
    let mut stage = Stage::new();
    let text = guarded(&router, "  hold: 20s\n").replace("  holdTime: 9s\n", "  holdTime: 9s\n  gracefulRestart: {}\n");
    stage.write("herald.yaml", &text);
    let state = stage.path("state");
    let state = ["--state", state.to_str().unwrap()];
    stage.start_in_a_cluster("n1", cluster.address, &state);
    router.wait_for_table(&ALL);
    stage.wait("what is announced is written down", || {
        std::fs::read_to_string(stage.path("state/announced")).is_ok_and(|text| text.contains(ALL[4]))
    });
    stage.stop();
    cluster.api.put_back(empty);
    stage.start_in_a_cluster("n1", cluster.address, &state);
    stage.wait("the answer to be doubted", || stage.ask("/readyz").1.contains("EndOfRibWaits"));
    let said = stage.ask("/readyz").1;
    assert!(said.contains("5 of the 5 prefixes"), "{said}");
    // A node that rightly has nothing to announce any more stops no rollout.
    stage.wait("to be ready all the same", || stage.ask("/readyz").1.starts_with("ready\n"));
    let addresses = json!([{"type": "InternalIP", "address": "192.0.2.11"}]);
    cluster.api.put(NODES, json!({"metadata": {"name": "n1"}, "status": {"addresses": addresses}}));
    for (name, prefix) in [("s0", ALL[0]), ("new", "198.51.100.9/32")] {
        cluster.api.put(SLICES, slice(name));
        cluster.api.put(SERVICES, service(name, prefix.trim_end_matches("/32")));
        router.wait("a new route", |log| table(newest(log)).contains(prefix));
    }
    // Sent in order: an End-of-RIB would stand between the two.
    assert!(!newest(&router.log()).iter().any(|entry| matches!(entry, Entry::EndOfRib(_))));
    let number = number(&stage.ask("/readyz").1);
    assert!(stage.show(&["confirm", &number]).status.success());
    router.wait_for_end_of_rib();
    stage.wait("nothing is doubted", || !stage.ask("/readyz").1.contains("EndOfRibWaits"));
}

/// What is really deleted goes at once, one by one, though it is everything.
#[test]
fn three_hundred_services_deleted_one_by_one_are_withdrawn_at_once() {
    let router = Router::start(96, Manner::Ordinary);
    let cluster = Cluster::new();
    cluster.fill();
    let stage = cluster.announced(&router, "");
    let name = |n: u16| format!("many-{n}");
    for n in 0..300 {
        cluster.api.put(SERVICES, service(&name(n), &format!("198.51.100.{}", 10 + n % 240)));
        cluster.api.put(SLICES, slice(&name(n)));
    }
    let many = (10..250).map(|n| format!("198.51.100.{n}/32")).collect::<Vec<_>>();
    let all: Vec<&str> = ALL.iter().copied().chain(many.iter().map(String::as_str)).collect();
    router.wait_for_table(&all);
    (0..300).for_each(|n| cluster.api.delete(SERVICES, &name(n)));
    (0..ALL.len()).for_each(|n| cluster.api.delete(SERVICES, &format!("s{n}")));
    router.wait_for_table(&[]);
    assert!(!holds(&stage));
}

/// What an event says of this node counts at once too, though it takes everything, and it is said why nothing is announced.
#[test]
fn a_node_that_is_deleted_takes_its_routes_with_it_at_once() {
    let router = Router::start(99, Manner::Ordinary);
    let cluster = Cluster::new();
    cluster.fill();
    let stage = cluster.announced(&router, "  hold: 1h\n");
    cluster.api.delete(NODES, "n1");
    router.wait_for_table(&[]);
    stage.wait("the node to be missed", || stage.ask("/readyz").1.contains("NodeOutOfService"));
    assert!(!holds(&stage));
    cluster.fill();
    router.wait_for_table(&ALL);
}
