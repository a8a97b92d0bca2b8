//! What the API server says about an `Allocation`, taken in.
//!
//! The object is the truth. Whoever it names and who lives is a holder, also if a former leader wrote it late; a hold that it
//! does not name and that does not go beside those it names is rolled back, and its Service looks for another address.

use super::book::Occupancy;
use super::claim::Claim;
use super::grant::{first_clash, scope};
use super::name::{ServiceName, Uid};
use super::record::{Holder, Record, Tenure};
use super::settle::settle;
use super::state::State;
use super::subject::Phase;
use super::timestamp::Timestamp;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// Our own write got through.
pub fn confirm(state: &mut State, address: IpAddr, written: Option<Record>, now: Timestamp) {
    state.under_way.remove(&address);
    state.book.learn(address, written);
    for uid in agree(state, address) {
        settle(state, &uid, now);
    }
}

/// The object is this, whoever wrote it.
pub fn observe(state: &mut State, address: IpAddr, object: Option<Record>, now: Timestamp) {
    state.under_way.remove(&address);
    let mut affected = BTreeSet::new();
    if state.book.persisted(address) == object {
        state.book.learn(address, object);
    } else {
        affected = take_in(state, address, object, Unknown::Keep, now);
    }
    affected.extend(agree(state, address));
    for uid in affected {
        settle(state, &uid, now);
    }
}

/// Makes every hold on an address as firm as the object says; says whose changed.
fn agree(state: &mut State, address: IpAddr) -> Vec<Uid> {
    let mut changed = Vec::new();
    for uid in state.book.holders(address).iter().map(|holder| holder.uid.clone()).collect::<Vec<_>>() {
        let firm = state.first_phase(&uid, address);
        let Some(subject) = state.subjects.get_mut(&uid) else { continue };
        match subject.phase(address) {
            Some(phase @ (Phase::Pending | Phase::Held)) if phase != firm => {
                subject.set_phase(address, firm);
                changed.push(uid);
            }
            // It may have waited for the write to end.
            Some(Phase::Leaving) => changed.push(uid),
            Some(Phase::Pending | Phase::Held) | None => {}
        }
    }
    changed
}

/// What becomes of holders of whom we know nothing.
#[derive(Debug, Clone, Copy)]
pub enum Unknown<'a> {
    /// All services are known: they are gone, but for these.
    SweepBut(&'a BTreeSet<Uid>),
    /// We may not have heard of them yet.
    Keep,
}

/// Makes the object the truth; says whose holds it touched.
pub fn take_in(
    state: &mut State,
    address: IpAddr,
    object: Option<Record>,
    unknown: Unknown<'_>,
    now: Timestamp,
) -> BTreeSet<Uid> {
    let ours = forget_unknown(state, address);
    let pool = match (&object, state.book.pool(address)) {
        (Some(record), _) => Arc::clone(&record.pool),
        (None, Some(pool)) => Arc::clone(pool),
        (None, None) => "".into(),
    };
    state.book.learn(address, object.clone());
    let (mut holders, rest) = match object.map(|record| record.tenure) {
        Some(Tenure::Held(named)) => named_holders(state, named, unknown, now),
        // A clock that ran ahead keeps nothing cool for longer than a cool-down.
        Some(Tenure::Released { at, last }) => (Vec::new(), Some((at.min(now), last))),
        None => (Vec::new(), None),
    };
    let mut affected: BTreeSet<Uid> = holders.iter().map(|holder| holder.uid.clone()).collect();
    for uid in &affected {
        let Some(subject) = state.subjects.get_mut(uid) else {
            state.unknown.entry(uid.clone()).or_default().insert(address);
            continue;
        };
        match subject.phase(address) {
            Some(Phase::Leaving) => {}
            Some(Phase::Pending | Phase::Held) | None => subject.set_phase(address, Phase::Held),
        }
    }
    for holder in ours {
        if holders.iter().any(|named| named.uid == holder.uid) {
            continue;
        }
        affected.insert(holder.uid.clone());
        if rejoins(state, &holder, address, &holders, rest.as_ref().map(|(_, last)| last)) {
            holders.push(holder);
        }
    }
    let occupancy = match (holders.is_empty(), rest) {
        (false, _) => Occupancy::Held(holders),
        (true, Some((at, last))) => Occupancy::Cooling { at, last },
        (true, None) => Occupancy::Vacated,
    };
    state.put(address, &pool, occupancy);
    state.expire(now);
    affected
}

/// Who holds an address here; those of whom we have not heard are forgotten, for the object will say.
fn forget_unknown(state: &mut State, address: IpAddr) -> Vec<Holder> {
    let holders = state.book.holders(address).to_vec();
    for holder in &holders {
        if let Some(addresses) = state.unknown.get_mut(&holder.uid) {
            addresses.remove(&address);
            if addresses.is_empty() {
                state.unknown.remove(&holder.uid);
            }
        }
    }
    holders
}

/// Those of the named holders who live, or may, each once; and if none does, since when it rests and whose it was.
fn named_holders(
    state: &State,
    named: Vec<Holder>,
    unknown: Unknown<'_>,
    now: Timestamp,
) -> (Vec<Holder>, Option<(Timestamp, ServiceName)>) {
    let mut seen = BTreeSet::new();
    let last = named.last().map(|holder| holder.service.clone());
    let mut lives = named;
    lives.retain(|holder| match unknown {
        Unknown::SweepBut(absent) => {
            let lives = state.subjects.contains_key(&holder.uid) || absent.contains(&holder.uid);
            lives && seen.insert(holder.uid.clone())
        }
        Unknown::Keep => seen.insert(holder.uid.clone()),
    });
    let rest = if lives.is_empty() { last.map(|last| (now, last)) } else { None };
    (lives, rest)
}

/// Whether a hold that the object does not name goes on beside those it names. If not, it is forgotten.
fn rejoins(state: &mut State, holder: &Holder, address: IpAddr, named: &[Holder], last: Option<&ServiceName>) -> bool {
    let Some(claim) = state.claim(&holder.uid) else { return false };
    let fits = |claim: &Claim| first_clash(claim, &holder.terms, address, named, scope(state, address)).is_ok();
    let goes_on = fits(&claim) && last.is_none_or(|last| *last == holder.service);
    let subject = state.subjects.get_mut(&holder.uid).expect("it has a claim");
    match subject.phase(address) {
        Some(Phase::Pending | Phase::Held) if goes_on => {
            subject.set_phase(address, Phase::Pending);
            true
        }
        Some(Phase::Pending | Phase::Held | Phase::Leaving) | None => {
            subject.forget(address);
            false
        }
    }
}
