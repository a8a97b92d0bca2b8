//! Addresses that outlast what happens around them: an edited pool, a database that is put back, slow answers, a leader that dies
//! with writes on their way.

use super::{SOON, host, same};
use crate::bed::Bed;
use crate::control_plane::Parts;
use crate::delay::Delay;
use crate::rig::bgp::{Listener, Manner, Seen};
use crate::rig::{Outcome, wait_until};
use crate::yard::{Yard, ingress, service};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

const NODE: Ipv4Addr = Ipv4Addr::new(172, 30, 8, 2);

/// What a speaker needs in order to announce the services `public` and `by-hand`.
const OBJECTS: &str = "apiVersion: v1
kind: Node
metadata: {name: yard}
spec: {podCIDRs: [10.244.9.0/24]}
status: {addresses: [{type: InternalIP, address: 172.30.8.2}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: public-1, namespace: default, labels: {kubernetes.io/service-name: public}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [10.244.9.9], nodeName: yard, conditions: {ready: true}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: by-hand-1, namespace: default, labels: {kubernetes.io/service-name: by-hand}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [10.244.9.8], nodeName: yard, conditions: {ready: true}}]
";

/// The pool before and after the edit; and one that overlaps what the cluster uses itself.
const BEFORE: &str = "- {name: edge, addresses: [198.18.0.0/24], coolDown: 1s}\n";
const AFTER: &str = "- {name: edge, addresses: [198.18.9.0/24, 10.96.7.0/24, 172.30.8.2], coolDown: 1s}\n";

/// A pool is edited away from under an address: it stays announced, also by a speaker that starts anew, until `herald renumber`
/// moves its service. An address that somebody wrote into a status by hand is announced never.
pub fn retained_until_renumbered(bed: &Bed) -> Outcome {
    let yard = Yard::start(bed, "retained", Parts::ApiServer, BEFORE)?;
    yard.space().ip(&[format!("address add {NODE}/32 dev lo")])?;
    yard.kubectl().apply(OBJECTS)?;
    let allocator = yard.allocator(1)?;
    let router = Manner::Honest { asn: 64601, router_id: yard.address(), hold: 9 };
    let listener = Listener::start(yard.space(), SocketAddr::new(yard.address().into(), 179), router)?;
    let speaker = yard.speaker("yard", NODE, BEFORE)?;
    yard.create_services(&["public".to_owned()])?;
    announced(&listener, "198.18.0.0").map_err(|e| format!("{e}\n{}", speaker.log_end()))?;
    yard.kubectl().create(&service("by-hand", ""))?;
    yard.kubectl().set_ingress("default", "by-hand", "203.0.113.77")?;

    yard.set_pools(AFTER, &allocator)?;
    yard.set_speakers_pools(AFTER, &speaker)?;
    let kept = |text: &str| text.lines().any(|line| line.starts_with("198.18.0.0/32") && line.contains("outsidePool"));
    wait_until(SOON, "the speaker to say that the address is outside its pools", || {
        let routes = yard.routes()?;
        if kept(&routes) { Ok(()) } else { Err(routes) }
    })?;
    wait_until(SOON, "the allocator to say so", || {
        let pools = yard.pools(1)?;
        let told = pools.contains("198.18.0.0  default/public") && pools.contains("OutsidePool");
        if told { Ok(()) } else { Err(pools) }
    })?;
    let pools = yard.pools(1)?;
    println!("  {}", pools.trim().replace('\n', "\n  "));
    doubts(&pools)?;

    // One that starts anew knows of it by the Allocation alone. The routers see nothing of the edit but its announcement.
    drop(speaker);
    let mut told: Vec<Seen> = listener.drain().into_iter().map(|event| event.what).collect();
    let speaker = yard.speaker("yard", NODE, AFTER)?;
    let anew = until_announced(&listener, "198.18.0.0").map_err(|e| format!("{e}\n{}", speaker.log_end()))?;
    told.extend(anew);
    let bad = |seen: &Seen| match seen {
        Seen::Update(update) => {
            update.withdrawn.contains(&host("198.18.0.0")) || update.announced.contains(&host("203.0.113.77"))
        }
        _ => false,
    };
    if let Some(bad) = told.iter().find(|seen| bad(seen)) {
        return Err(format!("a router was told {bad:?}"));
    }
    same("routes of the service written by hand", yard.routes()?.contains("203.0.113.77"), false)?;

    let printed = yard.renumber(&["--pool", "edge", "--dry-run"])?;
    same("the dry run", printed.starts_with("default/public would leave 198.18.0.0 (OutsidePool"), true)?;
    same("its address after the dry run", shown(&yard, "public")?, vec!["198.18.0.0".to_owned()])?;
    let printed = yard.renumber(&["default/public"])?;
    println!("  {}", printed.trim());
    // The node's own address and the ranges of the cluster come after this one.
    same("what was printed", printed.trim(), "default/public: 198.18.0.0 -> 10.96.7.0")?;
    moved(&listener, "198.18.0.0", "10.96.7.0")?;
    same("whoever is left", yard.renumber(&["--all"])?.contains("nothing to do"), true)?;
    let service = yard.kubectl().json(&["get", "service", "public"])?;
    same("the annotation", service["metadata"]["annotations"].get("herald.bgp/renumber").is_none(), true)
}

/// The pool holds a node's address and overlaps the range of ClusterIPs.
fn doubts(pools: &str) -> Outcome {
    for words in
        ["! pool edge holds 172.30.8.2, which node yard has", "! pool edge overlaps 10.96.0.0/16, the ClusterIPs"]
    {
        if !pools.contains(words) {
            return Err(format!("no word of {words:?} in\n{pools}"));
        }
    }
    Ok(())
}

fn announced(listener: &Listener, address: &str) -> Outcome {
    until_announced(listener, address).map(drop)
}

/// What a router is told until an address is announced.
fn until_announced(listener: &Listener, address: &str) -> Outcome<Vec<Seen>> {
    let mut told = Vec::new();
    listener.next(Duration::from_secs(20), &format!("{address} to be announced"), |event| {
        told.push(event.what.clone());
        matches!(&event.what, Seen::Update(update) if update.announced.contains(&host(address)))
    })?;
    Ok(told)
}

/// Waits until a router has been told of the new address and that the old one is gone.
fn moved(listener: &Listener, old: &str, new: &str) -> Outcome {
    let (mut has_new, mut had_old) = (false, false);
    let what = format!("{new} in the place of {old}");
    let mut look = |seen: &Seen| {
        if let Seen::Update(update) = seen {
            has_new |= update.announced.contains(&host(new));
            had_old |= update.withdrawn.contains(&host(old));
        }
        has_new && had_old
    };
    listener.next(SOON, &what, |event| look(&event.what)).map(drop)
}

fn shown(yard: &Yard<'_>, name: &str) -> Outcome<Vec<String>> {
    Ok(ingress(&yard.kubectl().json(&["get", "service", name])?))
}

/// etcd is put back to an older state under running allocators: what they and their watches know lies ahead of it. In the end
/// everybody has an address of his own, and whoever is in the copy has the one that he had.
pub fn etcd_put_back(bed: &Bed) -> Outcome {
    let pools = "- {name: edge, addresses: [198.18.0.0/16], coolDown: 1s}\n";
    let mut yard = Yard::start(bed, "putback", Parts::ApiServer, pools)?;
    let allocators = [yard.allocator(1)?, yard.allocator(2)?];
    let names = |letter: &str, count: u32| (0..count).map(|n| format!("{letter}{n}")).collect::<Vec<_>>();
    yard.create_services(&names("old", 40))?;
    yard.settled(Duration::from_secs(30), 40)?;
    let before = yard.shown()?;
    yard.stop()?;
    yard.copy_database()?;
    yard.resume()?;
    let log = || format!("{}\n{}", allocators[0].log_end(), allocators[1].log_end());
    // What will have been in vain: addresses change hands.
    let leaving = names("old", 15);
    let leaving: Vec<&str> = leaving.iter().map(String::as_str).collect();
    yard.kubectl().run(&[&["delete", "service", "--wait=false"], &leaving[..]].concat())?;
    std::thread::sleep(Duration::from_millis(1100)); // the cool-down: the addresses are given again
    yard.create_services(&names("lost", 30))?;
    yard.settled(Duration::from_secs(60), 55).map_err(|e| format!("{e}\n{}", log()))?;
    let lost = yard.shown()?;
    let reused =
        lost.iter().filter(|(name, at)| name.starts_with("lost") && before.values().any(|of| of == *at)).count();
    if reused == 0 {
        return Err("no address changed hands: this would show nothing".to_owned());
    }
    yard.stop()?;
    yard.put_database_back()?;
    yard.resume()?;
    let begun = Instant::now();
    yard.create_services(&names("new", 10))?;
    yard.settled(Duration::from_secs(60), 50).map_err(|e| format!("{e}\n{}", log()))?;
    println!(
        "  {reused} addresses had changed hands since the copy; all 50 services are served {:.1} s after etcd came back",
        begun.elapsed().as_secs_f32()
    );
    let after: BTreeMap<_, _> = yard.shown()?.into_iter().filter(|(name, _)| name.starts_with("old")).collect();
    same("the addresses of those in the copy", after, before)
}

/// Every request takes two seconds longer: fifty grants go side by side. Then the leader dies with writes on their way, which
/// arrive while another one leads.
pub fn through_slow_answers(bed: &Bed) -> Outcome {
    let pools = "- {name: edge, addresses: [198.18.0.0/16], coolDown: 1s}\n";
    let yard = Yard::start(bed, "slow", Parts::ApiServer, pools)?;
    let api = SocketAddr::new(yard.address().into(), 6443);
    let door = SocketAddr::new(yard.address().into(), 7443);
    let delay = Delay::start(yard.space(), door, api, Duration::from_secs(2))?;
    let slow = yard.allocator_behind(1, door, 24)?;
    wait_until(Duration::from_secs(60), "the allocator to give", || {
        let pools = yard.pools(1)?;
        if pools.contains("Services:") { Ok(()) } else { Err(pools) }
    })?;
    let begun = Instant::now();
    yard.create_services(&(0..50).map(|n| format!("s{n}")).collect::<Vec<_>>())?;
    yard.settled(Duration::from_secs(90), 50).map_err(|e| format!("{e}\n{}", slow.log_end()))?;
    let took = begun.elapsed();
    println!("  50 services are served in {:.1} s, with 2 s more for each request", took.as_secs_f32());
    if took > Duration::from_secs(50) {
        return Err(format!(
            "50 services took {took:?}: one after the other they would take 200 s, side by side some 10 s"
        ));
    }
    yard.create_services(&(0..30).map(|n| format!("t{n}")).collect::<Vec<_>>())?;
    wait_until(Duration::from_secs(30), "the first of its grants to be written", || {
        let count = yard.allocations()?.len();
        if count > 55 { Ok(()) } else { Err(format!("{count} Allocations")) }
    })?;
    slow.signal(Signal::KILL)?;
    yard.kubectl().run(&["-n", crate::bed::HERALD, "delete", "lease", "herald-allocator"])?;
    let next = yard.allocator(2)?;
    let begun = Instant::now();
    yard.settled(Duration::from_secs(60), 80).map_err(|e| format!("{e}\n{}", next.log_end()))?;
    // What the dead one sent is all there by now.
    std::thread::sleep(Duration::from_secs(3));
    yard.create_services(&(0..10).map(|n| format!("u{n}")).collect::<Vec<_>>())?;
    yard.settled(SOON, 90).map_err(|e| format!("{e}\n{}", next.log_end()))?;
    println!("  a leader died in mid-grant; the next one had served all {:.1} s later", begun.elapsed().as_secs_f32());
    drop(delay);
    Ok(())
}

/// With the finalizer on: it is there with the address, goes when the service is no load balancer any more, and a deletion waits for
/// the allocator and no longer.
pub fn finalizer_where_wished(bed: &Bed) -> Outcome {
    let yard = Yard::start(bed, "finalizer", Parts::ApiServer, BEFORE)?;
    let finalizers = |name: &str| {
        let service = yard.kubectl().json(&["get", "service", name])?;
        let all = service["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        Ok::<bool, String>(all.iter().any(|one| one == "service.kubernetes.io/load-balancer-cleanup"))
    };
    let has = |name: &'static str, wanted: bool| {
        wait_until(SOON, &format!("whether {name} has the finalizer to be {wanted}"), || {
            same("it has", finalizers(name)?, wanted)
        })
        .map(drop)
    };
    let plain = yard.allocator(1)?;
    yard.create_services(&["plain".to_owned()])?;
    yard.settled(SOON, 1)?;
    has("plain", false)?;
    plain.signal(Signal::TERM)?;
    let careful = yard.allocator_with(2, &["--cleanup-finalizer"])?;
    yard.create_services(&["kept".to_owned()])?;
    yard.settled(SOON, 2)?;
    has("kept", true)?;
    has("plain", true)?;
    let patch = r#"{"spec":{"type":"ClusterIP","allocateLoadBalancerNodePorts":null}}"#;
    yard.kubectl().run(&["patch", "service", "plain", "-p", patch])?;
    has("plain", false)?;
    // A dead allocator holds up the deletion: that is why this is an option.
    careful.signal(Signal::KILL)?;
    yard.kubectl().run(&["delete", "service", "kept", "--wait=false"])?;
    let there = yard.kubectl().json(&["get", "service", "kept"])?;
    same("its deletion to be under way", there["metadata"]["deletionTimestamp"].is_null(), false)?;
    let _next = yard.allocator_with(3, &["--cleanup-finalizer"])?;
    wait_until(SOON, "the service to go", || match yard.kubectl().run(&["get", "service", "kept"]) {
        Err(_) => Ok(()),
        Ok(text) => Err(text),
    })?;
    wait_until(SOON, "its address to be given back", || {
        let held: Vec<_> = yard.allocations()?.into_iter().filter(|(_, holders)| !holders.is_empty()).collect();
        if held.is_empty() { Ok(()) } else { Err(format!("{held:?}")) }
    })
    .map(drop)
}

/// An allocator is killed again and again in churn, 200 times: for soak.
pub fn killed_two_hundred_times(bed: &Bed) -> Outcome {
    super::allocation::killed(bed, "churn200", 200, 4)
}

/// 10,000 services: all served, no address twice, and how long that takes beside the API server's own rate.
pub fn ten_thousand(bed: &Bed) -> Outcome {
    let yard =
        Yard::start(bed, "many", Parts::ApiServer, "- {name: edge, addresses: [198.18.0.0/16], coolDown: 5s}\n")?;
    let allocator = yard.allocator(1)?;
    let names: Vec<String> = (0..10_000).map(|n| format!("s{n}")).collect();
    let begun = Instant::now();
    yard.create_services(&names)?;
    let created = begun.elapsed();
    yard.settled(Duration::from_secs(600), 10_000).map_err(|e| format!("{e}\n{}", allocator.log_end()))?;
    println!(
        "  10,000 services: written by eight clients in {:.0} s, all served {:.0} s after the first; {} MiB, {:.0} s of processor time",
        created.as_secs_f32(),
        begun.elapsed().as_secs_f32(),
        allocator.rss()? / 1024,
        allocator.cpu()?.as_secs_f32()
    );
    Ok(())
}
