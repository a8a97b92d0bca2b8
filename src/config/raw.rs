//! The schema of the file, as written.
//!
//! Shape only: a number is a number, a list is a list, no key is unknown. Numbers are wide and names are text, so that
//! everything about their meaning is said by `resolve`, all at once, with the place. What must be there is optional
//! here for the same reason: a missing key is reported where its object begins.

use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;
use std::collections::BTreeMap;

/// A list of objects, each with its place; absent and empty are told apart.
pub type List<T> = Option<Vec<Spanned<T>>>;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    /// Our AS number.
    pub asn: Option<Spanned<i64>>,
    /// The BGP Identifier of every node that has none under `nodes`.
    pub router_id: Option<Spanned<String>>,
    /// What differs on single nodes.
    pub nodes: List<Node>,
    /// The routers to peer with.
    pub peers: List<Peer>,
    /// Addresses that may be announced.
    pub pools: List<Pool>,
    /// Which pools go to which peers, from which nodes, how.
    pub advertisements: List<Advertisement>,
    /// Where routers may dial us.
    pub listen: Option<Listen>,
    /// Which services are ours.
    pub services: Option<Services>,
    /// Whether the exclude label of a node has no effect.
    pub ignore_exclude_label: Option<Spanned<bool>>,
    /// How many addresses a namespace may hold.
    pub quotas: Option<Quotas>,
    /// How much may be withdrawn at once.
    pub guard: Option<Guard>,
    /// How a changed file is taken.
    pub reload: Option<Reload>,
}

/// `reload`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reload {
    /// How long a session that a change reset may take to come back.
    pub patience: Option<Spanned<String>>,
}

/// `nodes[]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    /// The node's name in Kubernetes.
    pub name: Option<Spanned<String>>,
    /// Its BGP Identifier.
    pub router_id: Option<Spanned<String>>,
}

/// `listen`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listen {
    /// TCP port, 179 where absent.
    pub port: Option<Spanned<i64>>,
    /// Own addresses; all where absent.
    pub addresses: List<String>,
}

/// `peers[]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Peer {
    /// Its name here.
    pub name: Option<Spanned<String>>,
    /// Where to dial.
    pub address: Option<Spanned<String>>,
    /// Instead of an address: every router of a block that dials us.
    pub range: Option<Spanned<String>>,
    /// TCP port, 179 where absent.
    pub port: Option<Spanned<i64>>,
    /// Whether we leave dialling to the router.
    pub passive: Option<Spanned<bool>>,
    /// Its AS number.
    pub asn: Option<Spanned<i64>>,
    /// `90s`, `1m30s` or `0`.
    pub hold_time: Option<Spanned<String>>,
    /// How long our OPEN waits for the router's.
    pub delay_open: Option<Spanned<String>>,
    /// How long the router may take nothing.
    pub send_hold_time: Option<Spanned<String>>,
    /// Whether the router may keep our routes while we are away (RFC 4724).
    pub graceful_restart: Option<GracefulRestart>,
    /// Whether messages above 4096 octets are offered (RFC 8654).
    pub extended_messages: Option<Spanned<bool>>,
    /// What we are to the router (RFC 9234).
    pub role: Option<Spanned<String>>,
    /// The key of TCP-MD5.
    pub password: Option<Spanned<String>>,
    /// The file that holds it instead.
    pub password_file: Option<Spanned<String>>,
    /// The interface that the session is bound to; without an address, where the router is looked for.
    pub interface: Option<Spanned<String>>,
    /// Whether we send router advertisements on the interface.
    pub router_advertisements: Option<Spanned<bool>>,
    /// Next hops instead of our own.
    pub next_hop: Option<NextHop>,
    /// The address to dial from.
    pub source_address: Option<Spanned<String>>,
    /// Largest distance in hops (RFC 5082).
    pub ttl_security: Option<Spanned<i64>>,
    /// TTL towards an eBGP peer that is not a direct neighbour.
    pub ebgp_multihop: Option<Spanned<i64>>,
    /// `ipv4`, `ipv6`; both where absent.
    pub families: List<String>,
    /// How many prefixes the router accepts from one of us.
    pub prefix_limit: Option<PrefixLimit>,
    /// The nodes with a session.
    pub node_selector: Option<Selector>,
}

/// `nextHop`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NextHop {
    /// For IPv4 routes.
    pub ipv4: Option<Spanned<String>>,
    /// For IPv6 routes.
    pub ipv6: Option<Spanned<String>>,
}

/// `prefixLimit`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrefixLimit {
    /// Of IPv4; no limit that we know of where absent.
    pub ipv4: Option<Spanned<i64>>,
    /// Of IPv6, likewise.
    pub ipv6: Option<Spanned<i64>>,
}

/// `gracefulRestart`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GracefulRestart {
    /// True where absent.
    pub enabled: Option<Spanned<bool>>,
    /// How long the router waits for us, `120s` where absent.
    pub restart_time: Option<Spanned<String>>,
}

/// A label selector as Kubernetes writes it: `nodeSelector`, `namespaceSelector`, `serviceSelector`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    /// Labels and the value that each must have.
    pub match_labels: Option<BTreeMap<String, Spanned<String>>>,
    /// Further requirements.
    pub match_expressions: List<Expression>,
}

/// `matchExpressions[]` of a selector.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expression {
    /// The label.
    pub key: Option<Spanned<String>>,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: Option<Spanned<String>>,
    /// The values of `In` and `NotIn`.
    pub values: List<String>,
}

/// `pools[]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pool {
    /// Its name here.
    pub name: Option<Spanned<String>>,
    /// Blocks, ranges and single addresses.
    pub addresses: List<String>,
    /// Those of them that are never given: blocks, ranges and single addresses.
    pub exclude: List<String>,
    /// Whether IPv4 addresses that end in `.0` or `.255` are never given.
    pub exclude_zero_and255: Option<Spanned<bool>>,
    /// Whether it serves without being named; true where absent.
    pub auto_assign: Option<Spanned<bool>>,
    /// The lower is asked first; last where absent.
    pub priority: Option<Spanned<i64>>,
    /// Namespaces that it serves, by name.
    pub namespaces: List<String>,
    /// Namespaces that it serves, by label.
    pub namespace_selector: Option<Selector>,
    /// Services that it serves, by label.
    pub service_selector: Option<Selector>,
    /// Whether it gives nothing new and keeps what is given.
    pub draining: Option<Spanned<bool>>,
    /// How long an address rests before somebody else gets it: `60s`, `5m` or `0`.
    pub cool_down: Option<Spanned<String>>,
    /// Whether services of different namespaces may share an address.
    pub share_across_namespaces: Option<Spanned<bool>>,
    /// Whether addresses in it that are a Node's are announced.
    pub announce_node_addresses: Option<Spanned<bool>>,
}

/// `guard`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Guard {
    /// How long a step that takes too much is held: `60s`.
    pub hold: Option<Spanned<String>>,
    /// The share that may go within that time: `25%`; `100%` for no limit.
    pub max_withdraw: Option<Spanned<String>>,
    /// The step that may be done at once, by the number that it was shown with.
    pub confirm: Option<Spanned<String>>,
}

/// `quotas`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Quotas {
    /// For namespaces that are not named; no limit where absent.
    pub default: Option<Spanned<i64>>,
    /// For a namespace by its name.
    pub by_namespace: Option<BTreeMap<String, Spanned<i64>>>,
}

/// `advertisements[]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Advertisement {
    /// Its name here.
    pub name: Option<Spanned<String>>,
    /// Pool names; all where absent.
    pub pools: List<String>,
    /// Peer names; all where absent.
    pub peers: List<String>,
    /// The nodes that announce.
    pub node_selector: Option<Selector>,
    /// Standard (two parts or a name), large (three numbers) and extended (a word and two parts) communities.
    pub communities: List<String>,
    /// LOCAL_PREF, for iBGP peers.
    pub local_preference: Option<Spanned<i64>>,
    /// MULTI_EXIT_DISC.
    pub med: Option<Spanned<i64>>,
    /// How often our AS stands in the path once more, for eBGP peers.
    pub prepend: Option<Spanned<i64>>,
    /// What the node's link carries: `10Gbit/s`.
    pub link_bandwidth: Option<Spanned<String>>,
    /// Whether `Cluster` services are announced while nothing can serve.
    pub announce_without_endpoints: Option<Spanned<bool>>,
}

/// `services`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Services {
    /// Whether a Service without `loadBalancerClass` is ours.
    pub classless: Option<Spanned<bool>>,
}
