//! Whether one Service may have one address.

use super::book::Occupancy;
use super::claim::Claim;
use super::neighbours::Block;
use super::pool::{Intake, Unfit};
use super::record::Holder;
use super::refusal::{PoolFault, PoolRefusal, Refusal};
use super::state::State;
use super::stock::Stock;
use super::subject::Subject;
use super::terms::{Clash, Sharing, SharingScope, Terms, clash};
use std::net::IpAddr;

/// Why an address is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It is given: all rules of the pool hold.
    Give,
    /// The Service's status shows it already: a draining pool keeps what is there, and so do addresses kept out.
    Adopt,
}

/// Whether a Service may take an address.
///
/// # Errors
/// Why not.
pub fn grantable(state: &State, claim: &Claim, address: IpAddr, purpose: Purpose) -> Result<(), Refusal> {
    let stock = permitted(state, claim, address, purpose)?;
    match state.book.occupancy(address) {
        Occupancy::Held(holders) => joinable(state, claim, address, holders, stock.pool.sharing),
        Occupancy::Cooling { last, .. } if *last == claim.service => Ok(()),
        Occupancy::Cooling { at, .. } => Err(Refusal::CoolingDown { address, until: state.until(address, *at) }),
        Occupancy::Vacated => Ok(()),
    }
}

/// Whether a Service might take an address if nobody held it.
///
/// # Errors
/// Why not.
pub fn permitted<'a>(state: &'a State, claim: &Claim, address: IpAddr, purpose: Purpose) -> Result<&'a Stock, Refusal> {
    let stock = state.stocks.around(address).ok_or(Refusal::OutsidePools(address))?;
    stock.pool.admission.admits(claim).map_err(|unfit| refused_by(stock, unfit))?;
    match purpose {
        Purpose::Give => given(stock, address)?,
        Purpose::Adopt => {}
    }
    match state.neighbours.block(address) {
        Some(Block::Node) => return Err(Refusal::NodeAddress(address)),
        Some(Block::Foreign(service)) => return Err(Refusal::Foreign { address, service }),
        None => {}
    }
    Ok(stock)
}

fn given(stock: &Stock, address: IpAddr) -> Result<(), Refusal> {
    match stock.pool.intake {
        Intake::Open => {}
        Intake::Draining => return Err(refused_by(stock, Unfit::Draining)),
    }
    if !stock.gives(address) {
        return Err(Refusal::KeptOut { address, pool: stock.pool.name.clone() });
    }
    Ok(())
}

fn refused_by(stock: &Stock, unfit: Unfit) -> Refusal {
    Refusal::Pool(PoolRefusal { pool: stock.pool.name.clone(), why: PoolFault::Unfit(unfit) })
}

fn joinable(
    state: &State,
    claim: &Claim,
    address: IpAddr,
    holders: &[Holder],
    scope: SharingScope,
) -> Result<(), Refusal> {
    let nobody_shares =
        |holder: &Holder| (&claim.terms.sharing, &holder.terms.sharing) == (&Sharing::Exclusive, &Sharing::Exclusive);
    if let Some(holder) = holders.iter().find(|holder| nobody_shares(holder)) {
        return Err(Refusal::Taken { address, holder: holder.service.clone() });
    }
    first_clash(claim, &claim.terms, address, holders, scope)?;
    match holders.iter().find(|holder| disputed(state, holder, address)) {
        Some(holder) => Err(Refusal::Sharing { address, with: holder.service.clone(), clash: Clash::Disputed }),
        None => Ok(()),
    }
}

/// Whether these terms may stand beside those of all these holders; the Service itself is none of them.
///
/// # Errors
/// The first holder beside whom they may not.
pub fn first_clash(
    claim: &Claim,
    terms: &Terms,
    address: IpAddr,
    holders: &[Holder],
    scope: SharingScope,
) -> Result<(), Refusal> {
    for holder in holders.iter().filter(|holder| holder.uid != claim.uid) {
        clash((&claim.service, terms), (&holder.service, &holder.terms), scope).map_err(|clash| Refusal::Sharing {
            address,
            with: holder.service.clone(),
            clash,
        })?;
    }
    Ok(())
}

/// Whether a holder may no longer share what it holds, by its edit or by what was adopted; or holds it on terms of yesterday,
/// for it is giving it back.
fn disputed(state: &State, holder: &Holder, address: IpAddr) -> bool {
    let by = |subject: &Subject| subject.disputes.contains(&address) || subject.claim.terms != holder.terms;
    state.subjects.get(&holder.uid).is_some_and(by)
}

/// Who may share an address. Outside all pools nobody joins, and who shares there is left in peace.
pub fn scope(state: &State, address: IpAddr) -> SharingScope {
    state.stocks.around(address).map_or(SharingScope::Cluster, |stock| stock.pool.sharing)
}

/// Whether giving back an address would take one from its namespace's count.
pub fn counted_alone(state: &State, claim: &Claim, address: IpAddr) -> bool {
    let same = |holder: &&Holder| holder.service.namespace == claim.service.namespace;
    state.book.holders(address).iter().filter(same).all(|holder| holder.uid == claim.uid)
}

/// Whether an address that a Service shows is one that nobody here gave.
pub fn stranger(state: &State, claim: &Claim, address: IpAddr) -> bool {
    state.book.holder(address, &claim.uid).is_none() && state.stocks.around(address).is_none()
}
