//! The BGP Identifier.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;

/// A BGP Identifier: any non-zero 4-octet number (RFC 6286 §2.1), written like an IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RouterId(Ipv4Addr);

impl RouterId {
    /// `None` for 0.0.0.0, which RFC 6286 §2.1 excludes.
    pub fn new(id: Ipv4Addr) -> Option<Self> {
        (!id.is_unspecified()).then_some(Self(id))
    }

    /// The four octets in network order; as a number they decide collisions (RFC 4271 §6.8).
    pub fn octets(self) -> [u8; 4] {
        self.0.octets()
    }
}

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_identifier() {
        assert_eq!(RouterId::new(Ipv4Addr::UNSPECIFIED), None);
        assert!(RouterId::new(Ipv4Addr::new(0, 0, 0, 1)).is_some());
    }
}
