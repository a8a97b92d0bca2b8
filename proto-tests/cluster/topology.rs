//! The wires: which namespaces exist and how they are connected. Both families are everywhere.
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
//! The IPv6 networks are 2001:db8:77::/64, 2001:db8:31::/64 and 2001:db8:30::/64, and a host has the same number in both families,
//! as it is written: n1 is 172.31.0.11 and 2001:db8:31::11. The pods' network has links of its own, so that a node can lose its routers and keep its pods reachable. Nothing leads out:
//! the machine's own namespace has no end of any of these links, and the service range is `unreachable` behind every route.

use crate::rig::net::{End, Link, Namespace};
use crate::rig::{Outcome, Rig, run};
use ipnetwork::IpNetwork;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;

/// The service addresses that herald announces.
pub const SERVICES: &str = "198.51.100.0/24";
/// The same of IPv6.
pub const SERVICES6: &str = "2001:db8:51::/112";
/// The ClusterIPs, IPv4 and IPv6.
pub const CLUSTER_IPS: [&str; 2] = ["10.96.0.0/16", "fd00:96::/112"];
/// The pods of all nodes, IPv4 and IPv6.
pub const PODS: [&str; 2] = ["10.244.0.0/16", "fd00:244::/48"];
/// Name of a node's link to the routers.
pub const UPLINK: &str = "up0";
/// The client's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
/// The same of IPv6.
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 0x100);
/// The API server's address on the pods' network.
pub const CONTROL_PLANE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
/// The routers' addresses towards the nodes.
pub const ROUTERS: [Ipv4Addr; 2] = [Ipv4Addr::new(172, 31, 0, 1), Ipv4Addr::new(172, 31, 0, 2)];
/// The routers' addresses towards the client.
const DOORS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 1), Ipv4Addr::new(10, 77, 0, 2)];

/// One of the two families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Both, in Kubernetes' order: the first is the one that a Service gets unless it asks.
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Which InternalIPs the nodes show. All else carries both families whatever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InternalIps {
    /// One of each family.
    Both,
    /// That of IPv4.
    V4,
}

/// The IPv6 address of the host that has `v4`: the network's number and the host's, both as they are written.
fn sixth(v4: Ipv4Addr) -> Ipv6Addr {
    let [_, network, _, host] = v4.octets();
    format!("2001:db8:{network}::{host}").parse().expect("decimal digits are hexadecimal ones")
}

/// Where a node stands.
#[derive(Debug, Clone)]
pub struct NodeSite {
    /// Its name in the cluster, `n1`.
    pub name: String,
    /// Its network namespace.
    pub space: Namespace,
    /// Its InternalIP, on the pods' network.
    pub address: Ipv4Addr,
    /// Its InternalIP of IPv6.
    pub address6: Ipv6Addr,
    /// Its address towards the routers: the next hop of what it announces.
    pub uplink_address: Ipv4Addr,
    /// The same of IPv6.
    pub uplink_address6: Ipv6Addr,
    /// Its link towards the routers.
    pub uplink: Link,
    /// The range of its pods.
    pub pods: String,
    /// The same of IPv6.
    pub pods6: String,
}

impl NodeSite {
    /// Its address towards the routers, of a family.
    pub fn next_hop(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.uplink_address.into(),
            Family::V6 => self.uplink_address6.into(),
        }
    }
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
    switch: Namespace,
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
        control_plane.address("pods", &both(CONTROL_PLANE))?;
        bridge(&switch, "uplinks")?;
        bridge(&switch, "outside")?;
        let routers = [router(rig, &switch, 0)?, router(rig, &switch, 1)?];
        let nodes = (1..=3).map(|number| node(rig, &switch, &control_plane, number)).collect::<Outcome<Vec<_>>>()?;
        for site in &nodes {
            connect_pods(site, &nodes, &control_plane)?;
        }
        let client = outsider(rig, &switch, "client", CLIENT)?;
        Ok(Self { control_plane, routers, client, nodes, switch })
    }

    /// One more client behind the routers, that also has an end on the pods' network: it reaches the API server and the nodes'
    /// InternalIPs as a machine of the operator's would, and services by way of the routers.
    ///
    /// # Errors
    /// A command failed.
    pub fn operator(&self, rig: &Rig, number: u8) -> Outcome<Namespace> {
        let name = format!("op{number}");
        let space = outsider(rig, &self.switch, &name, Ipv4Addr::new(10, 77, 0, number))?;
        let address = Ipv4Addr::new(172, 30, 0, number);
        join((&space, "pods0"), address, (&self.control_plane, "pods", &name))?;
        Ok(space)
    }
}

/// A client on the outside network.
fn outsider(rig: &Rig, switch: &Namespace, name: &str, address: Ipv4Addr) -> Outcome<Namespace> {
    let space = Namespace::make(rig, name)?;
    join((&space, "out0"), address, (switch, "outside", name))?;
    space.sysctl(&["net.ipv4.fib_multipath_hash_policy=1", "net.ipv6.fib_multipath_hash_policy=1"])?;
    for range in [SERVICES, "172.31.0.0/24"] {
        space.spread(network(range), &DOORS.map(IpAddr::V4), None)?;
    }
    for range in [SERVICES6, "2001:db8:31::/64"] {
        space.spread(network(range), &DOORS.map(|door| sixth(door).into()), None)?;
    }
    dead_end(&space)?;
    Ok(space)
}

fn network(text: &str) -> IpNetwork {
    text.parse().expect("a constant")
}

/// A host's addresses of both families, with the lengths of their networks.
fn both(address: Ipv4Addr) -> [IpNetwork; 2] {
    [network(&format!("{address}/24")), network(&format!("{}/64", sixth(address)))]
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
    space.spread(network("10.77.0.0/16"), &ROUTERS.map(IpAddr::V4), None)?;
    space.spread(network("2001:db8:77::/64"), &ROUTERS.map(|router| sixth(router).into()), None)?;
    Ok(NodeSite {
        name,
        space,
        address,
        address6: sixth(address),
        uplink_address,
        uplink_address6: sixth(uplink_address),
        uplink,
        pods: format!("10.244.{number}.0/24"),
        pods6: format!("fd00:244:0:{number}::/64"),
    })
}

/// The routes of the pods' network.
fn connect_pods(site: &NodeSite, nodes: &[NodeSite], control_plane: &Namespace) -> Outcome {
    // A process of the node itself needs a way towards ClusterIPs before kube-proxy's rules can turn it.
    let [v4, v6] = CLUSTER_IPS;
    let mut routes =
        vec![format!("route add {v4} via {CONTROL_PLANE}"), format!("route add {v6} via {}", sixth(CONTROL_PLANE))];
    for other in nodes.iter().filter(|other| other.name != site.name) {
        routes.extend(to_pods(other));
    }
    site.space.ip(&routes)?;
    control_plane.ip(&to_pods(site))
}

/// The routes that lead to a node's pods.
fn to_pods(site: &NodeSite) -> [String; 2] {
    [format!("route add {} via {}", site.pods, site.address), format!("route add {} via {}", site.pods6, site.address6)]
}

fn dead_end(space: &Namespace) -> Outcome {
    space.dead_ends(&[network(SERVICES), network(SERVICES6)])
}

fn bridge(space: &Namespace, name: &str) -> Outcome {
    space.ip(&[format!("link add name {name} type bridge"), format!("link set {name} up")])
}

/// A veth pair straight between two namespaces: one end gets the address, of both families, the other, called `port`, joins a
/// bridge.
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
    space.address(device, &both(address))?;
    space.ip(&[format!("link set {device} up")])?;
    Ok(Link {
        a: End { space: space.clone(), device: device.to_owned() },
        b: End { space: far.clone(), device: port.to_owned() },
    })
}
