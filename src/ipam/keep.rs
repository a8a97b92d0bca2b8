//! Which of a Service's addresses it keeps, and how each stands with the pools of today.

use super::claim::{Claim, PoolChoice, Renumber};
use super::family::{Families, Family};
use super::name::ServiceName;
use super::neighbours::Block;
use super::pool::{Intake, Unfit};
use super::state::State;
use super::subject::{Holding, Phase, Subject};
use std::net::IpAddr;

/// How a held address stands with the pools of today. Whatever it is, the address stays until a Service asks to be renumbered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It would be given today.
    Regular,
    /// No pool has it: retained, `outsidePool`.
    OutsidePool,
    /// Its pool keeps it out.
    KeptOut,
    /// Its pool serves others, or is draining.
    Unfit(Unfit),
    /// A node has it as well.
    NodeAddress,
    /// This Service, which is not ours, shows it as well.
    AlsoForeign(ServiceName),
}

/// How an address stands for a Service.
pub fn standing(state: &State, claim: &Claim, address: IpAddr) -> Standing {
    match state.neighbours.block(address) {
        Some(Block::Node) => return Standing::NodeAddress,
        Some(Block::Foreign(service)) => return Standing::AlsoForeign(service),
        None => {}
    }
    let Some(stock) = state.stocks.around(address) else { return Standing::OutsidePool };
    if !stock.gives(address) {
        return Standing::KeptOut;
    }
    if let Err(unfit) = stock.pool.admission.admits(claim) {
        return Standing::Unfit(unfit);
    }
    match stock.pool.intake {
        Intake::Open => Standing::Regular,
        Intake::Draining => Standing::Unfit(Unfit::Draining),
    }
}

/// Whether an address is what the Service asks for.
fn fits(state: &State, claim: &Claim, address: IpAddr) -> bool {
    if let Some(exact) = claim.exact(Family::of(address)) {
        return exact == address;
    }
    let pool = match &claim.pool {
        PoolChoice::Any => true,
        PoolChoice::Named(pool) => state.book.pool(address) == Some(pool),
    };
    pool && match claim.renumber {
        Renumber::Stay => true,
        Renumber::Move => standing(state, claim, address) == Standing::Regular,
    }
}

/// What a Service holds of a family and is not giving back.
fn kept(subject: &Subject, family: Family) -> impl Iterator<Item = Holding> + '_ {
    let kept = move |h: &Holding| Family::of(h.address) == family && h.phase != Phase::Leaving;
    subject.holdings.iter().copied().filter(kept)
}

/// The order in which one of several is chosen: what is shown, then what is written down, then the lowest.
fn preference(claim: &Claim, holding: &Holding) -> (u8, u8, IpAddr) {
    (u8::from(!claim.shows(holding.address)), u8::from(holding.phase == Phase::Pending), holding.address)
}

/// The address of a family that it keeps because it is what it asks for.
pub fn keeper(state: &State, subject: &Subject, family: Family) -> Option<Holding> {
    let claim = &subject.claim;
    kept(subject, family)
        .filter(|holding| fits(state, claim, holding.address))
        .min_by_key(|holding| preference(claim, holding))
}

/// The address of a family that its status is to show: one that is written down, or shown already; the one it asks for if
/// that is so far, else the one it still has.
pub fn anchor(state: &State, subject: &Subject, family: Family) -> Option<Holding> {
    let claim = &subject.claim;
    let firm = |holding: &Holding| holding.phase == Phase::Held || claim.shows(holding.address);
    let keeper = keeper(state, subject, family).filter(firm);
    keeper.or_else(|| kept(subject, family).filter(firm).min_by_key(|holding| preference(claim, holding)))
}

/// The address of a family with which it stays for now: what it asks for, else what its status is to show.
pub fn stays(state: &State, subject: &Subject, family: Family) -> Option<Holding> {
    keeper(state, subject, family).or_else(|| anchor(state, subject, family))
}

/// The address of a family that its status shows and that it is not giving back.
pub fn shown(subject: &Subject, family: Family) -> Option<Holding> {
    kept(subject, family).find(|holding| subject.claim.shows(holding.address))
}

/// Whether a Service has all that must come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// It has, or may have one without the other.
    Complete,
    /// RequireDualStack, and a family has nothing that could be shown.
    OneIsMissing,
}

/// Whether a Service has all that must come together.
pub fn completeness(state: &State, subject: &Subject) -> Completeness {
    match subject.claim.families {
        Families::Single(_) | Families::Prefer(_) => Completeness::Complete,
        Families::Require(_) => {
            let wanted = subject.claim.families.wanted();
            let all = wanted.iter().all(|family| anchor(state, subject, *family).is_some());
            if all { Completeness::Complete } else { Completeness::OneIsMissing }
        }
    }
}

/// An address that it is giving back and that is to stay after all. It asks for it again: what is shown goes before what is not.
/// Or what was to replace it has been lost to somebody else: what is shown stays until there is something to show.
pub fn returning(state: &State, subject: &Subject, family: Family) -> Option<IpAddr> {
    let claim = &subject.claim;
    let leaving = || subject.holdings.iter().filter(|h| h.phase == Phase::Leaving && Family::of(h.address) == family);
    leaving().next()?;
    let keeper = keeper(state, subject, family).map(|holding| holding.address);
    let nothing_else = match completeness(state, subject) {
        Completeness::Complete => anchor(state, subject, family).is_none(),
        Completeness::OneIsMissing => shown(subject, family).is_none(),
    };
    let stays = |address: &IpAddr| match (claim.shows(*address), fits(state, claim, *address), keeper) {
        (true, true, Some(keeper)) => nothing_else || !claim.shows(keeper),
        (true, true, None) | (false, true, None) => true,
        (true, false, None) => nothing_else || shown(subject, family).is_none(),
        (true, false, Some(_)) => nothing_else,
        (false, true, Some(_)) | (false, false, _) => false,
    };
    leaving().map(|holding| holding.address).filter(stays).min_by_key(|address| u8::from(!claim.shows(*address)))
}
