//! Why a Service did not get what it asked for, in the words that its event carries.

use super::family::Family;
use super::name::ServiceName;
use super::pool::Unfit;
use super::terms::Clash;
use super::timestamp::Timestamp;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// How many pools an event names one by one.
const POOLS_NAMED: usize = 5;

/// Why a wish was not granted. What a Service holds stays with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is no pool at all.
    NoPools,
    /// The only pool that comes into question gives none.
    Pool(PoolRefusal),
    /// None of several pools gives one.
    Pools {
        /// The family that was looked for.
        family: Family,
        /// What each says, in the order in which they are asked.
        pools: Vec<PoolRefusal>,
    },
    /// The pool that it names does not exist.
    UnknownPool {
        /// The name.
        pool: Arc<str>,
        /// The pools that do.
        known: Vec<Arc<str>>,
    },
    /// The address that it names is in no pool.
    OutsidePools(IpAddr),
    /// It names an address and a pool that does not have it.
    NotInPool {
        /// The address.
        address: IpAddr,
        /// The pool it names.
        pool: Arc<str>,
        /// The pool that has it.
        found_in: Arc<str>,
    },
    /// The address that it names is one that its pool keeps out.
    KeptOut {
        /// The address.
        address: IpAddr,
        /// The pool.
        pool: Arc<str>,
    },
    /// The address that it names belongs to a node, or to a router that is a peer.
    NodeAddress(IpAddr),
    /// The address that it names is shown by a Service that is not ours.
    Foreign {
        /// The address.
        address: IpAddr,
        /// That Service.
        service: ServiceName,
    },
    /// The address that it names is held by another, and neither shares.
    Taken {
        /// The address.
        address: IpAddr,
        /// Its holder.
        holder: ServiceName,
    },
    /// The two may not share this address. Where the Service holds it already, it keeps it on the terms it had.
    Sharing {
        /// The address.
        address: IpAddr,
        /// The other holder.
        with: ServiceName,
        /// Why not.
        clash: Clash,
    },
    /// The address that it names was somebody else's a moment ago.
    CoolingDown {
        /// The address.
        address: IpAddr,
        /// When it is free.
        until: Timestamp,
    },
    /// Its namespace has all the addresses that it may have.
    Quota {
        /// The namespace.
        namespace: Arc<str>,
        /// How many it holds.
        used: u32,
        /// How many it may hold.
        limit: u32,
    },
    /// It names an address of a family that it does not have.
    WrongFamily(IpAddr),
    /// It names two addresses of one family.
    SeveralOfFamily(Family),
    /// Its status shows an address that is in no pool and that was not given here: somebody else serves it.
    NotOurs(IpAddr),
    /// RequireDualStack, and one family cannot be served.
    BothFamilies {
        /// The family.
        missing: Family,
        /// Why not.
        because: Box<Refusal>,
    },
    /// PreferDualStack, and one family is served; the other follows when it can.
    OneFamily {
        /// The family that is missing.
        missing: Family,
        /// Why.
        because: Box<Refusal>,
    },
}

/// What one pool says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolRefusal {
    /// The pool.
    pub pool: Arc<str>,
    /// Its reason.
    pub why: PoolFault,
}

/// Why a pool gives no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolFault {
    /// It does not serve this Service.
    Unfit(Unfit),
    /// It has none left.
    Full(Fullness),
}

/// How full a pool is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fullness {
    /// The family that was looked for, and that the figures count.
    pub family: Family,
    /// Whether the pool has the other one too.
    pub extent: Extent,
    /// Addresses that it could give.
    pub total: u128,
    /// Those of them that it cannot give now.
    pub used: u128,
    /// Used ones that cool down.
    pub cooling: u64,
    /// Used ones that belong to a node or are shown by a Service that is not ours.
    pub blocked: u64,
}

/// What figures of one family of a pool say about the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All: it has one family.
    Pool,
    /// Half of it: it has two.
    OneFamily,
}

impl fmt::Display for Fullness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.extent {
            Extent::Pool => f.write_str("is full")?,
            Extent::OneFamily => write!(f, "is full for {}", self.family)?,
        }
        write!(f, ": {} of {} used", self.used, self.total)?;
        if self.cooling > 0 {
            write!(f, ", {} cooling down", self.cooling)?;
        }
        if self.blocked > 0 {
            write!(f, ", {} in use by nodes or by others", self.blocked)?;
        }
        Ok(())
    }
}

impl fmt::Display for PoolRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            PoolFault::Unfit(unfit) => write!(f, "pool {} {unfit}", self.pool),
            PoolFault::Full(fullness) => write!(f, "pool {} {fullness}", self.pool),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPools => f.write_str("there is no pool of addresses; define one"),
            Self::Pool(refusal) => write!(f, "{refusal}"),
            Self::Pools { family, pools } => {
                write!(f, "no pool gives an {family} address: ")?;
                listed(f, pools, "; ")
            }
            Self::UnknownPool { pool, known } if known.is_empty() => {
                write!(f, "pool {pool} does not exist, nor any other")
            }
            Self::UnknownPool { pool, known } => {
                write!(f, "pool {pool} does not exist; there is ")?;
                listed(f, known, ", ")
            }
            Self::OutsidePools(address) => write!(f, "{address} is in no pool"),
            Self::NotInPool { address, pool, found_in } => {
                write!(f, "{address} is in pool {found_in}, not in pool {pool}")
            }
            Self::KeptOut { address, pool } => write!(f, "{address} is kept out of pool {pool}"),
            Self::NodeAddress(address) => write!(f, "{address} is the address of a node or of a router"),
            Self::Foreign { address, service } => {
                write!(f, "{address} is in use by {service}, which is served by others")
            }
            Self::Taken { address, holder } => write!(f, "{address} is held by {holder}"),
            Self::Sharing { address, with, clash } => write!(f, "{address} cannot be shared with {with}: {clash}"),
            Self::CoolingDown { address, until } => write!(f, "{address} is cooling down until {until}"),
            Self::Quota { namespace, used, limit } => {
                write!(f, "namespace {namespace} has {used} of the {limit} addresses that it may have")
            }
            Self::WrongFamily(address) => {
                write!(f, "{address} is {}, and the service has no such family", Family::of(*address))
            }
            Self::SeveralOfFamily(family) => {
                write!(f, "it names more than one {family} address; one a family is served")
            }
            Self::NotOurs(address) => {
                write!(
                    f,
                    "its status shows {address}, which is in no pool and was not given here; clear it to be served"
                )
            }
            Self::BothFamilies { missing, because } => {
                write!(f, "RequireDualStack needs both families, and {missing} is not to be had: {because}")
            }
            Self::OneFamily { missing, because } => write!(f, "served without {missing} for now: {because}"),
        }
    }
}

fn listed<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T], separator: &str) -> fmt::Result {
    for (at, item) in items.iter().take(POOLS_NAMED).enumerate() {
        let before = if at == 0 { "" } else { separator };
        write!(f, "{before}{item}")?;
    }
    match items.len().saturating_sub(POOLS_NAMED) {
        0 => Ok(()),
        more => write!(f, "{separator}and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(extent: Extent, cooling: u64, blocked: u64) -> PoolRefusal {
        let fullness = Fullness { family: Family::V6, extent, total: 32, used: 32, cooling, blocked };
        PoolRefusal { pool: "edge".into(), why: PoolFault::Full(fullness) }
    }

    #[test]
    fn what_the_user_reads() {
        let draining = PoolRefusal { pool: "old".into(), why: PoolFault::Unfit(Unfit::Draining) };
        let address = "198.51.100.7".parse().unwrap();
        let other = ServiceName { namespace: "web".into(), name: "a".into() };
        let pools = vec![full(Extent::Pool, 0, 0), draining.clone()];
        let cases = [
            (Refusal::Pool(full(Extent::Pool, 3, 0)), "pool edge is full: 32 of 32 used, 3 cooling down"),
            (
                Refusal::Pool(full(Extent::OneFamily, 0, 1)),
                "pool edge is full for IPv6: 32 of 32 used, 1 in use by nodes or by others",
            ),
            (
                Refusal::Pools { family: Family::V4, pools },
                "no pool gives an IPv4 address: pool edge is full: 32 of 32 used; pool old is draining",
            ),
            (
                Refusal::Pools { family: Family::V4, pools: vec![draining; 7] },
                "no pool gives an IPv4 address: pool old is draining; pool old is draining; pool old is draining; \
                 pool old is draining; pool old is draining; and 2 more",
            ),
            (
                Refusal::UnknownPool { pool: "egde".into(), known: vec!["edge".into(), "lab".into()] },
                "pool egde does not exist; there is edge, lab",
            ),
            (
                Refusal::Sharing { address, with: other, clash: Clash::Exclusive },
                "198.51.100.7 cannot be shared with web/a: sharing needs a key on both",
            ),
            (
                Refusal::CoolingDown { address, until: Timestamp::from_unix_millis(0) },
                "198.51.100.7 is cooling down until 1970-01-01T00:00:00Z",
            ),
            (
                Refusal::BothFamilies {
                    missing: Family::V6,
                    because: Box::new(Refusal::Pool(full(Extent::Pool, 0, 0))),
                },
                "RequireDualStack needs both families, and IPv6 is not to be had: pool edge is full: 32 of 32 used",
            ),
        ];
        for (refusal, text) in cases {
            assert_eq!(refusal.to_string(), text);
        }
    }
}
