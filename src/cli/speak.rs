//! `herald speak`.

use super::logging::{LogFormat, begin_logging};
use crate::daemon::{self, Options, Source};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing::error;

/// What `herald speak` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration file; read again when it changes, and at SIGHUP
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Read Services, EndpointSlices and Nodes from YAML files in this folder instead of from a cluster
    #[arg(long, value_name = "DIR")]
    manifests: Option<PathBuf>,
    /// This node's name in the cluster
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    node: String,
    /// The Unix socket for `herald peers` and `herald routes`
    #[arg(long, default_value = super::DEFAULT_SOCKET, value_name = "PATH")]
    socket: PathBuf,
    /// Where to serve /healthz, /readyz, /metrics and /v1
    #[arg(long, default_value = "127.0.0.1:7472", value_name = "ADDRESS:PORT")]
    metrics: SocketAddr,
    /// A folder for what outlives the process: the configuration that was accepted last (without passwords), which a restart uses when the file is refused, and whether the node has booted since, which a router with graceful restart asks
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// How log lines look; HERALD_LOG says which are written (default: info)
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// Runs the speaker until it is told to stop.
pub fn run(arguments: Arguments) -> ExitCode {
    super::raise_descriptors();
    let log = match begin_logging(arguments.log_format) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("herald: {error}");
            return ExitCode::FAILURE;
        }
    };
    let options = Options {
        config: arguments.config,
        source: arguments.manifests.map_or(Source::Cluster, Source::Manifests),
        node: arguments.node.into(),
        socket: arguments.socket,
        metrics: arguments.metrics,
        lost_lines: log.lost(),
        state: arguments.state,
    };
    let code = match daemon::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    };
    log.finish();
    code
}
