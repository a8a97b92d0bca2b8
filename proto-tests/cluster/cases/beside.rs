//! Beside the allocator of another announcer, MetalLB's own: each serves its services, and neither touches the other's.

use super::same;
use crate::bed::{Bed, HERALD, go_build, tree};
use crate::control_plane::Parts;
use crate::rig::process::Process;
use crate::rig::{Outcome, run, wait_until};
use crate::yard::{Yard, ingress, service};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Ours; theirs has its own half.
const OURS: &str = "198.18.";
const POOL: &str = "- {name: edge, addresses: [198.18.0.0/16], coolDown: 1s}\n";
const CLASS: &str = "  loadBalancerClass: herald.bgp/speaker\n";
const THEIRS: &str = "apiVersion: v1
kind: Namespace
metadata: {name: metallb-system}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: others, namespace: metallb-system}
spec: {addresses: [198.19.0.0/16]}
";
const ROUNDS: usize = 4;
const EACH: usize = 20;

/// Services of our class and of none come, go and change their type under both controllers, as `deploy/overlays/beside-others`
/// sets ours up: each has one address of its own controller's pool, nobody else ever wrote to it, and when all is quiet nobody
/// writes at all, not even after both were started again.
pub fn never_fights_metallb(bed: &Bed) -> Outcome {
    let yard = Yard::start(bed, "beside", Parts::ApiServer, POOL)?;
    as_the_overlay_says(&yard)?;
    let (mut ours, mut theirs) = (yard.allocator(1)?, metallb(&yard)?);
    for round in 0..ROUNDS {
        churn(&yard, round).map_err(|e| format!("{e}\n{}\n{}", ours.log_end(), theirs.log_end()))?;
    }
    let services = settled(&yard).map_err(|e| format!("{e}\n{}\n{}", ours.log_end(), theirs.log_end()))?;
    let writers = services.values().map(Written::by).fold(BTreeMap::new(), |mut count, by| {
        *count.entry(by).or_insert(0) += 1;
        count
    });
    println!("  {} services after {ROUNDS} rounds, by who wrote to them: {writers:?}", services.len());
    quiet(&yard, &services, "once all have their address")?;
    drop((ours, theirs));
    (ours, theirs) = (yard.allocator(1)?, metallb(&yard)?);
    yard.kubectl().create(&service("last-ours", CLASS))?;
    yard.kubectl().create(&service("last-theirs", ""))?;
    settled(&yard).map_err(|e| format!("{e}\n{}\n{}", ours.log_end(), theirs.log_end()))?;
    quiet(&yard, &services, "after both were started again")
}

/// Gives the allocators the overlay's own configuration, but for its empty list of pools.
fn as_the_overlay_says(yard: &Yard<'_>) -> Outcome {
    let overlay = tree().join("deploy/overlays/beside-others");
    yard.kubectl().run(&["apply", "-k", &overlay.display().to_string()])?;
    let data = [r"jsonpath={.data.herald\.yaml}"];
    let text = yard.kubectl().run(&[&["-n", HERALD, "get", "configmap", "herald", "-o"], &data[..]].concat())?;
    if !text.contains("pools: []\n") {
        return Err(format!("the overlay's configuration has no empty list of pools:\n{text}"));
    }
    yard.configure(&text.replacen("pools: []\n", &format!("pools:\n{POOL}"), 1))
}

/// MetalLB's controller as an administrator of the API server.
fn metallb(yard: &Yard<'_>) -> Outcome<Process> {
    let module = tree().join("proto-tests/upstream/metallb");
    let mut command = Command::new("go");
    let told = run(command.args(["mod", "download", "-json", "go.universe.tf/metallb"]).current_dir(module))?;
    let told: Value = serde_json::from_str(&told).map_err(|e| format!("go printed no JSON: {e}"))?;
    let folder =
        told["Dir"].as_str().map(PathBuf::from).ok_or_else(|| format!("MetalLB's source is not here: {told}"))?;
    definitions(yard, &folder.join("config/crd/bases"))?;
    yard.kubectl().run(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])?;
    yard.kubectl().apply(THEIRS)?;
    let mut command = yard.command(&go_build("metallb")?.join("controller").display().to_string());
    command
        .args(["--namespace=metallb-system", "--webhook-mode=disabled", "--disable-cert-rotation", "--port=7599"])
        .env("KUBECONFIG", yard.kubeconfig());
    Process::start(yard.rig(), "beside-metallb", command)
}

/// Its kinds of objects. It asks for all of them, also for those of its speaker.
fn definitions(yard: &Yard<'_>, folder: &Path) -> Outcome {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        // An API server of today refuses AS numbers of 32 bits as signed ones.
        yard.kubectl().apply(&text.replace("format: int32", "format: int64"))?;
    }
    Ok(())
}

/// Twenty services of each kind come; of the round before, some go and some become something else and a load balancer again.
fn churn(yard: &Yard<'_>, round: usize) -> Outcome {
    let both =
        |n: usize| [("ours", CLASS), ("theirs", "")].map(|(whose, more)| (format!("r{round}-{whose}-{n}"), more));
    let text: String = (0..EACH).flat_map(both).map(|(name, more)| service(&name, more)).collect();
    yard.kubectl().create(&text)?;
    let Some(before) = round.checked_sub(1) else {
        return Ok(());
    };
    let named = |n: usize| ["ours", "theirs"].map(|whose| format!("r{before}-{whose}-{n}"));
    let leaving: Vec<String> = (0..EACH).step_by(3).flat_map(named).collect();
    let leaving: Vec<&str> = leaving.iter().map(String::as_str).collect();
    yard.kubectl().run(&[&["delete", "service", "--wait=false"], &leaving[..]].concat())?;
    for name in (1..EACH).step_by(9).flat_map(named) {
        let class = if name.contains("ours") { r#""herald.bgp/speaker""# } else { "null" };
        let patches = [
            r#"{"spec":{"type":"ClusterIP","loadBalancerClass":null,"allocateLoadBalancerNodePorts":null}}"#.to_owned(),
            format!(
                r#"{{"spec":{{"type":"LoadBalancer","loadBalancerClass":{class},"allocateLoadBalancerNodePorts":false}}}}"#
            ),
        ];
        for patch in patches {
            yard.kubectl().run(&["patch", "service", &name, "--type=merge", "-p", &patch])?;
        }
        foreign(&all(yard)?)?;
    }
    Ok(())
}

/// What there is to know about a service here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    version: String,
    addresses: Vec<String>,
    managers: BTreeSet<String>,
}

impl Written {
    /// The controllers that wrote to it.
    fn by(&self) -> String {
        let controllers = self.managers.iter().filter(|name| !name.starts_with("kubectl"));
        controllers.cloned().collect::<Vec<_>>().join(" and ")
    }
}

/// Every service of type LoadBalancer.
fn all(yard: &Yard<'_>) -> Outcome<BTreeMap<String, Written>> {
    let list = yard.kubectl().json(&["get", "services", "--show-managed-fields"])?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_type = list["items"].as_array().into_iter().flatten().filter(|item| item["spec"]["type"] == "LoadBalancer");
    let written = of_type.map(|item| {
        let fields = item["metadata"]["managedFields"].as_array().into_iter().flatten();
        let written = Written {
            version: text(&item["metadata"]["resourceVersion"]),
            addresses: ingress(item),
            managers: fields.map(|entry| text(&entry["manager"])).collect(),
        };
        (text(&item["metadata"]["name"]), written)
    });
    Ok(written.collect())
}

/// Fails when a service shows an address of the other one's pool, or was written to by the other one.
fn foreign(services: &BTreeMap<String, Written>) -> Outcome {
    let wrong = services.iter().find(|(name, written)| {
        let is_ours = name.contains("ours");
        let other = if is_ours { "controller" } else { "herald-allocator" };
        written.managers.contains(other) || written.addresses.iter().any(|address| address.starts_with(OURS) != is_ours)
    });
    match wrong {
        None => Ok(()),
        Some((name, written)) => Err(format!("{name} was touched by the other one: {written:?}")),
    }
}

/// Waits until every service has an address, of its own controller's and nobody else's.
fn settled(yard: &Yard<'_>) -> Outcome<BTreeMap<String, Written>> {
    let (services, took) = wait_until(Duration::from_secs(30), "every service to have its address", || {
        let services = all(yard)?;
        let waiting = services.values().filter(|written| written.addresses.len() != 1).count();
        if waiting == 0 { Ok(services) } else { Err(format!("{waiting} of {} wait", services.len())) }
    })?;
    println!("  all {} have their address {:.1} s after the last change", services.len(), took.as_secs_f32());
    foreign(&services)?;
    let different: BTreeSet<&String> = services.values().flat_map(|written| &written.addresses).collect();
    same("different addresses", different.len(), services.len())?;
    let silent = services.iter().find(|(name, written)| {
        let own = if name.contains("ours") { "herald-allocator" } else { "controller" };
        !written.managers.contains(own)
    });
    match silent {
        None => Ok(services),
        Some((name, written)) => {
            Err(format!("{name} has an address, and its controller did not write it: {written:?}"))
        }
    }
}

/// For two seconds nobody writes to any of these services: what would be a fight is a new version here.
fn quiet(yard: &Yard<'_>, services: &BTreeMap<String, Written>, when: &str) -> Outcome {
    std::thread::sleep(Duration::from_secs(2)); // the time in which nothing shall happen
    let now = all(yard)?;
    let changed: Vec<&String> =
        services.iter().filter(|(name, was)| now.get(*name) != Some(was)).map(|(name, _)| name).collect();
    same(&format!("services that were written to {when}"), changed, Vec::<&String>::new())
}
