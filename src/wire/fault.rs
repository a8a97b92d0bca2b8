//! What can be wrong with a path attribute, and what becomes of the routes (RFC 7606).

use bytes::Bytes;
use std::fmt;

/// One malformed attribute that RFC 7606 lets the session survive. `Display` is a sentence for a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Attribute type code, 0 where the attribute list itself is broken.
    pub code: u8,
    /// What happens to the route.
    pub verdict: Verdict,
    /// What was wrong.
    pub reason: Reason,
    /// Where the attribute begins, in octets from the start of the message.
    pub offset: usize,
    /// The attribute as it came, or what was left of the list; empty for a missing one.
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

/// What is wrong with an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The list ends inside an attribute, or with too few octets for another one (RFC 7606 §4).
    ListBroken,
    /// The Optional or Transitive bit is not that of the type (RFC 7606 §3 c).
    Flags,
    /// The length is not one that the type can have.
    Length,
    /// The type came before in the same message (RFC 7606 §3 g).
    Repeated,
    /// A mandatory attribute is not there (RFC 7606 §3 d).
    Missing,
    /// Marked well-known, but no type that we know.
    UnrecognizedWellKnown,
    /// An ORIGIN other than 0, 1 and 2.
    OriginUndefined,
    /// A path segment of no known type.
    SegmentType,
    /// A path segment without numbers.
    SegmentEmpty,
    /// A path segment that does not end where the attribute does.
    SegmentLength,
    /// AS number 0 (RFC 7607 §2).
    AsZero,
    /// AS_SET or AS_CONFED_SET (RFC 9774 §3).
    AsSet,
    /// A confederation segment, and we are in no confederation (RFC 5065 §5).
    ConfedSegment,
    /// The path does not begin with the AS of the external peer that sent it (RFC 4271 §6.3, RFC 7606 §7.2).
    FirstAs,
    /// An iBGP attribute from an eBGP peer (RFC 7606 §7.5, §7.9, §7.10).
    NotFromExternal,
    /// AS4_PATH or AS4_AGGREGATOR from a peer that speaks 4-octet AS numbers anyway (RFC 6793 §4.1).
    NotFromFourOctetSpeaker,
}

impl Reason {
    /// The subcode of UPDATE Message Error where the fault must reset the session after all (RFC 4271 §6.3).
    pub fn subcode(self) -> u8 {
        match self {
            Reason::ListBroken | Reason::Repeated => 1,
            Reason::UnrecognizedWellKnown => 2,
            Reason::Missing => 3,
            Reason::Flags => 4,
            Reason::Length => 5,
            Reason::OriginUndefined => 6,
            Reason::NotFromExternal | Reason::NotFromFourOctetSpeaker => 9,
            Reason::SegmentType
            | Reason::SegmentEmpty
            | Reason::SegmentLength
            | Reason::AsZero
            | Reason::AsSet
            | Reason::ConfedSegment
            | Reason::FirstAs => 11,
        }
    }
}

impl Reason {
    /// A short name for counting.
    pub fn cause(self) -> &'static str {
        match self {
            Reason::ListBroken => "attribute-list",
            Reason::Flags => "attribute-flags",
            Reason::Length => "attribute-length",
            Reason::Repeated => "attribute-repeated",
            Reason::Missing => "attribute-missing",
            Reason::UnrecognizedWellKnown => "well-known-unrecognized",
            Reason::OriginUndefined => "origin-undefined",
            Reason::SegmentType => "as-path-segment-type",
            Reason::SegmentEmpty => "as-path-segment-empty",
            Reason::SegmentLength => "as-path-segment-length",
            Reason::AsZero => "as-zero",
            Reason::AsSet => "as-set",
            Reason::ConfedSegment => "confederation-segment",
            Reason::FirstAs => "first-as",
            Reason::NotFromExternal => "not-from-external",
            Reason::NotFromFourOctetSpeaker => "not-from-four-octet-speaker",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::ListBroken => "the attribute list ends inside an attribute",
            Reason::Flags => "the Optional or Transitive flag is wrong for this type",
            Reason::Length => "the length is wrong for this type",
            Reason::Repeated => "it came before in the same message",
            Reason::Missing => "it is mandatory and not there",
            Reason::UnrecognizedWellKnown => "it is marked well-known, but this type is not known",
            Reason::OriginUndefined => "the origin is none of 0, 1 and 2",
            Reason::SegmentType => "a path segment has an unknown type",
            Reason::SegmentEmpty => "a path segment is empty",
            Reason::SegmentLength => "a path segment does not end where the attribute ends",
            Reason::AsZero => "it contains AS 0",
            Reason::AsSet => "it contains an AS_SET, which RFC 9774 forbids",
            Reason::ConfedSegment => "it contains a confederation segment, and this session is in no confederation",
            Reason::FirstAs => "the path does not begin with the peer's own AS",
            Reason::NotFromExternal => "an external peer may not send it",
            Reason::NotFromFourOctetSpeaker => "a peer with 4-octet AS numbers may not send it",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::AttributeDiscard => "attribute discarded",
            Verdict::TreatAsWithdraw => "routes treated as withdrawn",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at octet {}: {} ({})", Named(self.code), self.offset, self.reason, self.verdict)
    }
}

/// An attribute type code that prints with its name.
pub(super) struct Named(pub u8);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            0 => return f.write_str("attribute list"),
            1 => "ORIGIN",
            2 => "AS_PATH",
            3 => "NEXT_HOP",
            4 => "MULTI_EXIT_DISC",
            5 => "LOCAL_PREF",
            6 => "ATOMIC_AGGREGATE",
            7 => "AGGREGATOR",
            8 => "COMMUNITIES",
            9 => "ORIGINATOR_ID",
            10 => "CLUSTER_LIST",
            14 => "MP_REACH_NLRI",
            15 => "MP_UNREACH_NLRI",
            16 => "EXTENDED COMMUNITIES",
            17 => "AS4_PATH",
            18 => "AS4_AGGREGATOR",
            22 => "PMSI_TUNNEL",
            23 => "TUNNEL_ENCAPSULATION",
            26 => "AIGP",
            29 => "BGP-LS",
            40 => "PREFIX_SID",
            128 => "ATTR_SET",
            25 => "IPv6 EXTENDED COMMUNITIES",
            32 => "LARGE_COMMUNITY",
            35 => "ONLY_TO_CUSTOMER",
            code => return write!(f, "attribute {code}"),
        };
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn withdrawing_is_stronger_than_discarding() {
        assert!(Verdict::TreatAsWithdraw > Verdict::AttributeDiscard);
    }

    #[test]
    fn a_fault_is_a_sentence() {
        let fault = Fault {
            code: 5,
            verdict: Verdict::AttributeDiscard,
            reason: Reason::NotFromExternal,
            offset: 44,
            octets: Bytes::new(),
        };
        assert_eq!(fault.to_string(), "LOCAL_PREF at octet 44: an external peer may not send it (attribute discarded)");
        assert_eq!(Named(99).to_string(), "attribute 99");
    }
}
