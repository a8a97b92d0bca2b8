//! `herald allocate` as a process: a candidate for the lease that gives addresses while it leads.

use super::conditions::Board;
use super::last_known_good::Keeper;
use super::reload::{ConfigFile, Sureness, Uses};
use super::run::{Routers, Signals, open_doors, supervise};
use super::thread::{Tasks, beat, on_a_runtime};
use crate::admin::allocator::{Look, Part, Retained, Snapshot, confirmation, router};
use crate::admin::{self, Heart, Liveness, WatchState, Watched, heartbeat};
use crate::condition::Conditions;
use crate::k8s::allocator::{self, Links, Progress, Report};
use crate::k8s::client::Access;
use crate::k8s::desk::Irregular;
use crate::k8s::lease::{Election, Leadership};
use crate::k8s::telling::Cleanup;
use crate::k8s::{self, Listing};
use anyhow::Context;
use prometheus_client::metrics::counter::Counter;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// An allocator keeps no configuration: while it has none, what was given stays given, and another candidate may lead.
const KEEPER: Keeper = Keeper::Nowhere(
    "an allocator keeps no earlier configuration and does not start on a refused one: mend the file ('herald check' says where) and \
     start it again (a pod is started again by itself); until then it gives nothing and takes nothing away, and a candidate that \
     still runs goes on with what it has",
);

/// The name of the lease.
const LEASE: &str = "herald-allocator";

/// What an allocator process is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Who it is among the allocators.
    pub identity: String,
    /// The namespace of the lease.
    pub namespace: String,
    /// How long the lease holds.
    pub term: Duration,
    /// Whether Services get a finalizer.
    pub cleanup: Cleanup,
    /// The Unix socket for `herald pools`.
    pub socket: PathBuf,
    /// Address and port for probes and metrics.
    pub metrics: SocketAddr,
    /// Counts log lines that were lost.
    pub lost_lines: Counter,
}

/// Runs an allocator until SIGTERM or SIGINT.
///
/// # Errors
/// It could not start (with what to do about it), or one of its tasks ended or panicked.
pub fn run(options: Options) -> anyhow::Result<()> {
    on_a_runtime(allocate(options))?
}

async fn allocate(options: Options) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let mut board = Board::default();
    let (of_the_file, of_the_cluster, of_the_way) = (board.source(), board.source(), board.source());
    let (heart, of_the_thread) = (Heart::default(), board.source());
    let (file, config) = ConfigFile::open(options.config.clone(), KEEPER, of_the_file).await?;
    let (client, keeper) = k8s::client::open(Access::Inferred).await?;
    let (config, config_read) = watch::channel(Arc::new(config));
    let (leadership, leadership_read) = watch::channel(Leadership::Following(None));
    let (report, report_read) = watch::channel(Report::default());
    let (conditions, conditions_read) = watch::channel(Arc::default());
    let (liveness, liveness_read) = watch::channel(Liveness::default());
    let look = look(&options.identity, &leadership_read, &report_read, conditions_read);
    let (router, reloads) = router(Arc::clone(&look), liveness_read, options.lost_lines.clone());
    let (confirmed, confirmed_read) = watch::channel(None);
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new();
    let routers = Routers { port: router.clone(), socket: router.merge(confirmation(look, confirmed)) };
    let watched = vec![thread(&heart)];
    let beside = async {
        tokio::join!(board.run(conditions), heartbeat::watch(watched, liveness, of_the_thread));
    };
    open_doors(&mut tasks, (&options.socket, options.metrics), routers, beside, &stop).await?;
    beat(&mut tasks, heart);
    let follow = file.follow(hangup, Uses { config, reloads, beside: |_: &_| Sureness::Settled });
    tasks.spawn(async {
        keeper.run(of_the_way).await;
        ("credentials", Ok(()))
    });
    tasks.spawn(async {
        follow.await;
        ("configuration", Ok(()))
    });
    let election = Election::new(client.clone(), &options.namespace, LEASE, &options.identity, options.term);
    let identity = options.identity.clone();
    let links = Links {
        config: config_read,
        leadership: leadership_read,
        report,
        conditions: of_the_cluster,
        identity,
        cleanup: options.cleanup,
        confirmed: confirmed_read,
        socket: options.socket.display().to_string(),
    };
    let stopped = stop.clone();
    let work = tokio::spawn(async move {
        // Giving ends before the lease is given up.
        let giving = allocator::run(client, links, stopped.clone());
        let electing = election.run(leadership, stopped);
        let ((), ended) = tokio::join!(electing, giving);
        ended
    });
    info!(identity = options.identity, version = env!("CARGO_PKG_VERSION"), "herald allocates");
    supervise(&mut signals, tasks, ("allocator", work), stop).await
}

/// The one thread of an allocator that works. Nobody's traffic hangs on it, and a lease that it does not renew goes to another.
fn thread(heart: &Heart) -> Watched {
    Watched {
        thread: "allocator",
        heart: heart.clone(),
        cost: "nothing is given or taken back here, and another candidate leads once the lease is over",
        said_after: Duration::from_secs(10),
        fails_after: Duration::from_secs(60),
    }
}

fn look(
    identity: &str,
    leadership: &watch::Receiver<Leadership>,
    report: &watch::Receiver<Report>,
    conditions: watch::Receiver<Arc<Conditions>>,
) -> Look {
    let (identity, leadership, report) = (identity.to_owned(), leadership.clone(), report.clone());
    Arc::new(move || {
        let leadership = leadership.borrow().clone();
        let report = report.borrow().clone();
        let part = match (leadership, report.progress) {
            (Leadership::Following(None), _) => Part::Unknown,
            (Leadership::Following(Some(leader)), _) => Part::Following(leader),
            (Leadership::Leading { .. }, Progress::Waiting) => Part::Adopting,
            (Leadership::Leading { .. }, Progress::Giving) => Part::Giving,
        };
        Snapshot {
            identity: identity.clone(),
            part,
            watches: watches(&report),
            pools: report.figures.pools,
            served: report.figures.served,
            waiting: report.figures.waiting,
            doubts: report.figures.doubts,
            irregular: report.figures.irregular.into_iter().map(retained).collect(),
            writes_due: report.figures.writes,
            writes: report.writes,
            conditions: conditions.borrow().clone(),
        }
    })
}

fn retained(irregular: Irregular) -> Retained {
    Retained {
        service: irregular.service.to_string(),
        address: irregular.address,
        pool: irregular.pool.to_string(),
        reason: irregular.reason.to_owned(),
    }
}

fn watches(report: &Report) -> Vec<WatchState> {
    let states = report.watches.iter().map(|(kind, (listing, trouble))| WatchState {
        name: kind.as_str().to_owned(),
        listing: match listing {
            Listing::Pending => admin::Listing::Pending,
            Listing::Complete => admin::Listing::Complete,
        },
        last_event: None,
        trouble: trouble.clone(),
    });
    states.collect()
}
