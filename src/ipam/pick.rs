//! Which address a Service gets.
//!
//! Pools are asked by priority, then by name; a pool gives its lowest free address. A sharing key first joins the lowest
//! address that it may share. Two families come from the first pool that has both; where none has, each from the first that
//! has it.

use super::claim::{Claim, PoolChoice};
use super::family::Family;
use super::grant::{Purpose, counted_alone, grantable, stranger};
use super::keep::anchor;
use super::pool::{AutoAssign, Intake, Unfit};
use super::quota::Quota;
use super::record::Holder;
use super::refusal::{PoolFault, PoolRefusal, Refusal};
use super::state::State;
use super::stock::Stock;
use super::subject::Subject;
use super::terms::{Sharing, SharingScope};
use super::waiting::Wait;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What was found for a family.
pub type Found = Result<IpAddr, Missing>;

/// Why nothing was found, and what to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Why.
    pub refusal: Refusal,
    /// What might help.
    pub waits: Vec<Wait>,
}

impl Missing {
    fn for_good(refusal: Refusal) -> Self {
        Self { refusal, waits: Vec::new() }
    }
}

/// The pools that come into question, in order, and what the others say.
struct Question<'a> {
    asked: Vec<&'a Stock>,
    others: Vec<PoolRefusal>,
}

/// Finds an address for each of these families, the primary one first. Takes nothing.
pub fn pick(state: &State, subject: &Subject, needs: &[Family]) -> BTreeMap<Family, Found> {
    let claim = &*subject.claim;
    let mut found: BTreeMap<Family, Found> = BTreeMap::new();
    for family in needs {
        if let Some(address) = claim.exact(*family) {
            found.insert(*family, exact(state, claim, address));
        } else if let Some(address) = shown_by_others(state, subject, *family) {
            found.insert(*family, Err(Missing::for_good(Refusal::NotOurs(address))));
        }
    }
    let open: Vec<Family> = needs.iter().copied().filter(|family| !found.contains_key(family)).collect();
    if !open.is_empty() {
        match question(state, claim) {
            Ok(question) => from_pools(state, subject, &open, &question, &mut found),
            Err(refusal) => {
                found.extend(open.iter().map(|family| (*family, Err(Missing::for_good(refusal.clone())))));
            }
        }
    }
    within_quota(state, subject, needs, &mut found);
    found
}

fn exact(state: &State, claim: &Claim, address: IpAddr) -> Found {
    match grantable(state, claim, address, Purpose::Give) {
        Ok(()) => Ok(address),
        Err(refusal) => Err(Missing { refusal, waits: vec![Wait::Address(address)] }),
    }
}

/// An address of a family that the status shows, where we hold none of it and no pool has it: somebody else's work.
fn shown_by_others(state: &State, subject: &Subject, family: Family) -> Option<IpAddr> {
    let claim = &subject.claim;
    if anchor(state, subject, family).is_some() {
        return None;
    }
    claim.shown.iter().copied().find(|shown| Family::of(*shown) == family && stranger(state, claim, *shown))
}

fn question<'a>(state: &'a State, claim: &Claim) -> Result<Question<'a>, Refusal> {
    let mut question = Question { asked: Vec::new(), others: Vec::new() };
    let stocks: Vec<&Stock> = match &claim.pool {
        PoolChoice::Any => state.stocks.iter().collect(),
        PoolChoice::Named(name) => {
            let known = || state.stocks.iter().map(|stock| Arc::clone(&stock.pool.name)).collect();
            let unknown = || Refusal::UnknownPool { pool: Arc::clone(name), known: known() };
            vec![state.stocks.named(name).ok_or_else(unknown)?]
        }
    };
    for stock in stocks {
        match serves(stock, claim) {
            Ok(()) => question.asked.push(stock),
            Err(unfit) => {
                let pool = Arc::clone(&stock.pool.name);
                question.others.push(PoolRefusal { pool, why: PoolFault::Unfit(unfit) });
            }
        }
    }
    Ok(question)
}

fn serves(stock: &Stock, claim: &Claim) -> Result<(), Unfit> {
    stock.pool.admission.admits(claim)?;
    match stock.pool.intake {
        Intake::Open => {}
        Intake::Draining => return Err(Unfit::Draining),
    }
    match (stock.pool.auto_assign, &claim.pool) {
        (AutoAssign::OnRequest, PoolChoice::Any) => Err(Unfit::OnRequest),
        (AutoAssign::OnRequest, PoolChoice::Named(_)) | (AutoAssign::Yes, PoolChoice::Any | PoolChoice::Named(_)) => {
            Ok(())
        }
    }
}

fn from_pools(
    state: &State,
    subject: &Subject,
    open: &[Family],
    question: &Question<'_>,
    found: &mut BTreeMap<Family, Found>,
) {
    let claim = &subject.claim;
    for family in open {
        if let Some(address) = to_share(state, claim, *family, &question.asked) {
            found.insert(*family, Ok(address));
        }
    }
    let open: Vec<Family> = open.iter().copied().filter(|family| !found.contains_key(family)).collect();
    if let [first, second] = open[..] {
        let both = question.asked.iter().find_map(|stock| Some((stock.lowest(first)?, stock.lowest(second)?)));
        if let Some((one, other)) = both {
            found.extend([(first, Ok(one)), (second, Ok(other))]);
            return;
        }
    }
    for family in open {
        let beside = anchor(state, subject, family.other()).and_then(|holding| state.book.pool(holding.address));
        let beside = question.asked.iter().find(|stock| Some(&stock.pool.name) == beside);
        let lowest = beside.into_iter().chain(&question.asked).find_map(|stock| stock.lowest(family));
        found.insert(family, lowest.ok_or_else(|| nothing_left(claim, family, question)));
    }
}

/// The address that a sharing key joins: of the first pool in order, the lowest.
fn to_share(state: &State, claim: &Claim, family: Family, asked: &[&Stock]) -> Option<IpAddr> {
    let Sharing::Key(key) = &claim.terms.sharing else { return None };
    let strangers = asked.iter().any(|stock| stock.pool.sharing == SharingScope::Cluster);
    let namespace = Some(&claim.service.namespace).filter(|_| !strangers);
    let place = |address: &IpAddr| {
        let stock = state.stocks.around(*address)?;
        asked.iter().position(|asked| asked.pool.name == stock.pool.name)
    };
    let candidates =
        state.with_key(key, namespace, family).into_iter().filter_map(|address| Some((place(&address)?, address)));
    let may = |(_, address): &(usize, IpAddr)| {
        state.book.holder(*address, &claim.uid).is_none() && grantable(state, claim, *address, Purpose::Give).is_ok()
    };
    candidates.filter(may).min().map(|(_, address)| address)
}

fn nothing_left(claim: &Claim, family: Family, question: &Question<'_>) -> Missing {
    let mut waits: Vec<Wait> = Vec::new();
    let mut pools: Vec<PoolRefusal> = Vec::new();
    for stock in &question.asked {
        let pool = Arc::clone(&stock.pool.name);
        if stock.has(family) {
            waits.push(Wait::Pool(Arc::clone(&pool), family));
            pools.push(PoolRefusal { pool, why: PoolFault::Full(stock.fullness(family)) });
        }
    }
    for stock in question.asked.iter().filter(|stock| !stock.has(family)) {
        let why = PoolFault::Unfit(Unfit::Family(family));
        pools.push(PoolRefusal { pool: Arc::clone(&stock.pool.name), why });
    }
    pools.extend(question.others.iter().cloned());
    match &claim.terms.sharing {
        Sharing::Key(key) => waits.push(Wait::Sharing(Arc::clone(key))),
        Sharing::Exclusive => {}
    }
    let refusal = match pools.len() {
        0 => Refusal::NoPools,
        1 => Refusal::Pool(pools.remove(0)),
        _ => Refusal::Pools { family, pools },
    };
    Missing { refusal, waits }
}

/// Takes out what the namespace's quota does not allow. An address that this one replaces is not counted against it.
fn within_quota(state: &State, subject: &Subject, needs: &[Family], found: &mut BTreeMap<Family, Found>) {
    let claim = &subject.claim;
    let namespace = &claim.service.namespace;
    let limit = match state.quotas.of(namespace) {
        Quota::Unlimited => return,
        Quota::Addresses(limit) => limit,
    };
    let mut used = state.used(namespace);
    for family in needs {
        let Some(Ok(address)) = found.get(family) else { continue };
        let same = |holder: &Holder| holder.service.namespace == *namespace;
        if state.book.holders(*address).iter().any(same) {
            continue;
        }
        let replaced = anchor(state, subject, *family).is_some_and(|old| counted_alone(state, claim, old.address));
        if used < limit.saturating_add(u32::from(replaced)) {
            used += 1 - u32::from(replaced);
            continue;
        }
        let mut waits = vec![Wait::Quota(Arc::clone(namespace))];
        if let Sharing::Key(key) = &claim.terms.sharing {
            waits.push(Wait::Sharing(Arc::clone(key)));
        }
        let refusal = Refusal::Quota { namespace: Arc::clone(namespace), used: state.used(namespace), limit };
        found.insert(*family, Err(Missing { refusal, waits }));
    }
}
