//! What a Service is to be told.

use super::claim::Claim;
use super::family::{Families, Family};
use super::grant::stranger;
use super::keep::{Standing, anchor, standing};
use super::refusal::Refusal;
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
    Status { ingress: ingress(state, claim), assigned: assigned.collect(), refusals: subject.refusals.clone() }
}

/// The addresses that its status should show.
pub fn ingress(state: &State, claim: &Claim) -> Vec<IpAddr> {
    let wanted = claim.families.wanted();
    let anchors: Vec<Option<IpAddr>> =
        wanted.iter().map(|family| anchor(state, claim, *family).map(|holding| holding.address)).collect();
    // Both or nothing; but what is shown already is not taken away.
    let incomplete = match claim.families {
        Families::Require(_) => anchors.contains(&None),
        Families::Single(_) | Families::Prefer(_) => false,
    };
    let mut ingress = Vec::new();
    for (family, anchor) in wanted.iter().zip(anchors) {
        match anchor {
            Some(address) if !incomplete || claim.shows(address) => ingress.push(address),
            Some(_) => {}
            None => {
                let of_others = |shown: &&IpAddr| Family::of(**shown) == *family && stranger(state, claim, **shown);
                ingress.extend(claim.shown.iter().filter(of_others).copied());
            }
        }
    }
    ingress
}
