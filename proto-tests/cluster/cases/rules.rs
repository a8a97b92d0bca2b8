//! Every rule of a role is needed: without it a function fails, and the log says which right is missing. And the admission policies
//! that are offered refuse what they should, and nothing else.

use super::{SOON, same};
use crate::bed::{Bed, HERALD, tree};
use crate::control_plane::Parts;
use crate::rig::process::Process;
use crate::rig::{Outcome, wait_until};
use crate::yard::{Yard, service};
use rustix::process::Signal;
use serde_json::Value;
use std::net::Ipv4Addr;

const POOLS: &str = "- {name: edge, addresses: [198.18.0.0/24], coolDown: 1s}\n";

/// A right, and what is done so that it is missed.
struct Right {
    role: &'static str,
    resource: &'static str,
    verb: &'static str,
    /// All verbs of the resource go with it, as they do in a rule.
    whole: bool,
    miss: fn(&Yard<'_>) -> Outcome,
}

const fn watched(resource: &'static str) -> Right {
    Right { role: "clusterrole/herald-allocator", resource, verb: "watch", whole: true, miss: |_| Ok(()) }
}

const fn written(resource: &'static str, verb: &'static str, miss: fn(&Yard<'_>) -> Outcome) -> Right {
    Right { role: "clusterrole/herald-allocator", resource, verb, whole: false, miss }
}

const fn leased(verb: &'static str, miss: fn(&Yard<'_>) -> Outcome) -> Right {
    Right { role: "role/herald-allocator", resource: "leases", verb, whole: false, miss }
}

const ALLOCATOR: &[Right] = &[
    watched("services"),
    watched("nodes"),
    watched("namespaces"),
    watched("allocations"),
    watched("servicecidrs"),
    written("allocations", "create", |yard| yard.kubectl().create(&service("created", ""))),
    written("services/status", "patch", |yard| yard.kubectl().create(&service("told", ""))),
    written("events", "create", |yard| yard.kubectl().create(&service("evented", ""))),
    written("services", "get", |yard| {
        let patch = r#"{"spec":{"type":"ClusterIP","allocateLoadBalancerNodePorts":null}}"#;
        yard.kubectl().run(&["patch", "service", "standing", "-p", patch]).map(drop)
    }),
    written("allocations", "update", |yard| yard.kubectl().run(&["delete", "service", "created"]).map(drop)),
    written("allocations", "delete", |yard| yard.kubectl().run(&["delete", "service", "told"]).map(drop)),
    leased("get", |_| Ok(())),
    leased("update", |_| Ok(())),
    leased("create", |yard| yard.kubectl().run(&["-n", HERALD, "delete", "lease", "herald-allocator"]).map(drop)),
];

/// Takes each rule away in turn: what it is for fails, and the API server's words in the log name it.
pub fn each_is_needed(bed: &Bed) -> Outcome {
    let yard = Yard::start(bed, "rules", Parts::ApiServer, POOLS)?;
    let allocator = yard.allocator(1)?;
    yard.create_services(&["standing".to_owned()])?;
    yard.settled(SOON, 1).map_err(|e| format!("{e}\n{}", allocator.log_end()))?;
    end(allocator)?;
    for (number, right) in (2..).zip(ALLOCATOR) {
        let role = without(&yard, right)?;
        let mut allocator = yard.chatty_allocator(number)?;
        let missed = (right.miss)(&yard).and_then(|()| missed(&allocator, right));
        allocator.signal(Signal::TERM)?;
        allocator.wait(SOON)?;
        put_back(&yard, &role)?;
        missed?;
    }
    for resource in ["services", "nodes", "endpointslices", "allocations"] {
        let right = Right { role: "clusterrole/herald-speaker", ..watched(resource) };
        let role = without(&yard, &right)?;
        let speaker = yard.speaker("nobody", Ipv4Addr::LOCALHOST, POOLS)?;
        let missed = missed(&speaker, &right);
        drop(speaker);
        put_back(&yard, &role)?;
        missed?;
    }
    println!("  {} rights were missed by the allocator, 4 by the speaker", ALLOCATOR.len());
    Ok(())
}

fn end(mut process: Process) -> Outcome {
    process.signal(Signal::TERM)?;
    process.wait(SOON).map(drop)
}

fn missed(process: &Process, right: &Right) -> Outcome {
    let words = format!("cannot {} resource \"{}\"", right.verb, right.resource);
    wait_until(3 * SOON, &format!("a process to say that it {words}"), || {
        let log = process.log().replace("\\\"", "\"");
        if log.contains(&words) { Ok(()) } else { Err(process.log_end()) }
    })
    .map(drop)
}

/// Takes a right out of its role; what the role was.
fn without(yard: &Yard<'_>, right: &Right) -> Outcome<Value> {
    let role = yard.kubectl().json(&["-n", HERALD, "get", right.role])?;
    let mut less = role.clone();
    let rules = less["rules"].as_array_mut().ok_or("a role without rules")?;
    let mut found = 0;
    for rule in rules.iter_mut() {
        let has = |list: &Value, word: &str| list.as_array().into_iter().flatten().any(|one| one == word);
        if !has(&rule["resources"], right.resource) || !has(&rule["verbs"], right.verb) {
            continue;
        }
        found += 1;
        let (key, gone) = if right.whole { ("resources", right.resource) } else { ("verbs", right.verb) };
        let list = rule[key].as_array_mut().ok_or("a rule without a list")?;
        list.retain(|one| one != gone);
    }
    rules.retain(|rule| ["resources", "verbs"].iter().all(|key| rule[*key].as_array().is_some_and(|l| !l.is_empty())));
    same(&format!("rules that give {} {}", right.verb, right.resource), found, 1)?;
    put_back(yard, &less)?;
    Ok(role)
}

fn put_back(yard: &Yard<'_>, role: &Value) -> Outcome {
    let mut role = role.clone();
    role["metadata"].as_object_mut().ok_or("a role without metadata")?.remove("resourceVersion");
    yard.kubectl().replace(&role.to_string())
}

/// The admission policies: refused is who writes an Allocation that is not the allocator, and an annotation that cannot be read;
/// herald works as without them.
pub fn policies_refuse_what_they_should(bed: &Bed) -> Outcome {
    let yard = Yard::start(bed, "policies", Parts::ApiServer, POOLS)?;
    let policies = tree().join("deploy/overlays/guarded/policies.yaml");
    yard.kubectl().run(&["apply", "-f", &policies.display().to_string()])?;
    let eve = ["create", "clusterrolebinding", "eve", "--clusterrole=cluster-admin", "--user=eve"];
    yard.kubectl().run(&eve)?;
    let annotated = |name: &str, annotation: &str| {
        service(name, "")
            .replace("namespace: default}", &format!("namespace: default, annotations: {{{annotation}}}}}"))
    };
    let refused = |text: &str, words: &str| match yard.kubectl().create(text) {
        Ok(()) => Err(format!("taken: {text}")),
        Err(why) if why.contains(words) => Ok(()),
        Err(why) => Err(why),
    };
    // A policy that has just been written takes a moment to be in force; each try is a service of another name.
    let mut tries = 0;
    wait_until(SOON, "an address that is none to be refused", || {
        tries += 1;
        let text = annotated(&format!("bad-{tries}"), "herald.bgp/addresses: 'nowhere'");
        refused(&text, "herald.bgp/addresses names one address")
    })?;
    refused(&annotated("bad", "herald.bgp/renumber: 'maybe'"), "herald.bgp/renumber is")?;
    let allocator = yard.allocator(1)?;
    yard.kubectl().run(&["delete", "services", "--all"])?;
    yard.kubectl().create(&annotated("good", "herald.bgp/addresses: '198.18.0.9', herald.bgp/renumber: 'false'"))?;
    yard.settled(SOON, 1).map_err(|e| format!("{e}\n{}", allocator.log_end()))?;
    let words = "Allocations are written by herald's allocator alone";
    let by_eve = |verb: &str| yard.kubectl().run(&[verb, "allocation", "v4-198-18-0-9", "--as", "eve"]);
    match by_eve("delete") {
        Err(why) if why.contains(words) => Ok(()),
        other => Err(format!("eve deletes an Allocation: {other:?}")),
    }
}
