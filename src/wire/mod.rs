//! The alphabet of BGP-4: values, and the octets that stand for them.
//!
//! Promises: decoding never panics, never allocates in proportion to a length that was only claimed, and keeps what it
//! does not understand (`Unknown`). "Can I read it" is decided here; "may I accept it" is not.
//! Deliberately absent: sockets, time, session state. The one thing a codec may know about a session is [`Context`].

mod announce;
pub mod as_path;
pub mod asn;
pub mod attribute;
mod attribute_list;
mod attribute_value;
pub mod capability;
pub mod community;
mod emit;
pub mod error;
pub mod extended_community;
pub mod family;
pub mod fault;
pub mod header;
pub mod message;
mod mp;
pub mod nlri;
pub mod notification;
mod offer;
pub mod open;
mod parse;
pub mod prefix;
pub mod route_refresh;
pub mod router_id;
pub mod text;
pub mod update;

pub use as_path::AsPath;
pub use asn::Asn;
pub use attribute::{Aggregator, Attribute, MpReach, MpUnreach, Origin, Outbound};
pub use capability::Capability;
pub use community::{Community, LargeCommunity};
pub use error::{EncodeError, Error};
pub use extended_community::{Bandwidth, ExtendedCommunity, Ipv6ExtendedCommunity, Scope};
pub use family::Family;
pub use fault::{Fault, Verdict};
pub use header::frame;
pub use message::Message;
pub use nlri::Nlri;
pub use notification::{CeaseSubcode, Notification};
pub use open::Open;
pub use prefix::Prefix;
pub use route_refresh::{RefreshKind, RouteRefresh, Subtypes};
pub use router_id::RouterId;
pub use text::Text;
pub use update::{Announce, EndOfRib, Update, Withdraw};

use std::collections::BTreeSet;

/// Octets of one AS number inside AS_PATH (RFC 6793 §4.1): what both OPENs agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsWidth {
    /// The peer sent no capability 65: AS_TRANS stands for what does not fit.
    Two,
    /// Both sent capability 65.
    Four,
}

impl AsWidth {
    /// Octets of one number.
    pub fn octets(self) -> usize {
        match self {
            AsWidth::Two => 2,
            AsWidth::Four => 4,
        }
    }
}

/// Whether the peer is in our AS (RFC 4271 §1.1); some attributes mean, or err, differently on the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerKind {
    /// Same AS: iBGP.
    Internal,
    /// Another AS: eBGP.
    External,
}

/// What the codec may know about a session. Before the OPENs are exchanged: [`Context::before_open`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// Width of AS numbers in AS_PATH.
    pub as_width: AsWidth,
    /// iBGP or eBGP.
    pub peer_kind: PeerKind,
    /// Largest message in octets, header included: 4096, or 65535 with RFC 8654.
    pub max_len: usize,
    /// Families that both sides sent (RFC 4760 §8).
    pub families: BTreeSet<Family>,
    /// The peer's AS, where paths from an external peer must begin with it (RFC 4271 §6.3); `None` towards a route server,
    /// which does not add itself.
    pub first_as: Option<Asn>,
    /// Families whose prefixes have path identifiers in what the peer sends: it sends them and we take them (RFC 7911 §4).
    pub path_ids_received: BTreeSet<Family>,
    /// Families whose prefixes have path identifiers in what we send: we send them and the peer takes them.
    pub path_ids_sent: BTreeSet<Family>,
    /// Families other than IPv6 whose next hop may be an IPv6 address: both sides sent it (RFC 8950 §4).
    pub ipv6_next_hops: BTreeSet<Family>,
    /// Whether the peer offered subtypes of ROUTE-REFRESH (RFC 7313).
    pub subtypes: Subtypes,
}

impl Context {
    /// The context in which OPENs are exchanged: nothing is agreed yet.
    pub fn before_open() -> Self {
        Self {
            as_width: AsWidth::Two,
            peer_kind: PeerKind::External,
            max_len: 4096,
            families: BTreeSet::new(),
            first_as: None,
            path_ids_received: BTreeSet::new(),
            path_ids_sent: BTreeSet::new(),
            ipv6_next_hops: BTreeSet::new(),
            subtypes: Subtypes::Reserved,
        }
    }
}
