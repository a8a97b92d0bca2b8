//! What the allocator knows and has to do. Synchronous and without the API: news comes in, errands go out, and what became of
//! each comes back. Who gets what is the business of [`crate::ipam`]; whose a Service is, and what is news, is decided here.
//!
//! # Old news
//!
//! An answer to a write of ours may overtake the watch, which then tells of older states. They are recognised by their
//! resourceVersion: within one watch it only grows. A list is another beginning (an etcd that was put back to an older state
//! counts from lower again): it is believed as it stands, but for what was written since it began.

mod allocations;
mod errands;
mod letters;
mod missing;
mod overlaps;
mod services;
mod surroundings;
#[cfg(test)]
mod tests;

use super::allocation::Allocation;
use super::due::{Due, Key};
use super::follow::Told;
use super::releases::Releases;
use super::request::{NamespaceForm, NodeForm, ServiceCidrForm, ServiceForm, Sighting};
use super::telling::{Cleanup, NOTICES, Notice, irregularity};
use crate::advertise::Limits;
use crate::advertise::policy::Classless;
use crate::config;
use crate::ipam::{
    Allocator, Claim, Foreign, Holder, Labels, Record, ServiceName, Start, Tenure, Timestamp, Uid, Usage,
};
use crate::wire::Prefix;
use allocations::held_by_nobody_knows_whom;
use letters::Letter;
use missing::releases_after;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::info;

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Services of type LoadBalancer.
    Services,
    /// Nodes.
    Nodes,
    /// Namespaces.
    Namespaces,
    /// `Allocation`s.
    Allocations,
    /// ServiceCIDRs, only to say that a pool overlaps one. Older servers have none.
    ServiceCidrs,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Services, Self::Nodes, Self::Namespaces, Self::Allocations, Self::ServiceCidrs];
    /// Those that must have been listed before anything is given.
    const NEEDED: [Self; 4] = [Self::Services, Self::Nodes, Self::Namespaces, Self::Allocations];

    /// One of them, as a manifest writes it.
    pub fn object(self) -> &'static str {
        match self {
            Self::Services => "Service",
            Self::Nodes => "Node",
            Self::Namespaces => "Namespace",
            Self::Allocations => "Allocation",
            Self::ServiceCidrs => "ServiceCIDR",
        }
    }

    /// As labels of metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Nodes => "nodes",
            Self::Namespaces => "namespaces",
            Self::Allocations => "allocations",
            Self::ServiceCidrs => "servicecidrs",
        }
    }
}

/// What a follower told.
#[derive(Debug)]
pub enum News {
    /// About Services.
    Service(Told<ServiceForm>),
    /// About Nodes.
    Node(Told<NodeForm>),
    /// About Namespaces.
    Namespace(Told<NamespaceForm>),
    /// About `Allocation`s.
    Allocation(Told<Allocation>),
    /// About ServiceCIDRs.
    ServiceCidr(Told<ServiceCidrForm>),
}

/// What the configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Pools and quotas.
    pub allocation: Arc<config::Allocation>,
    /// Whether a Service that names no class is ours.
    pub classless: Classless,
    /// Whether Services get a finalizer.
    pub cleanup: Cleanup,
    /// How much may be released of what a list no longer has.
    pub guard: Limits,
}

/// What a node takes of the addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Footprint {
    addresses: BTreeSet<IpAddr>,
    pod_cidrs: Vec<Prefix>,
}

/// The moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// For what is written down.
    pub civil: Timestamp,
    /// For pauses.
    pub clock: Instant,
}

/// Figures for people and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Every pool and family, in the order in which they are asked.
    pub pools: Vec<Usage>,
    /// Services that have all they ask for.
    pub served: usize,
    /// Services that lack something.
    pub waiting: usize,
    /// Writes that wait or are on their way.
    pub writes: usize,
    /// Addresses that no pool would give today, and that stay.
    pub irregular: Vec<Irregular>,
    /// What is doubtful about the pools in this cluster, in words.
    pub doubts: Vec<String>,
}

/// An address that stays although no pool would give it to its Service today.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Irregular {
    /// Whose it is.
    pub service: ServiceName,
    /// The address.
    pub address: IpAddr,
    /// The pool that it was given from.
    pub pool: Arc<str>,
    /// Why it would not be given, in one word, as the condition says it.
    pub reason: &'static str,
}

/// An `Allocation` as the API server is known to have it.
#[derive(Debug, Clone)]
enum Known {
    At(String),
    Deleted(String),
}

impl Known {
    fn version(&self) -> &str {
        match self {
            Self::At(version) | Self::Deleted(version) => version,
        }
    }
}

/// A list of one kind, and what was written by us since it began.
#[derive(Debug)]
struct List<T> {
    stage: Stage,
    items: Vec<T>,
    /// Names, or UIDs of Services, of what is on the list and cannot be read.
    unreadable: BTreeSet<String>,
    written: BTreeSet<Key>,
}

/// Whether a list is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Closed,
    Open,
}

impl<T> List<T> {
    fn new(stage: Stage) -> Self {
        Self { stage, items: Vec::new(), unreadable: BTreeSet::new(), written: BTreeSet::new() }
    }

    /// Begins it anew.
    fn begin(&mut self) {
        *self = Self::new(Stage::Open);
    }

    /// Ends it.
    fn end(&mut self) -> Self {
        std::mem::replace(self, Self::new(Stage::Closed))
    }

    /// Notes that an object on the list cannot be read: what is known of it stays.
    fn note_unreadable(&mut self, name: String) {
        match self.stage {
            Stage::Open => drop(self.unreadable.insert(name)),
            Stage::Closed => {}
        }
    }

    /// Notes a write of ours: what the list says about it may be older.
    fn note_write(&mut self, key: Key) {
        match self.stage {
            Stage::Open => drop(self.written.insert(key)),
            Stage::Closed => {}
        }
    }
}

/// How often somebody took our addresses out of a Service's status.
#[derive(Debug, Clone, Copy)]
struct Contest {
    losses: u32,
    last: Instant,
}

/// Everything.
#[derive(Debug)]
pub struct Desk {
    rules: Rules,
    services: BTreeMap<Uid, Sighting>,
    nodes: BTreeMap<Arc<str>, Footprint>,
    service_cidrs: BTreeMap<Arc<str>, Vec<Prefix>>,
    /// What is doubtful about the pools in this cluster.
    doubts: Vec<String>,
    labels: BTreeMap<Arc<str>, Arc<Labels>>,
    known: BTreeMap<IpAddr, Known>,
    /// What was told of addresses while a write of ours was on its way.
    deferred: BTreeMap<IpAddr, (Option<Record>, Known)>,
    /// Addresses of which nobody knows what became of a write: they are read before anything else is written.
    uncertain: BTreeSet<IpAddr>,
    /// Addresses whose `Allocation` cannot be read: nothing is written there.
    left_alone: BTreeSet<IpAddr>,
    first_records: Vec<Record>,
    listed_services: List<Sighting>,
    listed_nodes: List<NodeForm>,
    listed_namespaces: List<NamespaceForm>,
    listed_allocations: List<Allocation>,
    listed_service_cidrs: List<ServiceCidrForm>,
    complete: BTreeSet<Kind>,
    allocator: Option<Allocator>,
    letters: BTreeMap<Uid, Letter>,
    /// Who is missing from a list, and was not told to be deleted.
    releases: Releases,
    due: Due,
    notices: VecDeque<Notice>,
    /// The reasons of refusals that were told.
    refused: BTreeMap<Uid, String>,
    /// What of a request cannot be read, as it was told.
    unclear: BTreeMap<Uid, String>,
    contests: BTreeMap<Uid, Contest>,
    remains: BTreeMap<Uid, ServiceName>,
}

impl Desk {
    /// Nothing known yet.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            services: BTreeMap::new(),
            nodes: BTreeMap::new(),
            service_cidrs: BTreeMap::new(),
            doubts: Vec::new(),
            labels: BTreeMap::new(),
            known: BTreeMap::new(),
            deferred: BTreeMap::new(),
            uncertain: BTreeSet::new(),
            left_alone: BTreeSet::new(),
            first_records: Vec::new(),
            listed_services: List::new(Stage::Closed),
            listed_nodes: List::new(Stage::Closed),
            listed_namespaces: List::new(Stage::Closed),
            listed_allocations: List::new(Stage::Closed),
            listed_service_cidrs: List::new(Stage::Closed),
            complete: BTreeSet::new(),
            allocator: None,
            letters: BTreeMap::new(),
            releases: Releases::default(),
            due: Due::default(),
            notices: VecDeque::new(),
            refused: BTreeMap::new(),
            unclear: BTreeMap::new(),
            contests: BTreeMap::new(),
            remains: BTreeMap::new(),
        }
    }

    /// Whether every watch has synced and everything that is there was adopted.
    pub fn has_begun(&self) -> bool {
        self.allocator.is_some()
    }

    /// The configuration is now this.
    pub fn configure(&mut self, rules: Rules, now: Moment) {
        if self.rules == rules {
            return;
        }
        let before = self.reserved();
        self.rules = rules;
        let reserved = self.reserved();
        if let Some(allocator) = &mut self.allocator {
            allocator.set_quotas(self.rules.allocation.quotas.clone(), now.civil);
            // Whoever waits is served at once: no pool is open while an address is reserved in only one of the two files.
            allocator.set_nodes(before.union(&reserved).copied().collect(), now.civil);
            allocator.set_pools(self.rules.allocation.pools.clone(), now.civil);
            allocator.set_nodes(reserved, now.civil);
            for uid in self.services.keys().cloned().collect::<Vec<_>>() {
                self.judge(&uid, now);
            }
        }
        self.doubt();
        self.release(now);
        self.gather();
    }

    /// Something was told.
    pub fn take(&mut self, news: News, now: Moment) {
        match news {
            News::Service(told) => self.take_service(told, now),
            News::Node(told) => self.take_node(told, now),
            News::Namespace(told) => self.take_namespace(told, now),
            News::Allocation(told) => self.take_allocation(told, now),
            News::ServiceCidr(told) => self.take_service_cidr(told),
        }
        self.gather();
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Moment) {
        self.due.wake(now.clock);
        if let Some(allocator) = &mut self.allocator
            && allocator.next_deadline().is_some_and(|at| at <= now.civil)
        {
            allocator.tick(now.civil);
        }
        self.release(now);
        self.gather();
    }

    /// When [`Self::tick`] is due next.
    pub fn deadline(&self, now: Moment) -> Option<Instant> {
        let cool_down =
            self.allocator.as_ref().and_then(Allocator::next_deadline).map(|at| {
                now.clock + Duration::from_millis(at.unix_millis().saturating_sub(now.civil.unix_millis()) + 1)
            });
        self.due.deadline().into_iter().chain(cool_down).chain(self.releases.deadline()).min()
    }

    /// The next event to post.
    pub fn next_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Figures of this moment. Costs a look at every Service.
    pub fn figures(&self) -> Figures {
        let Some(allocator) = &self.allocator else { return Figures::default() };
        let lacks = |uid: &Uid| allocator.status(uid).is_some_and(|status| !status.refusals.is_empty());
        let (all, waiting) =
            allocator.services().fold((0, 0), |(all, waiting), (uid, _)| (all + 1, waiting + usize::from(lacks(uid))));
        let irregular = allocator.irregular().map(|(service, assigned)| Irregular {
            service: service.clone(),
            address: assigned.address,
            pool: assigned.pool,
            reason: irregularity(&assigned.standing).0,
        });
        Figures {
            pools: allocator.usage(),
            served: all - waiting,
            waiting,
            writes: self.due.count(),
            irregular: irregular.collect(),
            doubts: self.doubts.clone(),
        }
    }

    /// A kind was listed completely. With the last of them everything that is there is adopted, and giving begins.
    fn complete(&mut self, kind: Kind, now: Moment) {
        self.complete.insert(kind);
        if self.has_begun() || !Kind::NEEDED.iter().all(|kind| self.complete.contains(kind)) {
            return;
        }
        let records = std::mem::take(&mut self.first_records);
        let holders: BTreeSet<(Uid, IpAddr)> = records.iter().flat_map(holders).collect();
        self.releases = releases_after(&records, self.rules.guard.hold, now);
        // A holder who is not listed may be no load balancer any more, or not listed by mistake; one whose name another Service has
        // is gone for sure.
        let names: BTreeSet<&ServiceName> = self.services.values().map(|seen| &seen.service).collect();
        let unlisted = records.iter().flat_map(held).filter(|holder| !self.services.contains_key(&holder.uid));
        let absent: BTreeMap<Uid, ServiceName> = unlisted
            .filter(|holder| !names.contains(&holder.service))
            .map(|holder| (holder.uid.clone(), holder.service.clone()))
            .collect();
        absent.iter().for_each(|(uid, service)| self.miss(uid, service));
        let mut start = Start {
            pools: self.rules.allocation.pools.clone(),
            quotas: self.rules.allocation.quotas.clone(),
            nodes: self.reserved(),
            records,
            absent: absent.into_keys().collect(),
            ..Start::default()
        };
        for (uid, seen) in &self.services {
            match self.verdict(seen, |address| holders.contains(&(uid.clone(), address))) {
                Verdict::Serve(claim) => start.claims.push(*claim),
                Verdict::Leave(foreign) => start.foreign.push(foreign),
            }
        }
        for address in self.left_alone.iter().filter(|address| !self.known.contains_key(*address)) {
            if !start.claims.iter().any(|claim| claim.shows(*address)) {
                start.foreign.push(held_by_nobody_knows_whom(*address));
            }
        }
        info!(
            services = start.claims.len(),
            of_others = start.foreign.len(),
            allocations = start.records.len(),
            "adopting"
        );
        self.allocator = Some(Allocator::adopt(start, now.civil));
        let all = self.services.keys().cloned().map(Key::Service).collect::<Vec<_>>();
        all.into_iter().for_each(|key| self.due.add(key));
    }

    /// Takes over what the allocator says has changed.
    fn gather(&mut self) {
        let Some(allocator) = &mut self.allocator else { return };
        let changes = allocator.take_changes();
        changes.addresses.into_iter().for_each(|address| self.due.add(Key::Address(address)));
        changes.services.into_iter().for_each(|uid| self.due.add(Key::Service(uid)));
        // Whom an `Allocation` names and the watch does not: it may only be late.
        if allocator.strangers().any(|uid| !self.releases.has(uid)) {
            let strangers = allocator.unknown_holders().into_iter().filter(|holder| !self.releases.has(&holder.uid));
            for stranger in strangers.collect::<Vec<_>>() {
                self.miss(&stranger.uid, &stranger.service);
            }
        }
    }

    fn notify(&mut self, notice: Notice) {
        if self.notices.len() >= NOTICES {
            self.notices.pop_front();
        }
        self.notices.push_back(notice);
    }
}

fn holders(record: &Record) -> impl Iterator<Item = (Uid, IpAddr)> + '_ {
    held(record).iter().map(|holder| (holder.uid.clone(), record.address))
}

fn held(record: &Record) -> &[Holder] {
    match &record.tenure {
        Tenure::Held(holders) => holders,
        Tenure::Released { .. } => &[],
    }
}

/// Whether one resourceVersion is later than another of the same watch. What is no number is never stale.
fn is_newer(known: &str, told: &str) -> bool {
    matches!((known.parse::<u64>(), told.parse::<u64>()), (Ok(known), Ok(told)) if known > told)
}

/// Whose a Service is.
#[derive(Debug)]
enum Verdict {
    /// Ours to serve.
    Serve(Box<Claim>),
    /// Not ours: its addresses are taken, and it is not touched.
    Leave(Foreign),
}
