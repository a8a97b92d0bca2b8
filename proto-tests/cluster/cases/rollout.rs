//! What rolls out over the nodes, and what stops it.

use super::{SOON, at, host, same, wait_both};
use crate::app::{App, PROBE};
use crate::bed::{Bed, HERALD, SPEAKERS};
use crate::kubectl::{Pod, Readiness};
use crate::rig::probe::{self, Datagrams, Sample};
use crate::rig::{Outcome, wait_until};
use serde_json::json;
use std::time::{Duration, Instant};

/// A peer that was tried this long once counted as good enough (30 s), and a pod is available 5 s after it is ready.
const LONG_ENOUGH: Duration = Duration::from_secs(38);

/// A change of the DaemonSet with which no router speaks: the first node's speaker never becomes ready, so that no other node's is
/// replaced, and nothing is lost, neither while it stands nor on the way back.
pub fn stops_at_the_first_node(bed: &Bed) -> Outcome {
    let address = "198.51.100.62";
    bed.herald()?;
    let app = App::start(bed, "rollout", 3)?;
    let mut watches = bed.watch()?;
    app.load_balancer("public", address, "")?;
    wait_both(&mut watches, SOON, host(address), &bed.all_hops())?;
    wait_until(SOON, "the service to answer", || {
        same("answers", probe::connections(bed.client(), at(address, PROBE), 60)?.answered(), 60)
    })?;
    let before = bed.speakers()?;
    let datagrams = Datagrams::begin(bed.client(), at(address, PROBE), 40, Duration::from_millis(50));
    let outcome = wrong_and_back(bed, &before);
    let samples = datagrams.end()?;
    outcome?;
    wait_both(&mut watches, SOON, host(address), &bed.all_hops())?;
    let lost: Vec<&Sample> = samples.iter().filter(|sample| sample.node.is_none()).collect();
    println!("  datagrams all the while: {} sent, {} lost", samples.len(), lost.len());
    same("datagrams lost", lost.len(), 0)
}

fn wrong_and_back(bed: &Bed, before: &[Pod]) -> Outcome {
    let config = bed.kubectl().json(&["-n", HERALD, "get", "configmap", "herald"])?;
    let text = config["data"]["herald.yaml"].as_str().ok_or("the ConfigMap has no herald.yaml")?;
    let wrong = text.replacen("asn: 64512", "asn: 64999", 1);
    same("whether our AS is in the file", wrong != text, true)?;
    bed.kubectl().apply(
        &json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "herald-wrong", "namespace": HERALD}, "data": {"herald.yaml": wrong},
        })
        .to_string(),
    )?;
    use_config(bed, "herald-wrong")?;
    let stands = stands_at_one(bed, before);
    use_config(bed, "herald")?;
    let begun = Instant::now();
    let back = bed.kubectl().run(&["-n", HERALD, "rollout", "status", "daemonset/herald-speaker", "--timeout=120s"]);
    bed.kubectl().run(&["-n", HERALD, "delete", "configmap", "herald-wrong"])?;
    stands?;
    back?;
    println!("  back on every node {:.1} s after the way back was asked for", begun.elapsed().as_secs_f32());
    bed.speakers().map(drop)
}

/// Has the speakers read another ConfigMap, which replaces their pods one after the other.
fn use_config(bed: &Bed, name: &str) -> Outcome {
    let patch = json!({"spec": {"template": {"spec": {"volumes": [{"name": "config", "configMap": {"name": name}}]}}}});
    let patch = patch.to_string();
    bed.kubectl()
        .run(&["-n", HERALD, "patch", "daemonset", "herald-speaker", "--type=strategic", "-p", &patch])
        .map(drop)
}

/// One pod is new and not ready, for long enough; the others are those of before, and ready.
fn stands_at_one(bed: &Bed, before: &[Pod]) -> Outcome {
    let is_old = |pod: &Pod| before.iter().any(|old| old.name == pod.name);
    // One that is on its way out is no longer any of them.
    let split = || -> Outcome<(Vec<Pod>, Vec<Pod>)> {
        let pods = bed.kubectl().pods(HERALD, SPEAKERS)?.into_iter();
        Ok(pods.filter(|pod| pod.readiness != Readiness::Terminating).partition(is_old))
    };
    wait_until(Duration::from_secs(60), "the first new pod", || {
        let (_, new) = split()?;
        if new.iter().any(|pod| !pod.address.is_empty()) { Ok(()) } else { Err(format!("{new:?}")) }
    })?;
    let begun = Instant::now();
    while begun.elapsed() < LONG_ENOUGH {
        let (old, new) = split()?;
        same("speakers that were replaced", new.len(), 1)?;
        same("speakers left as they were", old.len(), before.len() - 1)?;
        same("whether the new one is ready", new[0].readiness == Readiness::Ready, false)?;
        std::thread::sleep(Duration::from_millis(500)); // between two looks at what must not happen
    }
    let (_, new) = split()?;
    let said = readyz(bed, &new[0])?;
    println!("  after {} s: {}", begun.elapsed().as_secs(), said.trim().replace('\n', "\n    "));
    match said.contains("no router has a session yet") || said.contains("no router that had a session before") {
        true => Ok(()),
        false => Err(format!("/readyz does not say what is missing: {said}")),
    }
}

/// What the kubelet is told.
fn readyz(bed: &Bed, pod: &Pod) -> Outcome<String> {
    bed.node(&pod.node)?.site.space.run("curl", &["-s", "http://127.0.0.1:7472/readyz"])
}
