//! `herald renumber`.

use crate::ipam::ServiceName;
use crate::k8s;
use crate::k8s::client::Access;
use crate::k8s::renumber::{Choice, Irregular, Outcome};
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

/// What `herald renumber` is told.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("who").required(true).multiple(false)))]
pub struct Arguments {
    /// The services that are to leave an address that no pool would give them today
    #[arg(value_name = "NAMESPACE/NAME", group = "who", value_parser = service)]
    services: Vec<ServiceName>,
    /// All services whose address was given from this pool
    #[arg(long, value_name = "POOL", group = "who")]
    pool: Option<String>,
    /// All services
    #[arg(long, group = "who")]
    all: bool,
    /// Only say who would be asked to move
    #[arg(long)]
    dry_run: bool,
    /// How long to wait for the allocator
    #[arg(long, default_value = "30", value_name = "SECONDS")]
    patience: u64,
}

fn service(text: &str) -> Result<ServiceName, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(ServiceName { namespace: namespace.into(), name: name.into() })
        }
        Some(_) | None => Err("write NAMESPACE/NAME".to_owned()),
    }
}

impl Arguments {
    fn choice(&self) -> Choice {
        match (&self.pool, self.services.as_slice()) {
            (Some(pool), _) => Choice::Pool(pool.clone()),
            (None, []) => Choice::All,
            (None, services) => Choice::Services(services.to_vec()),
        }
    }
}

/// Has services leave the addresses that no pool would give them today; fails where one could not.
///
/// # Errors
/// The cluster cannot be reached, a named service is not there, or the rights at hand do not allow to annotate services.
pub async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (client, _) = k8s::client::open(Access::Inferred).await?;
    let irregular = k8s::renumber::irregular(&client, &arguments.choice()).await?;
    if irregular.is_empty() {
        return super::print("Nobody has an address that no pool would give today: nothing to do.\n");
    }
    if arguments.dry_run {
        let line = |one: &Irregular| format!("{} would leave {} ({})\n", one.service, listed(&one.shown), one.why);
        return super::print(&irregular.iter().map(line).collect::<String>());
    }
    let patience = Duration::from_secs(arguments.patience);
    let outcomes = k8s::renumber::renumber(&client, &irregular, patience).await?;
    let line = |one: &Irregular| match &outcomes[&one.service] {
        Outcome::Moved(now) => format!("{}: {} -> {}\n", one.service, listed(&one.shown), listed(now)),
        Outcome::Waits(why) => format!(
            "{}: stays at {} for now ({why}); it moves as soon as it can, unless its annotation {} is removed\n",
            one.service,
            listed(&one.shown),
            k8s::request::RENUMBER,
        ),
    };
    super::print(&irregular.iter().map(line).collect::<String>())?;
    let all_moved = outcomes.values().all(|outcome| matches!(outcome, Outcome::Moved(_)));
    Ok(if all_moved { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn listed(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
