//! Autonomous system numbers.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A 4-octet AS number (RFC 6793), printed as plain decimal (RFC 5396 asplain).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Asn(pub u32);

impl Asn {
    /// Stands for a number that does not fit two octets (RFC 6793 §9).
    pub const TRANS: Asn = Asn(23456);

    /// The number in two octets, or AS_TRANS where it does not fit.
    pub fn two_octets(self) -> u16 {
        u16::try_from(self.0).unwrap_or(23456)
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Asn {
    type Err = std::num::ParseIntError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(Asn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_two_octets_becomes_as_trans() {
        assert_eq!(Asn(65535).two_octets(), 65535);
        assert_eq!(Asn(65536).two_octets(), 23456);
    }
}
