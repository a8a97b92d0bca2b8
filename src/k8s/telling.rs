//! What a Service is told: its addresses, the pool's name, a condition, and events.

use super::request::{Condition, Finalizer, Life, Sighting};
use crate::ipam::{PoolFault, Refusal, ServiceName, Standing, Status, Uid, Unfit};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// How many events wait at most; beyond that the oldest are dropped.
pub const NOTICES: usize = 10_000;

/// What is to be written about a Service; what is absent stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Telling {
    /// The addresses.
    pub ingress: Option<Vec<IpAddr>>,
    /// The annotation with the pools; the inner none removes it.
    pub given_from: Option<Option<String>>,
    /// The condition.
    pub condition: Option<Condition>,
    /// Whether its status turns by that.
    pub turn: Turn,
    /// What the finalizer is to be.
    pub finalizer: Option<Finalizer>,
}

/// Whether Services that have an address get the finalizer `service.kubernetes.io/load-balancer-cleanup`. An allocator that is
/// away holds up their deletion then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cleanup {
    /// They get none. One that is there goes with the Service all the same.
    #[default]
    Free,
    /// They get it with their address.
    ByFinalizer,
}

/// What becomes of a Service's finalizer.
pub fn finalizer(seen: &Sighting, status: &Status, cleanup: Cleanup) -> Option<Finalizer> {
    let is_served = status.assigned.iter().any(|assigned| status.ingress.contains(&assigned.address));
    match (seen.life, seen.finalizer, cleanup) {
        (Life::Ending, Finalizer::Present, _) => Some(Finalizer::Absent),
        (Life::Staying, Finalizer::Absent, Cleanup::ByFinalizer) if is_served => Some(Finalizer::Present),
        (Life::Ending | Life::Staying, _, _) => None,
    }
}

/// Whether a condition's status turns, which dates it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Turn {
    /// Only reason or message change.
    #[default]
    Same,
    /// From true to false, back, or from nothing.
    Turned,
}

impl Telling {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The Service's UID.
    pub uid: Uid,
    /// The Service.
    pub service: ServiceName,
    /// Good or bad.
    pub tone: Tone,
    /// One word.
    pub reason: &'static str,
    /// For people.
    pub note: String,
}

/// The type of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// `Normal`.
    Normal,
    /// `Warning`.
    Warning,
}

/// What of a Service differs from what it should be told; `ingress` is what its addresses are to be, if they are to be written.
pub fn telling(seen: &Sighting, status: &Status, ingress: Option<Vec<IpAddr>>) -> Telling {
    let of_others = status.refusals.iter().any(is_about_others);
    if of_others && ingress.is_none() {
        return Telling::default();
    }
    let given_from = given_from(status);
    let condition = condition(status).filter(|wanted| seen.condition.as_ref().is_none_or(|seen| !same(seen, wanted)));
    let status_before = seen.condition.as_ref().map(|condition| &condition.status);
    let turned = condition.as_ref().is_some_and(|wanted| status_before != Some(&wanted.status));
    Telling {
        ingress,
        given_from: (given_from != seen.given_from).then_some(given_from),
        condition,
        turn: if turned { Turn::Turned } else { Turn::Same },
        finalizer: None,
    }
}

/// Somebody else serves this Service: not a word of ours on it.
fn is_about_others(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::NotOurs(_))
}

/// Figures in a refusal change with every grant to others; that alone is no reason to write.
fn same(seen: &Condition, wanted: &Condition) -> bool {
    let equal = (&seen.status, &seen.reason) == (&wanted.status, &wanted.reason);
    equal && (wanted.status == "False" || seen.message == wanted.message)
}

/// The pools of the addresses that are shown.
fn given_from(status: &Status) -> Option<String> {
    let shown = status.assigned.iter().filter(|assigned| status.ingress.contains(&assigned.address));
    let pools: BTreeSet<&str> = shown.map(|assigned| &*assigned.pool).filter(|pool| !pool.is_empty()).collect();
    let pools: Vec<&str> = pools.into_iter().collect();
    (!pools.is_empty()).then(|| pools.join(","))
}

fn condition(status: &Status) -> Option<Condition> {
    if let Some(first) = status.refusals.first() {
        let served = matches!(first, Refusal::OneFamily { .. }) && !status.ingress.is_empty();
        return Some(Condition {
            status: if served { "True" } else { "False" }.to_owned(),
            reason: reason(first).to_owned(),
            message: refusals(status),
        });
    }
    let shown = || status.assigned.iter().filter(|assigned| status.ingress.contains(&assigned.address));
    shown().next()?;
    let irregular = shown().find(|assigned| assigned.standing != Standing::Regular);
    let addresses: Vec<String> = shown().map(ToString::to_string).collect();
    Some(match irregular {
        None => Condition { status: "True".to_owned(), reason: "Allocated".to_owned(), message: addresses.join(", ") },
        Some(assigned) => {
            let (reason, why) = irregularity(&assigned.standing);
            let kept = "it stays until the service asks to be renumbered";
            let message = format!("{}; {} {why}; {kept}", addresses.join(", "), assigned.address);
            Condition { status: "True".to_owned(), reason: reason.to_owned(), message }
        }
    })
}

/// The reasons of a condition that says that an address is irregular, and stays.
pub const IRREGULARITIES: [&str; 6] =
    ["OutsidePool", "ExcludedFromPool", "PoolDraining", "PoolNotForService", "NodeAddress", "InUseByOthers"];

/// One word, and what follows the address in a sentence.
pub fn irregularity(standing: &Standing) -> (&'static str, String) {
    match standing {
        Standing::Regular => ("Allocated", "is regular".to_owned()),
        Standing::OutsidePool => ("OutsidePool", "is in no pool any more".to_owned()),
        Standing::KeptOut => ("ExcludedFromPool", "is excluded from its pool".to_owned()),
        Standing::Unfit(Unfit::Draining) => ("PoolDraining", "is in a pool that is draining".to_owned()),
        Standing::Unfit(unfit) => ("PoolNotForService", format!("is in a pool that {unfit}")),
        Standing::NodeAddress => ("NodeAddress", "is the address of a node or of a router as well".to_owned()),
        Standing::AlsoForeign(service) => ("InUseByOthers", format!("is shown by {service} as well")),
    }
}

/// All that a Service did not get, in words.
pub fn refusals(status: &Status) -> String {
    status.refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// One word for a refusal, for conditions and events.
pub fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NoPools => "NoPools",
        Refusal::Pool(refusal) => match &refusal.why {
            PoolFault::Full(_) => "PoolFull",
            PoolFault::Unfit(Unfit::Draining) => "PoolDraining",
            PoolFault::Unfit(_) => "PoolNotForService",
        },
        Refusal::Pools { pools, .. } => match pools.iter().any(|pool| matches!(pool.why, PoolFault::Full(_))) {
            true => "PoolsFull",
            false => "NoPoolForService",
        },
        Refusal::UnknownPool { .. } => "UnknownPool",
        Refusal::OutsidePools(_) => "AddressInNoPool",
        Refusal::NotInPool { .. } => "AddressNotInPool",
        Refusal::KeptOut { .. } => "AddressExcluded",
        Refusal::NodeAddress(_) => "NodeAddress",
        Refusal::Foreign { .. } => "AddressInUseByOthers",
        Refusal::Taken { .. } => "AddressTaken",
        Refusal::Sharing { .. } => "CannotShare",
        Refusal::CoolingDown { .. } => "CoolingDown",
        Refusal::Quota { .. } => "QuotaExceeded",
        Refusal::WrongFamily(_) | Refusal::SeveralOfFamily(_) => "UnfitAddress",
        Refusal::NotOurs(_) => "ServedByOthers",
        Refusal::BothFamilies { because, .. } | Refusal::OneFamily { because, .. } => match &**because {
            Refusal::NoPools => "NoPools",
            _ => "FamilyMissing",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipam::Family;

    #[test]
    fn every_irregularity_is_known_by_its_word() {
        let service = ServiceName { namespace: "web".into(), name: "shop".into() };
        let mut words: Vec<&str> = [
            Standing::Regular,
            Standing::OutsidePool,
            Standing::KeptOut,
            Standing::Unfit(Unfit::Draining),
            Standing::Unfit(Unfit::Family(Family::V4)),
            Standing::NodeAddress,
            Standing::AlsoForeign(service),
        ]
        .iter()
        .map(|standing| irregularity(standing).0)
        .collect();
        assert_eq!(words.remove(0), "Allocated");
        assert_eq!(words, IRREGULARITIES);
    }
}
