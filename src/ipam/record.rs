//! What is written down about an address: the content of one `Allocation` object.

use super::name::{ServiceName, Uid};
use super::terms::Terms;
use super::timestamp::Timestamp;
use std::net::IpAddr;
use std::sync::Arc;

/// One `Allocation`. There is at most one an address, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The address.
    pub address: IpAddr,
    /// The pool it was given from, or whose range it lies in now; the last one where no pool has it any longer.
    pub pool: Arc<str>,
    /// Who has it.
    pub tenure: Tenure,
}

/// Who has an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenure {
    /// These, in the order in which they joined. Never empty in what is to be written.
    Held(Vec<Holder>),
    /// Nobody since then: it cools down.
    Released {
        /// When the last holder left.
        at: Timestamp,
        /// The last holder, who may ask for it back by address at any time.
        last: ServiceName,
    },
}

/// One holder of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The Service.
    pub service: ServiceName,
    /// Its UID: what identifies it.
    pub uid: Uid,
    /// The terms it was granted. They stay behind its own where an edit of it was refused.
    pub terms: Arc<Terms>,
}
