//! One process: wire, supervise, stop in order.

use super::conditions::{Board, Outlets};
use super::control::{self, Control, Source};
use super::established;
use super::interrupted::Interrupted;
use super::last_known_good::Keeper;
use super::reload::ConfigFile;
use super::speaker::{Channels, Speaker};
use super::spec::Spec;
use super::state_folder::{self, Previous, Writer};
use super::thread::{REST_LIMIT, Tasks, beat, on_a_runtime, untimely};
use super::turn::Turns;
use super::{announced, boot};
use crate::admin::running::{Running, Seen};
use crate::admin::{
    self, Handles, Heart, Liveness, Metrics, Readiness, Speakers, Standing, WatchState, Watched, heartbeat, server,
};
use crate::advertise::NodeName;
use crate::config::rollout::Turn;
use crate::k8s::WatchHealth;
use crate::net::descriptors;
use anyhow::Context;
use prometheus_client::metrics::counter::Counter;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
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
    /// Counts log lines that were lost.
    pub lost_lines: Counter,
    /// What outlives the process.
    pub state: Option<PathBuf>,
}

/// Runs a speaker until SIGTERM or SIGINT.
///
/// # Errors
/// It could not start (with what to do about it), or what nothing goes on without ended.
pub fn run(options: Options) -> anyhow::Result<()> {
    on_a_runtime(speak(options))?
}

/// The thread *sessions* is this one; *control* and *admin* are others, and share only what they publish.
async fn speak(options: Options) -> anyhow::Result<()> {
    // Before anything that may take long: without a handler each of them ends the process.
    let mut signals = Signals::new()?;
    let mut board = Board::default();
    let (outlets, of_sessions, of_threads) = (Outlets::new(&mut board), board.source(), board.source());
    let of_descriptors = board.source();
    let (writer, writing) = state_folder::writer(options.state.clone(), board.source());
    let mut previous = Previous::of(options.state.as_deref());
    let keeper = keeper(&options, &writer);
    let (file, config) = ConfigFile::open(options.config.clone(), keeper.clone(), outlets.file.clone()).await?;
    let (spec, spec_read) = watch::channel(Arc::new(Spec::unknown(Arc::new(config))));
    let (health, health_read) = watch::channel(WatchHealth::default());
    let (speakers, speakers_read) = watch::channel(Arc::new(nobody()));
    let (conditions, conditions_read) = watch::channel(Arc::default());
    let (sessions, planning) = (Heart::default(), Heart::default());
    let (liveness, liveness_read) = watch::channel(Liveness::default());
    let look = heartbeat::watch(threads(&sessions, &planning), liveness, of_threads);
    let speakers_seen = speakers_read.clone();
    let handles = Handles {
        node: options.node.clone(),
        speakers: speakers_read,
        watches: Arc::new(move || watches(&health_read.borrow())),
        readiness: Readiness::new(established::before(&mut previous)),
        conditions: conditions_read,
        liveness: liveness_read,
    };
    let metrics = Metrics::new(handles.clone(), options.lost_lines.clone());
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new();
    let write_down = established::run(writer.clone(), handles.clone(), stop.clone());
    tasks.spawn(async {
        write_down.await;
        ("established", Ok(()))
    });
    let write_down = announced::run(writer.clone(), spec_read.clone(), stop.clone());
    tasks.spawn(async {
        write_down.await;
        ("announced", Ok(()))
    });
    let (confirmed, confirmed_read) = watch::channel(None);
    let routers = Routers {
        port: server::router(handles.clone(), metrics.clone()),
        socket: server::socket_router(handles.clone(), metrics.clone(), confirmed, running(handles, spec_read.clone())),
    };
    let beside = async {
        tokio::join!(board.run(conditions), look, writing, descriptors::watch(of_descriptors));
    };
    open_doors(&mut tasks, (&options.socket, options.metrics), routers, beside, &stop).await?;
    beat(&mut tasks, sessions);
    let (turns, asking) = Turns::new(match options.source {
        Source::Manifests(_) => Turn::Alone,
        Source::Cluster => Turn::Unknown,
    });
    let restart_state = boot::restart_state(&mut previous, &writer);
    let control = Control {
        node: options.node.clone(),
        config: options.config,
        source: options.source,
        spec,
        health,
        conditions: outlets,
        metrics,
        keeper,
        speakers: speakers_seen,
        remembered: announced::before(&mut previous),
        confirmed: confirmed_read.clone(),
        heart: planning,
        asking,
    };
    let keep = control::keep_running(control, file, stop.clone());
    tasks.spawn(async { ("control", keep.await) });
    let interrupted = Interrupted::by(&mut previous, &options.node, writer);
    let channels =
        Channels { spec: spec_read, confirmed: confirmed_read, speakers, conditions: of_sessions, turns, interrupted };
    let speaker = tokio::spawn(Speaker::new(channels, restart_state).run(stop.clone()));
    info!(node = %options.node, version = env!("CARGO_PKG_VERSION"), "herald speaks");
    supervise(&mut signals, tasks, ("speaker", speaker), stop).await
}

fn keeper(options: &Options, writer: &Writer) -> Keeper {
    match &options.state {
        Some(folder) => Keeper::Folder(folder.clone(), options.node.to_string(), writer.clone()),
        None => Keeper::Nowhere("no earlier configuration is kept: name a folder for that with --state"),
    }
}

fn nobody() -> Speakers {
    Speakers {
        standing: Standing::Waiting("starting".to_owned()),
        peers: imbl::OrdMap::new(),
        doubts: Arc::default(),
        ranges: Arc::default(),
    }
}

/// The threads whose standing still others should know of.
fn threads(sessions: &Heart, control: &Heart) -> Vec<Watched> {
    vec![
        Watched {
            thread: "sessions",
            heart: sessions.clone(),
            cost: "nothing is sent to any router, and each ends its session when the hold time is over",
            said_after: Duration::from_secs(5),
            fails_after: Duration::from_secs(5),
        },
        Watched {
            thread: "control",
            heart: control.clone(),
            cost: "sessions go on with what they have, and no change of the cluster or of a file reaches them",
            said_after: Duration::from_secs(10),
            fails_after: Duration::from_secs(600),
        },
    ]
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
    // Doors and watches have no last words: what does not end by itself is left behind.
    let rest = async { while tasks.join_next().await.is_some() {} };
    let _left_behind = tokio::time::timeout(REST_LIMIT, rest).await;
    tasks.shutdown().await;
    reason?;
    stopped.with_context(|| format!("the {name} panicked while stopping"))?
}

/// What each door serves.
pub(super) struct Routers {
    /// The port: reads only.
    pub(super) port: axum::Router,
    /// The Unix socket.
    pub(super) socket: axum::Router,
}

/// Opens both doors; what comes through them is served on a thread of its own, and `beside` runs there with them.
pub(super) async fn open_doors(
    tasks: &mut Tasks,
    (socket, metrics): (&Path, SocketAddr),
    routers: Routers,
    beside: impl Future<Output = ()> + Send + 'static,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let (socket, stop) = (socket.to_owned(), stop.clone());
    let (opened, is_open) = oneshot::channel();
    let serve = super::thread::run("admin", move || async move {
        let door = server::Door::bind(&socket)?;
        let (port, address) = server::bind_port(metrics).await?;
        info!(%address, socket = %socket.display(), "probes, metrics and the looking glass");
        // Who waits for it is still there: it waits for this.
        let _heard = opened.send(());
        let by_socket = door.serve(routers.socket, stop.clone().cancelled_owned());
        let by_port = server::serve_port(port, routers.port, stop.clone().cancelled_owned());
        let beside = async {
            stop.run_until_cancelled(beside).await;
            Ok(())
        };
        tokio::try_join!(by_socket, by_port, beside).map(|((), (), ())| ())
    });
    let mut serve = Box::pin(serve);
    tokio::select! {
        ended = &mut serve => return ended,
        Ok(()) = is_open => {}
    }
    tasks.spawn(async { ("admin", serve.await) });
    Ok(())
}

/// What runs now, asked when somebody wants to know.
fn running(handles: Handles, spec: watch::Receiver<Arc<Spec>>) -> impl Fn() -> Running + Clone {
    move || {
        let spec = spec.borrow().clone();
        let seen = spec
            .planned
            .as_ref()
            .map(|planned| Seen { labels: planned.node_labels.clone(), internal_ips: planned.node_addresses.clone() });
        Running {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: handles.node.to_string(),
            seen,
            fingerprint: spec.config.fingerprint(),
            conditions: handles.conditions.borrow().lines(),
            peers: admin::running::peers(&handles.speakers.borrow().clone()),
        }
    }
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
        // A file that may not grow any more (RLIMIT_FSIZE), the log's or another, is a failed write, and not the end.
        let _too_large = wait(SignalKind::from_raw(libc::SIGXFSZ))?;
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
    use anyhow::anyhow;

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
