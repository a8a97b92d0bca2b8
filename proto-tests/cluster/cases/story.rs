//! The story of an introduction to this topic: an application of three pods, inside, by node port, and outside.

use super::{SOON, host, same, wait_both};
use crate::app::{App, HTTP, curl};
use crate::bed::Bed;
use crate::rig::nft::Counters;
use crate::rig::{Outcome, wait_until};
use crate::topology::UPLINK;
use serde_json::Value;
use std::collections::BTreeMap;

/// `curl` from behind the routers succeeds 200 times of 200, over three next hops, through every node; what worked before us
/// works as it did.
pub fn curl_200_of_200(bed: &Bed) -> Outcome {
    let address = "198.51.100.10";
    let app = App::start(bed, "story", 3)?;
    app.service("inside", &format!("  ports: [{{port: {HTTP}}}]"))?;
    app.service("by-node", &format!("  type: NodePort\n  ports: [{{port: {HTTP}, nodePort: 30333}}]"))?;
    inside_and_by_node(bed, &app)?;
    bed.herald()?;
    let mut watches = bed.watch()?;
    app.load_balancer("public", address, "")?;
    wait_both(&mut watches, SOON, host(address), &bed.all_hops())?;
    outside(bed, address)?;
    inside_and_by_node(bed, &app)
}

/// The same without node ports: the service's own address is all that the nodes need to know.
pub fn without_node_ports(bed: &Bed) -> Outcome {
    let address = "198.51.100.11";
    bed.herald()?;
    let app = App::start(bed, "portless", 3)?;
    let mut watches = bed.watch()?;
    app.load_balancer("public", address, "  allocateLoadBalancerNodePorts: false")?;
    let service = bed.kubectl().json(&["-n", "portless", "get", "service", "public"])?;
    let ports = service["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    same("its node ports", ports.iter().map(|port| port["nodePort"].clone()).collect(), vec![Value::Null; 3])?;
    wait_both(&mut watches, SOON, host(address), &bed.all_hops())?;
    outside(bed, address)
}

/// 200 of 200 from the client, and each node's uplink carried some of them.
pub fn outside(bed: &Bed, address: &str) -> Outcome {
    let ip = if address.contains(':') { "ip6" } else { "ip" };
    let filter = format!("iifname \"{UPLINK}\" {ip} daddr {address} tcp dport {HTTP} tcp flags & (syn|ack) == syn");
    let counters = bed
        .nodes
        .iter()
        .map(|node| Counters::install(&node.site.space, &[("connections", filter.as_str())]))
        .collect::<Outcome<Vec<_>>>()?;
    wait_until(SOON, "kube-proxy to know the address", || match curl(bed.client(), address, HTTP, 1)?[..] {
        [_] => Ok(()),
        _ => Err("no answer".to_owned()),
    })?;
    let before = read(bed, &counters)?;
    let answers = curl(bed.client(), address, HTTP, 200)?;
    let carried: BTreeMap<&str, u64> =
        read(bed, &counters)?.into_iter().map(|(node, after)| (node, after - before[node])).collect();
    println!("  {address}: {} of 200 answered; connections by uplink: {carried:?}", answers.len());
    same("answers", answers.len(), 200)?;
    same("connections on all uplinks", carried.values().sum(), 200)?;
    match carried.iter().find(|(_, connections)| **connections == 0) {
        None => Ok(()),
        Some((node, _)) => Err(format!("{node} carried nothing: {carried:?}")),
    }
}

fn read<'a>(bed: &'a Bed, counters: &[Counters]) -> Outcome<BTreeMap<&'a str, u64>> {
    let names = bed.nodes.iter().map(|node| node.site.name.as_str());
    names.zip(counters).map(|(name, counter)| Ok((name, counter.read()?.values().sum()))).collect()
}

/// The ClusterIP answers a pod, and the node port answers the client on each node.
fn inside_and_by_node(bed: &Bed, app: &App<'_>) -> Outcome {
    let pods = app.pods()?;
    let url = format!("http://{}:{HTTP}/", app.cluster_ip("inside")?);
    for pod in &pods {
        wait_until(SOON, "the ClusterIP to answer", || app.get_from_pod(&pod.name, &url))?;
    }
    for node in &bed.nodes {
        let address = node.site.uplink_address.to_string();
        wait_until(SOON, "the node port to answer", || {
            same("answers", curl(bed.client(), &address, 30333, 1)?.len(), 1)
        })?;
        same(&format!("answers of {address}:30333"), curl(bed.client(), &address, 30333, 20)?.len(), 20)?;
    }
    Ok(())
}
