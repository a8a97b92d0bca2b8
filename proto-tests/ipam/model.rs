//! The allocator against a model that scans: small pools as lists of addresses, everybody tried again after every change, the
//! oldest first, until nobody moves. Histories are random; after each step both must show the same.

use crate::rig::*;
use herald::ipam::*;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// One step of a history.
#[derive(Debug, Clone)]
pub enum Step {
    Put(Claim),
    Delete(&'static str),
    Foreign(&'static str, &'static str),
    Pools(Vec<Pool>),
    Nodes(&'static str),
    Quota(u32),
    Pass(u64),
    Restart,
}

/// One hold: whose, on which terms, and whether it has been written since it was chosen.
#[derive(Debug, Clone, PartialEq)]
struct Hold {
    uid: Uid,
    terms: Terms,
    written: bool,
}

/// All that is true, as flat as it can be.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    now: Timestamp,
    pools: Vec<Pool>,
    nodes: BTreeSet<IpAddr>,
    limit: u32,
    foreign: BTreeMap<Uid, BTreeSet<IpAddr>>,
    services: BTreeMap<Uid, Claim>,
    held: BTreeMap<IpAddr, Vec<Hold>>,
    named: BTreeMap<IpAddr, std::sync::Arc<str>>,
    cooling: BTreeMap<IpAddr, (Timestamp, ServiceName)>,
    refused: BTreeSet<Uid>,
    disputed: BTreeSet<(Uid, IpAddr)>,
}

fn numbers(first: IpAddr, last: IpAddr) -> Vec<IpAddr> {
    match (first, last) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits()..=b.to_bits()).map(|n| IpAddr::V4(n.into())).collect(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits()..=b.to_bits()).map(|n| IpAddr::V6(n.into())).collect(),
        _ => Vec::new(),
    }
}

fn lies_in(pool: &Pool, address: IpAddr) -> bool {
    pool.ranges.iter().any(|(first, last)| numbers(*first, *last).contains(&address))
}

fn given(pool: &Pool) -> Vec<IpAddr> {
    let edge = |address: &IpAddr| match address {
        IpAddr::V4(v4) => pool.edges == Edges::KeptOut && [0, 255].contains(&v4.octets()[3]),
        IpAddr::V6(_) => false,
    };
    let mut all: Vec<IpAddr> = pool.ranges.iter().flat_map(|(first, last)| numbers(*first, *last)).collect();
    all.retain(|address| !edge(address) && !pool.kept_out.iter().any(|(a, b)| a <= address && address <= b));
    all.sort();
    all
}

/// Whether two may share, said once more in other words.
fn compatible(a: (&ServiceName, &Terms), b: (&ServiceName, &Terms), anywhere: bool) -> bool {
    let same_key = matches!((&a.1.sharing, &b.1.sharing), (Sharing::Key(a), Sharing::Key(b)) if a == b);
    let backends = match (&a.1.backend, &b.1.backend) {
        (Backend::Cluster, Backend::Cluster) => true,
        (Backend::Local(x), Backend::Local(y)) => x == y && !x.is_empty() && a.0.namespace == b.0.namespace,
        _ => false,
    };
    let ports = a.1.ports.is_disjoint(&b.1.ports);
    same_key && backends && ports && (anywhere || a.0.namespace == b.0.namespace)
}

impl Model {
    fn ordered_pools(&self) -> Vec<&Pool> {
        let mut pools: Vec<&Pool> = self.pools.iter().collect();
        pools.sort_by_key(|pool| (pool.priority, pool.name.clone()));
        pools
    }

    fn pool_of(&self, address: IpAddr) -> Option<&Pool> {
        self.ordered_pools().into_iter().find(|pool| lies_in(pool, address))
    }

    fn admits(pool: &Pool, claim: &Claim) -> bool {
        let rule = &pool.admission;
        rule.namespaces.is_empty() || rule.namespaces.contains(&claim.service.namespace)
    }

    fn neighbour(&self, address: IpAddr) -> bool {
        self.nodes.contains(&address) || self.foreign.values().any(|shown| shown.contains(&address))
    }

    fn holds(&self, uid: &Uid, family: Family) -> Vec<IpAddr> {
        let own = |holds: &Vec<Hold>| holds.iter().any(|hold| hold.uid == *uid);
        self.held.iter().filter(|(a, holds)| Family::of(**a) == family && own(holds)).map(|(a, _)| *a).collect()
    }

    fn hold(&self, uid: &Uid, address: IpAddr) -> &Hold {
        self.held[&address].iter().find(|hold| hold.uid == *uid).expect("it holds it")
    }

    fn regular(&self, claim: &Claim, address: IpAddr) -> bool {
        !self.neighbour(address)
            && self.pool_of(address).is_some_and(|pool| {
                given(pool).contains(&address) && Self::admits(pool, claim) && pool.intake == Intake::Open
            })
    }

    fn fits(&self, claim: &Claim, address: IpAddr) -> bool {
        match claim.exact(Family::of(address)) {
            Some(exact) => exact == address,
            None => {
                let named = match &claim.pool {
                    PoolChoice::Any => true,
                    PoolChoice::Named(name) => self.named.get(&address) == Some(name),
                };
                named && (claim.renumber == Renumber::Stay || self.regular(claim, address))
            }
        }
    }

    /// What it keeps of a family because it fits.
    fn keeper(&self, claim: &Claim, family: Family) -> Option<IpAddr> {
        let mut own = self.holds(&claim.uid, family);
        own.retain(|address| self.fits(claim, *address));
        own.sort_by_key(|address| (!claim.shows(*address), !self.hold(&claim.uid, *address).written, *address));
        own.first().copied()
    }

    /// What its status is to show of a family.
    fn anchor(&self, claim: &Claim, family: Family) -> Option<IpAddr> {
        let firm = |address: &IpAddr| self.hold(&claim.uid, *address).written || claim.shows(*address);
        self.keeper(claim, family).filter(firm).or_else(|| {
            let mut own = self.holds(&claim.uid, family);
            own.retain(firm);
            own.sort_by_key(|address| (!claim.shows(*address), !self.hold(&claim.uid, *address).written, *address));
            own.first().copied()
        })
    }

    fn may_join(&self, claim: &Claim, address: IpAddr) -> bool {
        let anywhere = self.pool_of(address).is_none_or(|pool| pool.sharing == SharingScope::Cluster);
        self.held[&address].iter().all(|hold| {
            let other = &self.services[&hold.uid];
            compatible((&claim.service, &claim.terms), (&other.service, &hold.terms), anywhere)
                && !self.disputed.contains(&(hold.uid.clone(), address))
                && hold.terms == *other.terms
        })
    }

    fn may_have(&self, claim: &Claim, address: IpAddr, adopt: bool) -> bool {
        let Some(pool) = self.pool_of(address) else { return false };
        let rules = adopt || pool.intake == Intake::Open && given(pool).contains(&address);
        if !rules || !Self::admits(pool, claim) || self.neighbour(address) {
            return false;
        }
        if self.held.contains_key(&address) {
            return self.may_join(claim, address);
        }
        self.cooling.get(&address).is_none_or(|(_, last)| *last == claim.service)
    }

    fn vacant(&self, address: IpAddr) -> bool {
        !self.held.contains_key(&address) && !self.cooling.contains_key(&address) && !self.neighbour(address)
    }

    fn candidates(&self, claim: &Claim) -> Option<Vec<&Pool>> {
        let pools = self.ordered_pools();
        let pools: Vec<&Pool> = match &claim.pool {
            PoolChoice::Any => pools.into_iter().filter(|pool| pool.auto_assign == AutoAssign::Yes).collect(),
            PoolChoice::Named(name) => vec![pools.into_iter().find(|pool| pool.name == *name)?],
        };
        Some(pools.into_iter().filter(|p| Self::admits(p, claim) && p.intake == Intake::Open).collect())
    }

    fn lowest(&self, pool: &Pool, family: Family) -> Option<IpAddr> {
        given(pool).into_iter().find(|a| Family::of(*a) == family && self.vacant(*a) && self.pool_of(*a) == Some(pool))
    }

    /// An address for each family that lacks one, or none.
    fn pick(&self, claim: &Claim, needs: &[Family]) -> BTreeMap<Family, Option<IpAddr>> {
        let mut found = BTreeMap::new();
        for family in needs {
            let strange = |shown: &IpAddr| Family::of(*shown) == *family && self.pool_of(*shown).is_none();
            if let Some(exact) = claim.exact(*family) {
                found.insert(*family, Some(exact).filter(|exact| self.may_have(claim, *exact, false)));
            } else if self.anchor(claim, *family).is_none() && claim.shown.iter().any(strange) {
                found.insert(*family, None);
            }
        }
        let pools = self.candidates(claim).unwrap_or_default();
        for family in needs {
            let joined = pools.iter().flat_map(|pool| given(pool)).find(|address| {
                Family::of(*address) == *family
                    && self.held.get(address).is_some_and(|holds| holds.iter().all(|hold| hold.uid != claim.uid))
                    && self.may_have(claim, *address, false)
            });
            if let (false, Some(address)) = (found.contains_key(family), joined) {
                found.insert(*family, Some(address));
            }
        }
        let open: Vec<Family> = needs.iter().copied().filter(|family| !found.contains_key(family)).collect();
        if let [one, other] = open[..] {
            let both = pools.iter().find_map(|p| Some([self.lowest(p, one)?, self.lowest(p, other)?]));
            if let Some([a, b]) = both {
                found.extend([(one, Some(a)), (other, Some(b))]);
            }
        }
        for family in open {
            let beside = self.anchor(claim, family.other()).and_then(|a| self.named.get(&a));
            let first = pools.iter().find(|pool| Some(&pool.name) == beside).copied();
            let lowest = first.into_iter().chain(pools.iter().copied()).find_map(|pool| self.lowest(pool, family));
            found.entry(family).or_insert(lowest);
        }
        self.within_quota(claim, needs, found)
    }

    fn used(&self, namespace: &str) -> u32 {
        let of = |hold: &Hold| *self.services[&hold.uid].service.namespace == *namespace;
        self.held.values().filter(|holds| holds.iter().any(of)).count() as u32
    }

    fn within_quota(
        &self,
        claim: &Claim,
        needs: &[Family],
        mut found: BTreeMap<Family, Option<IpAddr>>,
    ) -> BTreeMap<Family, Option<IpAddr>> {
        let own = |hold: &&Hold| self.services[&hold.uid].service.namespace == claim.service.namespace;
        let mut used = self.used(&claim.service.namespace);
        for family in needs {
            let Some(address) = found[family] else { continue };
            if self.held.get(&address).is_some_and(|holds| holds.iter().any(|hold| own(&hold))) {
                continue;
            }
            let alone = |old: IpAddr| self.held[&old].iter().filter(own).all(|hold| hold.uid == claim.uid);
            let freed = u32::from(self.anchor(claim, *family).is_some_and(alone));
            if used + 1 - freed > self.limit {
                found.insert(*family, None);
            } else {
                used += 1 - freed;
            }
        }
        found
    }

    /// Choices that nobody has seen yield to a status that shows the address, if then it may have it.
    fn evict(&mut self, claim: &Claim, address: IpAddr) {
        let unseen = |hold: &Hold| !hold.written && !self.services[&hold.uid].shows(address);
        let without = |model: &Self| Self {
            held: model.held.clone().into_iter().filter(|(a, _)| *a != address).collect(),
            ..model.clone()
        };
        if self.held.get(&address).is_some_and(|holds| holds.iter().all(unseen))
            && without(self).may_have(claim, address, true)
        {
            self.held.remove(&address);
        }
    }

    fn take(&mut self, claim: &Claim, address: IpAddr) {
        let hold = Hold { uid: claim.uid.clone(), terms: (*claim.terms).clone(), written: false };
        self.held.entry(address).or_default().push(hold);
        let name = self.pool_of(address).map(|pool| pool.name.clone()).expect("only addresses of pools are taken");
        self.named.insert(address, name);
    }

    fn give_back(&mut self, uid: &Uid, address: IpAddr) {
        let service = self.services[uid].service.clone();
        let holds = self.held.get_mut(&address).expect("it holds it");
        holds.retain(|hold| hold.uid != *uid);
        if holds.is_empty() {
            self.held.remove(&address);
            self.cooling.insert(address, (self.now, service));
            self.warm_up();
        }
    }

    /// Ends the cool-downs that are over.
    fn warm_up(&mut self) {
        let over = |model: &Self, address: &IpAddr, at: Timestamp| {
            let by_name = || model.pools.iter().find(|pool| Some(&pool.name) == model.named.get(address));
            let rest = model.pool_of(*address).or_else(by_name).map_or(Duration::ZERO, |pool| pool.cool_down);
            at.after(rest) <= model.now
        };
        let ends: Vec<IpAddr> =
            self.cooling.iter().filter(|(a, (at, _))| over(self, a, *at)).map(|(a, _)| *a).collect();
        ends.iter().for_each(|address| drop(self.cooling.remove(address)));
    }

    fn amend(&mut self, claim: &Claim) -> bool {
        let mut refused = false;
        self.disputed.retain(|(who, _)| *who != claim.uid);
        // What is being replaced goes on its old terms.
        let stays = |family: &Family| self.keeper(claim, *family).or_else(|| self.anchor(claim, *family));
        let own: Vec<IpAddr> = claim.families.wanted().iter().filter_map(stays).collect();
        for address in own {
            let anywhere = self.pool_of(address).is_none_or(|pool| pool.sharing == SharingScope::Cluster);
            let holds = self.held[&address].clone();
            let place = holds.iter().position(|hold| hold.uid == claim.uid).expect("it holds it");
            let amended = holds[place].terms != *claim.terms;
            let good =
                holds.iter().enumerate().filter(|(at, _)| *at != place && (amended || *at < place)).all(|(_, hold)| {
                    let other = &self.services[&hold.uid].service;
                    compatible((&claim.service, &claim.terms), (other, &hold.terms), anywhere)
                });
            if good {
                self.held.get_mut(&address).expect("held")[place].terms = (*claim.terms).clone();
            } else {
                self.disputed.insert((claim.uid.clone(), address));
                refused = true;
            }
        }
        refused
    }

    fn faulty(&self, claim: &Claim) -> bool {
        claim.addresses.iter().any(|address| {
            let family = Family::of(*address);
            let elsewhere = match (&claim.pool, self.pool_of(*address)) {
                (PoolChoice::Named(name), Some(pool)) => pool.name != *name,
                (PoolChoice::Any, _) | (PoolChoice::Named(_), None) => false,
            };
            !claim.families.wanted().contains(&family) || claim.exact(family) != Some(*address) || elsewhere
        })
    }

    fn settle(&mut self, uid: &Uid) {
        let claim = self.services[uid].clone();
        for family in claim.families.wanted() {
            if !self.holds(uid, *family).into_iter().any(|address| claim.shows(address)) {
                for address in claim.shown.iter().copied().filter(|shown| Family::of(*shown) == *family) {
                    if !self.may_have(&claim, address, true) {
                        self.evict(&claim, address);
                    }
                    if self.may_have(&claim, address, true) {
                        self.take(&claim, address);
                        break;
                    }
                }
            }
        }
        let mut refused = self.faulty(&claim);
        if !refused {
            let wanted = claim.families.wanted();
            let needs: Vec<Family> = wanted.iter().copied().filter(|f| self.keeper(&claim, *f).is_none()).collect();
            let found = self.pick(&claim, &needs);
            let missing = found.values().any(Option::is_none);
            refused = missing;
            if matches!(claim.families, Families::Require(_)) && missing {
                // Both or nothing: what it chose and nobody has seen goes.
                self.held.retain(|address, holds| {
                    holds.retain(|hold| hold.uid != *uid || hold.written || claim.shows(*address));
                    !holds.is_empty()
                });
            } else {
                found.into_values().flatten().for_each(|address| self.take(&claim, address));
            }
        }
        refused |= self.amend(&claim);
        if refused {
            self.refused.insert(uid.clone());
        } else {
            self.refused.remove(uid);
        }
    }

    /// Everybody, the oldest first, again from the start after each change.
    fn until_nobody_moves(&mut self) {
        let mut order: Vec<&Claim> = self.services.values().collect();
        order.sort_by_key(|claim| (claim.created, claim.service.clone(), claim.uid.clone()));
        let order: Vec<Uid> = order.into_iter().map(|claim| claim.uid.clone()).collect();
        let mut at = 0;
        while let Some(uid) = order.get(at) {
            let before = (self.held.clone(), self.disputed.clone());
            self.settle(uid);
            at = if before == (self.held.clone(), self.disputed.clone()) { at + 1 } else { 0 };
        }
    }

    /// What the status of a Service is to show.
    fn ingress(&self, claim: &Claim) -> Vec<IpAddr> {
        let wanted = claim.families.wanted();
        let anchors: Vec<Option<IpAddr>> = wanted.iter().map(|family| self.anchor(claim, *family)).collect();
        let partial = matches!(claim.families, Families::Require(_)) && anchors.contains(&None);
        let mut ingress = Vec::new();
        for (family, anchor) in wanted.iter().zip(anchors) {
            match anchor {
                Some(address) => ingress.extend(Some(address).filter(|a| !partial || claim.shows(*a))),
                None => ingress.extend(
                    claim
                        .shown
                        .iter()
                        .copied()
                        .filter(|shown| Family::of(*shown) == *family && self.pool_of(*shown).is_none()),
                ),
            }
        }
        ingress
    }

    /// Everything is written, one address after the other, then shown, one Service after the other; what is not shown any longer
    /// is given back.
    fn flush(&mut self) {
        self.until_nobody_moves();
        loop {
            let unwritten = |holds: &Vec<Hold>| holds.iter().any(|hold| !hold.written);
            let chosen: Vec<IpAddr> = self.held.iter().filter(|(_, h)| unwritten(h)).map(|(a, _)| *a).collect();
            for address in chosen {
                self.write(address);
            }
            let due: Vec<Uid> =
                self.services.values().filter(|c| self.ingress(c) != c.shown).map(|c| c.uid.clone()).collect();
            if due.is_empty() && !self.held.values().any(unwritten) {
                return;
            }
            for uid in due {
                let ingress = self.ingress(&self.services[&uid]);
                self.services.get_mut(&uid).expect("it is there").shown.clone_from(&ingress);
                for family in [Family::V4, Family::V6] {
                    let claim = self.services[&uid].clone();
                    for address in self.holds(&uid, family) {
                        let kept = ingress.contains(&address) || !self.hold(&uid, address).written;
                        if !kept || !claim.families.wanted().contains(&family) {
                            self.give_back(&uid, address);
                        }
                    }
                }
                self.until_nobody_moves();
            }
        }
    }

    /// The choice of an address is written down. Whose status shows what it should gives back what that replaced unseen.
    fn write(&mut self, address: IpAddr) {
        let Some(holds) = self.held.get_mut(&address) else { return };
        let fresh: Vec<Uid> = holds.iter().filter(|hold| !hold.written).map(|hold| hold.uid.clone()).collect();
        holds.iter_mut().for_each(|hold| hold.written = true);
        self.cooling.remove(&address);
        for uid in fresh {
            let claim = self.services[&uid].clone();
            if self.ingress(&claim) != claim.shown {
                continue;
            }
            for family in claim.families.wanted() {
                let keeper = self.keeper(&claim, *family).filter(|keeper| self.hold(&uid, *keeper).written);
                for other in self.holds(&uid, *family) {
                    let replaced = keeper.is_some_and(|keeper| keeper != other);
                    if replaced && self.hold(&uid, other).written && !claim.shows(other) {
                        self.give_back(&uid, other);
                    }
                }
            }
        }
        self.until_nobody_moves();
    }

    fn drop_service(&mut self, uid: &Uid) {
        for family in [Family::V4, Family::V6] {
            for address in self.holds(uid, family) {
                self.give_back(uid, address);
            }
        }
        self.services.remove(uid);
        self.refused.remove(uid);
        self.disputed.retain(|(who, _)| who != uid);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Put(new) => {
                let mut new = new.clone();
                match self.services.get(&new.uid) {
                    Some(before) => new.shown.clone_from(&before.shown),
                    None => drop(self.foreign.remove(&new.uid)),
                }
                let uid = new.uid.clone();
                self.services.insert(uid.clone(), new);
                self.settle(&uid);
            }
            Step::Delete(service) => {
                let uid = claim(service).uid;
                self.foreign.remove(&uid);
                if self.services.contains_key(&uid) {
                    self.drop_service(&uid);
                }
            }
            Step::Foreign(service, addresses) => {
                let uid = claim(service).uid;
                if self.services.contains_key(&uid) {
                    self.drop_service(&uid);
                }
                self.foreign.insert(uid, ips(addresses).into_iter().collect());
            }
            Step::Pools(pools) => {
                self.pools.clone_from(pools);
                let known: Vec<IpAddr> = self.held.keys().chain(self.cooling.keys()).copied().collect();
                for address in known {
                    if let Some(name) = self.pool_of(address).map(|pool| pool.name.clone()) {
                        self.named.insert(address, name);
                    }
                }
                self.warm_up();
            }
            Step::Nodes(nodes) => self.nodes = ips(nodes).into_iter().collect(),
            Step::Quota(limit) => self.limit = *limit,
            Step::Pass(seconds) => {
                self.now = self.now.after(Duration::from_secs(*seconds));
                self.warm_up();
            }
            Step::Restart => {}
        }
        self.flush();
    }
}

const SERVICES: [&str; 7] = ["web/a", "web/b", "web/c", "web/d", "db/a", "db/b", "db/c"];
const V4: [&str; 9] =
    ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.254", "10.0.0.255", "10.0.1.0", "10.0.1.1", "10.0.2.1", "192.0.2.1"];
const V6: [&str; 3] = ["2001:db8::1", "2001:db8::2", "2001:db8:1::1"];

fn pools() -> impl Strategy<Value = Vec<Pool>> {
    // What each pool may be made of: disjoint between pools, but for names that change.
    let parts = [
        "10.0.0.1-10.0.0.2",
        "10.0.0.3",
        "10.0.0.254-10.0.1.1",
        "10.0.2.1",
        "2001:db8::1-2001:db8::2",
        "2001:db8:1::1",
    ];
    let rest = (select(&[0u64, 0, 5, 20]), 0..8u8, 0..6u8, 0..4u8, any::<bool>());
    let one = (0..3u32, rest).prop_map(|(priority, (cool, admission, auto, scope, edges))| {
        let mut pool = pool("", "");
        pool.priority = priority;
        pool.cool_down = Duration::from_secs(cool);
        pool.intake = if admission == 0 { Intake::Draining } else { Intake::Open };
        if admission == 1 {
            pool.admission.namespaces = ["db".into()].into();
        }
        pool.auto_assign = if auto == 0 { AutoAssign::OnRequest } else { AutoAssign::Yes };
        pool.sharing = if scope == 0 { SharingScope::Cluster } else { SharingScope::Namespace };
        pool.edges = if edges { Edges::KeptOut } else { Edges::Given };
        if scope == 1 {
            pool.kept_out = vec![(ip("10.0.0.2"), ip("10.0.0.2"))];
        }
        pool
    });
    (vec(one, 3), vec(0..4usize, parts.len())).prop_map(move |(mut pools, owners)| {
        for (pool, name) in pools.iter_mut().zip(["x", "y", "z"]) {
            pool.name = name.into();
        }
        for (part, owner) in parts.iter().zip(owners) {
            if let Some(owner) = pools.get_mut(owner) {
                owner.ranges.extend(pool("", part).ranges);
            }
        }
        pools.retain(|pool| !pool.ranges.is_empty());
        pools
    })
}

fn a_claim() -> impl Strategy<Value = Claim> {
    let families = select(&[
        Families::Single(Family::V4),
        Families::Single(Family::V4),
        Families::Single(Family::V6),
        Families::Prefer(Family::V4),
        Families::Prefer(Family::V6),
        Families::Require(Family::V4),
    ]);
    let exact = prop_oneof![6 => Just(vec![]), 2 => vec(select(&V4), 1), 1 => (select(&V4), select(&V6)).prop_map(|(a, b)| vec![a, b])];
    let key = prop_oneof![3 => Just(""), 2 => Just("k"), 1 => Just("j")];
    let ports = btree_set(select(&[80u16, 81, 82]), 1..3);
    let pool = prop_oneof![5 => Just(""), 1 => select(&["x", "y", "z"])];
    let backend = prop_oneof![4 => Just(None), 1 => select(&["app=x", "app=y", ""]).prop_map(Some)];
    let shown = prop_oneof![3 => Just(""), 1 => select(&V4), 1 => select(&V6)];
    let others = (pool, backend, shown, 0..6u8);
    (select(&SERVICES), families, exact, key, ports, others).prop_map(
        |(service, families, exact, key, ports, others)| {
            let (pool, backend, shown, renumber) = others;
            let ports: Vec<u16> = ports.into_iter().collect();
            let mut new = claim(service).families(families).exact(&exact.join(" "));
            // Age belongs to the object: the same Service always has the same.
            new.created = at(if service.ends_with('c') { 0 } else { 1 });
            if key.is_empty() {
                std::sync::Arc::make_mut(&mut new.terms).ports = tcp(&ports);
            } else {
                new = new.shared(key, &ports);
            }
            if let Some(selector) = backend {
                new = new.local(selector);
            }
            if !pool.is_empty() {
                new = new.from(pool);
            }
            if renumber == 0 {
                new = new.renumbered();
            }
            new.showing(shown)
        },
    )
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        pools()
            .prop_map(|pools| Self {
                now: at(0),
                pools,
                nodes: BTreeSet::new(),
                limit: 100,
                foreign: BTreeMap::new(),
                services: BTreeMap::new(),
                held: BTreeMap::new(),
                named: BTreeMap::new(),
                cooling: BTreeMap::new(),
                refused: BTreeSet::new(),
                disputed: BTreeSet::new(),
            })
            .boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Step> {
        prop_oneof![
            12 => a_claim().prop_map(Step::Put),
            4 => select(&SERVICES).prop_map(Step::Delete),
            1 => (select(&SERVICES), select(&["", "10.0.0.1", "10.0.2.1 10.0.0.3", "2001:db8::1"]))
                .prop_map(|(service, addresses)| Step::Foreign(service, addresses)),
            2 => pools().prop_map(Step::Pools),
            1 => select(&["", "10.0.0.1", "10.0.0.3 2001:db8::1"]).prop_map(Step::Nodes),
            1 => select(&[1u32, 2, 3, 100]).prop_map(Step::Quota),
            2 => select(&[1u64, 5, 20]).prop_map(Step::Pass),
            2 => Just(Step::Restart),
        ]
        .boxed()
    }

    fn apply(mut state: Self, step: &Step) -> Self {
        state.step(step);
        state
    }
}

/// The allocator in a world without faults.
struct Real;

impl StateMachineTest for Real {
    type SystemUnderTest = World;
    type Reference = Model;

    fn init_test(model: &Model) -> World {
        let mut world = World::new(model.pools.clone());
        world.set_quotas(Quotas { default: Quota::Addresses(model.limit), namespaces: BTreeMap::new() });
        world
    }

    fn apply(mut world: World, _: &Model, step: Step) -> World {
        match step {
            Step::Put(mut new) => {
                if world.services.contains_key(&new.uid) {
                    new.shown = Vec::new();
                }
                world.put(new);
            }
            Step::Delete(service) => world.delete(service),
            Step::Foreign(service, addresses) => world.put_foreign(service, addresses),
            Step::Pools(pools) => world.set_pools(pools),
            Step::Nodes(nodes) => world.set_nodes(nodes),
            Step::Quota(limit) => {
                world.set_quotas(Quotas { default: Quota::Addresses(limit), namespaces: BTreeMap::new() });
            }
            Step::Pass(seconds) => world.pass(seconds),
            Step::Restart => world.restart(),
        }
        world
    }

    fn check_invariants(world: &World, model: &Model) {
        for (uid, claim) in &model.services {
            let shown = &world.services[uid].shown;
            assert_eq!(
                *shown,
                claim.shown,
                "{}; refused: {}",
                claim.service,
                world.refusals(&claim.service.to_string())
            );
            let refused = !world.allocator.status(uid).expect("it is served").refusals.is_empty();
            assert_eq!(
                refused,
                model.refused.contains(uid),
                "{}: {}",
                claim.service,
                world.refusals(&claim.service.to_string())
            );
        }
        assert_eq!(world.services.len(), model.services.len());
        for (address, record) in &world.records {
            match &record.tenure {
                Tenure::Held(holders) => {
                    let own: Vec<(Uid, Terms)> = holders.iter().map(|h| (h.uid.clone(), (*h.terms).clone())).collect();
                    let theirs: Vec<(Uid, Terms)> =
                        model.held[address].iter().map(|hold| (hold.uid.clone(), hold.terms.clone())).collect();
                    assert_eq!(own, theirs, "{address}");
                    assert_eq!(Some(&record.pool), model.named.get(address));
                }
                Tenure::Released { at, last } => {
                    assert_eq!(model.cooling.get(address), Some(&(*at, last.clone())), "{address}");
                }
            }
        }
        assert_eq!(world.records.len(), model.held.len() + model.cooling.len());
        for usage in world.allocator.usage() {
            let pool = model.pools.iter().find(|pool| pool.name == usage.pool).expect("it is a pool");
            let own: Vec<IpAddr> = given(pool).into_iter().filter(|a| Family::of(*a) == usage.family).collect();
            let count = |is: &dyn Fn(&IpAddr) -> bool| own.iter().filter(|address| is(address)).count() as u64;
            assert_eq!(usage.total, own.len() as u128);
            assert_eq!(usage.held, count(&|a| model.held.contains_key(a)));
            assert_eq!(usage.cooling, count(&|a| model.cooling.contains_key(a)));
            assert_eq!(usage.vacant, u128::from(count(&|a| model.vacant(*a))));
        }
    }
}

proptest_state_machine::prop_state_machine! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_ends_where_the_model_says(sequential 1..40 => Real);
}
