//! The thread *control*: it reads files and watches the cluster, plans, and says what the sessions are to be. Whatever stands still
//! or panics here costs no session: they keep the last [`Spec`], and control is begun anew.

use super::conditions::Outlets;
use super::guarded::{Guarded, Judged};
use super::identity::{Doubts, Identities};
use super::keys::{KeyRing, Keys};
use super::last_known_good::Keeper;
use super::reload::{ConfigFile, Uses};
use super::spec::{Planned, Spec};
use super::thread::{self, Tasks, beat, untimely};
use super::turn::Asking;
use crate::admin::{Heart, Metrics, Speakers, Standing};
use crate::advertise::{ClusterView, NodeName, NodeSelector, Observation, Remembered, out_of_service};
use crate::condition::{Conditions, Reason};
use crate::config::Config;
use crate::k8s::client::Access;
use crate::k8s::{self, WatchHealth};
use crate::rib::{Bounds, RouteSet};
use crate::wire::Prefix;
use anyhow::Context;
use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Failures within [`WINDOW`] after which control is not begun anew.
const FAILURES: usize = 4;
const WINDOW: Duration = Duration::from_secs(600);

/// The pause before control is begun anew, times the errors in a row, and at most.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Where services come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The cluster of this pod, or of the kubeconfig.
    Cluster,
    /// A folder of manifests.
    Manifests(PathBuf),
}

/// Where control reads, and where what it knows goes. A clone is for the next one, should this one panic.
#[derive(Debug, Clone)]
pub struct Control {
    /// This node's name in the cluster.
    pub node: NodeName,
    /// The configuration file.
    pub config: PathBuf,
    /// Where services come from.
    pub source: Source,
    /// For the sessions.
    pub spec: watch::Sender<Arc<Spec>>,
    /// How well the cluster is known.
    pub health: watch::Sender<WatchHealth>,
    /// What is not as it should be.
    pub conditions: Outlets,
    /// What is counted.
    pub metrics: Metrics,
    /// Where the configuration in use is kept.
    pub keeper: Keeper,
    /// Who has a session.
    pub speakers: watch::Receiver<Arc<Speakers>>,
    /// What the process before this one announced.
    pub remembered: BTreeSet<Prefix>,
    /// What an operator confirmed last.
    pub confirmed: watch::Receiver<Option<Arc<str>>>,
    /// Counts that this thread goes on.
    pub heart: Heart,
    /// What the sessions ask of other nodes.
    pub asking: Asking,
}

impl Control {
    /// Reads, watches and plans until `stop`, from the configuration that is in use on.
    ///
    /// # Errors
    /// It could not begin, or a part of it ended or panicked.
    async fn run(self, file: ConfigFile, stop: CancellationToken) -> anyhow::Result<()> {
        self.conditions.clear();
        let hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
        let in_use = self.spec.borrow().clone();
        let (mut keys, keys_read) = Keys::after(&in_use.keys, &in_use.config, self.conditions.keys.clone());
        let (config, config_read) = watch::channel(Arc::clone(&in_use.config));
        let (view, view_read) = watch::channel(None);
        let mut tasks = Tasks::new();
        beat(&mut tasks, self.heart.clone());
        let announced = in_use.planned.as_ref().map(|planned| &planned.routes.routes);
        let to = (self.speakers.clone(), self.conditions.guard.clone());
        // One that is begun anew doubts what the one before it did.
        let doubted =
            in_use.planned.as_ref().map_or_else(|| self.remembered.clone(), |planned| (*planned.doubted).clone());
        let before = (announced, Remembered::new(doubted));
        let (guarded, accepted) = Guarded::new(self.node.clone(), before, to.0, to.1);
        self.feed(&mut tasks, (view, accepted), &stop).await?;
        let beside = move |config: &_| keys.refresh(config);
        let follow = file.follow(hangup, Uses { config, reloads: self.metrics.reloads(), beside });
        tasks.spawn(async {
            follow.await;
            ("configuration", Ok(()))
        });
        let planner = Specs::new(self, config_read, keys_read, view_read, guarded);
        tasks.spawn(async {
            planner.run().await;
            ("planner", Ok(()))
        });
        let ended = tokio::select! {
            () = stop.cancelled() => Ok(()),
            Some(ended) = tasks.join_next() => Err(untimely(ended)),
        };
        tasks.shutdown().await;
        ended
    }

    async fn feed(
        &self,
        tasks: &mut Tasks,
        view: (watch::Sender<Option<Arc<Observation>>>, watch::Receiver<u64>),
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let (health, stop) = (self.health.clone(), stop.clone());
        match self.source.clone() {
            Source::Manifests(folder) => {
                tasks.spawn(async { ("manifests", k8s::manifests::run(folder, view, health, stop).await) });
            }
            Source::Cluster => {
                let (client, keeper) = k8s::client::open(Access::Inferred).await?;
                let said = self.conditions.credentials.clone();
                tasks.spawn(async {
                    keeper.run(said).await;
                    ("credentials", Ok(()))
                });
                let Asking { requests, answers } = self.asking.clone();
                let lines = k8s::turn::Lines { requests, answers, conditions: self.conditions.turn.clone() };
                let asks = k8s::turn::run(client.clone(), self.node.clone(), lines);
                tasks.spawn(async {
                    asks.await;
                    ("turns", Ok(()))
                });
                let to = (health, self.conditions.cluster.clone());
                tasks.spawn(async { ("watches", k8s::watch::run(client, view, to, stop).await) });
            }
        }
        Ok(())
    }
}

/// Runs control on its thread until `stop`. When it panics it is begun anew, and everything it needs is read again; the sessions
/// go on with what they have.
///
/// # Errors
/// It could not begin at all, or it failed for the fourth time within ten minutes: the process had better stop in order.
pub async fn keep_running(control: Control, file: ConfigFile, stop: CancellationToken) -> anyhow::Result<()> {
    let mut file = Some(file);
    let (metrics, spec) = (control.metrics.clone(), control.spec.subscribe());
    let again = |control: &Control| {
        let Control { config, keeper, conditions, .. } = control;
        ConfigFile::again(config.clone(), keeper.clone(), conditions.file.clone())
    };
    let attempt = move || {
        let file = file.take().unwrap_or_else(|| again(&control));
        let (this, until) = (control.clone(), stop.clone());
        thread::run("control", move || this.run(file, until))
    };
    keep(attempt, move || spec.borrow().planned.is_some(), || metrics.control_failed()).await
}

/// What cannot begin before `has_begun` is over at once. After that only panics count: a folder or a file that is no good for a while
/// is tried again, ever more seldom.
async fn keep<F>(mut attempt: impl FnMut() -> F, has_begun: impl Fn() -> bool, failed: impl Fn()) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let mut panics = VecDeque::new();
    let mut errors = 0;
    loop {
        let error = match attempt().await {
            Ok(()) => return Ok(()),
            Err(error) if !is_panic(&error) && panics.is_empty() && !has_begun() => return Err(error),
            Err(error) => error,
        };
        failed();
        if is_panic(&error) {
            errors = 0;
            let now = Instant::now();
            panics.retain(|at| now.duration_since(*at) < WINDOW);
            panics.push_back(now);
            if panics.len() >= FAILURES {
                let minutes = WINDOW.as_secs() / 60;
                return Err(error.context(format!("control failed {FAILURES} times within {minutes} min")));
            }
        } else {
            errors += 1;
        }
        error!("control is begun anew, the sessions go on with what they have: {error:#}");
        tokio::time::sleep((PAUSE * (errors + 1)).min(LONGEST_PAUSE)).await;
    }
}

fn is_panic(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<thread::Panicked>() || cause.is::<tokio::task::JoinError>())
}

/// How often it is seen what has become of a step that the guard holds.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What makes another plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// What is published anew.
    ForNews,
    /// Time too: something is held.
    ForTime,
}

/// From configuration, keys and view to the [`Spec`].
struct Specs {
    control: Control,
    config: watch::Receiver<Arc<Config>>,
    keys: watch::Receiver<Arc<KeyRing>>,
    view: watch::Receiver<Option<Arc<Observation>>>,
    identities: Identities,
    doubts: Doubts,
    guarded: Guarded,
    waits: Waits,
}

impl Specs {
    fn new(
        control: Control,
        config: watch::Receiver<Arc<Config>>,
        keys: watch::Receiver<Arc<KeyRing>>,
        view: watch::Receiver<Option<Arc<Observation>>>,
        guarded: Guarded,
    ) -> Self {
        let before = control.spec.borrow().standing.clone();
        Self {
            control,
            config,
            keys,
            view,
            identities: Identities::keeping(&before),
            doubts: Doubts::default(),
            guarded,
            waits: Waits::ForNews,
        }
    }

    /// Runs as long as its sources do. The first change is taken at once; what comes meanwhile, together.
    async fn run(mut self) {
        loop {
            self.publish();
            // A source that ended publishes nothing more; whoever supervises it knows.
            tokio::select! {
                Ok(()) = self.config.changed() => {}
                Ok(()) = self.keys.changed() => {}
                Ok(()) = self.view.changed() => {}
                Ok(()) = self.control.confirmed.changed() => {}
                () = tokio::time::sleep(LOOK_AGAIN), if self.waits == Waits::ForTime => {}
                else => return,
            }
        }
    }

    fn publish(&mut self) {
        let config = self.config.borrow_and_update().clone();
        let keys = self.keys.borrow_and_update().clone();
        let view = self.view.borrow_and_update().clone();
        let before = self.control.spec.borrow().clone();
        let judged = view.as_deref().map(|seen| self.judge(&config, seen, before.planned.is_none()));
        let holds = judged.as_ref().is_some_and(|judged| judged.holds);
        self.waits = if holds { Waits::ForTime } else { Waits::ForNews };
        let basis = judged.as_ref().map(|judged| judged.basis.clone());
        let basis = basis.as_ref();
        let keys = match &judged {
            Some(Judged { keeps_peers: true, .. }) => Arc::new(keys.with_those_of(&before.keys)),
            Some(_) | None => keys,
        };
        let newest = Arc::clone(&config);
        let config = judged.as_ref().map_or(config, |judged| Arc::clone(&judged.config));
        let standing = match self.identities.ours(&config, basis, &self.control.node) {
            Ok(identity) => Standing::Known(identity),
            Err(why) => Standing::Waiting(why),
        };
        if let Standing::Waiting(why) = &standing
            && before.standing != standing
        {
            info!("no session is begun yet: {why}");
        }
        let here = match basis {
            // Begun anew, and not read yet: what was known of this node stays.
            None if before.planned.is_some() => Arc::clone(&before.here),
            _ => same_or_new(&before.here, self.here(&config, basis)),
        };
        let planned = match judged {
            Some(judged) => Some(self.planned(judged, &newest)),
            None => before.planned.clone(),
        };
        if let Some(seen) = view.as_deref() {
            self.tell_of_the_node(&newest, &seen.view);
        }
        let doubts = match view.as_deref() {
            Some(seen) => same_or_new(&before.doubts, self.doubts.about(&newest, &seen.view).to_vec()),
            None => Arc::clone(&before.doubts),
        };
        for doubt in doubts.iter().filter(|doubt| !before.doubts.contains(doubt)) {
            warn!("{doubt}");
        }
        let config = if *before.config == *config { Arc::clone(&before.config) } else { config };
        let keys = if *before.keys == *keys { Arc::clone(&before.keys) } else { keys };
        self.control.spec.send_replace(Arc::new(Spec { config, keys, here, standing, planned, doubts }));
    }

    /// Says why this node announces nothing, where that is so: it would look like a cluster without services.
    fn tell_of_the_node(&self, config: &Config, view: &ClusterView) {
        let node = &self.control.node;
        let mut now = Conditions::default();
        if let Some(why) = out_of_service(view, &config.policy, node) {
            now.set(Reason::NodeOutOfService, node, format!("nothing is announced from here: {why}"));
        }
        self.control.conditions.node.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }

    /// The entries whose selector takes this node in. A selector that cannot be judged yet takes nobody in; none takes in all.
    fn here(&self, config: &Config, view: Option<&ClusterView>) -> BTreeSet<Arc<str>> {
        let node = view.and_then(|view| view.nodes.get(&self.control.node));
        let takes =
            |nodes: &NodeSelector| nodes.requirements.is_empty() || node.is_some_and(|node| nodes.matches(node));
        config.peers.iter().filter(|(_, peer)| takes(&peer.nodes)).map(|(name, _)| Arc::clone(name)).collect()
    }

    fn judge(&mut self, config: &Arc<Config>, seen: &Observation, first: bool) -> Judged {
        let began = Instant::now();
        let confirmed = self.control.confirmed.borrow_and_update().clone();
        let judged = self.guarded.plan(config, seen, confirmed.as_deref(), began.into_std());
        self.control.metrics.planned(began.elapsed());
        if first {
            let routes = &judged.plan.routes;
            let count = routes.values().map(RouteSet::len).sum::<usize>();
            info!(routes = count, peers = routes.len(), services = seen.view.services.len(), "first plan");
            let node = &self.control.node;
            if !seen.view.nodes.contains_key(node) {
                warn!(%node, "the cluster has no node of this name: nothing is announced (check --node)");
            }
        }
        judged
    }

    fn planned(&self, judged: Judged, config: &Config) -> Arc<Planned> {
        let node = judged.basis.nodes.get(&self.control.node);
        let node_addresses = node.map(|node| node.internal_ips.clone()).unwrap_or_default();
        let node_labels = node.map(|node| node.labels.clone()).unwrap_or_default();
        let pools = config.policy.pools.values().flat_map(|pool| pool.ranges.iter().copied());
        let mut retained = judged.plan.retained.clone();
        retained.extend(judged.beyond);
        let bounds = Bounds::within(pools).retaining(retained);
        let doubted = judged.doubted;
        Arc::new(Planned { routes: judged.plan, node_addresses, node_labels, bounds, doubted })
    }
}

/// The same memory where the value is the same, so that readers see at once that nothing changed.
fn same_or_new<T: PartialEq>(before: &Arc<T>, now: T) -> Arc<T> {
    if **before == now { Arc::clone(before) } else { Arc::new(now) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// How often control is begun when the attempts numbered here panic, and how it ends.
    async fn begun(panics: impl Fn(u32) -> bool, pause: Duration) -> (u32, anyhow::Result<()>) {
        let attempts = Cell::new(0);
        let attempt = || {
            attempts.set(attempts.get() + 1);
            let broken = panics(attempts.get());
            async move {
                tokio::time::sleep(pause).await;
                tokio::spawn(async move { assert!(!broken, "on purpose") }).await?;
                Ok(())
            }
        };
        let ended = keep(attempt, || false, || {}).await;
        (attempts.get(), ended)
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_begins_control_anew_and_the_fourth_in_ten_minutes_ends_it() {
        let (attempts, ended) = begun(|attempt| attempt <= 3, Duration::ZERO).await;
        assert_eq!(attempts, 4);
        ended.unwrap();
        let (attempts, ended) = begun(|_| true, Duration::from_secs(60)).await;
        assert_eq!(attempts, 4);
        assert!(ended.unwrap_err().to_string().contains("4 times within 10 min"));
        // So seldom that it never adds up.
        let (attempts, ended) = begun(|attempt| attempt <= 20, Duration::from_secs(250)).await;
        assert_eq!(attempts, 21);
        ended.unwrap();
    }

    #[tokio::test]
    async fn what_cannot_begin_at_all_is_told_at_once() {
        let attempts = Cell::new(0);
        let attempt = || {
            attempts.set(attempts.get() + 1);
            async { Err(anyhow::anyhow!("no such folder")) }
        };
        let ended = keep(attempt, || false, || {}).await;
        assert_eq!((attempts.get(), ended.unwrap_err().to_string().as_str()), (1, "no such folder"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_had_begun_and_finds_nothing_for_a_while_is_tried_again() {
        let attempts = Cell::new(0);
        let attempt = || {
            let at = attempts.replace(attempts.get() + 1);
            async move {
                match at {
                    0 => tokio::spawn(async { panic!("on purpose") }).await?,
                    1..9 => anyhow::bail!("no such folder"),
                    _ => {}
                }
                Ok(())
            }
        };
        keep(attempt, || true, || {}).await.unwrap();
        assert_eq!(attempts.get(), 10);
    }
}
