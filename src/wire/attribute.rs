//! Path attributes (RFC 4271 §4.3, §5).

use super::{AsPath, Community, Family, LargeCommunity, Prefix};
use bytes::Bytes;
use std::net::{IpAddr, Ipv4Addr};

/// ORIGIN (RFC 4271 §5.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Interior to the originating AS, 0. Ours.
    Igp,
    /// Learned by EGP, 1.
    Egp,
    /// Learned by other means, 2.
    Incomplete,
}

/// One path attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// Type 1.
    Origin(Origin),
    /// Type 2.
    AsPath(AsPath),
    /// Type 3: of the IPv4 NLRI in the message body.
    NextHop(Ipv4Addr),
    /// Type 4.
    MultiExitDisc(u32),
    /// Type 5: iBGP only.
    LocalPref(u32),
    /// Type 8.
    Communities(Vec<Community>),
    /// Type 32.
    LargeCommunities(Vec<LargeCommunity>),
    /// Type 14 (RFC 4760 §3).
    MpReach(MpReach),
    /// Type 15 (RFC 4760 §4).
    MpUnreach(MpUnreach),
    /// Anything else, octet by octet.
    Unknown {
        /// The flags octet as received.
        flags: u8,
        /// The type code.
        code: u8,
        /// The value.
        data: Bytes,
    },
}

/// MP_REACH_NLRI of a unicast family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MpReach {
    /// Which family the prefixes are of.
    pub family: Family,
    /// The (global) next hop; its family may differ from that of the prefixes (RFC 8950).
    pub next_hop: IpAddr,
    /// A second, link-local next hop (RFC 2545 §3).
    pub link_local: Option<IpAddr>,
    /// The prefixes.
    pub nlri: Vec<Prefix>,
}

/// MP_UNREACH_NLRI of a unicast family; without prefixes it is that family's End-of-RIB (RFC 4724 §2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MpUnreach {
    /// Which family the prefixes are of.
    pub family: Family,
    /// The prefixes.
    pub withdrawn: Vec<Prefix>,
}
