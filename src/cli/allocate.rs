//! `herald allocate`.

use super::logging::{LogFormat, begin_logging};
use crate::daemon::allocate;
use crate::k8s::telling::Cleanup;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tracing::error;

/// What `herald allocate` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration file; read again when it changes, and at SIGHUP
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Who this is among the allocators; no two of them may have one name
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    identity: String,
    /// The namespace of the lease by which allocators agree who gives
    #[arg(long, env = "POD_NAMESPACE", default_value = "herald-system", value_name = "NAME")]
    namespace: String,
    /// How long the lease holds: so long after the death of one allocator the next begins
    #[arg(long, default_value = "15", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(3..=3600))]
    lease_seconds: u64,
    /// Let a service that has an address wait with its deletion until its finalizer service.kubernetes.io/load-balancer-cleanup has
    /// been taken away; while no allocator runs, such services cannot be deleted
    #[arg(long)]
    cleanup_finalizer: bool,
    /// The Unix socket for `herald pools` and `herald confirm`
    #[arg(long, default_value = super::DEFAULT_ALLOCATOR_SOCKET, value_name = "PATH")]
    socket: PathBuf,
    /// Where to serve /healthz, /readyz, /metrics and /v1/pools
    #[arg(long, default_value = "127.0.0.1:7473", value_name = "ADDRESS:PORT")]
    metrics: SocketAddr,
    /// How log lines look; HERALD_LOG says which are written (default: info)
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// Runs the allocator until it is told to stop.
pub fn run(arguments: Arguments) -> ExitCode {
    super::raise_descriptors();
    let log = match begin_logging(arguments.log_format) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("herald: {error}");
            return ExitCode::FAILURE;
        }
    };
    let options = allocate::Options {
        config: arguments.config,
        identity: arguments.identity,
        namespace: arguments.namespace,
        term: Duration::from_secs(arguments.lease_seconds),
        cleanup: if arguments.cleanup_finalizer { Cleanup::ByFinalizer } else { Cleanup::Free },
        socket: arguments.socket,
        metrics: arguments.metrics,
        lost_lines: log.lost(),
    };
    let code = match allocate::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    };
    log.finish();
    code
}
