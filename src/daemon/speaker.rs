//! Running peers equal to the [`Spec`], and to each of them its routes.

use super::door::{Door, Member, RANGE_LIMIT};
use super::interrupted::Interrupted;
use super::on_link::OnLink;
use super::overlaps;
use super::spec::{Planned, Spec};
use super::supervised::{AFTER_PANIC, PANIC_COUNTS, Supervised};
use super::turn::Turns;
use super::wanted::{Known, Verdict, Wish};
use crate::admin::{PeerHandles, Speakers, Standing};
use crate::condition::{Conditions, Reason};
use crate::config::Reach;
use crate::config::diff::restart_causes;
use crate::config::rollout::{self, Behind, Rollout, Session, join};
use crate::net::addresses::{self, Addresses};
use crate::net::journal::{Budget, Rate, Voice};
use crate::net::listener::Rules;
use crate::net::socket::{give_back_memory, interface_index};
use crate::net::unfinished::Unfinished;
use crate::net::{Accepted, Driver, Lines, Readings};
use crate::peer::settings::{Opening, Password, RestartState, Whereabouts};
use crate::peer::status::{EndOfRib, FirstTable};
use crate::peer::{Extent, Identity, PeerName, Phase, Plan, Settings, Status, Stop};
use crate::rib::RouteSet;
use crate::wire::CeaseSubcode;

use futures_util::future::select_all;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{self, AbortHandle, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// How long peers have for their last words when the process ends. With what comes after, two seconds in all.
const SHUTDOWN_LIMIT: Duration = Duration::from_millis(1700);

/// What every peer is told when the process ends (RFC 9003 text of the Cease).
const SHUTDOWN_TEXT: &str = "herald is stopping";

/// Peers that begin in one turn: thousands of them must not hold up the sessions that are there.
const STARTS: usize = 64;

/// How often routers of ranges are looked through for those that have gone.
const SWEEP: Duration = Duration::from_secs(10);

/// The least time without a connection after which a router of a range is forgotten.
const LEAST_MEMORY: Duration = Duration::from_secs(30);

/// Routers that are remembered to have had all routes.
const TOLD_LIMIT: usize = 4096;

/// A change that resets sessions begins within this many milliseconds, another moment on each node.
const HEAD_START_LIMIT_MS: u64 = 3000;

/// Where the speaker's state comes from and goes to.
pub struct Channels {
    /// What should be so, by control.
    pub spec: watch::Receiver<Arc<Spec>>,
    /// What an operator confirmed last.
    pub confirmed: watch::Receiver<Option<Arc<str>>>,
    /// For the admin room.
    pub speakers: watch::Sender<Arc<Speakers>>,
    /// What is not as it should be.
    pub conditions: watch::Sender<Conditions>,
    /// What is asked of other nodes.
    pub turns: Turns,
    /// What the next process is to know of a change that is under way.
    pub interrupted: Interrupted,
}

/// All peers of this node.
pub struct Speaker {
    channels: Channels,
    /// The newest that was looked at.
    spec: Arc<Spec>,
    /// Peers as they should be, by the newest look.
    wishes: BTreeMap<PeerName, Wish>,
    /// What those that may have a session are to be told now; a change that resets sessions reaches one after the other.
    wanted: BTreeMap<PeerName, Settings>,
    rollout: Rollout,
    /// Those of them that do not have what is configured, and why.
    behind: BTreeMap<PeerName, Behind>,
    /// When the rollout is to be asked again at the latest.
    rollout_due: Option<Instant>,
    running: BTreeMap<PeerName, Running>,
    /// The same by address: who dials is found at once among thousands.
    addresses: BTreeSet<(IpAddr, PeerName)>,
    /// The addresses of this node, as the kernel has them.
    addresses_of_the_node: watch::Receiver<Addresses>,
    _addresses_watched: Supervised,
    /// Addresses that the Node names and the kernel does not have.
    absent: BTreeSet<IpAddr>,
    /// Peers that must not have a session now.
    held: BTreeMap<PeerName, Held>,
    /// Routers of ranges that dialled us.
    members: BTreeMap<PeerName, Member>,
    /// What they and others that nobody vouches for have not said to the end.
    unfinished: Unfinished,
    /// What may be logged of them, a range.
    budgets: BTreeMap<Arc<str>, Arc<Budget>>,
    /// How the process stands towards routers that it has told nothing.
    restart_state: RestartState,
    /// Routers that had End-of-RIB from this process, on a session that is gone.
    told: BTreeSet<Whereabouts>,
    door: Door,
    on_link: OnLink,
    stopping: BTreeMap<PeerName, Goodbye>,
    tasks: JoinSet<PeerName>,
    /// Whose task is whose: one that panicked does not say.
    drivers: Drivers,
    /// When members were last looked through.
    swept: tokio::time::Instant,
    /// Peers whose driver panicked: how often, and until when they rest.
    resting: BTreeMap<PeerName, Rest>,
}

/// A peer whose driver panicked.
#[derive(Debug, Clone, Copy)]
struct Rest {
    panics: u32,
    until: tokio::time::Instant,
}

/// A peer whose driver runs.
struct Running {
    settings: Arc<Settings>,
    plan: watch::Sender<Option<Plan>>,
    key: watch::Sender<Option<Password>>,
    readings: Readings,
    stop: oneshot::Sender<Stop>,
    accepted: mpsc::Sender<Accepted>,
    voice: Voice,
    task: AbortHandle,
}

/// A peer that must not have a session now, as others see it.
struct Held {
    since: Instant,
    why: String,
    settings: Arc<Settings>,
    status: watch::Receiver<Status>,
}

/// Peers by task.
#[expect(clippy::disallowed_types, reason = "the number of a task has no order, and nothing iterates")]
type Drivers = std::collections::HashMap<task::Id, PeerName>;

/// What two connections at a time would be refused to: a router's address and port.
type End = (Whereabouts, u16);

/// A peer that is being told that it is over.
struct Goodbye {
    end: End,
    since: Instant,
    voice: Voice,
    /// The task that does it.
    task: AbortHandle,
}

/// Why there is no room for a router that dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoRoom {
    /// Every router that its range may have has a session.
    RangeFull,
    /// What it had before is not over yet.
    StillLeaving,
}

/// Connections of one peer that its driver has not looked at yet. A router dials once at a time.
const ACCEPTED_QUEUE: usize = 2;

impl Speaker {
    /// A speaker at rest. `restart_state` is that towards a router that this process has told nothing yet.
    pub fn new(channels: Channels, restart_state: RestartState) -> Self {
        let spec = channels.spec.borrow().clone();
        let (addresses, addresses_of_the_node) = watch::channel(Addresses::default());
        let said = channels.conditions.clone();
        let watch_addresses = move || addresses::run(addresses.clone(), said.clone());
        let said = channels.conditions.clone();
        let head_start = Duration::from_millis(fastrand::u64(..HEAD_START_LIMIT_MS));
        let rollout = Rollout::resume(head_start, channels.interrupted.pending().clone());
        Self {
            channels,
            spec,
            wishes: BTreeMap::new(),
            wanted: BTreeMap::new(),
            rollout,
            behind: BTreeMap::new(),
            rollout_due: None,
            running: BTreeMap::new(),
            addresses: BTreeSet::new(),
            addresses_of_the_node,
            _addresses_watched: Supervised::spawn("addresses", said.clone(), watch_addresses),
            absent: BTreeSet::new(),
            held: BTreeMap::new(),
            members: BTreeMap::new(),
            unfinished: Unfinished::default(),
            budgets: BTreeMap::new(),
            restart_state,
            told: BTreeSet::new(),
            door: Door::closed(said.clone()),
            on_link: OnLink::idle(said),
            stopping: BTreeMap::new(),
            tasks: JoinSet::new(),
            drivers: Drivers::new(),
            swept: now(),
            resting: BTreeMap::new(),
        }
    }

    /// Runs until `stop`, then tells every peer so. The first change is taken at once; what comes meanwhile, together.
    ///
    /// # Errors
    /// None so far: a peer's panic ends that peer's session alone.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        self.channels.spec.mark_changed();
        loop {
            let (rested, sweep) = (self.next_rested(), self.next_sweep());
            let (more, moved) = (self.is_wanting(), self.session_moved());
            // A source that ended publishes nothing more; whoever supervises it knows.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Ok(()) = self.channels.spec.changed() => if self.take_routes() { continue },
                Ok(()) = self.channels.confirmed.changed() => self.on_confirmed(),
                Ok(()) = self.addresses_of_the_node.changed() => { self.tell_of_links(); self.hand_out(); continue }
                () = self.channels.turns.changed() => {}
                () = self.on_link.changed() => {}
                Some(ended) = self.tasks.join_next_with_id() => if !self.ended(ended) { continue },
                () = at(rested) => self.forgive(),
                () = at(sweep) => self.sweep(),
                () = at(self.rollout_due.map(Into::into)) => {}
                () = moved => {}
                () = task::yield_now(), if more => {
                    self.start_some();
                    self.publish();
                    continue;
                }
                // Last of all: who dials without end must keep nothing of the above from its turn.
                news = self.door.news() => if let Some(accepted) = news {
                    self.on_accepted(accepted);
                    // Where many dial at once, the sessions that are there have their turn after each of them.
                    task::yield_now().await;
                    continue;
                },
            }
            self.reconcile();
        }
        self.shut_down().await;
        Ok(())
    }

    /// Takes a new [`Spec`] in which only routes can differ, without looking at every peer's settings again. `false`: there is
    /// more to it.
    fn take_routes(&mut self) -> bool {
        let spec = self.channels.spec.borrow_and_update().clone();
        let only_routes = spec.has_peers_of(&self.spec);
        if only_routes {
            let same_doubts = Arc::ptr_eq(&spec.doubts, &self.spec.doubts);
            self.spec = spec;
            self.hand_out();
            if !same_doubts {
                self.publish();
            }
        }
        only_routes
    }

    /// Says which pools overlap a link of this node.
    fn tell_of_links(&self) {
        let found = overlaps::of(&self.spec.config.policy.pools, &self.addresses_of_the_node.borrow());
        self.channels.conditions.send_if_modified(|mine| {
            let before = mine.clone();
            mine.clear_all(Reason::PoolOnLink);
            mine.join(&found);
            *mine != before
        });
    }

    /// Brings everything up to the newest [`Spec`].
    fn reconcile(&mut self) {
        self.spec = self.channels.spec.borrow_and_update().clone();
        self.tell_of_links();
        self.look();
        if let Standing::Known(identity) = self.spec.standing {
            self.take_step(self.wanted(identity));
            self.run_exactly();
            self.hold(identity);
            let (running, wanted) = (&self.running, &self.wanted);
            self.members.retain(|name, _| running.contains_key(name) || wanted.contains_key(name));
        }
        self.hand_out();
        self.publish();
    }

    /// Finds out who should be a peer now, and has the door and the links follow. A peer whose selector cannot be judged yet
    /// waits; one without starts at once.
    fn look(&mut self) {
        let (wishes, rules, links) = self.with_known(|known| (known.peers(), known.rules(), known.links()));
        self.wishes = wishes;
        self.on_link.follow(&links);
        let spec = Arc::clone(&self.spec);
        self.door.follow(spec.config.listen.as_ref(), rules);
    }

    fn with_known<T>(&self, ask: impl FnOnce(&Known<'_>) -> T) -> T {
        let (found, silent, failures) = (self.on_link.found(), self.on_link.silent(), self.door.failures());
        ask(&Known {
            config: &self.spec.config,
            here: &self.spec.here,
            keys: &self.spec.keys,
            found: &found,
            silent: &silent,
            failures: &failures,
            members: &self.members,
            running: &|name| self.running.get(name).map(|running| &running.settings.neighbor),
        })
    }

    /// What peers that may have a session are to be told.
    fn wanted(&self, identity: Identity) -> BTreeMap<PeerName, Settings> {
        let run = self.wishes.iter().filter(|(_, wish)| wish.verdict == Verdict::Run);
        run.map(|(name, wish)| (name.clone(), self.settings(wish, identity))).collect()
    }

    /// Finds what of it each peer is to have now.
    fn take_step(&mut self, wanted: BTreeMap<PeerName, Settings>) {
        let turn = self.channels.turns.known(&self.spec);
        let running = self.running.iter().map(|(name, running)| {
            (name.clone(), rollout::Running { settings: &running.settings, session: self.session(running) })
        });
        let patience = self.spec.config.patience;
        let of = |settings: &Settings| match settings.neighbor.opening {
            Opening::Active => patience,
            // The router's own retry, which is slower, begins the next one.
            Opening::Passive => patience * 3,
        };
        let step = self.rollout.step(&running.collect(), &wanted, of, &turn, now().into_std());
        self.channels.turns.ask(self.rollout.need(), &self.spec);
        self.channels.interrupted.write(step.pending);
        (self.wanted, self.behind, self.rollout_due) = (step.settings, step.behind, step.deadline);
        self.tell_of_the_walk();
    }

    /// Says where the walk stands still, and what to do.
    fn tell_of_the_walk(&mut self) {
        let number = self.number();
        let stopped = self.rollout.stopped().zip(number.as_ref()).map(|((peer, causes, patience), number)| {
            let (what, waiting) = (join(causes), self.behind.len());
            let message = format!(
                "peer {peer} did not come back within {} s with another {what}, and has what it had before; {waiting} peers here keep \
                 what they have: edit the configuration (what has no session takes it at once), or go on with 'herald confirm \
                 {number}'",
                patience.as_secs()
            );
            (Arc::clone(&peer.0), message)
        });
        let barred = self.barred_by().zip(number).map(|(node, number)| {
            let message = format!(
                "this configuration failed on the node {node}, and {} peers here keep what they have: edit it, or begin it all the same \
                 with 'herald confirm {number}'",
                self.behind.len()
            );
            (node, message)
        });
        self.channels.conditions.send_if_modified(|mine| {
            let before = mine.clone();
            mine.clear_all(Reason::ReloadStopped);
            if let Some((subject, message)) = stopped.or(barred) {
                mine.set(Reason::ReloadStopped, &subject, message);
            }
            *mine != before
        });
    }

    /// The node on which this configuration failed, so that it is not begun here.
    fn barred_by(&self) -> Option<Arc<str>> {
        self.behind.values().find_map(|behind| match behind {
            Behind::Barred(node, _) => Some(Arc::clone(node)),
            Behind::NextSession(_)
            | Behind::Soon(_)
            | Behind::Asks(_)
            | Behind::Elsewhere(..)
            | Behind::Waits(..)
            | Behind::Resumes(_)
            | Behind::Stopped(..) => None,
        })
    }

    /// By which a change at which the walk stands still is confirmed: the same as long as configuration, and peer or node, are.
    fn number(&mut self) -> Option<String> {
        let subject = self.rollout.stopped().map(|(peer, ..)| Arc::clone(&peer.0)).or_else(|| self.barred_by())?;
        Some(self.channels.turns.number(&subject, &self.spec))
    }

    /// An operator confirmed something; if it is what a walk stands still at, that goes on.
    fn on_confirmed(&mut self) {
        let confirmed = self.channels.confirmed.borrow_and_update().clone();
        if self.number().is_none_or(|number| confirmed.as_deref() != Some(&*number)) {
            return;
        }
        if self.barred_by().is_some() {
            self.channels.turns.overrule(&self.spec);
        }
        self.rollout.confirm(now().into_std());
    }

    /// Where the session of a peer stands. Without a plan there is no table to wait for.
    fn session(&self, running: &Running) -> Session {
        session(&running.readings.status.borrow(), self.is_table_whole())
    }

    /// Waits until a session that the rollout asks about moved; for ever, where it asks about none.
    fn session_moved(&self) -> impl Future<Output = ()> + use<> {
        let planned = self.is_table_whole();
        let names = self.behind.keys().chain(self.rollout.waits_for());
        let of = names.filter_map(|name| self.running.get(name));
        let moves: Vec<_> = of
            .map(|running| {
                let (mut status, before) = (running.readings.status.clone(), self.session(running));
                Box::pin(async move {
                    // A driver that ended is told by its task.
                    if status.wait_for(|status| session(status, planned) != before).await.is_err() {
                        std::future::pending::<()>().await;
                    }
                })
            })
            .collect();
        async move {
            match moves.is_empty() {
                true => std::future::pending().await,
                false => drop(select_all(moves).await),
            }
        }
    }

    fn settings(&self, wish: &Wish, identity: Identity) -> Settings {
        let restart_state = self.restart_state_towards(&wish.neighbor.whereabouts());
        Settings { identity, neighbor: wish.neighbor.clone(), restart_state }
    }

    /// Routers that had all routes from this process do not see a restart when a session begins anew.
    fn restart_state_towards(&self, router: &Whereabouts) -> RestartState {
        if self.told.contains(router) { RestartState::Running } else { self.restart_state }
    }

    /// Shows peers that must not have a session as what they are.
    fn hold(&mut self, identity: Identity) {
        let mut before = std::mem::take(&mut self.held);
        let now = now().into_std();
        for (name, wish) in &self.wishes {
            let Verdict::Hold(why) = &wish.verdict else { continue };
            let held = match before.remove(name) {
                Some(held) if held.why == *why => held,
                earlier => {
                    warn!(peer = %name, why, "peer is held back");
                    let since = earlier.map_or(now, |earlier| earlier.since);
                    let settings = Arc::new(self.settings(wish, identity));
                    let status = Status::held_back(&settings, since, why, now);
                    Held { since, why: why.clone(), settings, status: watch::channel(status).1 }
                }
            };
            self.held.insert(name.clone(), held);
        }
    }

    /// A router dialled. Its driver decides what becomes of the connection; a router of nobody is not answered.
    fn on_accepted(&mut self, accepted: Accepted) {
        let remote = accepted.remote;
        let name = match self.at(remote) {
            Some(name) => Ok(Some(name)),
            None => self.admit_member(remote.ip()),
        };
        match name.map(|name| self.running.get(&name?)) {
            Ok(Some(running)) => {
                if running.accepted.try_send(accepted).is_err() {
                    debug!(peer = %running.settings.neighbor.name, "the peer dials faster than it is answered; closed");
                }
            }
            Ok(None) => debug!(%remote, "a connection from no peer of this node; closed"),
            Err(why) => {
                debug!(%remote, ?why, "turned away");
                let cease = match why {
                    NoRoom::RangeFull => CeaseSubcode::ConnectionRejected,
                    NoRoom::StillLeaving => CeaseSubcode::OutOfResources,
                };
                self.door.refuse(accepted, cease);
            }
        }
    }

    /// The running peer whose router this is.
    fn at(&self, remote: SocketAddr) -> Option<PeerName> {
        let from = (remote.ip(), PeerName("".into()));
        let there = self.addresses.range(from..).take_while(|(address, _)| *address == remote.ip());
        let mut names = there.map(|(_, name)| name);
        names.find(|name| self.running.get(*name).is_some_and(|running| running.is_at(remote))).cloned()
    }

    /// Begins with a router of a range, if this is one; its name. Costs the same however many peers there are.
    fn admit_member(&mut self, ip: IpAddr) -> Result<Option<PeerName>, NoRoom> {
        let Standing::Known(identity) = self.spec.standing else { return Ok(None) };
        let Some(member) = Member::of(&self.spec.config, &self.spec.here, ip) else { return Ok(None) };
        let name = member.name();
        if self.stopping.contains_key(&name) {
            return Err(NoRoom::StillLeaving);
        }
        self.make_room(&member.range)?;
        let Some(wish) = self.with_known(|known| known.member(&member)) else { return Ok(None) };
        self.members.insert(name.clone(), member);
        let (settings, _) = self.rollout.begin(&name, &self.settings(&wish, identity));
        let runs = wish.verdict == Verdict::Run;
        self.wishes.insert(name.clone(), wish);
        if !runs {
            self.reconcile();
            return Ok(None);
        }
        self.start(&name, &settings);
        self.wanted.insert(name.clone(), settings);
        if let (Some(planned), Some(running)) = (&self.spec.planned, self.running.get(&name)) {
            running.hand_out(self.routes(&name, planned));
        }
        self.publish_one(&name);
        Ok(Some(name))
    }

    /// Has a range have room for one more peer: of those not Established one goes, who has shown the least, for longest.
    fn make_room(&mut self, range: &Arc<str>) -> Result<(), NoRoom> {
        // Names of members begin with their range's, so that they stand together.
        let first = PeerName(format!("{range}/").into());
        let of_range = || {
            let from = self.members.range(first.clone()..);
            from.take_while(|(name, _)| name.0.starts_with(&*first.0)).filter(|(_, member)| member.range == *range)
        };
        if of_range().take(RANGE_LIMIT).count() < RANGE_LIMIT {
            return Ok(());
        }
        let idle = of_range().filter_map(|(name, _)| {
            let Some(running) = self.running.get(name) else { return Some((None, name.clone())) };
            let status = running.readings.status.borrow();
            let shown = match status.phase {
                Phase::Established { .. } => return None,
                Phase::OpenConfirm => Shown::Open,
                Phase::Idle { .. } | Phase::Connect | Phase::Active | Phase::OpenSent => Shown::Nothing,
            };
            Some((Some((shown, status.started)), name.clone()))
        });
        let Some((_, idle)) = idle.min() else {
            self.range_is_full(range);
            return Err(NoRoom::RangeFull);
        };
        self.dismiss(&idle, Stop::OutOfResources, "another router of its range came, and this one had no session");
        self.bound_goodbyes();
        Ok(())
    }

    fn range_is_full(&mut self, range: &Arc<str>) {
        if self.budget(range).spend(now().into_std()) {
            warn!(%range, limit = RANGE_LIMIT, "the range has as many routers as it may; another one is turned away");
        }
        let message = format!(
            "{RANGE_LIMIT} of its routers have a session, as many as a range may; others that dial are told Cease 6/5: split the \
             range over more peers entries"
        );
        self.channels.conditions.send_if_modified(|mine| {
            let news = !mine.contains(Reason::RangeFull, range);
            mine.set(Reason::RangeFull, range, message);
            news
        });
    }

    /// Who is being told goodbye holds a socket still: they must not pile up either, however fast others come. Of too many the
    /// one who was told first is waited for no longer.
    fn bound_goodbyes(&mut self) {
        let of_ranges = || self.stopping.values().filter(|goodbye| matches!(goodbye.voice, Voice::OfRange(_)));
        if of_ranges().count() > RANGE_LIMIT
            && let Some(first) = of_ranges().min_by_key(|goodbye| goodbye.since)
        {
            first.task.abort();
        }
    }

    /// What may be logged of a range's routers.
    fn budget(&mut self, range: &Arc<str>) -> Arc<Budget> {
        let new = || Arc::new(Budget::new(range, Rate::OF_RANGE, now().into_std()));
        self.budgets.entry(range.clone()).or_insert_with(new).clone()
    }

    /// Lets a router of a range go.
    fn dismiss(&mut self, name: &PeerName, reason: Stop, why: &str) {
        self.members.remove(name);
        self.wishes.remove(name);
        self.wanted.remove(name);
        self.stop(name, reason, why);
        self.publish_one(name);
    }

    /// Whether a peer should run that does not, and nothing is in its way.
    fn is_wanting(&self) -> bool {
        self.wanted.len() > self.running.len() && self.startable().next().is_some()
    }

    /// Peers that should run and do not. A second connection to a router that still holds the first would be refused.
    fn startable(&self) -> impl Iterator<Item = (&PeerName, &Settings)> {
        let ends: BTreeSet<_> = self.stopping.values().map(|goodbye| &goodbye.end).collect();
        self.wanted.iter().filter(move |(name, settings)| {
            let in_the_way = self.stopping.contains_key(*name) || ends.contains(&end_of(settings));
            let rests = self.resting.get(*name).is_some_and(|rest| rest.until > now());
            !(self.running.contains_key(*name) || in_the_way || rests)
        })
    }

    fn start_some(&mut self) {
        let some: Vec<_> = self.startable().take(STARTS).map(|(name, of)| (name.clone(), of.clone())).collect();
        for (name, settings) in some {
            self.start(&name, &settings);
        }
        self.hand_out();
    }

    fn run_exactly(&mut self) {
        let leaving = self.running.iter().filter_map(|(name, running)| {
            let (reason, why) = match self.wanted.get(name).map(|settings| restart_causes(&running.settings, settings))
            {
                None => match self.wishes.get(name).map(|wish| &wish.verdict) {
                    Some(Verdict::Hold(why)) => (Stop::ConfigurationChange, why.clone()),
                    Some(Verdict::Run) | None => (Stop::Deconfigured, "this node no longer has it".to_owned()),
                },
                Some(causes) if causes.is_empty() => return None,
                Some(causes) => (Stop::ConfigurationChange, format!("new {}", join(&causes))),
            };
            Some((name.clone(), reason, why))
        });
        for (name, reason, why) in leaving.collect::<Vec<_>>() {
            self.stop(&name, reason, &why);
        }
        for (name, running) in &mut self.running {
            if let Some(settings) = self.wanted.get(name) {
                running.follow(settings);
            }
        }
        self.start_some();
    }

    fn start(&mut self, name: &PeerName, settings: &Settings) {
        let neighbor = &settings.neighbor;
        let (address, port, asn) = (neighbor.address, neighbor.port, neighbor.asn);
        let voice = if let Some(range) = self.members.get(name).map(|member| member.range.clone()) {
            debug!(peer = %name, %address, port, %asn, "peer starts");
            Voice::OfRange(self.budget(&range))
        } else {
            info!(peer = %name, %address, port, %asn, "peer starts");
            Voice::named(&name.0, now().into_std())
        };
        let (driver, readings) =
            Driver::new(settings.clone(), fastrand::u64(..), voice.clone(), self.unfinished.clone());
        let (plan, plan_read) = watch::channel(None);
        let (key, key_read) = watch::channel(neighbor.password.clone());
        let (stop, stop_read) = oneshot::channel();
        let (accepted, accepted_read) = mpsc::channel(ACCEPTED_QUEUE);
        let (ended, addresses) = (name.clone(), self.addresses_of_the_node.clone());
        let task = self.tasks.spawn(async move {
            let lines = Lines { plan: plan_read, key: key_read, accepted: accepted_read, addresses };
            driver.run(lines, stop_read).await;
            ended
        });
        self.drivers.insert(task.id(), name.clone());
        let settings = Arc::new(settings.clone());
        let running = Running { settings, plan, key, readings, stop, accepted, voice, task };
        self.addresses.insert((address, name.clone()));
        self.running.insert(name.clone(), running);
    }

    fn stop(&mut self, name: &PeerName, reason: Stop, why: &str) {
        let Some(running) = self.remove(name) else { return };
        match &running.voice {
            Voice::Named(_) => info!(peer = %name, why, "peer stops"),
            Voice::OfRange(_) => debug!(peer = %name, why, "peer stops"),
        }
        if running.readings.status.borrow().first_table == FirstTable::Sent {
            self.remember(running.settings.neighbor.whereabouts());
        }
        let (end, since) = (end_of(&running.settings), now().into_std());
        self.stopping.insert(name.clone(), Goodbye { end, since, voice: running.voice, task: running.task });
        // A driver that ended by itself no longer listens; its task is about to be joined.
        let _ended = running.stop.send(reason);
    }

    /// Notes that a router had all routes. Routers of ranges may be any number: of too many only those that are named stay.
    fn remember(&mut self, router: Whereabouts) {
        self.told.insert(router);
        if self.told.len() > TOLD_LIMIT {
            let named: BTreeSet<_> = self.wishes.values().map(|wish| wish.neighbor.whereabouts()).collect();
            self.told.retain(|router| named.contains(router));
        }
    }

    fn remove(&mut self, name: &PeerName) -> Option<Running> {
        let running = self.running.remove(name)?;
        self.addresses.remove(&(running.settings.neighbor.address, name.clone()));
        Some(running)
    }

    /// A driver ended; whether that may concern others. One that panicked is begun again after a rest; nobody else's session is
    /// touched by it.
    fn ended(&mut self, ended: Result<(task::Id, PeerName), JoinError>) -> bool {
        let (id, panic) = match ended {
            Ok((id, _)) => (id, None),
            Err(error) if error.is_cancelled() => (error.id(), None),
            Err(error) => (error.id(), Some(error)),
        };
        let Some(name) = self.drivers.remove(&id) else { return false };
        self.stopping.remove(&name);
        self.remove(&name);
        if let Some(panic) = panic {
            let panics = self.resting.get(&name).map_or(0, |rest| rest.panics) + 1;
            let rest = AFTER_PANIC * panics;
            error!(peer = %name, panics, "the task of this peer failed ({panic}): this is a bug, please report it");
            let message =
                format!("its task failed {panics} times, a bug to report; it rests {} s each time", rest.as_secs());
            self.resting.insert(name.clone(), Rest { panics, until: now() + rest });
            self.channels.conditions.send_modify(|mine| mine.set(Reason::PeerPanicked, &name.0, message));
        }
        // Strangers come and go in any number: nobody waits for one that nobody wishes for.
        self.wishes.contains_key(&name) || self.wanted.len() > self.running.len()
    }

    /// When a peer has rested, or its panic is so long ago that it no longer counts.
    fn next_rested(&self) -> Option<tokio::time::Instant> {
        let both = |rest: &Rest| [rest.until, rest.until + PANIC_COUNTS];
        self.resting.values().flat_map(both).filter(|then| *then > now()).min()
    }

    fn forgive(&mut self) {
        let well: Vec<_> = self
            .resting
            .iter()
            .filter(|(_, rest)| rest.until + PANIC_COUNTS <= now())
            .map(|(name, _)| name.clone())
            .collect();
        for name in well {
            self.resting.remove(&name);
            self.channels.conditions.send_modify(|mine| mine.clear(Reason::PeerPanicked, &name.0));
        }
    }

    fn next_sweep(&self) -> Option<tokio::time::Instant> {
        let full = self.channels.conditions.borrow().count(Reason::RangeFull) > 0;
        (full || !self.members.is_empty()).then_some(self.swept + SWEEP)
    }

    /// Forgets routers of ranges that have had no connection for a hold time: whoever came once must not stay for ever.
    fn sweep(&mut self) {
        self.swept = now();
        let config = &self.spec.config;
        self.budgets.retain(|range, _| config.peers.contains_key(range));
        self.budgets.values().for_each(|budget| budget.catch_up(self.swept.into_std()));
        let instant = now().into_std();
        let gone: Vec<_> = self.members.keys().filter(|name| self.is_gone(name, instant)).cloned().collect();
        for name in gone {
            self.dismiss(&name, Stop::Deconfigured, "it had no connection for a hold time");
        }
        if self.unfinished.has_ebbed() {
            give_back_memory();
        }
        self.channels.conditions.send_if_modified(|mine| {
            let ranges = mine.iter().filter(|(reason, ..)| *reason == Reason::RangeFull);
            let over: Vec<_> = ranges
                .filter(|(_, range, _)| self.sessions_of(range) < RANGE_LIMIT)
                .map(|(_, range, _)| range.to_owned())
                .collect();
            over.iter().for_each(|range| mine.clear(Reason::RangeFull, range));
            !over.is_empty()
        });
    }

    fn sessions_of(&self, range: &str) -> usize {
        let of_range = self.members.iter().filter(|(_, member)| &*member.range == range);
        let sessions = of_range.filter_map(|(name, _)| self.running.get(name));
        let up = |running: &&Running| matches!(running.readings.status.borrow().phase, Phase::Established { .. });
        sessions.filter(up).count()
    }

    fn is_gone(&self, name: &PeerName, now: Instant) -> bool {
        if self.rollout.concerns(name) {
            return false;
        }
        let Some(running) = self.running.get(name) else { return false };
        let status = running.readings.status.borrow();
        let silent_since = status.last_down.as_ref().map_or(status.started, |(at, _)| (*at).max(status.started));
        match status.phase {
            Phase::Idle { .. } | Phase::Connect | Phase::Active => {
                now.saturating_duration_since(silent_since) > running.settings.neighbor.hold_time.max(LEAST_MEMORY)
            }
            Phase::OpenSent | Phase::OpenConfirm | Phase::Established { .. } => false,
        }
    }

    /// Gives every peer its routes. Without a plan they have none, which is not the same as no routes.
    fn hand_out(&mut self) {
        let Some(planned) = &self.spec.planned else { return };
        self.absent = addresses::absent(&self.addresses_of_the_node.borrow_and_update(), &planned.node_addresses);
        for (name, running) in &self.running {
            running.hand_out(self.routes(name, planned));
        }
    }

    /// What a peer is to announce. A router of a range is told what the range is told.
    fn routes(&self, name: &PeerName, planned: &Planned) -> Plan {
        let entry = self.members.get(name).map_or(&name.0, |member| &member.range);
        let routes = planned.routes.routes.get(entry).cloned().unwrap_or_default();
        let of = self.spec.config.peers.get(entry);
        let prefix_limits = of.map(|peer| peer.prefix_limits.clone()).unwrap_or_default();
        let next_hops = of.map(|peer| peer.next_hops.clone()).unwrap_or_default();
        let (node_addresses, bounds) = (planned.node_addresses.clone(), planned.bounds.clone());
        let (absent, extent) = (self.absent.clone(), planned.extent());
        Plan { routes, node_addresses, absent, next_hops, bounds, prefix_limits, extent }
    }

    /// Whether End-of-RIB follows the routes that are there.
    fn is_table_whole(&self) -> bool {
        self.spec.planned.as_ref().is_some_and(|planned| planned.extent() == Extent::Whole)
    }

    fn publish(&mut self) {
        let names = self.running.keys().chain(self.held.keys());
        let peers = names.filter_map(|name| Some((name.clone(), self.handles(name)?))).collect();
        let (standing, doubts) = (self.spec.standing.clone(), Arc::clone(&self.spec.doubts));
        let range = |name: &Arc<str>| match self.spec.config.peers.get(name)?.reach {
            Reach::Range(range) => Some(range),
            Reach::One | Reach::OnLink => None,
        };
        let ranges = Arc::new(self.spec.here.iter().filter_map(range).collect());
        self.channels.speakers.send_replace(Arc::new(Speakers { standing, peers, doubts, ranges }));
    }

    /// Shows one peer as it is now, or no longer; the others share what is shown of them already.
    fn publish_one(&self, name: &PeerName) {
        let shown = self.handles(name);
        self.channels.speakers.send_modify(|speakers| {
            let speakers = Arc::make_mut(speakers);
            match shown {
                Some(handles) => drop(speakers.peers.insert(name.clone(), handles)),
                None => drop(speakers.peers.remove(name)),
            }
        });
    }

    fn handles(&self, name: &PeerName) -> Option<PeerHandles> {
        let mut remarks = self.wishes.get(name).map(|wish| wish.remarks.clone()).unwrap_or_default();
        remarks.extend(self.behind.get(name).map(ToString::to_string));
        let entry = self.members.get(name).map_or(&name.0, |member| &member.range).clone();
        if let Some(running) = self.running.get(name) {
            let Readings { status, transport } = running.readings.clone();
            let (plan, settings) = (running.plan.subscribe(), Arc::clone(&running.settings));
            return Some(PeerHandles { status, plan, transport, remarks, entry, settings });
        }
        let held = self.held.get(name)?;
        let nothing = Plan { routes: RouteSet::new(), ..Plan::default() };
        let (plan, transport) = (watch::channel(Some(nothing)).1, watch::channel(None).1);
        let (status, settings) = (held.status.clone(), Arc::clone(&held.settings));
        Some(PeerHandles { status, plan, transport, remarks, entry, settings })
    }

    async fn shut_down(mut self) {
        self.door.follow(None, Rules::new());
        for (_, running) in std::mem::take(&mut self.running) {
            let _ended = running.stop.send(Stop::Shutdown(SHUTDOWN_TEXT.to_owned()));
        }
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_LIMIT, all).await.is_err() {
            warn!(peers = self.tasks.len(), "peers did not take our last words in time; closing");
        }
    }
}

fn session(status: &Status, planned: bool) -> Session {
    match &status.phase {
        Phase::Established { end_of_rib: EndOfRib::Sent(_), .. } => Session::Complete,
        Phase::Established { end_of_rib: EndOfRib::Pending, .. } if !planned => Session::Complete,
        Phase::Established { end_of_rib: EndOfRib::Pending, .. } => Session::Sending,
        Phase::Idle { .. } | Phase::Connect | Phase::Active | Phase::OpenSent | Phase::OpenConfirm => Session::Down,
    }
}

fn end_of(settings: &Settings) -> End {
    (settings.neighbor.whereabouts(), settings.neighbor.port)
}

/// What a router of a range has shown that has no session yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Shown {
    Nothing,
    /// An OPEN that was accepted.
    Open,
}

/// The clock of the runtime, so that a test may hold it.
fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

async fn at(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

impl Running {
    fn hand_out(&self, plan: Plan) {
        self.plan.send_if_modified(|held| {
            let changed = held.as_ref() != Some(&plan);
            if changed {
                *held = Some(plan);
            }
            changed
        });
    }

    /// Takes what need not end the session.
    fn follow(&mut self, settings: &Settings) {
        let password = &settings.neighbor.password;
        self.key.send_if_modified(|held| {
            let changed = held != password;
            held.clone_from(password);
            changed
        });
        if self.settings.neighbor.password != *password {
            Arc::make_mut(&mut self.settings).neighbor.password.clone_from(password);
        }
    }

    /// Whether a connection comes from this router: its address, and its interface where the address is link-local.
    fn is_at(&self, remote: SocketAddr) -> bool {
        let Whereabouts { address, interface } = self.settings.neighbor.whereabouts();
        let scope = match remote {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(v6) => v6.scope_id(),
        };
        address == remote.ip()
            && interface.is_none_or(|interface| interface_index(&interface).is_ok_and(|index| index == scope))
    }
}

#[cfg(test)]
mod tests {
    use super::super::state_folder::{self, Previous};
    use super::*;
    use crate::config::Config;
    use crate::config::rollout::Turn;

    fn spec(text: &str) -> Arc<Spec> {
        let config = Config::parse("test.yaml", text).unwrap_or_else(|found| panic!("{found}")).0;
        let identity = config.identity("n1", &[]);
        let here = config.peers.keys().cloned().collect();
        let spec = Spec::unknown(Arc::new(config));
        Arc::new(Spec { standing: Standing::Known(identity), here: Arc::new(here), ..spec })
    }

    fn uninterrupted() -> Interrupted {
        let (writer, _) = state_folder::writer(None, watch::channel(Conditions::default()).0);
        Interrupted::by(&mut Previous::of(None), &"n1".into(), writer)
    }

    #[tokio::test(start_paused = true)]
    async fn a_driver_that_panics_rests_and_begins_again_and_others_go_on() {
        let two = "asn: 64512\nrouterId: 192.0.2.1\npools: []\npeers:\n\
                   - {name: a, address: 127.0.0.1, port: 1, asn: 64500}\n- {name: b, address: 127.0.0.1, port: 2, asn: 64500}\n";
        let (_spec, spec) = watch::channel(spec(two));
        let unknown = Speakers {
            standing: Standing::Waiting(String::new()),
            peers: imbl::OrdMap::new(),
            doubts: Arc::default(),
            ranges: Arc::default(),
        };
        let (speakers, shown) = watch::channel(Arc::new(unknown));
        let (conditions, mut said) = watch::channel(Conditions::default());
        let mut speaker = Speaker::new(
            Channels {
                spec,
                confirmed: watch::channel(None).1,
                speakers,
                conditions,
                turns: Turns::new(Turn::Alone).0,
                interrupted: uninterrupted(),
            },
            RestartState::Running,
        );
        speaker.reconcile();
        assert_eq!(shown.borrow().peers.len(), 2);
        // The driver of a is gone, and a task that panics stands in its place.
        let name = PeerName::from("a");
        drop(speaker.remove(&name));
        speaker.drivers.retain(|_, driver| *driver != name);
        let broken = speaker.tasks.spawn(async { panic!("on purpose") });
        speaker.drivers.insert(broken.id(), name.clone());
        let stop = CancellationToken::new();
        let running = tokio::spawn(speaker.run(stop.clone()));
        said.wait_for(|said| said.contains(Reason::PeerPanicked, "a")).await.unwrap();
        assert!(shown.borrow().peers.contains_key(&PeerName::from("b")));
        let mut shown = shown.clone();
        shown.wait_for(|shown| shown.peers.len() == 2).await.unwrap();
        said.wait_for(|said| *said == Conditions::default()).await.unwrap();
        stop.cancel();
        running.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn thousands_of_peers_begin_a_few_at_a_time() {
        let peers: String = (0..1000)
            .map(|n| {
                format!(
                    "- {{name: p{n}, address: 127.1.{}.{}, port: 1, asn: 64500, passive: true}}\n",
                    n / 250,
                    n % 250 + 1
                )
            })
            .collect();
        let text = format!("asn: 64512\nrouterId: 192.0.2.1\nlisten: {{port: 1790}}\npools: []\npeers:\n{peers}");
        let (_spec, spec) = watch::channel(spec(&text));
        let unknown = Speakers {
            standing: Standing::Waiting(String::new()),
            peers: imbl::OrdMap::new(),
            doubts: Arc::default(),
            ranges: Arc::default(),
        };
        let channels = Channels {
            spec,
            confirmed: watch::channel(None).1,
            speakers: watch::channel(Arc::new(unknown)).0,
            conditions: watch::channel(Conditions::default()).0,
            turns: Turns::new(Turn::Alone).0,
            interrupted: uninterrupted(),
        };
        let mut speaker = Speaker::new(channels, RestartState::Running);
        speaker.run_exactly();
        assert_eq!(speaker.running.len(), 0, "nothing is wanted yet");
        speaker.spec = speaker.channels.spec.borrow().clone();
        speaker.wishes = speaker.with_known(|known| known.peers());
        let Standing::Known(identity) = speaker.spec.standing else { panic!("known") };
        speaker.wanted = speaker.wanted(identity);
        speaker.run_exactly();
        assert_eq!((speaker.running.len(), speaker.is_wanting()), (STARTS, true));
        while speaker.is_wanting() {
            speaker.start_some();
        }
        assert_eq!(speaker.running.len(), 1000);
        let remote = "127.1.3.7:40000".parse().unwrap();
        assert_eq!(speaker.at(remote), Some(PeerName::from("p756")));
    }
}
