//! A session of three seconds beside much work for the rest of the process, and beside others who want the processor.

use crate::fake_api::{SERVICES, SLICES};
use crate::files::{quick_config, stage, still_up};
use crate::guard::ALL;
use crate::lists::{Cluster, service as object, slice};
use crate::process::{Stage, service};
use crate::router::{Entry, Manner, Router, table};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The address of a service by its number: more than a /24 has.
fn address(n: u32) -> String {
    format!("2001:db8:5::{:x}:{:x}", n >> 16, n & 0xffff)
}

#[test]
fn ten_thousand_manifests_are_read_beside_a_session_of_three_seconds() {
    let router = Router::start(98, Manner::Ordinary);
    let mut stage = stage();
    stage.write("herald.yaml", &quick_config(&router, ""));
    stage.start("n1");
    router.wait_for_end_of_rib();
    for n in 0..10_000 {
        let address = address(n);
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{namespace: shop, name: s{n}}}\nspec: {{type: LoadBalancer, ports: [{{port: 80}}]}}\n\
             status: {{loadBalancer: {{ingress: [{{ip: \"{address}\"}}]}}}}\n"
        );
        stage.write(&format!("manifests/s{n}.yaml"), &text);
    }
    stage.write("manifests/last.yaml", &service("last", &["198.51.100.8".to_owned()]));
    router.wait_for_table(&["198.51.100.7/32", "198.51.100.8/32"]);
    still_up(&router);
}

/// Each change of the rules decides about all of them anew. `HERALD_SERVICES`: how many; otherwise 20,000.
#[test]
fn a_planner_over_tens_of_thousands_of_services_costs_no_session_of_three_seconds() {
    let router = Router::start(99, Manner::Ordinary);
    let cluster = Cluster::new();
    cluster.fill();
    let many = std::env::var("HERALD_SERVICES").map_or(20_000, |many| many.parse().expect("HERALD_SERVICES: a number"));
    for n in 0..many {
        cluster.api.put(SERVICES, object(&format!("many-{n}"), &address(n)));
    }
    let mut stage = Stage::new();
    let text = quick_config(&router, "");
    stage.write("herald.yaml", &text);
    stage.start_in_a_cluster("n1", cluster.address, &[]);
    router.wait_for_table(&ALL);
    for community in ["64512:1", "64512:2"] {
        stage.write("herald.yaml", &text.replace("communities: []", &format!("communities: [\"{community}\"]")));
        stage.signal("HUP");
        let new =
            |entry: &Entry| matches!(entry, Entry::Announce { communities, .. } if communities.join(" ") == *community);
        router.wait("the new rules in force", |log| log.iter().rev().take(ALL.len()).any(new));
    }
    // Services that come while it plans are announced, and the session is the first one.
    cluster.api.put(SERVICES, object("late", "198.51.100.20"));
    cluster.api.put(SLICES, slice("late"));
    router.wait("one more", |log| table(log).contains("198.51.100.20/32"));
    still_up(&router);
}

/// `HERALD_HOGS`: for how many seconds; otherwise 10.
#[test]
fn hogs_on_every_core_cost_no_session_of_three_seconds() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let seconds = std::env::var("HERALD_HOGS").map_or(10, |seconds| seconds.parse().expect("HERALD_HOGS: seconds"));
    let router = Router::start(100, Manner::Ordinary);
    let mut stage = stage();
    stage.write("herald.yaml", &quick_config(&router, ""));
    stage.start("n1");
    router.wait_for_end_of_rib();
    let cores = std::thread::available_parallelism().unwrap().get();
    let spin = || {
        while !STOP.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    };
    let hogs: Vec<_> = (0..2 * cores).map(|_| std::thread::spawn(spin)).collect();
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut turn = 0;
    while Instant::now() < until {
        // A withdrawal and an announcement reach the router meanwhile.
        stage.write("manifests/web.yaml", &service("web", &[format!("198.51.100.{}", 7 + turn % 2)]));
        let wanted = format!("198.51.100.{}/32", 7 + turn % 2);
        router.wait_for_table(&[&wanted]);
        turn += 1;
    }
    still_up(&router);
    STOP.store(true, Ordering::Relaxed);
    hogs.into_iter().for_each(|hog| hog.join().unwrap());
    assert!(turn > 0);
}
