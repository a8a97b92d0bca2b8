//! From view and policy to routes, at the price of what changed.

use super::cluster::{ClusterView, Node, NodeName, Service, ServiceKey};
use super::policy::{NodeAddresses, Policy};
use super::select::{
    Grade, PoolIndex, Reason, applicable, grade, in_service, is_destination, joined, ours, session, under,
};
use crate::rib::{Attributes, RouteSet};
use crate::wire::Prefix;
use imbl::ordmap::DiffItem;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// The routes of every peer of this node. A peer that this node has no session with is absent; so is every peer while
/// the view does not hold the node, because nothing is known of its labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// By peer name.
    pub routes: BTreeMap<Arc<str>, RouteSet>,
    /// The addresses among them that lie in no pool of today, see [`super::Place::OutsidePool`].
    pub retained: imbl::OrdSet<IpAddr>,
}

/// Remembers the last view and policy, so that the next plan costs what changed. Equal to a plan from scratch, always.
#[derive(Debug, Clone, Default)]
pub struct Planner {
    last: Option<Last>,
}

/// The last plan and what it was made of.
#[derive(Debug, Clone)]
struct Last {
    view: ClusterView,
    policy: Arc<Policy>,
    here: NodeName,
    standpoint: Standpoint,
    claims: BTreeMap<IpAddr, Claims>,
    /// How many Nodes have an address.
    node_addresses: BTreeMap<IpAddr, u32>,
    plan: Plan,
}

/// How many services claim an address: all of them, and among them those to which an allocator gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Claims {
    all: Counts,
    given: Counts,
}

/// How many services, a grade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counts {
    bare: u32,
    served: u32,
}

/// A service's claim to an address.
#[derive(Debug, Clone, Copy)]
struct Claim {
    address: IpAddr,
    grade: Grade,
    origin: Origin,
}

/// Where a service has an address from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// An allocator of herald gave it.
    Given,
    /// Its status shows it.
    Shown,
}

/// What policy and node say, whatever the services do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Standpoint {
    pools: PoolIndex,
    /// For every peer with a session, for every pool, and last for those that the file has no longer.
    peers: BTreeMap<Arc<str>, Vec<Terms>>,
}

/// What a route of one pool carries to one peer; `None`: it is not announced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Terms {
    bare: Option<Arc<Attributes>>,
    served: Option<Arc<Attributes>>,
}

impl Planner {
    /// The plan of `node` for this view and policy.
    pub fn plan(&mut self, view: &ClusterView, policy: &Arc<Policy>, node: &str) -> Plan {
        let last = match self.last.take() {
            Some(mut last) if last.is_of(policy, node) => {
                last.advance(view);
                last
            }
            Some(other) => Last::begin(view, policy, node, other.plan, &other.standpoint),
            None => Last::begin(view, policy, node, Plan::default(), &Standpoint::default()),
        };
        self.last.insert(last).plan.clone()
    }
}

impl Last {
    fn is_of(&self, policy: &Arc<Policy>, node: &str) -> bool {
        *self.here == *node && (Arc::ptr_eq(&self.policy, policy) || self.policy == *policy)
    }

    /// A plan from scratch. What it shares with the `held` plan stays the same memory, so that a diff skips it.
    fn begin(view: &ClusterView, policy: &Arc<Policy>, node: &str, held: Plan, before: &Standpoint) -> Self {
        let mut this = Self {
            view: view.clone(),
            policy: Arc::clone(policy),
            here: node.into(),
            standpoint: Standpoint::new(policy, node, view.nodes.get(node).map(Arc::as_ref), before),
            claims: BTreeMap::new(),
            node_addresses: BTreeMap::new(),
            plan: held,
        };
        for (key, service) in &view.services {
            for claim in wishes(&this.standpoint.pools, policy, &this.here, view, key, service) {
                this.claims.entry(claim.address).or_default().add(claim);
            }
        }
        for address in view.nodes.values().flat_map(|node| node.addresses()) {
            *this.node_addresses.entry(address).or_default() += 1;
        }
        this.settle_all();
        this
    }

    fn advance(&mut self, view: &ClusterView) {
        let node = self.here.clone();
        let mut touched = self.recount(view);
        touched.extend(self.recount_nodes(view));
        let same_node = self.view.nodes.get(&node) == view.nodes.get(&node);
        self.view = view.clone();
        if !same_node {
            let this = view.nodes.get(&node).map(Arc::as_ref);
            let standpoint = Standpoint::new(&self.policy, &node, this, &self.standpoint);
            if standpoint != self.standpoint {
                self.standpoint = standpoint;
                return self.settle_all();
            }
        }
        touched.into_iter().for_each(|address| self.settle(address));
    }

    /// Brings `claims` from the old view to the new one; the addresses whose claims were touched.
    fn recount(&mut self, view: &ClusterView) -> BTreeSet<IpAddr> {
        let mut touched = BTreeSet::new();
        for key in changed_keys(&self.view, view) {
            let (pools, policy, here) = (&self.standpoint.pools, &self.policy, &self.here);
            if let Some(service) = self.view.services.get(&key) {
                for claim in wishes(pools, policy, here, &self.view, &key, service) {
                    self.claims.entry(claim.address).or_default().remove(claim);
                    touched.insert(claim.address);
                }
            }
            if let Some(service) = view.services.get(&key) {
                for claim in wishes(pools, policy, here, view, &key, service) {
                    self.claims.entry(claim.address).or_default().add(claim);
                    touched.insert(claim.address);
                }
            }
        }
        for address in &touched {
            if self.claims.get(address).is_some_and(|claims| claims.all.grade().is_none()) {
                self.claims.remove(address);
            }
        }
        touched
    }

    /// Brings `node_addresses` from the old view to the new one; the addresses that came or went, all Nodes together.
    fn recount_nodes(&mut self, view: &ClusterView) -> BTreeSet<IpAddr> {
        let mut touched = BTreeSet::new();
        if self.view.nodes.ptr_eq(&view.nodes) {
            return touched;
        }
        for item in self.view.nodes.diff(&view.nodes) {
            let (old, new) = match item {
                DiffItem::Add(_, new) => (None, Some(new)),
                DiffItem::Remove(_, old) => (Some(old), None),
                DiffItem::Update { old: (_, old), new: (_, new) } => (Some(old), Some(new)),
            };
            for address in new.into_iter().flat_map(|node| node.addresses()) {
                *self.node_addresses.entry(address).or_default() += 1;
                touched.insert(address);
            }
            for address in old.into_iter().flat_map(|node| node.addresses()) {
                let count = self.node_addresses.entry(address).or_default();
                *count = count.checked_sub(1).expect("what a Node had under the old view was counted then");
                if *count == 0 {
                    self.node_addresses.remove(&address);
                }
                touched.insert(address);
            }
        }
        touched
    }

    /// The best claim to an address. To a Node's, only that of who was given it counts, unless its pool says otherwise.
    fn grade(&self, address: IpAddr) -> Option<Grade> {
        let claims = self.claims.get(&address)?;
        let open = match self.standpoint.pools.find(address) {
            Ok(pool) => self.standpoint.pools.node_addresses(pool),
            Err(_) => NodeAddresses::Never,
        };
        match (self.node_addresses.contains_key(&address), open) {
            (true, NodeAddresses::Never) => claims.given.grade(),
            (true, NodeAddresses::Announced) | (false, _) => claims.all.grade(),
        }
    }

    /// Makes the route of one address right towards every peer.
    fn settle(&mut self, address: IpAddr) {
        let prefix = Prefix::host(address);
        let grade = self.grade(address);
        let pool = match (self.standpoint.pools.find(address), grade) {
            (Ok(pool), _) => {
                self.plan.retained.remove(&address);
                Some(pool)
            }
            // Claimed outside of the pools: by one to whom it was given.
            (Err(Reason::OutsidePools { .. }), Some(_)) => {
                self.plan.retained.insert(address);
                self.view.grants.get(&address).map(|grant| self.standpoint.pools.slot(&grant.pool))
            }
            (Err(_), _) => {
                self.plan.retained.remove(&address);
                None
            }
        };
        for (peer, routes) in &mut self.plan.routes {
            let terms = pool.and_then(|pool| self.standpoint.peers.get(peer)?.get(pool));
            match (terms.and_then(|terms| terms.under(grade?)), routes.attributes(&prefix)) {
                (Some(wanted), Some(held)) if wanted == held => {}
                (Some(wanted), Some(_) | None) => routes.insert(prefix, Arc::clone(wanted)),
                (None, Some(_)) => routes.remove(&prefix),
                (None, None) => {}
            }
        }
    }

    fn settle_all(&mut self) {
        self.plan.routes.retain(|peer, _| self.standpoint.peers.contains_key(peer));
        for peer in self.standpoint.peers.keys() {
            self.plan.routes.entry(Arc::clone(peer)).or_default();
        }
        let held = self.plan.routes.values().flat_map(|routes| routes.iter().map(|(prefix, _)| prefix.address()));
        let held = held.chain(self.plan.retained.iter().copied());
        let unclaimed: BTreeSet<IpAddr> = held.filter(|address| !self.claims.contains_key(address)).collect();
        let claimed: Vec<IpAddr> = self.claims.keys().copied().collect();
        claimed.into_iter().chain(unclaimed).for_each(|address| self.settle(address));
    }
}

/// The addresses that a service wants announced from here, where policy allows: those in a pool, and those it was given.
fn wishes<'a>(
    pools: &'a PoolIndex,
    policy: &Policy,
    here: &'a NodeName,
    view: &'a ClusterView,
    key: &'a ServiceKey,
    service: &'a Service,
) -> impl Iterator<Item = Claim> + use<'a> {
    let endpoints = view.endpoints.get(key).map(Arc::as_ref);
    let entries =
        ours(policy, key, service).ok().map(|()| service.ingress.iter().filter(|entry| is_destination(entry)));
    let may = move |address: IpAddr| match pools.find(address) {
        Ok(_) => true,
        Err(Reason::OutsidePools { .. }) => view.granted(key, service, address).is_some(),
        Err(_) => false,
    };
    entries.into_iter().flatten().filter(move |entry| may(entry.ip)).filter_map(move |entry| {
        let origin = match view.granted(key, service, entry.ip) {
            Some(_) => Origin::Given,
            None => Origin::Shown,
        };
        Some(Claim { address: entry.ip, grade: grade(key, service, endpoints, entry.ip, here).ok()?, origin })
    })
}

impl Claims {
    fn add(&mut self, claim: Claim) {
        *self.all.slot(claim.grade) += 1;
        if claim.origin == Origin::Given {
            *self.given.slot(claim.grade) += 1;
        }
    }

    fn remove(&mut self, claim: Claim) {
        self.all.remove(claim.grade);
        if claim.origin == Origin::Given {
            self.given.remove(claim.grade);
        }
    }
}

impl Counts {
    fn slot(&mut self, grade: Grade) -> &mut u32 {
        match grade {
            Grade::Bare => &mut self.bare,
            Grade::Served => &mut self.served,
        }
    }

    fn remove(&mut self, grade: Grade) {
        let slot = self.slot(grade);
        *slot = slot.checked_sub(1).expect("what a service claimed under the old view was counted then");
    }

    /// The best claim: the address is announced where any of its services wants it.
    fn grade(&self) -> Option<Grade> {
        match (self.served, self.bare) {
            (1.., _) => Some(Grade::Served),
            (0, 1..) => Some(Grade::Bare),
            (0, 0) => None,
        }
    }
}

impl Terms {
    fn under(&self, grade: Grade) -> Option<&Arc<Attributes>> {
        match grade {
            Grade::Bare => self.bare.as_ref(),
            Grade::Served => self.served.as_ref(),
        }
    }
}

impl Standpoint {
    /// Attributes that were in use `before` are used again, so that equal policy is one value.
    fn new(policy: &Policy, name: &str, node: Option<&Node>, before: &Standpoint) -> Self {
        let mut shared = Shared::of(before);
        let pools = PoolIndex::new(policy);
        let sessions = |peer: &&Arc<str>| node.is_some_and(|node| session(policy, name, node, peer).is_ok());
        let peers = policy.peers.keys().filter(sessions).map(|peer| {
            let terms = |pool| {
                let node = node?;
                in_service(policy, name, node).ok()?;
                let all = applicable(policy, name, node, peer, pool).ok()?;
                let mut attributes = |grade| {
                    let remaining = under(grade, all.clone());
                    (!remaining.is_empty()).then(|| shared.one(joined(&remaining)))
                };
                Some(Terms { bare: attributes(Grade::Bare), served: attributes(Grade::Served) })
            };
            let gone = Arc::from("");
            let pools = pools.names().iter().chain([&gone]);
            (Arc::clone(peer), pools.map(terms).map(Option::unwrap_or_default).collect())
        });
        let peers = peers.collect();
        Self { pools, peers }
    }
}

/// One value for equal attributes.
struct Shared(BTreeSet<Arc<Attributes>>);

impl Shared {
    fn of(standpoint: &Standpoint) -> Self {
        let terms = standpoint.peers.values().flatten();
        Self(terms.flat_map(|terms| [&terms.bare, &terms.served]).flatten().map(Arc::clone).collect())
    }

    fn one(&mut self, attributes: Attributes) -> Arc<Attributes> {
        match self.0.get(&attributes) {
            Some(known) => Arc::clone(known),
            None => {
                let new = Arc::new(attributes);
                self.0.insert(Arc::clone(&new));
                new
            }
        }
    }
}

/// Services of which anything changed: themselves, their endpoints, or what was given to them.
fn changed_keys(old: &ClusterView, new: &ClusterView) -> BTreeSet<ServiceKey> {
    let mut keys = BTreeSet::new();
    if !old.services.ptr_eq(&new.services) {
        keys.extend(old.services.diff(&new.services).map(|item| changed_key(&item).clone()));
    }
    if !old.endpoints.ptr_eq(&new.endpoints) {
        keys.extend(old.endpoints.diff(&new.endpoints).map(|item| changed_key(&item).clone()));
    }
    if !old.grants.ptr_eq(&new.grants) {
        let both = old.grants.diff(&new.grants).flat_map(|item| match item {
            DiffItem::Add(_, grant) | DiffItem::Remove(_, grant) => [Some(grant), None],
            DiffItem::Update { old: (_, old), new: (_, new) } => [Some(old), Some(new)],
        });
        keys.extend(both.flatten().flat_map(|grant| grant.holders.iter().map(|(key, _)| key.clone())));
    }
    keys
}

fn changed_key<'a, V>(item: &DiffItem<'a, 'a, ServiceKey, V>) -> &'a ServiceKey {
    match item {
        DiffItem::Add(key, _) | DiffItem::Remove(key, _) => key,
        DiffItem::Update { new: (key, _), .. } => key,
    }
}
