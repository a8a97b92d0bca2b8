//! Running peers equal to the configuration, and to each of them its routes.

use super::door::{self, Door, Member, RANGE_LIMIT};
use super::identity::{Doubts, Identities};
use crate::admin::{Metrics, PeerHandles, Speakers, Standing};
use crate::advertise::{self, ClusterView, NodeName, NodeSelector, Planner};
use crate::config::diff::{Cause, restart_causes};
use crate::config::{Config, Reach};
use crate::net::journal::{Budget, Voice};
use crate::net::{Accepted, Driver, Lines};
use crate::peer::settings::RestartState;
use crate::peer::status::FirstTable;
use crate::peer::{Identity, Neighbor, PeerName, Phase, Plan, Settings, Status, Stop};
use crate::rib::Bounds;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How long peers have for their last words when the process ends. With what comes after, two seconds in all.
const SHUTDOWN_LIMIT: Duration = Duration::from_millis(1700);

/// What every peer is told when the process ends (RFC 9003 text of the Cease).
const SHUTDOWN_TEXT: &str = "herald is stopping";

/// Where the speaker's state comes from and goes to.
pub struct Channels {
    /// The configuration in use.
    pub config: watch::Receiver<Arc<Config>>,
    /// The cluster; `None` until it was read completely once.
    pub view: watch::Receiver<Option<Arc<ClusterView>>>,
    /// For the admin room.
    pub speakers: watch::Sender<Arc<Speakers>>,
}

/// All peers of this node.
pub struct Speaker {
    node: NodeName,
    channels: Channels,
    metrics: Metrics,
    identities: Identities,
    doubts: Doubts,
    planner: Planner,
    planned: Option<Planned>,
    running: BTreeMap<PeerName, Running>,
    /// Routers of ranges that dialled us.
    members: BTreeMap<PeerName, Member>,
    /// What may be logged of them.
    budget: Arc<Budget>,
    /// How the process stands towards routers that it has told nothing.
    restart_state: RestartState,
    /// Routers that had End-of-RIB from this process, on a session that is gone.
    told: BTreeSet<IpAddr>,
    door: Door,
    stopping: BTreeMap<PeerName, SocketAddr>,
    tasks: JoinSet<PeerName>,
}

/// The newest plan, with the Node's addresses that go along with it.
struct Planned {
    routes: advertise::Plan,
    node_addresses: Vec<IpAddr>,
    bounds: Bounds,
}

/// A peer whose driver runs.
struct Running {
    settings: Settings,
    plan: watch::Sender<Option<Plan>>,
    status: watch::Receiver<Status>,
    stop: oneshot::Sender<Stop>,
    accepted: mpsc::Sender<Accepted>,
    voice: Voice,
}

/// Connections of one peer that its driver has not looked at yet. A router dials once at a time.
const ACCEPTED_QUEUE: usize = 2;

impl Speaker {
    /// A speaker of `node` at rest. `restart_state` is that towards a router that this process has told nothing yet.
    pub fn new(node: NodeName, channels: Channels, metrics: Metrics, restart_state: RestartState) -> Self {
        Self {
            node,
            channels,
            metrics,
            identities: Identities::default(),
            doubts: Doubts::default(),
            planner: Planner::default(),
            planned: None,
            running: BTreeMap::new(),
            members: BTreeMap::new(),
            budget: Arc::new(Budget::new(tokio::time::Instant::now().into_std())),
            restart_state,
            told: BTreeSet::new(),
            door: Door::closed(),
            stopping: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Runs until `stop`, then tells every peer so. The first change is taken at once; what comes meanwhile, together.
    ///
    /// # Errors
    /// A peer's task panicked.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        self.channels.config.mark_changed();
        self.channels.view.mark_changed();
        loop {
            // A source that ended publishes nothing more; whoever supervises it knows.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Ok(()) = self.channels.config.changed() => {}
                Ok(()) = self.channels.view.changed() => {}
                Some(ended) = self.tasks.join_next() => self.forget(&ended?),
                accepted = self.door.accept() => {
                    self.on_accepted(accepted);
                    // Where many dial at once, the sessions that are there have their turn after each of them.
                    tokio::task::yield_now().await;
                    continue;
                }
            }
            self.reconcile();
        }
        self.shut_down().await;
        Ok(())
    }

    /// Brings everything up to the newest configuration and view.
    fn reconcile(&mut self) {
        let config = self.channels.config.borrow_and_update().clone();
        let view = self.channels.view.borrow_and_update().clone();
        let keys = door::keys(&config, |nodes| self.is_here(nodes, view.as_deref()));
        self.door.follow(config.listen.as_ref(), keys);
        let standing = match self.identities.ours(&config, view.as_deref(), &self.node) {
            Ok(identity) => Standing::Known(identity),
            Err(why) => Standing::Waiting(why),
        };
        if let Standing::Known(identity) = &standing {
            let wanted = self.wanted(&config, view.as_deref(), *identity);
            self.run_exactly(&wanted);
            self.members.retain(|name, _| wanted.contains_key(name));
        }
        if let Some(view) = view.as_deref() {
            self.plan(&config, view);
        }
        self.hand_out(&config);
        self.publish(standing, &config, view.as_deref());
    }

    /// The peers that this node should have. One whose selector cannot be judged yet waits; one without starts at once.
    fn wanted(&self, config: &Config, view: Option<&ClusterView>, identity: Identity) -> BTreeMap<PeerName, Settings> {
        let here = |nodes: &NodeSelector| self.is_here(nodes, view);
        let peers = config.peers.values().filter(|peer| peer.reach == Reach::One && here(&peer.nodes));
        let members = self.members.values().filter_map(|member| member.neighbor(config, here));
        let neighbors = peers.map(|peer| peer.neighbor.clone()).chain(members);
        let settings = |neighbor: Neighbor| {
            let restart_state = self.restart_state_towards(neighbor.address);
            (neighbor.name.clone(), Settings { identity, neighbor, restart_state })
        };
        neighbors.map(settings).collect()
    }

    /// Routers that had all routes from this process do not see a restart when a session begins anew.
    fn restart_state_towards(&self, router: IpAddr) -> RestartState {
        if self.told.contains(&router) { RestartState::Running } else { self.restart_state }
    }

    fn is_here(&self, nodes: &NodeSelector, view: Option<&ClusterView>) -> bool {
        let node = || view.and_then(|view| view.nodes.get(&self.node));
        nodes.requirements.is_empty() || node().is_some_and(|node| nodes.matches(node))
    }

    /// A router dialled. Its driver decides what becomes of the connection; a router of nobody is not answered.
    fn on_accepted(&mut self, accepted: Accepted) {
        let ip = accepted.remote.ip();
        let of = |running: &&Running| running.settings.neighbor.address == ip;
        if !self.running.values().any(|running| of(&running)) {
            self.admit_member(ip);
        }
        match self.running.values().find(of) {
            Some(running) => {
                if running.accepted.try_send(accepted).is_err() {
                    debug!(peer = %running.settings.neighbor.name, "the peer dials faster than it is answered; closed");
                }
            }
            None => debug!(remote = %accepted.remote, "a connection from no peer of this node; closed"),
        }
    }

    /// Begins with a router of a range, if this is one.
    fn admit_member(&mut self, ip: IpAddr) {
        let config = self.channels.config.borrow().clone();
        let view = self.channels.view.borrow().clone();
        let Some(member) = Member::of(&config, ip, |nodes| self.is_here(nodes, view.as_deref())) else { return };
        let name = member.name();
        // Who is being told goodbye holds a socket still: they must not pile up either, however fast others come.
        if self.stopping.contains_key(&name) || self.stopping.len() >= RANGE_LIMIT || !self.make_room(&member.range) {
            return;
        }
        self.members.insert(name, member);
        self.reconcile();
    }

    /// Whether a range may have one more peer; of those not Established the oldest goes for it, which had the most time.
    fn make_room(&mut self, range: &Arc<str>) -> bool {
        let of_range = || self.members.iter().filter(|(_, member)| member.range == *range);
        if of_range().count() < RANGE_LIMIT {
            return true;
        }
        let idle = of_range().filter_map(|(name, _)| {
            let Some(running) = self.running.get(name) else { return Some((None, name.clone())) };
            let status = running.status.borrow();
            let up = matches!(status.phase, Phase::Established { .. });
            (!up).then(|| (Some(status.started), name.clone()))
        });
        let Some((_, idle)) = idle.min() else {
            if self.budget.spend(tokio::time::Instant::now().into_std()) {
                warn!(%range, limit = RANGE_LIMIT, "the range has as many routers as it may; another one is not answered");
            }
            return false;
        };
        self.members.remove(&idle);
        true
    }

    fn run_exactly(&mut self, wanted: &BTreeMap<PeerName, Settings>) {
        let leaving = self.running.iter().filter_map(|(name, running)| {
            let (reason, why) = match wanted.get(name).map(|settings| restart_causes(&running.settings, settings)) {
                None => (Stop::Deconfigured, "this node no longer has it".to_owned()),
                Some(causes) if causes.is_empty() => return None,
                Some(causes) => (Stop::ConfigurationChange, format!("new {}", join(&causes))),
            };
            Some((name.clone(), reason, why))
        });
        for (name, reason, why) in leaving.collect::<Vec<_>>() {
            self.stop(&name, reason, &why);
        }
        for (name, settings) in wanted {
            // A second connection to a router that still holds the first would be refused.
            let address = end_of(settings);
            let in_the_way = self.stopping.contains_key(name) || self.stopping.values().any(|other| *other == address);
            if !in_the_way && !self.running.contains_key(name) {
                self.start(name, settings);
            }
        }
    }

    fn start(&mut self, name: &PeerName, settings: &Settings) {
        let (address, asn) = (end_of(settings), settings.neighbor.asn);
        let voice = if self.members.contains_key(name) {
            debug!(peer = %name, %address, %asn, "peer starts");
            Voice::OfRange(self.budget.clone())
        } else {
            info!(peer = %name, %address, %asn, "peer starts");
            Voice::Named
        };
        let (driver, status) = Driver::new(settings.clone(), fastrand::u64(..), voice.clone());
        let (plan, plan_read) = watch::channel(None);
        let (stop, stop_read) = oneshot::channel();
        let (accepted, accepted_read) = mpsc::channel(ACCEPTED_QUEUE);
        let ended = name.clone();
        self.tasks.spawn(async move {
            driver.run(Lines { plan: plan_read, accepted: accepted_read }, stop_read).await;
            ended
        });
        let running = Running { settings: settings.clone(), plan, status, stop, accepted, voice };
        self.running.insert(name.clone(), running);
    }

    fn stop(&mut self, name: &PeerName, reason: Stop, why: &str) {
        let Some(running) = self.running.remove(name) else { return };
        match running.voice {
            Voice::Named => info!(peer = %name, why, "peer stops"),
            Voice::OfRange(_) => debug!(peer = %name, why, "peer stops"),
        }
        if running.status.borrow().first_table == FirstTable::Sent {
            self.told.insert(running.settings.neighbor.address);
        }
        self.stopping.insert(name.clone(), end_of(&running.settings));
        // A driver that ended by itself no longer listens; its task is about to be joined.
        let _ended = running.stop.send(reason);
    }

    fn forget(&mut self, name: &PeerName) {
        self.stopping.remove(name);
        self.running.remove(name);
    }

    fn plan(&mut self, config: &Config, view: &ClusterView) {
        let began = tokio::time::Instant::now();
        let routes = self.planner.plan(view, &config.policy, &self.node);
        self.metrics.planned(began.elapsed());
        let node = view.nodes.get(&self.node);
        if self.planned.is_none() {
            let count = routes.routes.values().map(crate::rib::RouteSet::len).sum::<usize>();
            info!(routes = count, peers = routes.routes.len(), services = view.services.len(), "first plan");
            if node.is_none() {
                warn!(node = %self.node, "the cluster has no node of this name: nothing is announced (check --node)");
            }
        }
        let node_addresses = node.map(|node| node.internal_ips.clone()).unwrap_or_default();
        let pools = config.policy.pools.values().flat_map(|pool| pool.ranges.iter().copied());
        self.planned = Some(Planned { routes, node_addresses, bounds: Bounds::within(pools) });
    }

    /// Gives every peer its routes. Without a plan they have none, which is not the same as no routes.
    fn hand_out(&self, config: &Config) {
        let Some(planned) = &self.planned else { return };
        for (name, running) in &self.running {
            // A router of a range is told what the range is told.
            let entry = self.members.get(name).map_or(&name.0, |member| &member.range);
            let routes = planned.routes.routes.get(entry).cloned().unwrap_or_default();
            let prefix_limits = config.peers.get(entry).map(|peer| peer.prefix_limits.clone()).unwrap_or_default();
            let (node_addresses, bounds) = (planned.node_addresses.clone(), planned.bounds.clone());
            let plan = Plan { routes, node_addresses, bounds, prefix_limits };
            running.plan.send_if_modified(|held| {
                let changed = held.as_ref() != Some(&plan);
                if changed {
                    *held = Some(plan);
                }
                changed
            });
        }
    }

    fn publish(&mut self, standing: Standing, config: &Arc<Config>, view: Option<&ClusterView>) {
        let peers = self.running.iter().map(|(name, running)| {
            (name.clone(), PeerHandles { status: running.status.clone(), plan: running.plan.subscribe() })
        });
        let before = self.channels.speakers.borrow().clone();
        let doubts = view.map(|view| self.doubts.about(config, view).to_vec()).unwrap_or_default();
        for doubt in doubts.iter().filter(|doubt| !before.doubts.contains(doubt)) {
            warn!("{doubt}");
        }
        if let Standing::Waiting(why) = &standing
            && before.standing != standing
        {
            info!("no session is begun yet: {why}");
        }
        self.channels.speakers.send_replace(Arc::new(Speakers { standing, peers: peers.collect(), doubts }));
    }

    async fn shut_down(mut self) {
        self.door.follow(None, door::keys(&self.channels.config.borrow().clone(), |_| true));
        for (_, running) in std::mem::take(&mut self.running) {
            let _ended = running.stop.send(Stop::Shutdown(SHUTDOWN_TEXT.to_owned()));
        }
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_LIMIT, all).await.is_err() {
            warn!(peers = self.tasks.len(), "peers did not take our last words in time; closing");
        }
    }
}

fn join(causes: &[Cause]) -> String {
    causes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn end_of(settings: &Settings) -> SocketAddr {
    SocketAddr::new(settings.neighbor.address, settings.neighbor.port)
}
