//! IPv4 and IPv6, and what a Service asks of them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// An address as a number, so that ranges of both families can be reckoned with.
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address of a number that [`number`] gave for this family.
pub(super) fn address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => {
            IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).expect("a number of an IPv4 address has 32 bits")))
        }
        Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(number)),
    }
}

/// `spec.ipFamilyPolicy` and `spec.ipFamilies` taken together. Each carries the primary family, `ipFamilies[0]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    /// One family and no other: SingleStack, or PreferDualStack in a cluster that has one family.
    Single(Family),
    /// PreferDualStack with two families: both if possible, else either.
    Prefer(Family),
    /// RequireDualStack: both or nothing.
    Require(Family),
}

impl Families {
    /// The families that are asked for, the primary one first.
    pub const fn wanted(self) -> &'static [Family] {
        match self {
            Self::Single(Family::V4) => &[Family::V4],
            Self::Single(Family::V6) => &[Family::V6],
            Self::Prefer(Family::V4) | Self::Require(Family::V4) => &[Family::V4, Family::V6],
            Self::Prefer(Family::V6) | Self::Require(Family::V6) => &[Family::V6, Family::V4],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primary_family_comes_first_and_numbers_lead_back() {
        assert_eq!(Families::Prefer(Family::V6).wanted(), [Family::V6, Family::V4]);
        assert_eq!(Families::Require(Family::V4).wanted(), [Family::V4, Family::V6]);
        for text in ["0.0.0.0", "255.255.255.255", "198.51.100.7", "::", "2001:db8::7"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(address(Family::of(ip), number(ip)), ip);
        }
    }
}
