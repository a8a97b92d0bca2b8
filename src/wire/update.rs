//! UPDATE (RFC 4271 §4.3) and what becomes of a bad one (RFC 7606).

use super::{Attribute, Family, Prefix};
use bytes::Bytes;

/// An UPDATE as read from the wire.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    /// IPv4 prefixes withdrawn in the body.
    pub withdrawn: Vec<Prefix>,
    /// Path attributes in wire order, without those that were discarded.
    pub attributes: Vec<Attribute>,
    /// IPv4 prefixes announced in the body.
    pub nlri: Vec<Prefix>,
    /// What was wrong but does not end the session, strongest verdict first.
    pub faults: Vec<Fault>,
}

/// One malformed attribute that RFC 7606 lets the session survive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Attribute type code, 0 where the attribute list itself is broken.
    pub code: u8,
    /// What happens to the route.
    pub verdict: Verdict,
    /// What was wrong, for people.
    pub reason: &'static str,
    /// The attribute as it came, or what was left of the list.
    pub octets: Bytes,
}

/// RFC 7606 §2, weakest first; what resets a session is an [`super::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Drop the attribute, keep the route.
    AttributeDiscard,
    /// Take all prefixes of the message as withdrawn.
    TreatAsWithdraw,
}

impl Update {
    /// The family whose End-of-RIB this is (RFC 4724 §2), if it is one.
    pub fn end_of_rib(&self) -> Option<Family> {
        todo!()
    }
}

/// An announcement to be sent: one set of attributes, many prefixes of one family. IPv4 with an IPv4 next hop goes into
/// the message body, all else into MP_REACH_NLRI, which comes first (RFC 7606 §5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announce<'a> {
    /// Everything but the next hop, already encoded in ascending type order by [`super::attribute`].
    pub attributes: &'a [u8],
    /// Next hop of every prefix.
    pub next_hop: std::net::IpAddr,
    /// Family of every prefix.
    pub family: Family,
    /// Prefixes; the writer takes as many as fit one message and says how many.
    pub prefixes: &'a [Prefix],
}
