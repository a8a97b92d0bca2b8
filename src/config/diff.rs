//! What a new configuration means for what runs on one node.

use super::resolve::Config;
use crate::advertise::Node;
use crate::peer::Settings;
use crate::peer::settings::{InterfaceName, MessageSize, Offer, Opening, Role, SendHoldTime, Ttl};
use crate::wire::{Asn, Family, RouterId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What differs for one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// By peer name; peers whose session goes on as it is are absent.
    pub peers: BTreeMap<Arc<str>, PeerChange>,
    /// Whether another plan is needed. A new plan never ends a session.
    pub policy: PolicyChange,
}

/// What happens to the session with one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerChange {
    /// It begins: the peer is new, or its selector now takes this node in.
    Added,
    /// It ends: the peer is gone, or its selector now leaves this node out.
    Removed,
    /// It must begin anew, for these reasons; at least one.
    Restart(Vec<Cause>),
    /// It goes on, signed with another key.
    Rekeyed,
}

/// Whether what is announced is decided by other rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyChange {
    /// The same rules.
    Same,
    /// Pools, advertisements, selectors or switches differ: plan anew and diff.
    Replan,
}

/// What of a session cannot change while it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Our AS number.
    LocalAsn,
    /// Our BGP Identifier.
    RouterId,
    /// The peer's address.
    Address,
    /// Its port.
    Port,
    /// Its AS number.
    Asn,
    /// The hold time proposed in our OPEN.
    HoldTime,
    /// The address we dial from.
    SourceAddress,
    /// The interface that it is bound to.
    Interface,
    /// The families offered in our OPEN.
    Families,
    /// The TTL of the connection.
    Ttl,
    /// Who dials.
    Opening,
    /// How long our OPEN waits.
    DelayOpen,
    /// Graceful restart, offered or not, or its time.
    GracefulRestart,
    /// The longest message.
    MessageSize,
    /// Signed or not; another key alone is [`PeerChange::Rekeyed`].
    Password,
    /// What we are to the peer.
    Role,
    /// How long the peer may take nothing.
    SendHoldTime,
}

/// What a change does to a session that is Established.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It must begin anew.
    Reset,
    /// It goes on; the next one has it.
    NextSession,
}

impl Cause {
    /// What it does to a session that is Established. Timers agreed in OPEN stay agreed until the next OPEN.
    pub fn effect(self) -> Effect {
        match self {
            Cause::HoldTime | Cause::SendHoldTime | Cause::DelayOpen => Effect::NextSession,
            Cause::LocalAsn
            | Cause::RouterId
            | Cause::Address
            | Cause::Port
            | Cause::Asn
            | Cause::SourceAddress
            | Cause::Interface
            | Cause::Families
            | Cause::Ttl
            | Cause::Opening
            | Cause::GracefulRestart
            | Cause::MessageSize
            | Cause::Password
            | Cause::Role => Effect::Reset,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::LocalAsn => "our AS number",
            Cause::RouterId => "our router ID",
            Cause::Address => "address",
            Cause::Port => "port",
            Cause::Asn => "AS number",
            Cause::HoldTime => "hold time",
            Cause::SourceAddress => "source address",
            Cause::Interface => "interface",
            Cause::Families => "families",
            Cause::Ttl => "TTL",
            Cause::Opening => "who dials",
            Cause::DelayOpen => "delay of OPEN",
            Cause::GracefulRestart => "graceful restart",
            Cause::MessageSize => "size of messages",
            Cause::Password => "password",
            Cause::Role => "role",
            Cause::SendHoldTime => "send hold time",
        })
    }
}

/// What changes on the node `name` when `new` takes the place of `old`.
pub fn diff(old: &Config, new: &Config, name: &str, node: &Node) -> Changes {
    let (before, after) = (old.sessions(name, node), new.sessions(name, node));
    let gone = before.keys().filter(|peer| !after.contains_key(*peer));
    let gone = gone.map(|peer| (Arc::clone(peer), PeerChange::Removed));
    let here = after.iter().filter_map(|(peer, settings)| {
        let change = match before.get(peer).map(|running| restart_causes(running, settings)) {
            None => PeerChange::Added,
            Some(causes) if !causes.is_empty() => PeerChange::Restart(causes),
            Some(_) if before[peer].neighbor.password != settings.neighbor.password => PeerChange::Rekeyed,
            Some(_) => return None,
        };
        Some((Arc::clone(peer), change))
    });
    let limits = |config: &Config| -> BTreeMap<_, _> {
        config.peers.iter().map(|(name, peer)| (Arc::clone(name), peer.prefix_limits.clone())).collect()
    };
    let same = old.policy == new.policy && limits(old) == limits(new);
    let policy = if same { PolicyChange::Same } else { PolicyChange::Replan };
    Changes { peers: gone.chain(here).collect(), policy }
}

/// Why a session with the settings `running` must begin anew to have the settings `wanted`; empty: it need not.
pub fn restart_causes(running: &Settings, wanted: &Settings) -> Vec<Cause> {
    let both = terms(running).into_iter().zip(terms(wanted));
    both.filter(|((_, held), (_, new))| held != new).map(|((cause, _), _)| cause).collect()
}

/// What a session is begun with, as texts that are equal where no session needs to begin anew. No password is in them, only
/// whether there is one.
pub fn written_terms(settings: &Settings) -> BTreeMap<String, String> {
    terms(settings).into_iter().map(|(cause, term)| (cause.to_string(), format!("{term:?}"))).collect()
}

/// The same as [`restart_causes`], of a session that is known by its [`written_terms`].
pub fn restart_causes_of_written(running: &BTreeMap<String, String>, wanted: &Settings) -> Vec<Cause> {
    let new = terms(wanted).into_iter();
    let differs = |(cause, term): &(Cause, Term<'_>)| running.get(&cause.to_string()) != Some(&format!("{term:?}"));
    new.filter(differs).map(|(cause, _)| cause).collect()
}

/// A value that a session is begun with.
#[derive(Debug, PartialEq, Eq)]
enum Term<'a> {
    Asn(Asn),
    RouterId(RouterId),
    Address(IpAddr),
    Port(u16),
    Time(Duration),
    Source(Option<IpAddr>),
    Interface(Option<&'a InterfaceName>),
    Families(&'a BTreeSet<Family>),
    Ttl(Ttl),
    Opening(Opening),
    Restart(Option<Offer>),
    Size(MessageSize),
    Signed(bool),
    Role(Option<Role>),
    SendHold(SendHoldTime),
}

fn terms(settings: &Settings) -> [(Cause, Term<'_>); 17] {
    // Taken apart, so that a new field is not forgotten here.
    // The restart_state is no setting: it goes on from one session to the next.
    let Settings { identity, neighbor, restart_state: _ } = settings;
    let crate::peer::Identity { asn: local_asn, router_id } = identity;
    let crate::peer::Neighbor {
        name: _,
        address,
        port,
        asn,
        hold_time,
        source_address,
        interface,
        families,
        ttl,
        opening,
        delay_open,
        send_hold_time,
        graceful_restart,
        message_size,
        role,
        password,
    } = neighbor;
    [
        (Cause::LocalAsn, Term::Asn(*local_asn)),
        (Cause::RouterId, Term::RouterId(*router_id)),
        (Cause::Address, Term::Address(*address)),
        (Cause::Port, Term::Port(*port)),
        (Cause::Asn, Term::Asn(*asn)),
        (Cause::HoldTime, Term::Time(*hold_time)),
        (Cause::SourceAddress, Term::Source(*source_address)),
        (Cause::Interface, Term::Interface(interface.as_ref())),
        (Cause::Families, Term::Families(families)),
        (Cause::Ttl, Term::Ttl(*ttl)),
        (Cause::Opening, Term::Opening(*opening)),
        (Cause::DelayOpen, Term::Time(*delay_open)),
        (Cause::GracefulRestart, Term::Restart(*graceful_restart)),
        (Cause::MessageSize, Term::Size(*message_size)),
        // A live socket takes another key; one that was begun unsigned is not made a signed one under way, nor the reverse.
        (Cause::Password, Term::Signed(password.is_some())),
        (Cause::Role, Term::Role(*role)),
        (Cause::SendHoldTime, Term::SendHold(*send_hold_time)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "
listen: {port: 1790}
asn: 64512
peers:
- {name: a, address: 172.30.1.1, asn: 64500}
- {name: b, address: 172.30.1.2, asn: 64500, nodeSelector: {matchLabels: {rack: r1}}}
pools:
- {name: edge, addresses: [198.51.100.0/24]}
advertisements:
- {name: all}
";

    fn config(text: &str) -> Config {
        Config::parse("test.yaml", text).unwrap_or_else(|found| panic!("{found}")).0
    }

    fn node(rack: &str) -> Node {
        let labels = BTreeMap::from([("rack".to_owned(), rack.to_owned())]);
        let internal_ips = vec![IpAddr::from([10, 0, 0, 1])];
        Node { labels, internal_ips, ..Node::default() }
    }

    /// What `BEFORE` with a text replaced changes on a node of rack r1.
    fn changed(from: &str, to: &str) -> Changes {
        assert!(BEFORE.contains(from));
        diff(&config(BEFORE), &config(&BEFORE.replace(from, to)), "n1", &node("r1"))
    }

    #[test]
    fn each_setting_of_a_session_restarts_it_and_no_other() {
        for (to, cause) in [
            ("address: 172.30.1.9, asn: 64500", Cause::Address),
            ("address: 172.30.1.1, asn: 64501", Cause::Asn),
            ("address: 172.30.1.1, asn: 64500, port: 1179", Cause::Port),
            ("address: 172.30.1.1, asn: 64500, holdTime: 9s", Cause::HoldTime),
            ("address: 172.30.1.1, asn: 64500, sourceAddress: 10.0.0.1", Cause::SourceAddress),
            ("address: 172.30.1.1, asn: 64500, interface: eth0", Cause::Interface),
            ("address: 172.30.1.1, asn: 64500, families: [ipv4]", Cause::Families),
            ("address: 172.30.1.1, asn: 64500, ttlSecurity: 1", Cause::Ttl),
            ("address: 172.30.1.1, asn: 64500, passive: true", Cause::Opening),
            ("address: 172.30.1.1, asn: 64500, delayOpen: 5s", Cause::DelayOpen),
            ("address: 172.30.1.1, asn: 64500, extendedMessages: true", Cause::MessageSize),
            ("address: 172.30.1.1, asn: 64500, role: customer", Cause::Role),
            ("address: 172.30.1.1, asn: 64500, password: x", Cause::Password),
            ("address: 172.30.1.1, asn: 64500, gracefulRestart: {}", Cause::GracefulRestart),
            ("address: 172.30.1.1, asn: 64500, sendHoldTime: 10m", Cause::SendHoldTime),
        ] {
            let changes = changed("address: 172.30.1.1, asn: 64500", to);
            let after = BEFORE.replace("address: 172.30.1.1, asn: 64500", to);
            let settings = |text: &str| config(text).sessions("n1", &node("r1")).remove("a").unwrap();
            let written = written_terms(&settings(BEFORE));
            assert_eq!(restart_causes_of_written(&written, &settings(&after)), [cause], "{to}");
            assert_eq!(restart_causes_of_written(&written, &settings(BEFORE)), [], "{to}");
            let expected = BTreeMap::from([(Arc::from("a"), PeerChange::Restart(vec![cause]))]);
            // Where a router is, no service can be.
            let policy = if cause == Cause::Address { PolicyChange::Replan } else { PolicyChange::Same };
            assert_eq!(changes, Changes { peers: expected, policy }, "{to}");
        }
    }

    #[test]
    fn a_new_identity_restarts_every_session() {
        for (to, cause) in [
            ("asn: 64513\npeers", Cause::LocalAsn),
            ("asn: 64512\nrouterId: 10.9.9.9\npeers", Cause::RouterId),
            ("asn: 64512\nnodes: [{name: n1, routerId: 10.9.9.9}]\npeers", Cause::RouterId),
        ] {
            let changes = changed("asn: 64512\npeers", to);
            assert_eq!(changes.peers.len(), 2, "{to}");
            assert!(changes.peers.values().all(|change| *change == PeerChange::Restart(vec![cause])), "{to}");
        }
        // What is said about another node changes nothing here; nor does saying what was so already.
        for to in ["nodes: [{name: n2, routerId: 10.9.9.9}]", "routerId: 10.0.0.1"] {
            let changes = changed("asn: 64512\npeers", &format!("asn: 64512\n{to}\npeers"));
            assert_eq!(changes, Changes { peers: BTreeMap::new(), policy: PolicyChange::Same }, "{to}");
        }
    }

    #[test]
    fn another_key_is_soft_and_none_is_not() {
        let of = |before: &str, after: &str| {
            let with = |password: &str| config(&BEFORE.replace("1, asn: 64500", &format!("1, asn: 64500{password}")));
            diff(&with(before), &with(after), "n1", &node("r1")).peers.remove("a")
        };
        assert_eq!(of(", password: old", ", password: new"), Some(PeerChange::Rekeyed));
        assert_eq!(of(", password: old", ", password: old"), None);
        assert_eq!(of(", password: old", ""), Some(PeerChange::Restart(vec![Cause::Password])));
        // What is soft about a session is no change of it at all: where the key is read, where routes are sent to.
        for soft in [", passwordFile: /k", ", nextHop: {ipv4: 10.0.0.9}"] {
            assert_eq!(of("", soft), None, "{soft}");
        }
    }

    #[test]
    fn policy_is_soft() {
        for (from, to) in [
            ("198.51.100.0/24", "198.51.100.0/25"),
            ("address: 172.30.1.1, asn: 64500", "address: 172.30.1.1, asn: 64500, prefixLimit: {ipv4: 10}"),
            ("{name: all}", "{name: all, communities: [no-export]}"),
            ("{name: all}", "{name: all}\nservices: {classless: false}"),
            ("{name: all}", "{name: all}\nignoreExcludeLabel: true"),
        ] {
            let changes = changed(from, to);
            assert_eq!(changes, Changes { peers: BTreeMap::new(), policy: PolicyChange::Replan }, "{to}");
        }
    }

    #[test]
    fn peers_come_and_go_with_the_file_and_with_the_selector() {
        let gone = changed("- {name: a, address: 172.30.1.1, asn: 64500}\n", "");
        assert_eq!(gone.peers, BTreeMap::from([(Arc::from("a"), PeerChange::Removed)]));
        let deselected = changed("rack: r1", "rack: r2");
        assert_eq!(deselected.peers, BTreeMap::from([(Arc::from("b"), PeerChange::Removed)]));
        assert_eq!(deselected.policy, PolicyChange::Replan);
        let (old, new) = (config(BEFORE), config(&BEFORE.replace("rack: r1", "rack: r2")));
        let selected = diff(&old, &new, "n2", &node("r2"));
        assert_eq!(selected.peers, BTreeMap::from([(Arc::from("b"), PeerChange::Added)]));
        let renamed = changed("name: a", "name: c");
        assert_eq!(renamed.peers[&Arc::from("a")], PeerChange::Removed);
        assert_eq!(renamed.peers[&Arc::from("c")], PeerChange::Added);
    }
}
