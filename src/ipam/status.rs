//! What a Service is to be told.

use super::claim::Claim;
use super::family::Family;
use super::grant::stranger;
use super::keep::{Completeness, Standing, anchor, completeness, shown, standing};
use super::refusal::{PoolFault, PoolRefusal, Refusal};
use super::state::State;
use super::subject::Phase;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// An address that a Service has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// The address.
    pub address: IpAddr,
    /// Its pool; the last one where no pool has it any longer.
    pub pool: Arc<str>,
    /// How far the hold has come.
    pub phase: Phase,
    /// How it stands with the pools of today.
    pub standing: Standing,
}

impl fmt::Display for Assigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from pool {}", self.address, self.pool)
    }
}

/// What a Service is to be told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// The addresses that its status should show, the primary family first. Every one is written down in an `Allocation`, or
    /// was shown before and is about to be; or it is somebody else's work, which stays as it is.
    pub ingress: Vec<IpAddr>,
    /// All that it has.
    pub assigned: Vec<Assigned>,
    /// What it asked for and did not get. It keeps what it has.
    pub refusals: Vec<Refusal>,
}

/// What a Service is to be told.
pub fn status(state: &State, claim: &Claim) -> Status {
    let Some(subject) = state.subjects.get(&claim.uid) else { return Status::default() };
    let assigned = subject.holdings.iter().map(|holding| Assigned {
        address: holding.address,
        pool: state.book.pool(holding.address).cloned().unwrap_or_else(|| "".into()),
        phase: holding.phase,
        standing: standing(state, claim, holding.address),
    });
    Status {
        ingress: ingress(state, claim),
        assigned: assigned.collect(),
        refusals: subject.refusals.iter().map(|refusal| with_figures_of_now(state, refusal)).collect(),
    }
}

/// A refusal as it would read if it were given now: who waits is not tried again for every address that begins to cool down.
fn with_figures_of_now(state: &State, refusal: &Refusal) -> Refusal {
    let mut refusal = refusal.clone();
    match &mut refusal {
        Refusal::Pool(pool) => count(state, pool),
        Refusal::Pools { pools, .. } => pools.iter_mut().for_each(|pool| count(state, pool)),
        Refusal::Quota { namespace, used, .. } => *used = state.used(namespace),
        Refusal::BothFamilies { because, .. } | Refusal::OneFamily { because, .. } => {
            **because = with_figures_of_now(state, because);
        }
        Refusal::NoPools
        | Refusal::UnknownPool { .. }
        | Refusal::OutsidePools(_)
        | Refusal::NotInPool { .. }
        | Refusal::KeptOut { .. }
        | Refusal::NodeAddress(_)
        | Refusal::Foreign { .. }
        | Refusal::Taken { .. }
        | Refusal::Sharing { .. }
        | Refusal::CoolingDown { .. }
        | Refusal::WrongFamily(_)
        | Refusal::SeveralOfFamily(_)
        | Refusal::NotOurs(_) => {}
    }
    refusal
}

fn count(state: &State, refusal: &mut PoolRefusal) {
    match (&mut refusal.why, state.stocks.named(&refusal.pool)) {
        (PoolFault::Full(fullness), Some(stock)) => *fullness = stock.fullness(fullness.family),
        (PoolFault::Full(_), None) | (PoolFault::Unfit(_), _) => {}
    }
}

/// The addresses that its status should show.
pub fn ingress(state: &State, claim: &Claim) -> Vec<IpAddr> {
    let mut ingress = Vec::new();
    for family in claim.families.wanted() {
        let own = match completeness(state, claim) {
            Completeness::Complete => anchor(state, claim, *family),
            // Both or nothing; but what is shown is not taken away.
            Completeness::OneIsMissing => shown(state, claim, *family),
        };
        match own {
            Some(holding) => ingress.push(holding.address),
            None => {
                let of_others = |shown: &&IpAddr| Family::of(**shown) == *family && stranger(state, claim, **shown);
                ingress.extend(claim.shown.iter().filter(of_others).copied());
            }
        }
    }
    ingress
}
