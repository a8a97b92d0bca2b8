//! Brings one Service from what it has to what it asks for, as far as that goes.
//!
//! The order is the promise: what is missing is secured first, only what has been replaced by something that is written down is
//! let go, and what is let go is given back when the Service's status shows it no longer.

use super::book::{Book, Occupancy};
use super::claim::{Claim, PoolChoice, Renumber};
use super::family::{Families, Family};
use super::grant::{Purpose, first_clash, grantable, permitted, scope};
use super::keep::{Completeness, anchor, completeness, keeper, returning, shown, stays};
use super::name::Uid;
use super::pick::{Missing, pick};
use super::record::Tenure;
use super::refusal::Refusal;
use super::state::{Rest, State};
use super::status::ingress;
use super::subject::{Exposure, Holding, Phase, Subject};
use super::timestamp::Timestamp;
use super::waiting::Wait;
use std::net::IpAddr;
use std::sync::Arc;

/// What did not go.
#[derive(Debug, Default)]
struct Unmet {
    refusals: Vec<Refusal>,
    waits: Vec<Wait>,
}

impl Unmet {
    fn refuse(&mut self, refusal: Refusal, waits: Vec<Wait>) {
        self.refusals.push(refusal);
        self.waits.extend(waits);
    }
}

/// Brings one Service as far as it goes.
pub fn settle(state: &mut State, uid: &Uid, now: Timestamp) {
    let Some(subject) = state.subjects.get_mut(uid) else { return };
    subject.look();
    if is_served(&state.book, subject) == Served::AsItAsks {
        return;
    }
    let claim = Arc::clone(&subject.claim);
    let before = holdings(state, &claim);
    let mut unmet = Unmet::default();
    adopt_shown(state, &claim, now);
    resume(state, &claim);
    match fault(state, &claim) {
        Some(refusal) => unmet.refuse(refusal, Vec::new()),
        None => {
            supply(state, &claim, &mut unmet, now);
            retire(state, &claim, now);
        }
    }
    for (address, refusal) in amend(state, &claim) {
        unmet.refuse(refusal, vec![Wait::Address(address)]);
    }
    // Last, so that what this frees goes to the oldest who waits for it.
    leave_other_families(state, &claim, now);
    give_back(state, &claim, now);
    let news = note(state, &claim, unmet);
    let subject = state.subject(uid);
    if news == News::Refusals || subject.holdings != before || ingress(state, subject) != claim.shown {
        state.changed.insert(uid.clone());
    }
}

/// Whether there is anything to settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Served {
    /// It asks for any address, has one of each family, alone, written down and shown, and nothing is left over: most are.
    AsItAsks,
    /// That is to be seen.
    Perhaps,
}

fn is_served(book: &Book, subject: &Subject) -> Served {
    let claim = &subject.claim;
    let plain = claim.addresses.is_empty() && claim.pool == PoolChoice::Any && claim.renumber == Renumber::Stay;
    let quiet = subject.refusals.is_empty() && subject.waits.is_empty() && subject.disputes.is_empty();
    let addresses = subject.holdings.iter().map(|holding| holding.address);
    let complete = addresses.clone().map(Family::of).eq(sorted(claim.families.wanted()));
    let alone = |address: IpAddr| match book.holders(address) {
        [holder] => holder.terms == claim.terms,
        _ => false,
    };
    let as_it_asks = plain
        && quiet
        && complete
        && subject.holdings.iter().all(|holding| holding.phase == Phase::Held && alone(holding.address))
        && claim.shown.iter().copied().eq(claim
            .families
            .wanted()
            .iter()
            .filter_map(|family| addresses.clone().find(|address| Family::of(*address) == *family)));
    if as_it_asks { Served::AsItAsks } else { Served::Perhaps }
}

/// Families in the order in which holdings stand.
fn sorted(families: &[Family]) -> Vec<Family> {
    let mut families = families.to_vec();
    families.sort();
    families
}

/// Tries all who might be served by now, the oldest first, until nothing moves any more.
pub fn run(state: &mut State, now: Timestamp) {
    loop {
        let stocks = &state.stocks;
        let worth = |wait: &Wait| match wait {
            Wait::Pool(name, family) => stocks.named(name).is_some_and(|stock| stock.lowest(*family).is_some()),
            Wait::Everyone | Wait::Evicted | Wait::Address(_) | Wait::Sharing(_) | Wait::Quota(_) => true,
        };
        let Some(next) = state.waiting.next(worth) else { return };
        settle(state, &next.uid, now);
    }
}

fn holdings(state: &State, claim: &Claim) -> Vec<Holding> {
    state.subject(&claim.uid).holdings.clone()
}

fn set_phase(state: &mut State, claim: &Claim, address: IpAddr, phase: Phase) {
    state.subject_mut(&claim.uid).set_phase(address, phase);
}

/// Lets an address go: what is written down, or is being written, goes when nobody sees it any longer; what was only chosen goes
/// at once.
fn let_go(state: &mut State, claim: &Claim, holding: Holding, now: Timestamp) {
    let may_be_written = state.under_way.contains(&holding.address);
    match holding.phase {
        Phase::Pending if !visible(state, claim, holding.address) && !may_be_written => {
            state.vacate(&claim.uid, holding.address, Rest::AtOnce, now);
        }
        Phase::Pending | Phase::Held | Phase::Leaving => set_phase(state, claim, holding.address, Phase::Leaving),
    }
}

fn visible(state: &State, claim: &Claim, address: IpAddr) -> bool {
    state.subjects.get(&claim.uid).is_some_and(|subject| subject.visible(address))
}

/// A family that the Service does not have (any more) can serve nobody.
fn leave_other_families(state: &mut State, claim: &Claim, now: Timestamp) {
    for holding in holdings(state, claim) {
        let wanted = claim.families.wanted().contains(&Family::of(holding.address));
        if !wanted && holding.phase != Phase::Leaving {
            let_go(state, claim, holding, now);
        }
    }
}

/// What its status shows and nobody has is its own, where it has nothing of that family that it ever showed: a former leader
/// gave it, or another allocator before this one. An edit of a status that showed something of ours moves nobody.
pub fn adopt_shown(state: &mut State, claim: &Claim, now: Timestamp) {
    state.subject_mut(&claim.uid).look();
    for address in claim.shown.iter().copied() {
        let family = Family::of(address);
        let seen = |holding: &Holding| Family::of(holding.address) == family && holding.exposure == Exposure::Seen;
        if !claim.families.wanted().contains(&family) || state.subject(&claim.uid).holdings.iter().any(seen) {
            continue;
        }
        if grantable(state, claim, address, Purpose::Adopt).is_err() {
            evict(state, claim, address, now);
        }
        if grantable(state, claim, address, Purpose::Adopt).is_ok() {
            state.occupy(claim, address);
            state.subject_mut(&claim.uid).look();
        }
    }
}

/// Takes back choices of an address that nobody has seen: they were made without knowing that this Service's status shows it.
/// Only where that helps: all of them are such, and then the address is the Service's to take.
fn evict(state: &mut State, claim: &Claim, address: IpAddr, now: Timestamp) {
    let others: Vec<Uid> = state.book.holders(address).iter().map(|holder| holder.uid.clone()).collect();
    let unseen = |uid: &Uid| match state.subjects.get(uid) {
        Some(subject) => subject.phase(address) == Some(Phase::Pending) && !subject.visible(address),
        None => false,
    };
    let rests = match state.book.persisted(address).map(|record| record.tenure) {
        Some(Tenure::Released { at, last }) => state.until(address, at) > now && last != claim.service,
        Some(Tenure::Held(_)) | None => false,
    };
    if rests || !others.iter().all(unseen) || permitted(state, claim, address, Purpose::Adopt).is_err() {
        return;
    }
    for uid in others {
        let subject = state.subject_mut(&uid);
        subject.waits.push(Wait::Evicted);
        let rank = subject.claim.rank();
        state.waiting.join(Wait::Evicted, rank);
        state.vacate(&uid, address, Rest::AtOnce, now);
        state.waiting.stir(Wait::Evicted);
    }
}

/// Takes back what was on its way out and is asked for again.
fn resume(state: &mut State, claim: &Claim) {
    for family in claim.families.wanted() {
        while let Some(address) = returning(state, state.subject(&claim.uid), *family) {
            let phase = state.first_phase(&claim.uid, address);
            set_phase(state, claim, address, phase);
        }
    }
}

/// Takes back what was on its way out where what was to replace it has gone: what is shown stays.
fn keep_what_is_shown(state: &mut State, claim: &Claim) {
    for Holding { address, phase, .. } in holdings(state, claim) {
        let alone = shown(state.subject(&claim.uid), Family::of(address)).is_none();
        if phase == Phase::Leaving && claim.shows(address) && alone {
            let phase = state.first_phase(&claim.uid, address);
            set_phase(state, claim, address, phase);
        }
    }
}

/// Brings the terms on which it holds its addresses up to date. Where others share an address and the new terms do not go
/// beside theirs, the old ones stay; so does the address, with everybody. The same is said to whom adoption put beside
/// somebody whom it may not stand beside, the later one. What is being replaced goes on its old terms: whoever joined it on
/// the new ones would soon have it without the rest that the old ones promise.
pub fn amend(state: &mut State, claim: &Claim) -> Vec<(IpAddr, Refusal)> {
    let mut refusals = Vec::new();
    let mut disputes = Vec::new();
    for family in claim.families.wanted() {
        let Some(Holding { address, .. }) = stays(state, state.subject(&claim.uid), *family) else { continue };
        let holders = state.book.holders(address);
        let Some(place) = holders.iter().position(|holder| holder.uid == claim.uid) else { continue };
        let amended = holders[place].terms != claim.terms;
        let beside = if amended { holders } else { &holders[..place] };
        match first_clash(claim, &claim.terms, address, beside, scope(state, address)) {
            Err(refusal) => {
                disputes.push(address);
                refusals.push((address, refusal));
            }
            Ok(()) if amended => {
                let mut holders = holders.to_vec();
                holders[place].terms = Arc::clone(&claim.terms);
                let pool = state.book.pool(address).cloned().unwrap_or_else(|| "".into());
                state.put(address, &pool, Occupancy::Held(holders));
            }
            Ok(()) => {}
        }
    }
    let subject = state.subject_mut(&claim.uid);
    let before = std::mem::replace(&mut subject.disputes, disputes.clone());
    for address in before.into_iter().filter(|address| !disputes.contains(address)) {
        state.stir_joiners(address);
    }
    refusals
}

/// A request that cannot be served whatever is free.
fn fault(state: &State, claim: &Claim) -> Option<Refusal> {
    let wanted = claim.families.wanted();
    for address in &claim.addresses {
        let family = Family::of(*address);
        if !wanted.contains(&family) {
            return Some(Refusal::WrongFamily(*address));
        }
        if claim.exact(family) != Some(*address) {
            return Some(Refusal::SeveralOfFamily(family));
        }
        if let (PoolChoice::Named(pool), Some(stock)) = (&claim.pool, state.stocks.around(*address))
            && stock.pool.name != *pool
        {
            let (pool, found_in) = (Arc::clone(pool), Arc::clone(&stock.pool.name));
            return Some(Refusal::NotInPool { address: *address, pool, found_in });
        }
    }
    None
}

/// Secures what is missing.
fn supply(state: &mut State, claim: &Claim, unmet: &mut Unmet, now: Timestamp) {
    let (wanted, subject) = (claim.families.wanted(), state.subject(&claim.uid));
    let needs: Vec<Family> =
        wanted.iter().copied().filter(|family| keeper(state, subject, *family).is_none()).collect();
    if needs.is_empty() {
        return;
    }
    let mut found = pick(state, subject, &needs);
    let mut take = Vec::new();
    let mut missing: Vec<(Family, Missing)> = Vec::new();
    for family in &needs {
        match found.remove(family).expect("something is found, or not, for each family") {
            Ok(address) => take.push(address),
            Err(what) => missing.push((*family, what)),
        }
    }
    match claim.families {
        Families::Require(_) if !missing.is_empty() => {
            // Waiting for one of two is enough: both are looked for again when it is there.
            let (family, what) = missing.remove(0);
            let refusal = Refusal::BothFamilies { missing: family, because: Box::new(what.refusal) };
            unmet.refuse(refusal, what.waits);
            for holding in holdings(state, claim).into_iter().filter(|holding| !claim.shows(holding.address)) {
                let_go(state, claim, holding, now);
            }
            keep_what_is_shown(state, claim);
            return;
        }
        Families::Prefer(_) if missing.len() == 1 && !lost(state, claim, missing[0].0) => {
            let (family, what) = missing.remove(0);
            unmet.refuse(Refusal::OneFamily { missing: family, because: Box::new(what.refusal) }, what.waits);
        }
        Families::Require(_) | Families::Prefer(_) | Families::Single(_) => {}
    }
    for (_, what) in missing {
        if unmet.refusals.contains(&what.refusal) {
            unmet.waits.extend(what.waits);
        } else {
            unmet.refuse(what.refusal, what.waits);
        }
    }
    for address in take {
        state.occupy(claim, address);
    }
}

/// Whether a family has something that is not what is asked for, so that a refusal is about more than a second family.
fn lost(state: &State, claim: &Claim, family: Family) -> bool {
    claim.exact(family).is_some() || anchor(state, state.subject(&claim.uid), family).is_some()
}

/// Lets go what has been replaced by something that is written down, and what was chosen and is not asked for any more.
fn retire(state: &mut State, claim: &Claim, now: Timestamp) {
    for family in claim.families.wanted() {
        let subject = state.subject(&claim.uid);
        let (keeper, stays) = (keeper(state, subject, *family), stays(state, subject, *family));
        let complete = completeness(state, subject);
        let replaced = |holding: &Holding| match (holding.phase, keeper.map(|keeper| keeper.phase)) {
            (Phase::Leaving, _) => false,
            (Phase::Pending, _) if !claim.shows(holding.address) => true,
            (Phase::Pending | Phase::Held, _) if complete == Completeness::OneIsMissing => false,
            (Phase::Pending | Phase::Held, Some(Phase::Pending)) => false,
            (Phase::Pending | Phase::Held, Some(Phase::Held | Phase::Leaving) | None) => true,
        };
        for holding in holdings(state, claim) {
            if Family::of(holding.address) == *family && Some(holding) != stays && replaced(&holding) {
                let_go(state, claim, holding, now);
            }
        }
    }
}

/// Gives back what is on its way out and not seen any longer. Where a status is still to be written, what it takes away is not
/// given back before: a former leader may be about to write what we have just dropped, and our write shuts it out.
fn give_back(state: &mut State, claim: &Claim, now: Timestamp) {
    if ingress(state, state.subject(&claim.uid)) != claim.shown {
        return;
    }
    for Holding { address, phase, .. } in holdings(state, claim) {
        if phase == Phase::Leaving && !visible(state, claim, address) && !state.under_way.contains(&address) {
            state.vacate(&claim.uid, address, Rest::CoolDown, now);
        }
    }
}

/// Whether a Service is refused something else than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    None,
    Refusals,
}

/// Notes what did not go, and queues for it.
fn note(state: &mut State, claim: &Claim, unmet: Unmet) -> News {
    let rank = claim.rank();
    let mut waits = unmet.waits;
    match claim.renumber {
        Renumber::Stay => {}
        // An address may become irregular at any time, by a neighbour too.
        Renumber::Move => waits.extend(holdings(state, claim).iter().map(|holding| Wait::Address(holding.address))),
    }
    // What its status shows and others have is its own as soon as they leave it.
    let strange = |shown: &&IpAddr| state.subject(&claim.uid).phase(**shown).is_none();
    waits.extend(claim.shown.iter().filter(strange).map(|shown| Wait::Address(*shown)));
    waits.sort();
    waits.dedup();
    let subject = state.subject_mut(&claim.uid);
    let news = if subject.refusals == unmet.refusals { News::None } else { News::Refusals };
    subject.refusals = unmet.refusals;
    let before = std::mem::replace(&mut subject.waits, waits.clone());
    for wait in before.iter().filter(|wait| !waits.contains(wait)) {
        state.waiting.leave(wait, &rank);
    }
    for wait in waits.into_iter().filter(|wait| !before.contains(wait)) {
        state.waiting.join(wait, rank.clone());
    }
    news
}
