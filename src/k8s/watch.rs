//! The door to a cluster: Services of type LoadBalancer, EndpointSlices, Nodes, and the `Allocation`s of an allocator of ours,
//! watched.
//!
//! One task owns the index. The followers are polled in that same task and reach it through one small queue, so that
//! a change costs no hop between threads: the first is published at once, what arrived meanwhile is taken together.

use super::allocation::Allocation;
use super::convert::{Converter, NodeObject, ServiceObject, SliceObject};
use super::follow::{AfterBreak, Ask, Told, follow};
use super::health::{Contact, Listing, Source, SourceHealth, Vigil, WatchHealth};
use super::index::Index;
use super::object::{Key, Kind, Reading};
use crate::advertise::Observation;
use crate::condition::{Conditions, Reason};
use kube::{Api, Client};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Events between followers and owner. A full queue makes a follower wait, and through it the server.
const QUEUE: usize = 64;

/// Publishes what the cluster says until `stop`. While the API is away the last state stays, and `health` says so.
///
/// # Errors
/// None today: whatever goes wrong is tried again.
pub async fn run(
    client: Client,
    (out, accepted): (watch::Sender<Option<Arc<Observation>>>, watch::Receiver<u64>),
    (health, conditions): (watch::Sender<WatchHealth>, watch::Sender<Conditions>),
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (queue, happenings) = mpsc::channel(QUEUE);
    let services = Ask { fields: "spec.type=LoadBalancer", labels: "", after_break: AfterBreak::Resume };
    let slices = Ask { fields: "", labels: "!service.kubernetes.io/headless", after_break: AfterBreak::Resume };
    let everything = Ask { fields: "", labels: "", after_break: AfterBreak::Resume };
    let followers = async {
        tokio::join!(
            follow(Api::<ServiceObject>::all(client.clone()), services, queue.clone(), Happening::Service),
            follow(Api::<SliceObject>::all(client.clone()), slices, queue.clone(), Happening::Slice),
            follow(Api::<NodeObject>::all(client.clone()), everything, queue.clone(), Happening::Node),
            follow(Api::<Allocation>::all(client.clone()), everything, queue.clone(), Happening::Allocation),
        )
    };
    tokio::select! {
        () = stop.cancelled() => {}
        _ = followers => {}
        () = own(happenings, (out, accepted), health, conditions) => {}
    }
    Ok(())
}

/// What one of the followers told.
#[derive(Debug)]
enum Happening {
    Service(Told<ServiceObject>),
    Slice(Told<SliceObject>),
    Node(Told<NodeObject>),
    Allocation(Told<Allocation>),
}

async fn own(
    mut happenings: mpsc::Receiver<Happening>,
    (out, accepted): (watch::Sender<Option<Arc<Observation>>>, watch::Receiver<u64>),
    health: watch::Sender<WatchHealth>,
    conditions: watch::Sender<Conditions>,
) {
    let mut owner = Owner::new(Instant::now());
    health.send_replace(owner.health());
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(owner.vigil.deadline(Instant::now())) => {}
            happening = happenings.recv() => {
                let Some(first) = happening else { return };
                owner.index.accept(*accepted.borrow());
                owner.take(first);
                while let Ok(next) = happenings.try_recv() {
                    owner.take(next);
                }
                if let Some(view) = owner.index.poll_view() {
                    out.send_replace(Some(view));
                }
                // After the view: who reads "synced" finds a view.
                health.send_replace(owner.health());
            }
        }
        let now = owner.conditions(Instant::now());
        conditions.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }
}

/// The one owner of everything known about the cluster.
struct Owner {
    converter: Converter,
    index: Index,
    /// The lists that are being read.
    lists: BTreeMap<Kind, Vec<Reading>>,
    health: WatchHealth,
    vigil: Vigil<Source>,
}

impl Owner {
    fn new(now: Instant) -> Self {
        let sources = [Source::Services, Source::EndpointSlices, Source::Nodes, Source::Allocations];
        Self {
            converter: Converter::default(),
            index: Index::default(),
            lists: BTreeMap::new(),
            health: WatchHealth::of(&sources),
            vigil: Vigil::begin(sources, now),
        }
    }

    /// What is wrong with objects and watches.
    fn conditions(&self, now: Instant) -> Conditions {
        let mut all = Conditions::default();
        for (key, what) in self.converter.complaints() {
            all.set(Reason::ObjectUnreadable, &key.to_string(), what.as_str());
        }
        self.vigil.tell(&mut all, Source::as_str, now);
        all
    }

    fn take(&mut self, happening: Happening) {
        let converter = &mut self.converter;
        match happening {
            Happening::Service(told) => {
                let news = read(told, converter, Kind::Service, Converter::service);
                self.follow(Kind::Service, news);
            }
            Happening::Slice(told) => {
                let news = read(told, converter, Kind::EndpointSlice, Converter::slice);
                self.follow(Kind::EndpointSlice, news);
            }
            Happening::Node(told) => {
                let news = read(told, converter, Kind::Node, Converter::node);
                self.follow(Kind::Node, news);
            }
            Happening::Allocation(told) => {
                let news = read(told, converter, Kind::Allocation, Converter::allocation);
                self.follow(Kind::Allocation, news);
            }
        }
    }

    fn follow(&mut self, kind: Kind, news: News) {
        let now = Instant::now();
        let source = self.health.sources.entry(source_of(kind)).or_default();
        match news {
            News::Failed(error) => {
                self.vigil.failed(source_of(kind), &error);
                return fail(source, kind, now, error);
            }
            News::Heard => {}
            News::Absent => match (kind, source.listing) {
                // No allocator is installed here, and so nothing was given.
                (Kind::Allocation, Listing::Pending) => {
                    self.index.reset(kind, Vec::new());
                    source.listing = Listing::Complete;
                }
                (Kind::Allocation, Listing::Complete) => {}
                (Kind::Service | Kind::EndpointSlice | Kind::Node, _) => {
                    let error = "the server has no such kind".to_owned();
                    self.vigil.failed(source_of(kind), &error);
                    return fail(source, kind, now, error);
                }
            },
            News::Listing => {
                self.lists.insert(kind, Vec::new());
            }
            News::Listed(reading) => self.lists.entry(kind).or_default().push(reading),
            News::Complete => {
                let readings = self.lists.remove(&kind).unwrap_or_default();
                let listed: BTreeSet<Key> = readings.iter().filter_map(Reading::present).collect();
                self.converter.retain(|key| key.kind() != kind || listed.contains(key));
                self.index.reset(kind, readings);
                source.listing = Listing::Complete;
                tracing::debug!("{kind}: listed, {} held", self.index.count(kind));
            }
            News::Unreadable(reading) => match self.lists.get_mut(&kind) {
                Some(list) => list.push(reading),
                None => self.index.take(reading),
            },
            News::Changed(reading) => self.index.take(reading),
        }
        self.vigil.heard(source_of(kind), now);
        hear(source, kind, now);
    }

    fn health(&mut self) -> WatchHealth {
        let complaints = self.converter.complaints();
        for kind in Kind::ALL {
            let source = self.health.sources.entry(source_of(kind)).or_default();
            source.objects = self.index.count(kind);
            let of_kind = complaints.iter().filter(|(key, _)| key.kind() == kind);
            source.problems = of_kind.map(|(key, what)| format!("{key}: {what}")).collect();
        }
        self.health.clone()
    }
}

/// What a follower told, as it matters here.
enum News {
    Listing,
    Listed(Reading),
    Complete,
    Changed(Reading),
    /// On the list or on the watch: the same thing is meant.
    Unreadable(Reading),
    Heard,
    Absent,
    Failed(String),
}

/// Turns what a follower told about objects of the API into what it means here.
fn read<K>(told: Told<K>, converter: &mut Converter, kind: Kind, present: fn(&mut Converter, K) -> Reading) -> News {
    match told {
        Told::Listing => News::Listing,
        Told::Listed(object) => News::Listed(present(converter, object)),
        Told::Complete => News::Complete,
        Told::Applied(object) => News::Changed(present(converter, object)),
        Told::Deleted(identity) => News::Changed(converter.deleted(kind, &identity)),
        Told::Unreadable(bad) => News::Unreadable(converter.unreadable(kind, bad)),
        Told::Heard => News::Heard,
        Told::Absent => News::Absent,
        Told::Failed(error) => News::Failed(error),
    }
}

fn source_of(kind: Kind) -> Source {
    match kind {
        Kind::Service => Source::Services,
        Kind::EndpointSlice => Source::EndpointSlices,
        Kind::Node => Source::Nodes,
        Kind::Allocation => Source::Allocations,
    }
}

/// Says once that a watch fails, and once what each new reason is.
fn fail(source: &mut SourceHealth, kind: Kind, now: Instant, error: String) {
    let known = matches!(&source.contact, Contact::Failing { error: before, .. } if *before == error);
    if !known {
        match source.listing {
            Listing::Pending => tracing::warn!("watch of {kind}: {error}; trying again, nothing is announced before"),
            Listing::Complete => tracing::warn!("watch of {kind}: {error}; trying again, the last state stays in use"),
        }
    }
    source.failed(now, error);
}

fn hear(source: &mut SourceHealth, kind: Kind, now: Instant) {
    if let Contact::Failing { since, .. } = source.contact {
        tracing::info!("watch of {kind}: answers again after {:.1} s", (now - since).as_secs_f64());
    }
    source.heard(now);
}
