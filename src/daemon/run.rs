//! One process: wire, supervise, stop in order.

use super::boot;
use super::conditions::Board;
use super::keys::KeyRing;
use super::reload::ConfigFile;
use super::speaker::{Channels, Speaker};
use crate::admin::{self, Handles, Metrics, Speakers, Standing, WatchState, server};
use crate::advertise::{ClusterView, NodeName};
use crate::k8s::{self, WatchHealth};
use anyhow::{Context, anyhow};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// What one speaker process is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Where services come from.
    pub source: Source,
    /// This node's name in the cluster.
    pub node: NodeName,
    /// The Unix socket for `herald peers` and `herald routes`.
    pub socket: PathBuf,
    /// Address and port for probes and metrics.
    pub metrics: SocketAddr,
    /// What outlives the process.
    pub state: Option<PathBuf>,
}

/// Where services come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The cluster of this pod, or of the kubeconfig.
    Cluster,
    /// A folder of manifests.
    Manifests(PathBuf),
}

/// What remains after the speaker stopped: doors and watches have no last words, so this is short.
const REST_LIMIT: Duration = Duration::from_millis(100);

/// Runs a speaker until SIGTERM or SIGINT.
///
/// # Errors
/// It could not start (with what to do about it), or one of its tasks ended or panicked.
pub fn run(options: Options) -> anyhow::Result<()> {
    on_a_runtime(speak(options))
}

/// Runs a process's whole work.
pub(super) fn on_a_runtime(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    // One thread: the work is small, and peers share no memory with another.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let ended = runtime.block_on(work);
    // A name lookup that hangs must not hold the process.
    runtime.shutdown_timeout(REST_LIMIT);
    ended
}

/// Tasks by name; none of them ends before it is told to.
pub(super) type Tasks = JoinSet<(&'static str, anyhow::Result<()>)>;

async fn speak(options: Options) -> anyhow::Result<()> {
    // Before anything that may take long: without a handler each of them ends the process.
    let mut signals = Signals::new()?;
    let hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let (file, config) = ConfigFile::open(options.config.clone())?;
    let (keys, keys_read) = watch::channel(Arc::new(KeyRing::default().next(&config)));
    let (config, config_read) = watch::channel(Arc::new(config));
    let (view, view_read) = watch::channel(None);
    let (health, health_read) = watch::channel(WatchHealth::default());
    let (speakers, speakers_read) = watch::channel(Arc::new(Speakers {
        standing: Standing::Waiting("starting".to_owned()),
        peers: BTreeMap::new(),
        doubts: Vec::new(),
    }));
    let (conditions, conditions_read) = watch::channel(Arc::default());
    let mut board = Board::default();
    let of_the_file = board.source();
    let handles = Handles {
        node: options.node.clone(),
        speakers: speakers_read,
        watches: Arc::new(move || watches(&health_read.borrow())),
        conditions: conditions_read,
    };
    let metrics = Metrics::new(handles.clone());
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new();
    open_doors(&mut tasks, (&options.socket, options.metrics), &server::router(handles, metrics.clone()), &stop)
        .await?;
    feed(&mut tasks, options.source, view, health, &stop).await?;
    let to = (metrics.reloads(), of_the_file);
    let follow = file.follow(hangup, config, to, move |config| KeyRing::refresh(&keys, config));
    tasks.spawn(async {
        board.run(conditions).await;
        ("conditions", Ok(()))
    });
    tasks.spawn(async {
        follow.await;
        ("configuration", Ok(()))
    });
    let restart_state = boot::restart_state(options.state.as_deref());
    let channels = Channels { config: config_read, keys: keys_read, view: view_read, speakers };
    let speaker = tokio::spawn(Speaker::new(options.node.clone(), channels, metrics, restart_state).run(stop.clone()));
    info!(node = %options.node, version = env!("CARGO_PKG_VERSION"), "herald speaks");
    supervise(&mut signals, tasks, ("speaker", speaker), stop).await
}

/// Waits for a reason to end; then the speaker says goodbye to its peers (or the allocator gives up its lease), then
/// everything else ends.
pub(super) async fn supervise(
    signals: &mut Signals,
    mut tasks: Tasks,
    (name, mut speaker): (&'static str, tokio::task::JoinHandle<anyhow::Result<()>>),
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let reason = tokio::select! {
        signal = signals.recv() => {
            info!("{signal}: stopping");
            Ok(())
        }
        Some(ended) = tasks.join_next() => Err(untimely(ended)),
        ended = &mut speaker => {
            stop.cancel();
            return Err(untimely(ended.map(|ended| (name, ended))));
        }
    };
    if let Err(reason) = &reason {
        error!("stopping: {reason:#}");
    }
    stop.cancel();
    let stopped = speaker.await;
    tasks.shutdown().await;
    reason?;
    stopped.with_context(|| format!("the {name} panicked while stopping"))?
}

fn untimely(ended: Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok((name, Ok(()))) => anyhow!("the task '{name}' ended, which it never should: this is a bug"),
        Ok((name, Err(error))) => error.context(format!("the task '{name}' failed")),
        Err(panicked) => anyhow!(panicked).context("a task panicked: this is a bug, please report the lines above"),
    }
}

pub(super) async fn open_doors(
    tasks: &mut Tasks,
    (socket, metrics): (&Path, SocketAddr),
    router: &axum::Router,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let door = server::Door::bind(socket)?;
    let (port, address) = server::bind_port(metrics).await?;
    info!(%address, socket = %socket.display(), "probes, metrics and the looking glass");
    let serve = door.serve(router.clone(), stop.clone().cancelled_owned());
    tasks.spawn(async { ("socket", serve.await) });
    let serve = server::serve_port(port, router.clone(), stop.clone().cancelled_owned());
    tasks.spawn(async { ("port", serve.await) });
    Ok(())
}

async fn feed(
    tasks: &mut Tasks,
    source: Source,
    view: watch::Sender<Option<Arc<ClusterView>>>,
    health: watch::Sender<WatchHealth>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let stop = stop.clone();
    match source {
        Source::Manifests(folder) => {
            tasks.spawn(async { ("manifests", k8s::manifests::run(folder, view, health, stop).await) });
        }
        Source::Cluster => {
            let client = k8s::watch::client().await?;
            tasks.spawn(async { ("watches", k8s::watch::run(client, view, health, stop).await) });
        }
    }
    Ok(())
}

fn watches(health: &WatchHealth) -> Vec<WatchState> {
    use crate::k8s::health::{Contact, Listing};
    let states = health.sources.iter().map(|(source, state)| WatchState {
        name: source.to_string(),
        listing: match state.listing {
            Listing::Pending => admin::Listing::Pending,
            Listing::Complete => admin::Listing::Complete,
        },
        last_event: state.last_event.map(tokio::time::Instant::into_std),
        trouble: match &state.contact {
            Contact::None | Contact::Answering => state.problems.first().cloned(),
            Contact::Failing { error, .. } => Some(error.clone()),
        },
    });
    states.collect()
}

/// The signals that end the process.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
        let wait = |kind| signal(kind).context("cannot wait for signals");
        Ok(Self { terminate: wait(SignalKind::terminate())?, interrupt: wait(SignalKind::interrupt())? })
    }

    async fn recv(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A speaker that ends when told so.
    fn obedient(stop: &CancellationToken) -> tokio::task::JoinHandle<anyhow::Result<()>> {
        let stop = stop.clone();
        tokio::spawn(async move {
            stop.cancelled().await;
            Ok(())
        })
    }

    async fn end_with(tasks: Tasks, speaker: Option<tokio::task::JoinHandle<anyhow::Result<()>>>) -> String {
        let stop = CancellationToken::new();
        let speaker = speaker.unwrap_or_else(|| obedient(&stop));
        let ended = supervise(&mut Signals::new().unwrap(), tasks, ("speaker", speaker), stop.clone()).await;
        assert!(stop.is_cancelled(), "whatever happened, the rest is told to stop");
        format!("{:#}", ended.unwrap_err())
    }

    #[tokio::test]
    async fn a_task_that_panics_fails_or_ends_ends_the_process_with_an_error() {
        let mut tasks = Tasks::new();
        tasks.spawn(async { panic!("on purpose") });
        assert!(end_with(tasks, None).await.contains("panicked"));
        let mut tasks = Tasks::new();
        tasks.spawn(async { ("port", Err(anyhow!("broken"))) });
        assert_eq!(end_with(tasks, None).await, "the task 'port' failed: broken");
        let mut tasks = Tasks::new();
        tasks.spawn(async { ("manifests", Ok(())) });
        assert!(end_with(tasks, None).await.contains("'manifests' ended"));
        let mut tasks = Tasks::new();
        tasks.spawn(std::future::pending());
        let speaker = tokio::spawn(async { panic!("on purpose") });
        assert!(end_with(tasks, Some(speaker)).await.contains("panicked"));
    }
}
