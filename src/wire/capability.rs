//! Capabilities in OPEN (RFC 5492).

use super::{Asn, Family};
use bytes::Bytes;

/// One capability. An unknown one is kept and never a reason to refuse (RFC 5492 §3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capability {
    /// Code 1 (RFC 4760 §8).
    Multiprotocol(Family),
    /// Code 2 (RFC 2918 §2).
    RouteRefresh,
    /// Code 65 (RFC 6793 §3): the sender's real AS number.
    FourOctetAs(Asn),
    /// Any other code with its value.
    Unknown {
        /// The capability code.
        code: u8,
        /// Its value.
        data: Bytes,
    },
}
