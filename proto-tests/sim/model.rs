//! Plans drawn by chance, and what a router must hold of them: written down independently of the code under test.

use crate::chance::Chance;
use herald::peer::Plan;
use herald::rib::{Attributes, Bounds, NextHop, PrefixLimits, RouteSet};
use herald::wire::{Asn, Bandwidth, Community, ExtendedCommunity, Family, LargeCommunity, Prefix};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// What one session of a story is made of.
#[derive(Debug, Clone)]
pub struct Setting {
    pub our_asn: Asn,
    pub router_asn: Asn,
    pub our_families: BTreeSet<Family>,
    pub router_families: BTreeSet<Family>,
    pub router_is_wide: bool,
    pub our_hold: u16,
    pub router_hold: u16,
    pub local: IpAddr,
    pub interface: Vec<IpAddr>,
    /// Octets that the driver takes at a time.
    pub limit: usize,
    /// Routes to choose from, a family.
    pub universe: usize,
    /// How many prefixes of each family the router accepts, where it says so.
    pub accepts: Option<u32>,
}

pub const LOCAL_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
pub const LOCAL_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
pub const NODE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77));
pub const NODE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77));
const ELSEWHERE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 99));
const V4: Family = Family::IPV4_UNICAST;
const V6: Family = Family::IPV6_UNICAST;

/// One route as a router has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub next_hop: IpAddr,
    pub as_path: Vec<Asn>,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    pub communities: Vec<Community>,
    pub extended_communities: Vec<ExtendedCommunity>,
    pub large_communities: Vec<LargeCommunity>,
}

pub type Table = BTreeMap<Prefix, Path>;

impl Setting {
    pub fn draw(chance: &mut Chance) -> Self {
        let our_asn = chance.pick(&[Asn(64512), Asn(4_200_000_001)]);
        let families = [[V4].into(), [V6].into(), [V4, V6].into(), [V4, V6].into(), [V4, V6].into()];
        let over_v4 = !chance.once_in(3);
        let (local, other) = if over_v4 { (LOCAL_V4, LOCAL_V6) } else { (LOCAL_V6, LOCAL_V4) };
        let mut interface = vec!["127.0.0.1".parse().unwrap(), "fe80::1".parse().unwrap(), local];
        if !chance.once_in(3) {
            interface.push(other);
        }
        let internal = chance.once_in(3);
        Self {
            our_asn,
            router_asn: if internal { our_asn } else { Asn(64999) },
            our_families: chance.pick(&families),
            router_families: chance.pick(&families),
            // An iBGP router of a wide AS is wide itself.
            router_is_wide: internal || !chance.once_in(4),
            our_hold: chance.pick(&[3, 9, 90, 0]),
            router_hold: chance.pick(&[3, 9, 90, 180]),
            local,
            interface,
            limit: chance.pick(&[40, 40, 200, 1000, 65_536]),
            accepts: chance.once_in(4).then(|| chance.pick(&[2, 5, 10, 30])),
            universe: if chance.once_in(25) { 3000 } else { chance.pick(&[4, 12, 40]) },
        }
    }

    pub fn families(&self) -> BTreeSet<Family> {
        self.our_families.intersection(&self.router_families).copied().collect()
    }

    pub fn hold(&self) -> u16 {
        self.our_hold.min(self.router_hold)
    }

    /// The most routes of a family that the router may ever hold: nine tenths of what it accepts.
    pub fn most(&self) -> usize {
        self.accepts.map_or(usize::MAX, |accepts| accepts as usize * 9 / 10)
    }

    /// Whether a table is what the router should hold when all of `wanted` is wanted: all of it, or so much of it as there
    /// is room for. Which part that is, is a matter of history.
    pub fn assert_holds(&self, table: &Table, wanted: &Table, when: &str) {
        let of = |table: &Table, family: Family| table.keys().filter(|prefix| prefix.family() == family).count();
        for family in [V4, V6] {
            assert_eq!(of(table, family), of(wanted, family).min(self.most()), "{when}: routes of {family}");
        }
        let strange = table.iter().find(|(prefix, path)| wanted.get(prefix) != Some(path));
        assert_eq!(strange, None, "{when}: the router holds what is not wanted so");
    }

    /// Our own next hop, by the rules of the order: session, interface, node.
    fn own_next_hop(&self, family: Family, plan: &Plan) -> Option<IpAddr> {
        let (session, node) = if family == V4 { (LOCAL_V4, NODE_V4) } else { (LOCAL_V6, NODE_V6) };
        let has = |list: &[IpAddr], address| list.contains(&address).then_some(address);
        has(&self.interface, session).or(has(&plan.node_addresses, node))
    }

    /// What the router must hold when it is quiet.
    pub fn table(&self, plan: &Plan) -> Table {
        let internal = self.our_asn == self.router_asn;
        let families = self.families();
        let mut table = Table::new();
        for (prefix, wanted) in plan.routes.iter() {
            // The one block of the tight bounds that the universe of prefixes also goes beyond.
            if plan.bounds == tight() && prefix.family() == V4 && !prefix.to_string().starts_with("198.51.1") {
                continue;
            }
            let next_hop = match wanted.next_hop {
                NextHop::Own => self.own_next_hop(prefix.family(), plan),
                NextHop::Address(address) => (prefix.family() == V4).then_some(address),
            };
            let (Some(next_hop), true, false) =
                (next_hop, families.contains(&prefix.family()), BARRED.contains(&&*prefix.to_string()))
            else {
                continue;
            };
            let seen = if self.router_is_wide || self.our_asn.0 < 65536 { self.our_asn } else { Asn::TRANS };
            table.insert(
                *prefix,
                Path {
                    next_hop,
                    as_path: if internal { vec![] } else { vec![seen; 1 + usize::from(wanted.prepend.unwrap_or(0))] },
                    med: wanted.med,
                    local_pref: internal.then(|| wanted.local_pref.unwrap_or(100)),
                    communities: wanted.communities.clone(),
                    extended_communities: self.extended(wanted),
                    large_communities: wanted.large_communities.clone(),
                },
            );
        }
        table
    }
}

impl Setting {
    /// Bandwidth first, as its type is the lower: type, sub-type, AS in two octets, bytes per second as a float.
    fn extended(&self, wanted: &Attributes) -> Vec<ExtendedCommunity> {
        let number = u16::try_from(self.our_asn.0).unwrap_or(23_456).to_be_bytes();
        let bandwidth = wanted.link_bandwidth.map(|rate| {
            let rate = rate.bytes_per_second().to_be_bytes();
            ExtendedCommunity([0, 4, number[0], number[1], rate[0], rate[1], rate[2], rate[3]])
        });
        bandwidth.into_iter().chain(wanted.extended_communities.iter().copied()).collect()
    }
}

/// Bounds that leave out the 10.x.y.0/24 of the universe.
fn tight() -> Bounds {
    let ip = |text: &str| text.parse().unwrap();
    Bounds::within([(ip("198.51.100.0"), ip("198.51.199.255")), (ip("2001:db8::"), ip("2001:db8::ffff:ffff"))])
}

/// Prefixes that a plan should never hold, and that never leave if it does.
const BARRED: [&str; 5] = ["0.0.0.0/0", "127.0.0.1/32", "169.254.1.0/24", "fe80::1/128", "ff02::1/128"];

fn prefix(chance: &mut Chance, universe: usize) -> Prefix {
    if chance.once_in(60) {
        return chance.pick(&BARRED).parse().unwrap();
    }
    let n = chance.below(universe);
    match chance.below(5) {
        0 | 1 => Prefix::host(Ipv4Addr::from_bits(0xC633_6400 + n as u32).into()),
        2 => Prefix::covering(Ipv4Addr::from_bits(0x0A00_0000 + ((n as u32) << 8)).into(), 24).unwrap(),
        _ => Prefix::host(Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) + n as u128).into()),
    }
}

fn attributes(chance: &mut Chance) -> Arc<Attributes> {
    let plain = Attributes::default;
    let communities = vec![Community(0xFFFF_FF01), Community(0xFC00_0001)];
    let large = LargeCommunity { global: 1, local1: 2, local2: 3 };
    let extended =
        vec![ExtendedCommunity([1, 2, 192, 0, 2, 1, 0, 9]), ExtendedCommunity([2, 3, 0xfa, 0x56, 0xea, 0, 0, 7])];
    Arc::new(match chance.below(8) {
        0..=2 => plain(),
        3 => Attributes { communities, local_pref: Some(300), ..plain() },
        5 => Attributes { prepend: Some(2), med: Some(7), ..plain() },
        6 => Attributes { link_bandwidth: Bandwidth::new(1.25e9), extended_communities: extended, ..plain() },
        4 => Attributes { med: Some(7), large_communities: vec![large], ..plain() },
        _ => Attributes { next_hop: NextHop::Address(ELSEWHERE_V4), ..plain() },
    })
}

/// The next plan: mostly the last one with some changes, sharing the rest; sometimes another one, sometimes nothing.
pub fn draw_plan(last: Option<&Plan>, setting: &Setting, chance: &mut Chance) -> Plan {
    let mut plan = last.cloned().unwrap_or_default();
    match chance.below(12) {
        0 => plan.routes = RouteSet::new(),
        1 => {
            let all: Vec<_> = plan.routes.iter().map(|(prefix, _)| *prefix).collect();
            let one = attributes(chance);
            plan.routes = all.into_iter().map(|prefix| (prefix, one.clone())).collect();
        }
        _ => {}
    }
    let changes = if plan.routes.is_empty() { 2 * setting.universe } else { 1 + setting.universe / 3 };
    for _ in 0..chance.below(changes + 1) {
        let prefix = prefix(chance, setting.universe);
        if chance.once_in(3) {
            plan.routes.remove(&prefix);
        } else {
            plan.routes.insert(prefix, attributes(chance));
        }
    }
    if last.is_none() || chance.once_in(6) {
        plan.node_addresses = chance.pick(&[vec![], vec![NODE_V4], vec![NODE_V6], vec![NODE_V4, NODE_V6]]);
    }
    if last.is_none() || chance.once_in(8) {
        plan.bounds = if chance.once_in(2) { tight() } else { Bounds::everything() };
    }
    let limit = |accepts| PrefixLimits([(V4, accepts), (V6, accepts)].into());
    plan.prefix_limits = setting.accepts.map(limit).unwrap_or_default();
    plan
}
