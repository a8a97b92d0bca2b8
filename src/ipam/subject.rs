//! A Service that is served, with what it holds and what it waits for.

use super::claim::Claim;
use super::refusal::Refusal;
use super::waiting::Wait;
use std::net::IpAddr;
use std::sync::Arc;

/// How far a Service's hold on an address has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Chosen; the `Allocation` does not name it yet, as far as is known.
    Pending,
    /// The `Allocation` names it.
    Held,
    /// To be given back as soon as the Service's status shows it no longer.
    Leaving,
}

/// Whether a Service's status has shown an address since it holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// Not as far as is known: nobody would miss it.
    Unseen,
    /// It has.
    Seen,
}

/// A Service's hold on an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// The address.
    pub address: IpAddr,
    /// How far it has come.
    pub phase: Phase,
    /// Whether it is or was live.
    pub exposure: Exposure,
}

/// Whether a Service's status is being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusWrite {
    /// No write is under way.
    None,
    /// One is, that shows these: they may be there already, or be there at any moment.
    UnderWay(Vec<IpAddr>),
}

/// A Service that is served.
#[derive(Debug, Clone)]
pub struct Subject {
    /// What it asks for.
    pub claim: Arc<Claim>,
    /// What it holds: rarely more than two.
    pub holdings: Vec<Holding>,
    /// What it did not get.
    pub refusals: Vec<Refusal>,
    /// The queues in which it stands, beside [`Wait::Everyone`].
    pub waits: Vec<Wait>,
    /// Whether its status is being written.
    pub write: StatusWrite,
    /// Shared addresses that it holds on terms which are not (any longer) good: nobody joins it there.
    pub disputes: Vec<IpAddr>,
}

impl Subject {
    /// A newcomer.
    pub fn new(claim: Arc<Claim>) -> Self {
        Self { claim, holdings: Vec::new(), refusals: Vec::new(), waits: Vec::new(), write: StatusWrite::None, disputes: Vec::new() }
    }

    /// Its hold on an address.
    pub fn phase(&self, address: IpAddr) -> Option<Phase> {
        self.holdings.iter().find(|holding| holding.address == address).map(|holding| holding.phase)
    }

    /// Changes its hold on an address, or begins one.
    pub fn set_phase(&mut self, address: IpAddr, phase: Phase) {
        match self.holdings.iter_mut().find(|holding| holding.address == address) {
            Some(holding) => holding.phase = phase,
            None => {
                self.holdings.push(Holding { address, phase, exposure: Exposure::Unseen });
                self.holdings.sort_by_key(|holding| holding.address);
            }
        }
    }

    /// Whether somebody may see an address in its status.
    pub fn visible(&self, address: IpAddr) -> bool {
        self.claim.shows(address)
            || match &self.write {
                StatusWrite::None => false,
                StatusWrite::UnderWay(shown) => shown.contains(&address),
            }
    }

    /// Notes which of its addresses its status shows.
    pub fn look(&mut self) {
        for holding in self.holdings.iter_mut().filter(|holding| self.claim.shows(holding.address)) {
            holding.exposure = Exposure::Seen;
        }
    }

    /// Ends its hold on an address.
    pub fn forget(&mut self, address: IpAddr) {
        self.holdings.retain(|holding| holding.address != address);
    }
}
