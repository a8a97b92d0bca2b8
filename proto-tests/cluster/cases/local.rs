//! `externalTrafficPolicy: Local`: only nodes that have a pod attract traffic, and the pods see who asks.

use super::{SOON, at, host, same, wait_both};
use crate::app::{App, HTTP, PROBE, curl};
use crate::bed::Bed;
use crate::rig::{Outcome, probe, wait_until};
use crate::topology::CLIENT;
use std::collections::BTreeSet;

const ADDRESS: &str = "198.51.100.20";

/// Two pods, two next hops; a pod moves and the next hop with it; the Service goes and so does the route.
pub fn two_next_hops_follow_the_pods(bed: &Bed) -> Outcome {
    bed.herald()?;
    let app = App::start(bed, "local", 2)?;
    let mut watches = bed.watch()?;
    app.load_balancer("public", ADDRESS, "  externalTrafficPolicy: Local")?;
    let before = nodes_of(&app)?;
    wait_both(&mut watches, SOON, host(ADDRESS), &bed.hops(before.iter().map(String::as_str))?)?;
    answered_by(bed, &before)?;

    app.move_a_pod()?;
    let after = nodes_of(&app)?;
    if after == before {
        return Err(format!("the pod did not move: {after:?}"));
    }
    wait_both(&mut watches, SOON, host(ADDRESS), &bed.hops(after.iter().map(String::as_str))?)?;
    answered_by(bed, &after)?;

    app.delete_service("public")?;
    wait_both(&mut watches, SOON, host(ADDRESS), &BTreeSet::new())?;
    // The routers answer for the whole range that it is unreachable: nothing leaves, nothing waits.
    let tally = probe::connections(bed.client(), at(ADDRESS, PROBE), 5)?;
    same("connections to a deleted service", tally.answered(), 0)
}

fn nodes_of(app: &App<'_>) -> Outcome<BTreeSet<String>> {
    Ok(app.pods()?.into_iter().map(|pod| pod.node).collect())
}

/// Every question is answered, by pods on exactly these nodes, and each pod sees the client's own address.
fn answered_by(bed: &Bed, nodes: &BTreeSet<String>) -> Outcome {
    wait_until(SOON, "kube-proxy to know the pods", || {
        let found = curl(bed.client(), ADDRESS, HTTP, 20)?;
        same("answers", found.len(), 20)
    })?;
    let answers = curl(bed.client(), ADDRESS, HTTP, 60)?;
    same("answers", answers.len(), 60)?;
    same("nodes that answered", &answers.iter().map(|answer| answer.node.clone()).collect(), nodes)?;
    let clients: BTreeSet<&str> = answers.iter().map(|answer| answer.client.as_str()).collect();
    same("clients that the pods saw", clients, BTreeSet::from([CLIENT.to_string().as_str()]))
}
