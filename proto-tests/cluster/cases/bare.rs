//! The cluster by itself: what is shown here is kube-proxy's work and no announcer's.

use crate::app::{App, HTTP, by_node, curl};
use crate::bed::Bed;
use crate::rig::{Outcome, fib, wait_until};
use std::time::Duration;

/// Three pods answer through ClusterIP and NodePort; a LoadBalancer address answers on a node and is in no router's table.
pub fn serves_without_herald(bed: &Bed) -> Outcome {
    let app = App::start(bed, "bare", 3)?;
    let pods = app.pods()?;
    app.service("inside", &format!("  ports: [{{port: {HTTP}}}]"))?;
    app.service("by-node", &format!("  type: NodePort\n  ports: [{{port: {HTTP}, nodePort: 30334}}]"))?;
    app.load_balancer("outside", "198.51.100.9", "")?;
    let url = format!("http://{}:{HTTP}/", app.cluster_ip("inside")?);
    wait_until(Duration::from_secs(10), "the ClusterIP to answer", || app.get_from_pod(&pods[0].name, &url))?;
    let node = bed.nodes[0].site.uplink_address.to_string();
    wait_until(Duration::from_secs(10), "the NodePort to answer", || match curl(bed.client(), &node, 30334, 1)?[..] {
        [_] => Ok(()),
        _ => Err("no answer".to_owned()),
    })?;
    let answers = curl(bed.client(), &node, 30334, 60)?;
    if answers.len() != 60 || by_node(&answers).len() != 3 {
        return Err(format!("60 questions to {node}:30334: {} answers, {:?}", answers.len(), by_node(&answers)));
    }
    for router in &bed.topology.routers {
        let hops = fib::next_hops(router, "198.51.100.9/32".parse().expect("a constant"))?;
        if !hops.is_empty() {
            return Err(format!("{} has {hops:?} though nobody announces", router.short()));
        }
    }
    Ok(())
}
