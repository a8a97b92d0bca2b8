//! Which sessions this node should have now, what keeps it from having others, and who may come in by the door.

use super::door::Member;
use super::keys::{KeyRing, PeerKey};
use crate::config::{Config, PeerConfig, Reach, RouterAdvertisements};
use crate::net::beacon::Silent;
use crate::net::connection::Hops;
use crate::net::listener::{Failures, Key, Rule, Rules};
use crate::net::neighbours::Found;
use crate::peer::settings::InterfaceName;
use crate::peer::{Neighbor, PeerName};
use crate::wire::PeerKind;
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What is known on this node.
pub struct Known<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The entries whose selector takes this node in.
    pub here: &'a BTreeSet<Arc<str>>,
    /// Passwords of files.
    pub keys: &'a KeyRing,
    /// The routers on links.
    pub found: &'a Found,
    /// Where router advertisements cannot be sent.
    pub silent: &'a Silent,
    /// Keys that the door could not take.
    pub failures: &'a Failures,
    /// Routers of ranges that dialled us.
    pub members: &'a BTreeMap<PeerName, Member>,
    /// What the peers that run are told.
    pub running: &'a dyn Fn(&PeerName) -> Option<&'a Neighbor>,
}

/// A peer of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Whom it is.
    pub neighbor: Neighbor,
    /// What is wrong and does not keep it from running.
    pub remarks: Vec<String>,
    /// Whether there may be a session.
    pub verdict: Verdict,
}

/// Whether a peer may have a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Run,
    /// It must not, or cannot; why.
    Hold(String),
}

/// What is to be done on links.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Links {
    /// Interfaces to look for routers on.
    pub look: BTreeSet<InterfaceName>,
    /// Interfaces to advertise ourselves on.
    pub advertise: BTreeSet<InterfaceName>,
}

impl Known<'_> {
    /// The peers of this node by name.
    pub fn peers(&self) -> BTreeMap<PeerName, Wish> {
        let single = self.entries().filter_map(|entry| match entry.reach {
            Reach::One => Some(self.judge(entry, entry.neighbor.clone())),
            Reach::OnLink => Some(match self.router_of(entry) {
                Ok(address) => self.judge(entry, Neighbor { address, ..entry.neighbor.clone() }),
                Err(why) => Wish { verdict: Verdict::Hold(why), ..self.judge(entry, entry.neighbor.clone()) },
            }),
            Reach::Range(_) => None,
        });
        let of_ranges = self.members.values().filter_map(|member| self.member(member));
        single.chain(of_ranges).map(|wish| (wish.neighbor.name.clone(), wish)).collect()
    }

    /// The peer that a router of a range is, if it still is one.
    pub fn member(&self, member: &Member) -> Option<Wish> {
        let entry = self.config.peers.get(&member.range).filter(|_| self.here.contains(&member.range))?;
        Some(self.judge(entry, member.neighbor(entry)?))
    }

    fn entries(&self) -> impl Iterator<Item = &PeerConfig> {
        self.config.peers.iter().filter(|(name, _)| self.here.contains(*name)).map(|(_, entry)| entry)
    }

    /// Who may come in, and what each must show.
    pub fn rules(&self) -> Rules {
        let mut rules = Rules::new();
        for entry in self.entries() {
            let Some(whom) = self.whom(entry) else { continue };
            let key = match self.key(entry, &entry.neighbor.name) {
                Ok(PeerKey { password: Some(password), .. }) => Key::Password(password),
                Ok(PeerKey { password: None, .. }) => Key::None,
                Err(_) => Key::Unusable,
            };
            let kind = match entry.neighbor.asn == self.config.asn {
                true => PeerKind::Internal,
                false => PeerKind::External,
            };
            let least_ttl = Hops::new(entry.neighbor.ttl, kind).least;
            let rule = rules.entry(whom).or_insert_with(|| Rule { key: key.clone(), least_ttl });
            // One link-local address on two links: a listening socket cannot have two keys for it.
            if rule.key != key {
                rule.key = Key::Unusable;
            }
            rule.least_ttl = rule.least_ttl.min(least_ttl);
        }
        rules
    }

    /// What is to be done on links for these peers.
    pub fn links(&self) -> Links {
        let look = self.entries().filter(|entry| entry.reach == Reach::OnLink);
        let advertise = self.entries().filter(|entry| entry.router_advertisements == RouterAdvertisements::Sent);
        let interface = |entry: &PeerConfig| entry.neighbor.interface.clone();
        Links { look: look.filter_map(interface).collect(), advertise: advertise.filter_map(interface).collect() }
    }

    fn judge(&self, entry: &PeerConfig, neighbor: Neighbor) -> Wish {
        let mut wish = Wish { neighbor, remarks: Vec::new(), verdict: Verdict::Run };
        let name = &wish.neighbor.name;
        match self.key(entry, name) {
            Ok(PeerKey { password, remark }) => {
                wish.remarks.extend(remark);
                wish.remarks.extend(self.silence(entry));
                match self.failure(entry, &wish.neighbor) {
                    // What runs is signed: it goes on, and its socket is another one than the door's.
                    Some(why) if (self.running)(name).is_some() => wish.remarks.push(why),
                    Some(why) => wish.verdict = Verdict::Hold(why),
                    None => {}
                }
                wish.neighbor.password = password;
            }
            Err(why) => wish.verdict = Verdict::Hold(why),
        }
        wish
    }

    /// The key of a peer. One that runs keeps the key that it has, when the configuration now names a file that is no good.
    fn key(&self, entry: &PeerConfig, name: &PeerName) -> Result<PeerKey, String> {
        self.keys.of(entry).or_else(|why| {
            let running = (self.running)(name).and_then(|neighbor| neighbor.password.clone());
            let remark = || Some(format!("{why}; the password before it stays in use"));
            running.map(|password| PeerKey { password: Some(password), remark: remark() }).ok_or(why.clone())
        })
    }

    /// The addresses that an entry's routers come from, as far as they are known.
    fn whom(&self, entry: &PeerConfig) -> Option<IpNetwork> {
        match entry.reach {
            Reach::One => Some(entry.neighbor.address.into()),
            Reach::Range(range) => Some(range),
            Reach::OnLink => self.router_of(entry).ok().map(IpNetwork::from),
        }
    }

    fn failure(&self, entry: &PeerConfig, neighbor: &Neighbor) -> Option<String> {
        let whom = match entry.reach {
            Reach::Range(range) => range,
            Reach::One | Reach::OnLink => neighbor.address.into(),
        };
        self.failures.iter().find(|((network, _), _)| *network == whom).map(|(_, why)| why.clone())
    }

    fn silence(&self, entry: &PeerConfig) -> Option<String> {
        let interface = entry.neighbor.interface.as_ref()?;
        (entry.router_advertisements == RouterAdvertisements::Sent).then(|| self.silent.get(interface).cloned())?
    }

    /// The one router on an entry's interface. A session that runs stays with its router until there is another one only.
    fn router_of(&self, entry: &PeerConfig) -> Result<IpAddr, String> {
        let Some(interface) = &entry.neighbor.interface else { return Err("no interface is named".to_owned()) };
        let running = (self.running)(&entry.neighbor.name).map(|neighbor| neighbor.address);
        let routers = match (self.found.get(interface), running) {
            (Some(Ok(routers)), _) => routers,
            (Some(Err(_)) | None, Some(address)) => return Ok(address),
            (Some(Err(why)), None) => return Err(why.clone()),
            (None, None) => return Err(format!("looking for a router on {interface}")),
        };
        let of = |router: &std::net::Ipv6Addr| IpAddr::from(*router);
        match (running, routers.first(), routers.len()) {
            (Some(address), None, _) => Ok(address),
            (Some(address), ..) if routers.iter().map(of).any(|router| router == address) => Ok(address),
            (_, Some(router), 1) => Ok(of(router)),
            (None, None, _) => Err(format!(
                "no router is known on {interface}: the kernel flags a neighbour as one when it sends router \
                 advertisements; switch them on at the router, or name its 'address'"
            )),
            (_, Some(_), _) => {
                let all: Vec<_> = routers.iter().map(ToString::to_string).collect();
                Err(format!("several routers are on {interface}: {}; name one of them with 'address'", all.join(", ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::settings::Password;

    const CONFIG: &str = "
asn: 64512
listen: {port: 1790}
peers:
- {name: plain, address: 10.0.0.1, asn: 64500}
- {name: guarded, address: 10.0.0.2, asn: 64500, ttlSecurity: 2}
- {name: filed, address: 10.0.0.3, asn: 64500, passwordFile: /nowhere/key}
- {name: leaves, range: 10.0.1.0/24, asn: 64500, password: leaf, ttlSecurity: 1}
- {name: unnumbered, interface: eth0, asn: 64500, routerAdvertisements: true}
- {name: one, address: \"fe80::1\", interface: eth1, asn: 64500, password: a}
- {name: other, address: \"fe80::1\", interface: eth2, asn: 64500, password: b}
";

    struct Scene {
        config: Config,
        keys: KeyRing,
        found: Found,
        silent: Silent,
        failures: Failures,
        members: BTreeMap<PeerName, Member>,
        running: BTreeMap<PeerName, Neighbor>,
    }

    impl Scene {
        fn new() -> Self {
            let config = Config::parse("test.yaml", CONFIG).unwrap_or_else(|found| panic!("{found}")).0;
            Self {
                keys: KeyRing::default().next(&config, &mut crate::files::Reader::default()),
                config,
                found: Found::new(),
                silent: Silent::new(),
                failures: Failures::new(),
                members: BTreeMap::new(),
                running: BTreeMap::new(),
            }
        }

        fn with<T>(&self, ask: impl FnOnce(&Known<'_>) -> T) -> T {
            let Self { config, keys, found, silent, failures, members, running } = self;
            let here = &config.peers.keys().cloned().collect();
            let running = |name: &PeerName| running.get(name);
            ask(&Known { config, here, keys, found, silent, failures, members, running: &running })
        }

        fn peer(&self, name: &str) -> Wish {
            self.with(|known| known.peers().remove(&PeerName::from(name)).unwrap_or_else(|| panic!("no {name}")))
        }

        fn rule(&self, network: &str) -> Rule {
            self.with(|known| known.rules().remove(&network.parse().unwrap()).unwrap_or_else(|| panic!("no {network}")))
        }

        fn sees(&mut self, routers: &[&str]) {
            let routers = routers.iter().map(|text| text.parse().unwrap()).collect();
            self.found.insert(InterfaceName::new("eth0").unwrap(), Ok(routers));
        }
    }

    fn held(wish: &Wish) -> &str {
        match &wish.verdict {
            Verdict::Run => panic!("it runs: {wish:?}"),
            Verdict::Hold(why) => why,
        }
    }

    #[test]
    fn a_peer_without_its_key_is_held_and_shut_out() {
        let mut scene = Scene::new();
        assert_eq!(scene.peer("plain").verdict, Verdict::Run);
        assert!(held(&scene.peer("filed")).contains("/nowhere/key"));
        assert_eq!(scene.rule("10.0.0.3/32").key, Key::Unusable);
        // One that ran with a key keeps it, and the door keeps asking for it.
        let password = Password::new(b"before");
        let neighbor = Neighbor { password: password.clone(), ..scene.peer("filed").neighbor };
        scene.running.insert("filed".into(), neighbor);
        let kept = scene.peer("filed");
        assert_eq!((kept.verdict, kept.neighbor.password), (Verdict::Run, password.clone()));
        assert!(kept.remarks[0].contains("the password before it stays"), "{:?}", kept.remarks);
        assert_eq!(scene.rule("10.0.0.3/32").key, Key::Password(password.unwrap()));
    }

    #[test]
    fn a_key_that_the_door_does_not_take_holds_its_peer_and_not_a_session() {
        let mut scene = Scene::new();
        let at = "0.0.0.0:1790".parse().unwrap();
        scene.failures.insert(("10.0.0.1/32".parse().unwrap(), at), "no room".to_owned());
        assert_eq!(held(&scene.peer("plain")), "no room");
        scene.running.insert("plain".into(), scene.peer("plain").neighbor);
        assert_eq!(scene.peer("plain").remarks, ["no room"]);
        assert_eq!(scene.peer("guarded").verdict, Verdict::Run);
    }

    #[test]
    fn each_rule_asks_what_its_peer_must_show() {
        let scene = Scene::new();
        assert_eq!(scene.rule("10.0.0.1/32"), Rule { key: Key::None, least_ttl: 0 });
        assert_eq!(scene.rule("10.0.0.2/32"), Rule { key: Key::None, least_ttl: 254 });
        let leaf = Key::Password(Password::new(b"leaf").unwrap());
        assert_eq!(scene.rule("10.0.1.0/24"), Rule { key: leaf, least_ttl: 255 });
        assert_eq!(scene.rule("fe80::1/128").key, Key::Unusable, "two keys for one address");
        let links = scene.with(|known| known.links());
        assert_eq!((links.look.len(), links.look), (1, links.advertise));
    }

    #[test]
    fn the_router_on_a_link_is_found_kept_and_found_again() {
        let mut scene = Scene::new();
        assert!(held(&scene.peer("unnumbered")).contains("looking for"));
        scene.sees(&[]);
        assert!(held(&scene.peer("unnumbered")).contains("no router is known on eth0"));
        scene.sees(&["fe80::a"]);
        let first = scene.peer("unnumbered");
        assert_eq!((first.verdict, first.neighbor.address.to_string().as_str()), (Verdict::Run, "fe80::a"));
        assert!(scene.with(|known| known.rules()).contains_key(&"fe80::a/128".parse().unwrap()));
        scene.sees(&["fe80::a", "fe80::b"]);
        assert!(held(&scene.peer("unnumbered")).contains("fe80::a, fe80::b"));
        let address = |scene: &Scene| scene.peer("unnumbered").neighbor.address.to_string();
        scene.running.insert("unnumbered".into(), Neighbor { address: "fe80::a".parse().unwrap(), ..first.neighbor });
        assert_eq!(address(&scene), "fe80::a", "a session is not ended by a second router");
        scene.sees(&[]);
        assert_eq!(address(&scene), "fe80::a", "nor by a table that forgot it");
        scene.sees(&["fe80::b"]);
        assert_eq!(address(&scene), "fe80::b");
        scene.silent.insert(InterfaceName::new("eth0").unwrap(), "no capability".to_owned());
        assert_eq!(scene.peer("unnumbered").remarks, ["no capability"]);
    }
}
