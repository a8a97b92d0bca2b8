//! Running peers equal to the configuration, and to each of them its routes.

use super::door::{Door, Member, RANGE_LIMIT};
use super::identity::{Doubts, Identities};
use super::keys::KeyRing;
use super::on_link::OnLink;
use super::wanted::{Known, Verdict, Wish};
use crate::admin::{Metrics, PeerHandles, Speakers, Standing};
use crate::advertise::{self, ClusterView, NodeName, NodeSelector, Planner};
use crate::config::Config;
use crate::config::diff::{Cause, restart_causes};
use crate::net::listener::Rules;
use crate::net::socket::interface_index;
use crate::net::{Accepted, Driver, Lines, Readings};
use crate::peer::settings::{Password, RestartState, Whereabouts};
use crate::peer::status::FirstTable;
use crate::peer::{Identity, PeerName, Phase, Plan, Settings, Status, Stop};
use crate::rib::{Bounds, RouteSet};

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
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
    /// Passwords of files that it names.
    pub keys: watch::Receiver<Arc<KeyRing>>,
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
    /// Peers as they should be, by the newest look.
    wishes: BTreeMap<PeerName, Wish>,
    running: BTreeMap<PeerName, Running>,
    /// Peers that must not have a session now.
    held: BTreeMap<PeerName, Held>,
    /// Routers of ranges that dialled us.
    members: BTreeMap<PeerName, Member>,
    /// How the process stands towards routers that it has told nothing.
    restart_state: RestartState,
    /// Routers that had End-of-RIB from this process, on a session that is gone.
    told: BTreeSet<Whereabouts>,
    door: Door,
    on_link: OnLink,
    stopping: BTreeMap<PeerName, End>,
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
    key: watch::Sender<Option<Password>>,
    readings: Readings,
    stop: oneshot::Sender<Stop>,
    accepted: mpsc::Sender<Accepted>,
}

/// A peer that must not have a session now, as others see it.
struct Held {
    since: Instant,
    why: String,
    status: watch::Receiver<Status>,
}

/// What two connections at a time would be refused to: a router's address and port.
type End = (Whereabouts, u16);

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
            wishes: BTreeMap::new(),
            running: BTreeMap::new(),
            held: BTreeMap::new(),
            members: BTreeMap::new(),
            restart_state,
            told: BTreeSet::new(),
            door: Door::closed(),
            on_link: OnLink::idle(),
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
                Ok(()) = self.channels.keys.changed() => {}
                Ok(()) = self.channels.view.changed() => {}
                () = self.on_link.changed() => {}
                Some(ended) = self.tasks.join_next() => self.forget(&ended?),
                news = self.door.news() => if let Some(accepted) = news {
                    self.on_accepted(accepted);
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
        self.look(&config, view.as_deref());
        let standing = match self.identities.ours(&config, view.as_deref(), &self.node) {
            Ok(identity) => Standing::Known(identity),
            Err(why) => Standing::Waiting(why),
        };
        if let Standing::Known(identity) = &standing {
            self.run_exactly(&self.wanted(*identity));
            self.hold(*identity);
            self.members.retain(|name, _| self.running.contains_key(name));
        }
        if let Some(view) = view.as_deref() {
            self.plan(&config, view);
        }
        self.hand_out(&config);
        self.publish(standing, &config, view.as_deref());
    }

    /// Finds out who should be a peer now, and has the door and the links follow. A peer whose selector cannot be judged yet
    /// waits; one without starts at once.
    fn look(&mut self, config: &Config, view: Option<&ClusterView>) {
        let (found, silent, failures) = (self.on_link.found(), self.on_link.silent(), self.door.failures());
        let keys = self.channels.keys.borrow_and_update().clone();
        let known = Known {
            config,
            here: &|nodes| self.is_here(nodes, view),
            keys: &keys,
            found: &found,
            silent: &silent,
            failures: &failures,
            members: &self.members,
            running: &|name| self.running.get(name).map(|running| &running.settings.neighbor),
        };
        let (wishes, rules, links) = (known.peers(), known.rules(), known.links());
        self.wishes = wishes;
        self.on_link.follow(&links);
        self.door.follow(config.listen.as_ref(), rules);
    }

    /// What peers that may have a session are to be told.
    fn wanted(&self, identity: Identity) -> BTreeMap<PeerName, Settings> {
        let run = self.wishes.iter().filter(|(_, wish)| wish.verdict == Verdict::Run);
        run.map(|(name, wish)| (name.clone(), self.settings(wish, identity))).collect()
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
        let now = tokio::time::Instant::now().into_std();
        for (name, wish) in &self.wishes {
            let Verdict::Hold(why) = &wish.verdict else { continue };
            let held = match before.remove(name) {
                Some(held) if held.why == *why => held,
                earlier => {
                    warn!(peer = %name, why, "peer is held back");
                    let since = earlier.map_or(now, |earlier| earlier.since);
                    let status = Status::held_back(&self.settings(wish, identity), since, why, now);
                    Held { since, why: why.clone(), status: watch::channel(status).1 }
                }
            };
            self.held.insert(name.clone(), held);
        }
    }

    fn is_here(&self, nodes: &NodeSelector, view: Option<&ClusterView>) -> bool {
        let node = || view.and_then(|view| view.nodes.get(&self.node));
        nodes.requirements.is_empty() || node().is_some_and(|node| nodes.matches(node))
    }

    /// A router dialled. Its driver decides what becomes of the connection; a router of nobody is not answered.
    fn on_accepted(&mut self, accepted: Accepted) {
        let remote = accepted.remote;
        if !self.running.values().any(|running| running.is_at(remote)) {
            self.admit_member(remote.ip());
        }
        match self.running.values().find(|running| running.is_at(remote)) {
            Some(running) => {
                if running.accepted.try_send(accepted).is_err() {
                    debug!(peer = %running.settings.neighbor.name, "the peer dials faster than it is answered; closed");
                }
            }
            None => debug!(%remote, "a connection from no peer of this node; closed"),
        }
    }

    /// Begins with a router of a range, if this is one.
    fn admit_member(&mut self, ip: IpAddr) {
        let config = self.channels.config.borrow().clone();
        let view = self.channels.view.borrow().clone();
        let Some(member) = Member::of(&config, ip, |nodes| self.is_here(nodes, view.as_deref())) else { return };
        let name = member.name();
        if self.stopping.contains_key(&name) || !self.make_room(&member.range) {
            return;
        }
        self.members.insert(name, member);
        self.reconcile();
    }

    /// Whether a range may have one more peer; one that is not Established goes for it.
    fn make_room(&mut self, range: &Arc<str>) -> bool {
        let of_range = || self.members.iter().filter(|(_, member)| member.range == *range);
        if of_range().count() < RANGE_LIMIT {
            return true;
        }
        let idle = |name: &PeerName| {
            let status = self.running.get(name).map(|running| running.readings.status.borrow());
            status.is_none_or(|status| !matches!(status.phase, Phase::Established { .. }))
        };
        let Some(idle) = of_range().map(|(name, _)| name).find(|name| idle(name)).cloned() else {
            warn!(%range, limit = RANGE_LIMIT, "the range has as many routers as it may; another one is not answered");
            return false;
        };
        self.members.remove(&idle);
        true
    }

    fn run_exactly(&mut self, wanted: &BTreeMap<PeerName, Settings>) {
        let leaving = self.running.iter().filter_map(|(name, running)| {
            let (reason, why) = match wanted.get(name).map(|settings| restart_causes(&running.settings, settings)) {
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
        for (name, settings) in wanted {
            // A second connection to a router that still holds the first would be refused.
            let end = end_of(settings);
            let in_the_way = self.stopping.contains_key(name) || self.stopping.values().any(|other| *other == end);
            match self.running.get_mut(name) {
                Some(running) => running.follow(settings),
                None if in_the_way => {}
                None => self.start(name, settings),
            }
        }
    }

    fn start(&mut self, name: &PeerName, settings: &Settings) {
        let neighbor = &settings.neighbor;
        info!(peer = %name, address = %neighbor.address, port = neighbor.port, asn = %neighbor.asn, "peer starts");
        let (driver, readings) = Driver::new(settings.clone(), fastrand::u64(..));
        let (plan, plan_read) = watch::channel(None);
        let (key, key_read) = watch::channel(neighbor.password.clone());
        let (stop, stop_read) = oneshot::channel();
        let (accepted, accepted_read) = mpsc::channel(ACCEPTED_QUEUE);
        let ended = name.clone();
        self.tasks.spawn(async move {
            driver.run(Lines { plan: plan_read, key: key_read, accepted: accepted_read }, stop_read).await;
            ended
        });
        let running = Running { settings: settings.clone(), plan, key, readings, stop, accepted };
        self.running.insert(name.clone(), running);
    }

    fn stop(&mut self, name: &PeerName, reason: Stop, why: &str) {
        let Some(running) = self.running.remove(name) else { return };
        info!(peer = %name, why, "peer stops");
        if running.readings.status.borrow().first_table == FirstTable::Sent {
            self.told.insert(running.settings.neighbor.whereabouts());
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
            let of = config.peers.get(entry);
            let prefix_limits = of.map(|peer| peer.prefix_limits.clone()).unwrap_or_default();
            let next_hops = of.map(|peer| peer.next_hops.clone()).unwrap_or_default();
            let (node_addresses, bounds) = (planned.node_addresses.clone(), planned.bounds.clone());
            let plan = Plan { routes, node_addresses, next_hops, bounds, prefix_limits };
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
        let remarks = |name| self.wishes.get(name).map(|wish| wish.remarks.clone()).unwrap_or_default();
        let running = self.running.iter().map(|(name, running)| {
            let Readings { status, transport } = running.readings.clone();
            let plan = running.plan.subscribe();
            (name.clone(), PeerHandles { status, plan, transport, remarks: remarks(name) })
        });
        let held = self.held.iter().map(|(name, held)| {
            let nothing = Plan { routes: RouteSet::new(), ..Plan::default() };
            let (plan, transport) = (watch::channel(Some(nothing)).1, watch::channel(None).1);
            (name.clone(), PeerHandles { status: held.status.clone(), plan, transport, remarks: remarks(name) })
        });
        let peers: BTreeMap<_, _> = held.chain(running).collect();
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
        self.channels.speakers.send_replace(Arc::new(Speakers { standing, peers, doubts }));
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

fn join(causes: &[Cause]) -> String {
    causes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn end_of(settings: &Settings) -> End {
    (settings.neighbor.whereabouts(), settings.neighbor.port)
}

impl Running {
    /// Takes what need not end the session.
    fn follow(&mut self, settings: &Settings) {
        let password = &settings.neighbor.password;
        self.key.send_if_modified(|held| {
            let changed = held != password;
            held.clone_from(password);
            changed
        });
        self.settings.neighbor.password.clone_from(password);
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
