//! The face: commands and what they print.

mod against;
mod allocate;
mod check;
mod client;
mod confirm;
pub mod demo;
mod logging;
mod pools;
mod renumber;
mod show;
mod speak;

use clap::{Parser, Subcommand};
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// Where the speaker of this node listens for `peers` and `routes`.
const DEFAULT_SOCKET: &str = "/run/herald/herald.sock";

/// Where the allocator listens for `pools`.
const DEFAULT_ALLOCATOR_SOCKET: &str = "/run/herald/allocator.sock";

/// Announces the LoadBalancer addresses of a bare-metal Kubernetes cluster to routers by BGP.
#[derive(Debug, Parser)]
#[command(name = "herald", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the speaker of one node
    Speak(speak::Arguments),
    /// Run an allocator: give addresses to services of type LoadBalancer
    Allocate(allocate::Arguments),
    /// Check a configuration file; says everything that is wrong with it, and where
    Check(check::Arguments),
    /// Print herald's CustomResourceDefinitions, for kubectl apply -f -
    Crds,
    /// Show the peers of the speaker on this node
    Peers(show::Arguments),
    /// Show the routes that the speaker on this node announces
    Routes(show::RoutesArguments),
    /// Have the speaker on this node do what it holds back: withdrawals that nobody asked for, a change that a session did not survive
    Confirm(confirm::Arguments),
    /// Show the pools of the allocator, and how full they are
    Pools(pools::Arguments),
    /// Have services leave addresses that no pool would give them today: each gets another before it gives up the one it has
    Renumber(renumber::Arguments),
    /// Show herald at work: three speakers, a router and a short story, on loopback
    Demo(demo::Arguments),
}

/// Runs the command line and returns the exit code.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Speak(arguments) => speak::run(arguments),
        Command::Allocate(arguments) => allocate::run(arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Crds => or_complain(print(crate::k8s::allocation::CRDS)),
        Command::Peers(arguments) => or_complain(show::peers(&arguments)),
        Command::Routes(arguments) => or_complain(show::routes(&arguments)),
        Command::Confirm(arguments) => or_complain(confirm::run(&arguments)),
        Command::Pools(arguments) => or_complain(pools::run(&arguments)),
        Command::Renumber(arguments) => or_complain(move_out(&arguments)),
        Command::Demo(arguments) => or_complain(demonstrate(&arguments)),
    }
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // The reader (`head`, say) has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        written => written?,
    }
    Ok(ExitCode::SUCCESS)
}

fn demonstrate(arguments: &demo::Arguments) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe()?;
    Ok(runtime()?.block_on(demo::run(arguments, program)))
}

fn move_out(arguments: &renumber::Arguments) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(renumber::run(arguments))
}

/// Descriptors that a process of ours may want: a router, a watch and a door take one each.
const DESCRIPTORS: u64 = 65_536;

/// Takes as many descriptors as it is allowed to ask for. The soft limit is for programs that cannot have many; where the hard
/// one is low too, what it is stays.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(DESCRIPTORS).min(DESCRIPTORS);
    if limit.current.is_some_and(|current| current < most) {
        // A kernel that says no leaves what there was.
        let _as_before = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum });
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn or_complain(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        eprintln!("herald: {error:#}");
        ExitCode::FAILURE
    })
}
