//! The lab's wiring: three nodes, two routers, a client behind both.
//!
//! ```text
//!            ┌──── r1 ────┬──────┬──────┐
//!   c ───────┤            n1     n2     n3       every node has a link to each router,
//!            └──── r2 ────┴──────┴──────┘        every link carries IPv4 and IPv6
//! ```
//! Link n*i*–r*j*: 172.30.*ji*.0/24 and 2001:db8:30:*ji*::/64, the router is 1 and the node 2. Link c–r*j*: 172.31.*j*.0/24
//! and 2001:db8:31:*j*::/64. The client's own address is on its loopback, so that it is the same through either router.

use crate::rig::net::{Link, Namespace};
use crate::rig::nft::{Counters, Cut};
use crate::rig::respond::Responder;
use crate::rig::router::{Neighbour, Plan};
use crate::rig::{Outcome, Rig};
use ipnetwork::IpNetwork;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The autonomous system of the nodes.
pub const NODES_ASN: u32 = 64512;
/// Where every service answers.
pub const PORT: u16 = 8080;
/// Ranges that lead nowhere unless somebody announces an address of them.
pub const SERVICE_RANGES: [&str; 3] = ["198.51.100.0/24", "203.0.113.0/24", "2001:db8:5::/64"];

/// Which of the two families; a lab runs both at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Both, in the order in which cases go through them.
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The wiring of one case. Names are cleared away when it is dropped.
#[derive(Debug)]
pub struct Lab {
    /// The suite's hold on the machine.
    pub rig: Arc<Rig>,
    /// n1, n2, n3.
    pub nodes: Vec<Namespace>,
    /// r1, r2.
    pub routers: Vec<Namespace>,
    /// c.
    pub client: Namespace,
    links: Vec<Vec<Link>>,
    responders: Vec<Responder>,
}

/// An address, for tables that are written as text.
pub fn address(text: &str) -> IpAddr {
    text.parse().expect("an address of the lab is well formed")
}

/// A prefix, for tables that are written as text.
pub fn network(text: &str) -> IpNetwork {
    text.parse().expect("a prefix of the lab is well formed")
}

/// The address of service `number`, in one family.
pub fn service(number: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => address(&format!("198.51.100.{number}")),
        Family::V6 => address(&format!("2001:db8:5::{number:x}")),
    }
}

/// The same as a host route.
pub fn service_route(number: u8, family: Family) -> IpNetwork {
    IpNetwork::from(service(number, family))
}

/// The same as a client dials it.
pub fn service_socket(number: u8, family: Family) -> SocketAddr {
    SocketAddr::new(service(number, family), PORT)
}

/// The router's (1) or the node's (2) end of the link between node `node` and router `router`, both counted from 1.
pub fn link_address(node: usize, router: usize, end: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => address(&format!("172.30.{router}{node}.{end}")),
        Family::V6 => address(&format!("2001:db8:30:{router}{node}::{end}")),
    }
}

/// The next hops that router `router` should have when exactly these nodes announce.
pub fn hops(nodes: &[usize], router: usize, family: Family) -> BTreeSet<IpAddr> {
    nodes.iter().map(|&node| link_address(node, router, 2, family)).collect()
}

/// A node's own address, on its loopback: its InternalIP.
pub fn node_address(node: usize, family: Family) -> IpAddr {
    match family {
        Family::V4 => address(&format!("172.30.0.{node}")),
        Family::V6 => address(&format!("2001:db8:30::{node}")),
    }
}

fn on_link(at: IpAddr) -> IpNetwork {
    IpNetwork::new(at, if at.is_ipv4() { 24 } else { 64 }).expect("the lengths are possible")
}

impl Lab {
    /// Wires everything up, with the addresses of services 1 to 4 and a responder on every node.
    ///
    /// # Errors
    /// A command failed.
    pub fn build(rig: &Arc<Rig>) -> Outcome<Self> {
        rig.clear()?;
        let make = |names: &[&str]| names.iter().map(|name| Namespace::make(rig, name)).collect::<Outcome<Vec<_>>>();
        let mut lab = Self {
            rig: Arc::clone(rig),
            nodes: make(&["n1", "n2", "n3"])?,
            routers: make(&["r1", "r2"])?,
            client: Namespace::make(rig, "c")?,
            links: Vec::new(),
            responders: Vec::new(),
        };
        lab.wire_nodes()?;
        lab.wire_client()?;
        lab.respond()?;
        Ok(lab)
    }

    fn wire_nodes(&mut self) -> Outcome {
        for router in &self.routers {
            router.forward()?;
            router.dead_ends(&SERVICE_RANGES.map(network))?;
        }
        for (i, node) in self.nodes.iter().enumerate() {
            let mut links = Vec::new();
            for (j, router) in self.routers.iter().enumerate() {
                let ends = |end| FAMILIES.map(|family| on_link(link_address(i + 1, j + 1, end, family)));
                links.push(Link::make((node, &ends(2)), (router, &ends(1)))?);
            }
            self.links.push(links);
            node.sysctl(&["net.ipv4.fib_multipath_hash_policy=1", "net.ipv6.fib_multipath_hash_policy=1"])?;
            node.address("lo", &FAMILIES.map(|family| IpNetwork::from(node_address(i + 1, family))))?;
            for (range, family) in [("172.31.0.0/16", Family::V4), ("2001:db8:31::/48", Family::V6)] {
                let via = [1, 2].map(|j| link_address(i + 1, j, 1, family));
                node.spread(network(range), &via, None)?;
            }
        }
        Ok(())
    }

    fn wire_client(&self) -> Outcome {
        let own = [address("172.31.100.1"), address("2001:db8:31:100::1")];
        self.client.sysctl(&["net.ipv4.fib_multipath_hash_policy=1", "net.ipv6.fib_multipath_hash_policy=1"])?;
        self.client.address("lo", &own.map(IpNetwork::from))?;
        self.client.dead_ends(&SERVICE_RANGES.map(network))?;
        let mut via = [Vec::new(), Vec::new()];
        for (j, router) in self.routers.iter().enumerate() {
            let at = |end: u8| {
                [address(&format!("172.31.{}.{end}", j + 1)), address(&format!("2001:db8:31:{}::{end}", j + 1))]
            };
            Link::make((&self.client, &at(2).map(on_link)), (router, &at(1).map(on_link)))?;
            for (family, (to, hop)) in own.into_iter().zip(at(2)).enumerate() {
                router.ip(&[format!("route add {} via {hop}", IpNetwork::from(to))])?;
                via[family].push(at(1)[family]);
            }
        }
        for range in SERVICE_RANGES.map(network) {
            let family = usize::from(range.is_ipv6());
            self.client.spread(range, &via[family], Some(own[family]))?;
        }
        Ok(())
    }

    fn respond(&mut self) -> Outcome {
        let services: Vec<IpAddr> = (1..=4).flat_map(|number| FAMILIES.map(|family| service(number, family))).collect();
        for node in &self.nodes {
            node.address("lo", &services.iter().copied().map(IpNetwork::from).collect::<Vec<_>>())?;
            self.responders.push(Responder::start(node, node.short(), &services, PORT)?);
        }
        Ok(())
    }

    /// What router `router` (from 1) is told when its sessions run over `family`.
    pub fn plan(&self, router: usize, family: Family, hold: Duration) -> Plan {
        let neighbour = |node: usize| Neighbour {
            name: format!("n{node}"),
            address: link_address(node, router, 2, family),
            local: link_address(node, router, 1, family),
            asn: NODES_ASN,
            password: None,
        };
        Plan {
            asn: router_asn(router),
            router_id: Ipv4Addr::new(172, 30, 255, u8::try_from(router).expect("there are two routers")),
            hold,
            neighbours: (1..=self.nodes.len()).map(neighbour).collect(),
        }
    }

    /// Cuts a node (from 1) off both routers, silently.
    ///
    /// # Errors
    /// nftables refused.
    pub fn cut(&self, node: usize) -> Outcome<Cut> {
        Cut::links(&self.links[node - 1].iter().collect::<Vec<_>>())
    }

    /// Counters of new connections to services, on each node's uplinks.
    ///
    /// # Errors
    /// nftables refused.
    pub fn uplink_counters(&self) -> Outcome<Vec<Counters>> {
        let rules = [
            ("v4", "iifname { \"r1\", \"r2\" } ip daddr 198.51.100.0/24 tcp flags & (syn | ack) == syn"),
            ("v6", "iifname { \"r1\", \"r2\" } ip6 daddr 2001:db8:5::/64 tcp flags & (syn | ack) == syn"),
        ];
        self.nodes.iter().map(|node| Counters::install(node, &rules)).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.responders.clear();
    }
}

/// A router's autonomous system, counted from 1.
pub fn router_asn(router: usize) -> u32 {
    65000 + u32::try_from(router).expect("there are two routers")
}
