//! Renumbering by an operator: who has an address that no pool would give today, and asking the allocator to exchange it.
//!
//! The allocator does the work, since only it knows what is free: a Service is asked by the annotation [`RENUMBER`], gets another
//! address before it gives up the one it has, and the annotation is taken away again, so that a later edit of a pool moves nobody
//! unasked.

use super::request::{RENUMBER, ServiceForm, Sighting};
use super::telling::IRREGULARITIES;
use crate::ipam::ServiceName;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// How often the Services are looked at while they are waited for.
const LOOK: Duration = Duration::from_millis(250);

/// Who is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Everybody.
    All,
    /// These.
    Services(Vec<ServiceName>),
    /// Those whose address was given from this pool.
    Pool(String),
}

impl Choice {
    fn includes(&self, seen: &Sighting) -> bool {
        match self {
            Self::All => true,
            Self::Services(services) => services.contains(&seen.service),
            Self::Pool(pool) => seen.given_from.iter().flat_map(|from| from.split(',')).any(|from| from == pool),
        }
    }
}

/// A Service that would be given other addresses today.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Irregular {
    /// Which.
    pub service: ServiceName,
    /// The addresses that it shows.
    pub shown: Vec<IpAddr>,
    /// Why: the allocator's words in its condition.
    pub why: String,
}

/// What became of one that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It has these now.
    Moved(Vec<IpAddr>),
    /// It has what it had; the allocator's words, if it has said anything.
    Waits(String),
}

/// Who of the chosen has an address that no pool would give today.
///
/// # Errors
/// The API server did not answer, or a Service that was named is not there.
pub async fn irregular(client: &Client, choice: &Choice) -> anyhow::Result<Vec<Irregular>> {
    let seen = services(client).await?;
    if let Choice::Services(named) = choice
        && let Some(unknown) = named.iter().find(|name| !seen.contains_key(name))
    {
        anyhow::bail!("there is no Service of type LoadBalancer {unknown}: write NAMESPACE/NAME");
    }
    let irregular = seen.into_values().filter(|seen| choice.includes(seen)).filter_map(|seen| {
        let why = irregularity(&seen)?;
        Some(Irregular { service: seen.service, shown: seen.shown, why })
    });
    Ok(irregular.collect())
}

/// Asks the allocator to exchange the addresses of these, and waits for it. Whoever cannot be served within the time keeps what it
/// has, and keeps asking.
///
/// # Errors
/// The API server did not answer, or refused to write an annotation.
pub async fn renumber(
    client: &Client,
    asked: &[Irregular],
    patience: Duration,
) -> anyhow::Result<BTreeMap<ServiceName, Outcome>> {
    for one in asked {
        annotate(client, &one.service, json!("true")).await?;
    }
    let until = Instant::now() + patience;
    loop {
        let seen = services(client).await?;
        let outcomes: BTreeMap<ServiceName, Outcome> =
            asked.iter().map(|one| (one.service.clone(), outcome(one, seen.get(&one.service)))).collect();
        let moved = |outcome: &Outcome| matches!(outcome, Outcome::Moved(_));
        if outcomes.values().all(moved) || Instant::now() >= until {
            for service in outcomes.iter().filter(|(_, outcome)| moved(outcome)).map(|(service, _)| service) {
                annotate(client, service, Value::Null).await?;
            }
            return Ok(outcomes);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn outcome(asked: &Irregular, seen: Option<&Sighting>) -> Outcome {
    let Some(seen) = seen else { return Outcome::Waits("it is gone".to_owned()) };
    let condition = seen.condition.as_ref().map(|condition| condition.message.clone()).unwrap_or_default();
    if seen.shown != asked.shown && !seen.shown.is_empty() && irregularity(seen).is_none() {
        Outcome::Moved(seen.shown.clone())
    } else {
        Outcome::Waits(condition)
    }
}

/// The allocator's words about an address that it would not give today.
fn irregularity(seen: &Sighting) -> Option<String> {
    let condition = seen.condition.as_ref()?;
    let irregular = condition.status == "True" && IRREGULARITIES.contains(&condition.reason.as_str());
    irregular.then(|| format!("{}: {}", condition.reason, condition.message))
}

async fn services(client: &Client) -> anyhow::Result<BTreeMap<ServiceName, Sighting>> {
    let api: Api<ServiceForm> = Api::all(client.clone());
    let list = api.list(&ListParams::default().fields("spec.type=LoadBalancer")).await?;
    let seen = list.items.into_iter().filter_map(ServiceForm::sighting);
    Ok(seen.map(|seen| (seen.service.clone(), seen)).collect())
}

async fn annotate(client: &Client, service: &ServiceName, value: Value) -> anyhow::Result<()> {
    let api: Api<ServiceForm> = Api::namespaced(client.clone(), &service.namespace);
    let patch = json!({"metadata": {"annotations": {RENUMBER: value}}});
    let params = PatchParams { field_manager: Some("herald-renumber".to_owned()), ..PatchParams::default() };
    api.patch_metadata(&service.name, &params, &Patch::Merge(&patch)).await?;
    Ok(())
}
