//! `herald pools`.

use super::client;
use super::show::{Output, lines, print, table};
use crate::admin::allocator::{Pools, Retained};
use std::path::PathBuf;
use std::process::ExitCode;

/// What `herald pools` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The Unix socket of the allocator
    #[arg(long, default_value = super::DEFAULT_ALLOCATOR_SOCKET, value_name = "PATH")]
    socket: PathBuf,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Prints the pools.
///
/// # Errors
/// The allocator does not answer.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let body = client::ask("allocator", &arguments.socket, "/v1/pools")?;
    print(arguments.output, &body, text)
}

fn text(answer: &Pools) -> String {
    let wrong: String = answer.conditions.iter().chain(&answer.doubts).map(|line| format!("! {line}\n")).collect();
    if let Some(waiting) = &answer.waiting {
        return format!("{wrong}Allocator {}: {waiting}\n", answer.identity);
    }
    let mut table = table(["POOL", "FAMILY", "TOTAL", "HELD", "COOLING", "BLOCKED", "FREE"]);
    for pool in &answer.pools {
        table.add_row([
            pool.name.clone(),
            pool.family.clone(),
            pool.total.clone(),
            pool.held.to_string(),
            pool.cooling.to_string(),
            pool.blocked.to_string(),
            pool.free.clone(),
        ]);
    }
    let (served, waiting) = (answer.services_served, answer.services_waiting);
    let services = format!("Services: {served} served, {waiting} waiting\n\n");
    let pools = if answer.pools.is_empty() { "No pools.\n".to_owned() } else { lines(table) };
    wrong + &services + &pools + &retained(&answer.retained)
}

/// What would not be given today.
fn retained(retained: &[Retained]) -> String {
    if retained.is_empty() {
        return String::new();
    }
    let mut table = table(["RETAINED", "SERVICE", "GIVEN FROM", "WHY"]);
    for Retained { service, address, pool, reason } in retained {
        table.add_row([&address.to_string(), service, pool, reason]);
    }
    format!("\n{}\nThey stay until `herald renumber` moves their services.\n", lines(table))
}
