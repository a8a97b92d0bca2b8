//! Addresses: that they come, that nobody has another's, and that nobody else's are touched.

use super::{SOON, host, same, wait_both};
use crate::app::{App, HTTP, curl};
use crate::bed::Bed;
use crate::control_plane::Parts;
use crate::rig::process::Process;
use crate::rig::{Outcome, wait_until};
use crate::yard::{Yard, ingress, service};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const LARGE: &str = "- {name: edge, addresses: [198.18.0.0/16], coolDown: 5s}\n";

/// `kubectl expose … --type LoadBalancer`: an EXTERNAL-IP within a second, and `curl` from behind the routers works. Nobody wrote
/// an ingress status by hand.
pub fn expose_and_curl(bed: &Bed) -> Outcome {
    bed.herald()?;
    let namespace = "exposed";
    let app = App::start(bed, namespace, 3)?;
    let mut watches = bed.watch()?;
    let port = HTTP.to_string();
    let expose =
        ["-n", namespace, "expose", "deployment", "backend-app", "--type", "LoadBalancer", "--name", "shop", "--port"];
    bed.kubectl().run(&[&expose[..], &[&port]].concat())?;
    let (address, took) = wait_until(SOON, "an EXTERNAL-IP", || {
        let service = bed.kubectl().json(&["-n", namespace, "get", "service", "shop"])?;
        ingress(&service).pop().ok_or_else(|| service["status"].to_string())
    })?;
    println!("  {address} {} ms after kubectl expose", took.as_millis());
    if took > Duration::from_secs(1) {
        return Err(format!("the address came after {took:?}, and a second is allowed"));
    }
    wait_both(&mut watches, SOON, host(&address), &bed.all_hops())?;
    wait_until(SOON, "every one of 50 connections to be answered", || {
        same("answers", curl(bed.client(), &address, HTTP, 50)?.len(), 50)
    })?;
    let service = bed.kubectl().json(&["-n", namespace, "get", "service", "shop"])?;
    same("its pool", &service["metadata"]["annotations"]["herald.bgp/allocated-from-pool"], &Value::from("public"))?;
    same("its ipMode", &service["status"]["loadBalancer"]["ingress"][0]["ipMode"], &Value::from("VIP"))?;
    let shown = bed.kubectl().run(&["get", "services", "-n", namespace, "shop"])?;
    println!("  {}", shown.trim().replace('\n', "\n  "));
    app.delete_service("shop")?;
    wait_both(&mut watches, SOON, host(&address), &std::collections::BTreeSet::new()).map(drop)
}

/// 1,000 services at once: all are served, and no address is given twice.
pub fn a_thousand_at_once(bed: &Bed) -> Outcome {
    let yard = Yard::start(bed, "thousand", Parts::ApiServer, LARGE)?;
    let names: Vec<String> = (0..1000).map(|n| format!("s{n}")).collect();
    let begun = Instant::now();
    yard.create_services(&names)?;
    let created = begun.elapsed();
    // All at once: they wait for an allocator that begins now, with an account's rights and a lease to take.
    let begun = Instant::now();
    let allocator = yard.allocator(1)?;
    yard.settled(Duration::from_secs(60), 1000).map_err(|e| format!("{e}\n{}", allocator.log_end()))?;
    println!(
        "  1,000 services: written by eight clients within {:.1} s, served {:.1} s after an allocator began",
        created.as_secs_f32(),
        begun.elapsed().as_secs_f32()
    );
    let memory = allocator.rss()?;
    println!("  the allocator: {} MiB, {:.1} s of processor time", memory / 1024, allocator.cpu()?.as_secs_f32());
    println!("  {}", yard.pools(1)?.trim().replace('\n', "\n  "));
    // A restart changes nothing.
    let before = yard.shown()?;
    drop(allocator);
    let _allocator = yard.allocator(1)?;
    gives(&yard, 1)?;
    same("addresses after a restart", yard.shown()?, before)
}

/// An allocator is killed ten times while services come and go: in the end everybody has an address of its own.
pub fn killed_in_churn(bed: &Bed) -> Outcome {
    killed(bed, "churn", 10, 24)
}

/// The same with so many deaths, and so many services created in each round.
pub fn killed(bed: &Bed, name: &str, deaths: u64, count: u64) -> Outcome {
    let yard = Yard::start(bed, name, Parts::ApiServer, LARGE)?;
    let mut allocator = yard.allocator(1)?;
    gives(&yard, 1)?;
    let mut living: Vec<String> = Vec::new();
    for round in 0..deaths {
        let names: Vec<String> = (0..count).map(|n| format!("r{round}-{n}")).collect();
        std::thread::scope(|scope| {
            let churn = scope.spawn(|| {
                yard.create_services(&names)?;
                let leaving: Vec<&str> = living.iter().step_by(3).map(String::as_str).collect();
                match leaving.is_empty() {
                    true => Ok(String::new()),
                    false => yard.kubectl().run(&[&["delete", "service", "--wait=false"], &leaving[..]].concat()),
                }
            });
            // At another point of the round each time.
            std::thread::sleep(Duration::from_millis(37 * (round % 7) + 20));
            allocator.signal(Signal::KILL)?;
            allocator = yard.allocator(1)?;
            churn.join().map_err(|_| "the churn panicked".to_owned())?.map(drop)
        })?;
        living = living.iter().enumerate().filter(|(at, _)| at % 3 != 0).map(|(_, name)| name.clone()).collect();
        living.extend(names);
    }
    let took =
        yard.settled(Duration::from_secs(60), living.len()).map_err(|e| format!("{e}\n{}", allocator.log_end()))?;
    println!("  {} services are served {:.1} s after the last of {deaths} deaths", living.len(), took.as_secs_f32());
    Ok(())
}

/// The leader freezes in the midst of its grants, another takes over, the first one thaws: no address is given twice, and one
/// of them leads.
pub fn leader_freezes_and_thaws(bed: &Bed) -> Outcome {
    let yard = Yard::start(bed, "leaders", Parts::ApiServer, LARGE)?;
    let first = yard.allocator(1)?;
    gives(&yard, 1)?;
    let second = yard.allocator(2)?;
    let names: Vec<String> = (0..200).map(|n| format!("s{n}")).collect();
    std::thread::scope(|scope| {
        let creating = scope.spawn(|| yard.create_services(&names));
        wait_until(SOON, "the first grants", || {
            let shown = yard.shown()?;
            if shown.values().flatten().count() > 5 { Ok(()) } else { Err(format!("{} services", shown.len())) }
        })?;
        first.signal(Signal::STOP)?;
        creating.join().map_err(|_| "creating panicked".to_owned())?
    })?;
    let took = yard.settled(Duration::from_secs(30), 200).map_err(|e| format!("{e}\n{}", second.log_end()))?;
    println!("  all 200 are served {:.1} s after the last was created, by the second allocator", took.as_secs_f32());
    first.signal(Signal::CONT)?;
    wait_until(SOON, "the first to know that it leads no longer", || {
        let pools = yard.pools(1)?;
        if pools.contains("allocator-2 leads") { Ok(()) } else { Err(pools) }
    })?;
    yard.create_services(&(0..50).map(|n| format!("late{n}")).collect::<Vec<_>>())?;
    yard.settled(Duration::from_secs(30), 250)?;
    // An orderly end hands over at once.
    second.signal(Signal::TERM)?;
    let (_, took) = wait_until(SOON, "the first to lead again", || giving(&yard, 1))?;
    println!("  after an orderly end the other one gives {:.1} s later", took.as_secs_f32());
    yard.create_services(&["last".to_owned()])?;
    yard.settled(SOON, 251).map(drop)
}

/// Another controller has its own idea of a service's address: it keeps it, and nobody fights. A service of another class is not
/// touched at all.
pub fn beside_a_foreign_controller(bed: &Bed) -> Outcome {
    let yard = Yard::start(bed, "foreign", Parts::ApiServer, LARGE)?;
    let allocator = yard.allocator(1)?;
    gives(&yard, 1)?;
    yard.kubectl().create(&service("theirs", "  loadBalancerClass: example.com/other\n"))?;
    let untouched = version(&yard, "theirs")?;
    yard.kubectl().create(&service("contested", ""))?;
    wait_until(SOON, "our address", || match &address(&yard, "contested")?[..] {
        [ours] if ours.starts_with("198.18.") => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    // The other one puts a node's address there, and does so again whenever it finds something else.
    let mut written = 0;
    for _ in 0..40 {
        if address(&yard, "contested")? != ["10.9.9.9"] {
            yard.kubectl().set_ingress("default", "contested", "10.9.9.9")?;
            written += 1;
        }
        std::thread::sleep(Duration::from_millis(50)); // the other controller's own rhythm
    }
    println!("  the other controller wrote {written} times in 40 looks");
    same("times the other controller had to write", written, 1)?;
    wait_until(SOON, "our address to be given back", || {
        let allocations = yard.allocations()?;
        let held = allocations.values().filter(|holders| !holders.is_empty()).count();
        if held == 0 { Ok(()) } else { Err(format!("{allocations:?}")) }
    })?;
    same("the version of the service of another class", version(&yard, "theirs")?, untouched)?;
    // Somebody else's address in one of our pools is somebody's address: adopted, and given to nobody else.
    yard.kubectl().create(&service("by-hand", ""))?;
    yard.kubectl().set_ingress("default", "by-hand", "198.18.0.77")?;
    wait_until(SOON, "the address to be adopted", || {
        let allocations = yard.allocations()?;
        let holders = allocations.get("198.18.0.77").cloned().unwrap_or_default();
        if holders == ["by-hand"] { Ok(()) } else { Err(format!("{allocations:?}")) }
    })?;
    same("what it shows", address(&yard, "by-hand")?, vec!["198.18.0.77".to_owned()])?;
    drop(allocator);
    Ok(())
}

/// A life in a pool of two addresses: refused with the pool's name and reason, served when one is free again after its
/// cool-down, tidied up when it is no load balancer any more, kept when the pool is edited away. Uses every right there is;
/// returns the API server's record. `name` is that of its namespace.
pub fn what_a_user_sees(bed: &Bed, name: &str) -> Outcome<PathBuf> {
    let pools = "- {name: edge, addresses: [198.18.0.0/31], coolDown: 2s}\n";
    let yard = Yard::start(bed, name, Parts::OlderApiServer, pools)?;
    let allocator = yard.allocator(1)?;
    gives(&yard, 1)?;
    for name in ["first", "second"] {
        yard.kubectl().create(&service(name, ""))?;
        wait_until(SOON, "an address", || served(&yard, name))?;
    }
    yard.kubectl().create(&service("third", ""))?;
    let words = "pool edge is full: 2 of 2 used";
    wait_until(SOON, "the refusal as an event", || event(&yard, "third", "PoolFull", words))?;
    wait_until(SOON, "the refusal as a condition", || {
        let condition = condition(&yard, "third")?;
        let told = condition["status"] == "False" && condition["message"] == words;
        if told { Ok(()) } else { Err(condition.to_string()) }
    })?;
    let deleted = Instant::now();
    yard.kubectl().run(&["delete", "service", "first"])?;
    let rested = served_after(&yard, "third", deleted)?;
    println!("  the address of a deleted service was given to the next {rested:.1} s later; its cool-down is 2 s");
    if rested < 1.9 {
        return Err(format!("an address was given again after {rested:.1} s, before its cool-down of 2 s ended"));
    }
    wait_until(SOON, "the grant as an event", || event(&yard, "third", "AddressAllocated", "from pool edge"))?;
    let patch = r#"{"spec":{"type":"ClusterIP","allocateLoadBalancerNodePorts":null}}"#;
    yard.kubectl().run(&["patch", "service", "second", "-p", patch])?;
    wait_until(SOON, "nothing of ours to remain on a service of another type", || {
        let service = yard.kubectl().json(&["get", "service", "second"])?;
        let given_from = &service["metadata"]["annotations"]["herald.bgp/allocated-from-pool"];
        let remains =
            !ingress(&service).is_empty() || !given_from.is_null() || service["status"]["conditions"][0] != Value::Null;
        if remains { Err(service.to_string()) } else { Ok(()) }
    })?;
    wait_until(SOON, "its Allocation to end after the cool-down", || {
        same("allocations", yard.allocations()?.len(), 1)
    })?;
    kept_outside_the_pools(&yard, &allocator)?;
    Ok(yard.audit().to_owned())
}

/// The pool is edited away under a service: it keeps its address, and the condition says so.
fn kept_outside_the_pools(yard: &Yard<'_>, allocator: &Process) -> Outcome {
    let before = address(yard, "third")?;
    yard.set_pools("- {name: other, addresses: [198.18.9.0/24]}\n", allocator)?;
    wait_until(SOON, "the condition to say that the address is outside the pools", || {
        let condition = condition(yard, "third")?;
        let told = condition["status"] == "True" && condition["reason"] == "OutsidePool";
        if told { Ok(()) } else { Err(condition.to_string()) }
    })?;
    same("its address", address(yard, "third")?, before)?;
    yard.kubectl().run(&["annotate", "service", "third", "herald.bgp/renumber=true"])?;
    wait_until(SOON, "an address of the new pool, as it asked", || match &address(yard, "third")?[..] {
        [new] if new.starts_with("198.18.9.") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .map(drop)
}

/// Waits until an allocator gives addresses.
fn gives(yard: &Yard<'_>, number: u16) -> Outcome {
    wait_until(Duration::from_secs(20), "the allocator to give", || giving(yard, number)).map(drop)
}

fn giving(yard: &Yard<'_>, number: u16) -> Outcome {
    let pools = yard.pools(number)?;
    if pools.starts_with("Services:") { Ok(()) } else { Err(pools) }
}

fn address(yard: &Yard<'_>, name: &str) -> Outcome<Vec<String>> {
    Ok(ingress(&yard.kubectl().json(&["get", "service", name])?))
}

fn served(yard: &Yard<'_>, name: &str) -> Outcome<String> {
    address(yard, name)?.pop().ok_or_else(|| "none".to_owned())
}

/// Seconds from a moment until a service shows an address.
fn served_after(yard: &Yard<'_>, name: &str, since: Instant) -> Outcome<f32> {
    wait_until(SOON, "an address for the one that waits", || served(yard, name))?;
    Ok(since.elapsed().as_secs_f32())
}

fn version(yard: &Yard<'_>, name: &str) -> Outcome<String> {
    yard.kubectl().run(&["get", "service", name, "-o", "jsonpath={.metadata.resourceVersion}"])
}

fn condition(yard: &Yard<'_>, name: &str) -> Outcome<Value> {
    let service = yard.kubectl().json(&["get", "service", name])?;
    let conditions = service["status"]["conditions"].as_array().into_iter().flatten();
    let mut ours = conditions.filter(|condition| condition["type"] == "herald.bgp/AddressAllocated");
    ours.next().cloned().ok_or_else(|| service["status"].to_string())
}

/// Whether an event about a service has this reason and these words.
fn event(yard: &Yard<'_>, name: &str, reason: &str, words: &str) -> Outcome {
    let list = yard.kubectl().json(&["get", "events.v1.events.k8s.io"])?;
    let events = list["items"].as_array().into_iter().flatten();
    let about: BTreeMap<String, String> = events
        .filter(|event| event["regarding"]["name"] == name)
        .map(|event| (event["reason"].to_string(), event["note"].to_string()))
        .collect();
    let found = about.iter().any(|(found, note)| found.trim_matches('"') == reason && note.contains(words));
    if found { Ok(()) } else { Err(format!("{about:?}")) }
}

/// The same as a case.
pub fn seen_by_a_user(bed: &Bed) -> Outcome {
    what_a_user_sees(bed, "user").map(drop)
}
