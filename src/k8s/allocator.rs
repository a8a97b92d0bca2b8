//! The allocator, while it leads: four kinds watched, several writes on their way side by side, everything decided by one owner
//! ([`Desk`]) in one task.

use super::allocation::checked;
use super::desk::{Desk, Figures, Kind, Moment, News, Rules};
use super::due::Key;
use super::errand::{Outcome, post};
use super::follow::{AfterBreak, Ask, Told, follow};
use super::health::{Listing, Unread, Vigil};
use super::lease::Leadership;
use super::request::{NamespaceForm, NodeForm, ServiceCidrForm, ServiceForm};
use super::telling::Cleanup;
use crate::condition::Conditions;
use crate::config::Config;
use crate::ipam::Timestamp;
use kube::{Api, Client};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// News between the followers and the owner.
const QUEUE: usize = 64;
/// News taken together before anything is written.
const TOGETHER: usize = 256;
/// Writes on their way at once.
const WRITES: usize = 32;
/// Events on their way at once: they never hold up a grant.
const POSTS: usize = 4;
/// How often figures are published, when something happened.
const FIGURES: Duration = Duration::from_secs(1);

/// What is known of the allocator from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The state of each watch, and what is wrong with it.
    pub watches: BTreeMap<Kind, (Listing, Option<String>)>,
    /// Whether everything there was adopted, so that addresses are given.
    pub progress: Progress,
    /// Figures.
    pub figures: Figures,
    /// What became of writes, by word.
    pub writes: BTreeMap<&'static str, u64>,
}

/// How far the allocator is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Progress {
    /// It does not lead, or not everything was listed yet.
    #[default]
    Waiting,
    /// It gives addresses.
    Giving,
}

/// Where it learns what to do, and where it says how it fares.
#[derive(Debug, Clone)]
pub struct Links {
    /// The configuration in use.
    pub config: watch::Receiver<Arc<Config>>,
    /// Who leads.
    pub leadership: watch::Receiver<Leadership>,
    /// How it fares.
    pub report: watch::Sender<Report>,
    /// What is not as it should be.
    pub conditions: watch::Sender<Conditions>,
    /// Who we are, for events.
    pub identity: String,
    /// Whether Services get a finalizer.
    pub cleanup: Cleanup,
    /// What an operator confirmed last.
    pub confirmed: watch::Receiver<Option<Arc<str>>>,
    /// Where it is confirmed, for people.
    pub socket: String,
}

/// Gives addresses whenever this process leads, until `stop`.
///
/// # Errors
/// A write's task panicked.
pub async fn run(client: Client, mut links: Links, stop: CancellationToken) -> anyhow::Result<()> {
    loop {
        let leads = |leadership: &Leadership| matches!(leadership, Leadership::Leading { .. });
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            began = links.leadership.wait_for(|now| leads(now)) => drop(began?),
        }
        let mut leadership = links.leadership.clone();
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            ended = leadership.wait_for(|now| !leads(now)) => drop(ended?),
            ended = lead(client.clone(), links.clone()) => ended?,
        }
        links.report.send_replace(Report::default());
        links.conditions.send_replace(Conditions::default());
    }
}

/// Watches and writes, for ever; dropped when leadership ends.
async fn lead(client: Client, links: Links) -> anyhow::Result<()> {
    let (queue, news) = mpsc::channel(QUEUE);
    let services = Ask { fields: "spec.type=LoadBalancer", labels: "", after_break: AfterBreak::List };
    let all = Ask { fields: "", labels: "", after_break: AfterBreak::List };
    // A holder that is not among the Services is gone: so they are listed after the Allocations that name holders.
    let mut report = links.report.subscribe();
    let of_services = async {
        let listed = |report: &Report| {
            report.watches.get(&Kind::Allocations).is_some_and(|(listing, _)| *listing == Listing::Complete)
        };
        if report.wait_for(listed).await.is_ok() {
            follow(Api::<ServiceForm>::all(client.clone()), services, queue.clone(), News::Service).await;
        }
    };
    let followers = async {
        tokio::join!(
            of_services,
            follow(Api::<NodeForm>::all(client.clone()), all, queue.clone(), News::Node),
            follow(Api::<NamespaceForm>::all(client.clone()), all, queue.clone(), News::Namespace),
            follow(Api::all(client.clone()), all, queue.clone(), |told| News::Allocation(checked(told))),
            follow(Api::<ServiceCidrForm>::all(client.clone()), all, queue.clone(), News::ServiceCidr),
        )
    };
    tokio::select! {
        _ = followers => Ok(()),
        ended = Office::open(client.clone(), links).serve(news) => ended,
    }
}

/// The desk and the runners.
struct Office {
    client: Client,
    links: Links,
    desk: Desk,
    report: Report,
    /// Whether the report differs from the one published, and since when that may be so.
    report_due: Option<Instant>,
    vigil: Vigil<Kind>,
    unread: Unread<Kind>,
    writes: JoinSet<(Key, Outcome)>,
    posts: JoinSet<Result<(), String>>,
}

impl Office {
    fn open(client: Client, mut links: Links) -> Self {
        let desk = Desk::new(rules(&links.config.borrow_and_update(), links.cleanup));
        let watches = Kind::ALL.map(|kind| (kind, (Listing::Pending, None))).into();
        let report = Report { watches, ..Report::default() };
        let (writes, posts, now) = (JoinSet::new(), JoinSet::new(), Instant::now());
        let (vigil, unread) = (Vigil::begin(Kind::ALL, now), Unread::default());
        Self { client, links, desk, report, report_due: Some(now), vigil, unread, writes, posts }
    }

    async fn serve(mut self, mut news: mpsc::Receiver<News>) -> anyhow::Result<()> {
        loop {
            let now = moment();
            let wakes = self.desk.deadline(now).into_iter().chain(self.report_due);
            let wake = wakes.fold(self.vigil.deadline(now.clock), Instant::min);
            tokio::select! {
                Some(first) = news.recv() => self.take(first, &mut news),
                Some(ended) = self.writes.join_next() => self.written(ended)?,
                Some(ended) = self.posts.join_next() => posted(ended)?,
                Ok(()) = self.links.config.changed() => {
                    let rules = rules(&self.links.config.borrow_and_update(), self.links.cleanup);
                    self.desk.configure(rules, moment());
                }
                Ok(()) = self.links.confirmed.changed() => self.confirm(),
                () = tokio::time::sleep_until(wake) => {}
            }
            self.desk.tick(moment());
            self.dispatch();
            self.publish();
            self.complain();
        }
    }

    /// Takes what was told, and what else waits: together it makes one round of writes.
    fn take(&mut self, first: News, more: &mut mpsc::Receiver<News>) {
        let now = moment();
        self.take_one(first, now);
        for _ in 1..TOGETHER {
            match more.try_recv() {
                Ok(next) => self.take_one(next, now),
                Err(_) => break,
            }
        }
        self.report_due.get_or_insert(now.clock + FIGURES);
    }

    fn take_one(&mut self, news: News, now: Moment) {
        let (kind, health) = match &news {
            News::Service(told) => (Kind::Services, self.look(Kind::Services, told)),
            News::Node(told) => (Kind::Nodes, self.look(Kind::Nodes, told)),
            News::Namespace(told) => (Kind::Namespaces, self.look(Kind::Namespaces, told)),
            News::Allocation(told) => (Kind::Allocations, self.look(Kind::Allocations, told)),
            // A server that has no such kind has told all of it.
            News::ServiceCidr(Told::Absent) => (Kind::ServiceCidrs, Health::Complete),
            News::ServiceCidr(told) => (Kind::ServiceCidrs, self.look(Kind::ServiceCidrs, told)),
        };
        match &health {
            Health::Failed(error) => self.vigil.failed(kind, error),
            Health::Complete | Health::Well => self.vigil.heard(kind, now.clock),
        }
        let (listing, trouble) = self.report.watches.entry(kind).or_default();
        match health {
            Health::Failed(error) => {
                if trouble.as_ref() != Some(&error) {
                    warn!("watch of {}: {error}; trying again", kind.as_str());
                }
                *trouble = Some(error);
            }
            Health::Complete => {
                (*listing, *trouble) = (Listing::Complete, None);
                self.report_due = Some(now.clock);
            }
            Health::Well => *trouble = None,
        }
        let had_begun = self.desk.has_begun();
        self.desk.take(news, now);
        if !had_begun && self.desk.has_begun() {
            info!("everything there is adopted; addresses are given from now on");
            self.report.progress = Progress::Giving;
            self.report_due = Some(now.clock);
        }
    }

    fn look<T: kube::Resource>(&mut self, kind: Kind, told: &Told<T>) -> Health {
        self.unread.take(kind, told);
        health(told)
    }

    /// Says what is wrong with objects and watches.
    fn complain(&mut self) {
        let mut now = Conditions::default();
        self.unread.tell(&mut now, Kind::object);
        self.desk.tell(&mut now, &self.links.socket);
        self.vigil.tell(&mut now, Kind::as_str, Instant::now());
        self.links.conditions.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }

    fn confirm(&mut self) {
        let number = self.links.confirmed.borrow_and_update().clone();
        if let Some(number) = number {
            self.desk.consent(&number, moment());
        }
    }

    fn written(&mut self, ended: Result<(Key, Outcome), JoinError>) -> anyhow::Result<()> {
        let (key, outcome) = ended?;
        let word = match &outcome {
            Outcome::Allocation(_) | Outcome::NoAllocation(_) | Outcome::Service { .. } | Outcome::Nothing => "success",
            Outcome::Found(_) | Outcome::Read(_) => "look",
            Outcome::Conflict => "conflict",
            Outcome::Refused(_) | Outcome::Failed(_) => "failure",
        };
        *self.report.writes.entry(word).or_default() += 1;
        let now = moment();
        self.desk.done(key, outcome, now);
        self.report_due.get_or_insert(now.clock + FIGURES);
        Ok(())
    }

    fn dispatch(&mut self) {
        while self.writes.len() < WRITES {
            let Some(errand) = self.desk.next_errand() else { break };
            self.writes.spawn(errand.run(self.client.clone(), self.links.leadership.clone()));
        }
        while self.posts.len() < POSTS {
            let Some(notice) = self.desk.next_notice() else { break };
            self.posts.spawn(post(self.client.clone(), notice, self.links.identity.clone()));
        }
    }

    fn publish(&mut self) {
        if self.report_due.is_none_or(|at| Instant::now() < at) {
            return;
        }
        self.report_due = None;
        self.report.figures = self.desk.figures();
        self.links.report.send_replace(self.report.clone());
    }
}

fn posted(ended: Result<Result<(), String>, JoinError>) -> anyhow::Result<()> {
    if let Err(error) = ended? {
        // Lost: an event is a courtesy, and the condition on the Service says the same.
        debug!("an event could not be posted: {error}");
    }
    Ok(())
}

/// What something told says about its watch.
enum Health {
    Well,
    Complete,
    Failed(String),
}

fn health<T>(told: &Told<T>) -> Health {
    match told {
        Told::Failed(error) => Health::Failed(error.clone()),
        Told::Absent => Health::Failed("the server has no such kind: apply what `herald crds` prints".to_owned()),
        Told::Complete => Health::Complete,
        Told::Listing | Told::Listed(_) | Told::Applied(_) | Told::Deleted(_) | Told::Unreadable(_) | Told::Heard => {
            Health::Well
        }
    }
}

fn rules(config: &Config, cleanup: Cleanup) -> Rules {
    Rules {
        allocation: Arc::clone(&config.allocation),
        classless: config.policy.classless,
        cleanup,
        guard: config.guard.clone(),
    }
}

fn moment() -> Moment {
    let millis = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
    Moment { civil: Timestamp::from_unix_millis(millis), clock: Instant::now() }
}
