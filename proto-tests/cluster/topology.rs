//! The wires: which namespaces exist and how they are connected.
//!
//! ```text
//!                 client 10.77.0.100
//!                    │
//!        ────────────┴──┬───────────┬──────   outside   10.77.0.0/24   (bridge in the switch's namespace)
//!                    r1 .1        r2 .2       FRR, BIRD
//!        ────────────┬──┴─────┬─────┴──────   uplinks   172.31.0.0/24  (bridge in the switch's namespace)
//!             n1 .11   n2 .12   n3 .13        containerd, kubelet, kube-proxy
//!        ───────┴────────┴────────┴────────   pods      172.30.0.0/24  (bridge in the control plane's namespace)
//!                    cp .1                    etcd, API server, controllers, scheduler
//! ```
//!
//! The pods' network has links of its own, so that a node can lose its routers and keep its pods reachable. Nothing leads out:
//! the machine's own namespace has no end of any of these links, and the service range is `unreachable` behind every route.

use crate::rig::net::{End, Link, Namespace};
use crate::rig::{Outcome, Rig, run};
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

/// The service addresses that herald announces.
pub const SERVICES: &str = "198.51.100.0/24";
/// Name of a node's link to the routers.
pub const UPLINK: &str = "up0";
/// The client's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
/// The API server's address on the pods' network.
pub const CONTROL_PLANE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
/// The routers' addresses towards the nodes.
pub const ROUTERS: [Ipv4Addr; 2] = [Ipv4Addr::new(172, 31, 0, 1), Ipv4Addr::new(172, 31, 0, 2)];
/// The routers' addresses towards the client.
const DOORS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 1), Ipv4Addr::new(10, 77, 0, 2)];

/// Where a node stands.
#[derive(Debug, Clone)]
pub struct NodeSite {
    /// Its name in the cluster, `n1`.
    pub name: String,
    /// Its network namespace.
    pub space: Namespace,
    /// Its InternalIP, on the pods' network.
    pub address: Ipv4Addr,
    /// Its address towards the routers: the next hop of what it announces.
    pub uplink_address: Ipv4Addr,
    /// Its link towards the routers.
    pub uplink: Link,
    /// The range of its pods.
    pub pods: String,
}

/// All namespaces.
#[derive(Debug)]
pub struct Topology {
    /// Where the control plane runs.
    pub control_plane: Namespace,
    /// The two routers.
    pub routers: [Namespace; 2],
    /// The client behind the routers.
    pub client: Namespace,
    /// The nodes, `n1` first.
    pub nodes: Vec<NodeSite>,
}

impl Topology {
    /// Makes all namespaces, links and static routes.
    ///
    /// # Errors
    /// A command failed.
    pub fn make(rig: &Rig) -> Outcome<Self> {
        let control_plane = Namespace::make(rig, "cp")?;
        let switch = Namespace::make(rig, "sw")?;
        bridge(&control_plane, "pods")?;
        control_plane.ip(&[format!("address add {CONTROL_PLANE}/24 dev pods")])?;
        bridge(&switch, "uplinks")?;
        bridge(&switch, "outside")?;
        let routers = [router(rig, &switch, 0)?, router(rig, &switch, 1)?];
        let nodes = (1..=3).map(|number| node(rig, &switch, &control_plane, number)).collect::<Outcome<Vec<_>>>()?;
        for site in &nodes {
            connect_pods(site, &nodes, &control_plane)?;
        }
        let client = Namespace::make(rig, "client")?;
        join((&client, "out0"), CLIENT, (&switch, "outside", "client"))?;
        client.sysctl(&["net.ipv4.fib_multipath_hash_policy=1"])?;
        for range in [SERVICES, "172.31.0.0/24"] {
            client.spread(range.parse().expect("a constant"), &DOORS.map(IpAddr::V4), None)?;
        }
        dead_end(&client)?;
        Ok(Self { control_plane, routers, client, nodes })
    }
}

/// A router between the nodes and the client.
fn router(rig: &Rig, switch: &Namespace, index: usize) -> Outcome<Namespace> {
    let name = format!("r{}", index + 1);
    let space = Namespace::make(rig, &name)?;
    join((&space, "down0"), ROUTERS[index], (switch, "uplinks", &format!("{name}d")))?;
    join((&space, "out0"), DOORS[index], (switch, "outside", &format!("{name}o")))?;
    space.forward()?;
    dead_end(&space)?;
    Ok(space)
}

/// A node's namespace with its two links.
fn node(rig: &Rig, switch: &Namespace, control_plane: &Namespace, number: u8) -> Outcome<NodeSite> {
    let name = format!("n{number}");
    let space = Namespace::make(rig, &name)?;
    let address = Ipv4Addr::new(172, 30, 0, 10 + number);
    let uplink_address = Ipv4Addr::new(172, 31, 0, 10 + number);
    join((&space, "pods0"), address, (control_plane, "pods", &name))?;
    let uplink = join((&space, UPLINK), uplink_address, (switch, "uplinks", &name))?;
    space.spread("10.77.0.0/16".parse().expect("a constant"), &ROUTERS.map(IpAddr::V4), None)?;
    Ok(NodeSite { name, space, address, uplink_address, uplink, pods: format!("10.244.{number}.0/24") })
}

/// The routes of the pods' network.
fn connect_pods(site: &NodeSite, nodes: &[NodeSite], control_plane: &Namespace) -> Outcome {
    // A process of the node itself needs a way towards ClusterIPs before kube-proxy's rules can turn it.
    let mut routes = vec![format!("route add 10.96.0.0/16 via {CONTROL_PLANE}")];
    let others = nodes.iter().filter(|other| other.name != site.name);
    routes.extend(others.map(|other| format!("route add {} via {}", other.pods, other.address)));
    site.space.ip(&routes)?;
    control_plane.ip(&[format!("route add {} via {}", site.pods, site.address)])
}

fn dead_end(space: &Namespace) -> Outcome {
    space.dead_ends(&[SERVICES.parse().expect("a constant")])
}

fn bridge(space: &Namespace, name: &str) -> Outcome {
    space.ip(&[format!("link add name {name} type bridge"), format!("link set {name} up")])
}

/// A veth pair straight between two namespaces: one end gets the address, the other, called `port`, joins a bridge.
fn join(host: (&Namespace, &str), address: Ipv4Addr, switch: (&Namespace, &str, &str)) -> Outcome<Link> {
    let ((space, device), (far, bridge, port)) = (host, switch);
    run(Command::new("ip").args(["link", "add", "name", device, "netns", space.name(), "type", "veth"]).args([
        "peer",
        "name",
        port,
        "netns",
        far.name(),
    ]))?;
    far.ip(&[format!("link set {port} master {bridge} up")])?;
    space.ip(&[format!("address add {address}/24 dev {device}"), format!("link set {device} up")])?;
    Ok(Link {
        a: End { space: space.clone(), device: device.to_owned() },
        b: End { space: far.clone(), device: port.to_owned() },
    })
}
