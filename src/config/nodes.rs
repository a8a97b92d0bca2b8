//! What a configuration means on the nodes of a cluster: who each is, which sessions it has, and what looks wrong.

use super::resolve::Config;
use super::transport::Reach;
use crate::advertise::{ClusterView, Node, NodeName, NodeSelector};
use crate::peer::settings::RestartState;
use crate::peer::{Identity, Settings};
use crate::wire::RouterId;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

impl Config {
    /// Who `node` is: its AS, and its router ID by override, `routerId`, first IPv4 InternalIP, or (IPv6-only) a hash of
    /// its name: [`hashed_router_id`].
    pub fn identity(&self, node: &str, internal_ips: &[IpAddr]) -> Identity {
        let own = || self.node_router_ids.get(node).copied().or(self.router_id);
        let first_ipv4 = || {
            internal_ips.iter().find_map(|ip| match ip {
                IpAddr::V4(v4) => RouterId::new(*v4),
                IpAddr::V6(_) => None,
            })
        };
        let router_id = own().or_else(first_ipv4).unwrap_or_else(|| hashed_router_id(node));
        Identity { asn: self.asn, router_id }
    }

    /// The sessions that a node should have, by peer name. Those of ranges come with the routers that dial.
    pub fn sessions(&self, name: &str, node: &Node) -> BTreeMap<Arc<str>, Settings> {
        let identity = self.identity(name, &node.internal_ips);
        let chosen = self.peers.iter().filter(|(_, peer)| peer.reach == Reach::One && peer.nodes.matches(node));
        chosen
            .map(|(name, peer)| {
                (
                    Arc::clone(name),
                    Settings { identity, neighbor: peer.neighbor.clone(), restart_state: RestartState::default() },
                )
            })
            .collect()
    }

    /// Router IDs that more than one node of the view would have, with the nodes. Empty is well.
    ///
    /// Two sessions with one ID are refused or reset by the router (RFC 6286 §2.1, RFC 4271 §6.8).
    pub fn shared_router_ids(&self, view: &ClusterView) -> BTreeMap<RouterId, Vec<NodeName>> {
        let mut nodes: BTreeMap<RouterId, Vec<NodeName>> = BTreeMap::new();
        for (name, node) in &view.nodes {
            nodes.entry(self.identity(name, &node.internal_ips).router_id).or_default().push(Arc::clone(name));
        }
        nodes.retain(|_, names| names.len() > 1);
        nodes
    }

    /// Selectors that match no node of the view, as sentences for people. A file alone cannot show these.
    pub fn idle_selectors(&self, view: &ClusterView) -> Vec<String> {
        let idle = |selector: &NodeSelector| !view.nodes.values().any(|node| selector.matches(node));
        let peers = self.peers.iter().filter(|(_, peer)| idle(&peer.nodes));
        let peers = peers.map(|(name, _)| format!("the nodeSelector of peer {name:?} matches none of the nodes"));
        let advertisements = self.policy.advertisements.iter().filter(|advertisement| idle(&advertisement.nodes));
        let advertisements =
            advertisements.map(|a| format!("the nodeSelector of advertisement {:?} matches none of the nodes", a.name));
        peers.chain(advertisements).collect()
    }
}

/// The router ID of a node without any IPv4 address: FNV-1a, 32 bits, over the octets of its name, written as four
/// octets; 0.0.0.1 where that is zero. The same name has the same ID in every process and every version.
pub fn hashed_router_id(node: &str) -> RouterId {
    hashed(node.as_bytes())
}

fn hashed(name: &[u8]) -> RouterId {
    let hash = name.iter().fold(0x811c_9dc5_u32, |hash, octet| (hash ^ u32::from(*octet)).wrapping_mul(0x0100_0193));
    RouterId::new(Ipv4Addr::from_bits(hash.max(1))).expect("at least 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse("test.yaml", text).unwrap_or_else(|found| panic!("{found}")).0
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_router_id_comes_from_the_first_source_that_has_one() {
        let all = config("asn: 64512\nrouterId: 10.9.9.9\nnodes: [{name: n1, routerId: 10.0.0.1}]\n");
        assert_eq!(all.identity("n1", &ips(&["172.16.0.1"])).router_id.to_string(), "10.0.0.1");
        assert_eq!(all.identity("n2", &ips(&["172.16.0.2"])).router_id.to_string(), "10.9.9.9");
        let none = config("asn: 64512\n");
        let both = ips(&["2001:db8::1", "172.16.0.2", "172.16.0.3"]);
        assert_eq!(none.identity("n2", &both).router_id.to_string(), "172.16.0.2");
        assert_eq!(none.identity("n2", &ips(&["2001:db8::1"])).router_id, hashed_router_id("n2"));
    }

    #[test]
    fn the_hash_is_the_published_one() {
        // Test vectors of FNV-1a, 32 bits: the empty string and "a".
        assert_eq!(hashed_router_id("").octets(), 0x811c_9dc5_u32.to_be_bytes());
        assert_eq!(hashed_router_id("a").octets(), 0xe40c_292c_u32.to_be_bytes());
        // The published octets whose hash is zero.
        assert_eq!(hashed(&[0xcc, 0x24, 0x31, 0xc4]).octets(), [0, 0, 0, 1]);
    }

    #[test]
    fn two_nodes_with_one_id_and_idle_selectors_are_found() {
        let config = config(
            "asn: 64512\npeers:\n- {name: a, address: 10.0.0.9, asn: 64500, nodeSelector: {matchLabels: {rack: r9}}}\n",
        );
        let node = |ip: &str| Arc::new(Node { internal_ips: ips(&[ip]), ..Node::default() });
        let nodes = [("n1", "10.0.0.1"), ("n2", "10.0.0.2"), ("n3", "10.0.0.1")];
        let nodes = nodes.into_iter().map(|(name, ip)| (NodeName::from(name), node(ip))).collect();
        let view = ClusterView { nodes, ..ClusterView::default() };
        let shared = config.shared_router_ids(&view);
        assert_eq!(shared.len(), 1);
        assert_eq!(*shared.values().next().unwrap(), vec![NodeName::from("n1"), NodeName::from("n3")]);
        assert_eq!(config.idle_selectors(&view).len(), 1);
        assert!(config.sessions("n1", &view.nodes["n1"]).is_empty());
    }
}
