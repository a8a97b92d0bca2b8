//! Extended communities (RFC 4360, RFC 5668, RFC 10005) and those of IPv6 (RFC 5701).
//!
//! ```text
//! | type | sub-type | 2-octet AS | number (4)     |   type 00, 40
//! | type | sub-type | IPv4 address   | number (2) |   type 01, 41
//! | type | sub-type | 4-octet AS     | number (2) |   type 02, 42
//! ```
//!
//! Bit 0x40 of the type keeps a community inside the AS. They are kept as octets: an unknown type is never an error.

use super::Asn;
use super::community::CommunityError;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An extended community: eight octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtendedCommunity(pub [u8; 8]);

/// An extended community that has room for an IPv6 address (RFC 5701 §2): twenty octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipv6ExtendedCommunity(pub [u8; 20]);

/// Whether a community crosses the border of an AS (RFC 4360 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// It does.
    Transitive,
    /// It is taken off there (RFC 4360 §6).
    NonTransitive,
}

/// A link bandwidth (RFC 10005 §2) in bytes per second: finite and not negative. It is sent as an IEEE 754 binary32, so
/// whole numbers are exact up to 2^24.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bandwidth(u32);

/// The bit of a type octet that says [`Scope::NonTransitive`].
const NON_TRANSITIVE: u8 = 0x40;
const TWO_OCTET_AS: u8 = 0x00;
const TWO_OCTET_AS_INSIDE: u8 = TWO_OCTET_AS | NON_TRANSITIVE;
const IPV4_ADDRESS: u8 = 0x01;
const FOUR_OCTET_AS: u8 = 0x02;
/// Sub-types (RFC 4360 §4, §5; RFC 10005 §2).
const ROUTE_TARGET: u8 = 0x02;
const ROUTE_ORIGIN: u8 = 0x03;
const LINK_BANDWIDTH: u8 = 0x04;

impl Scope {
    fn bit(self) -> u8 {
        match self {
            Scope::Transitive => 0,
            Scope::NonTransitive => NON_TRANSITIVE,
        }
    }
}

impl Bandwidth {
    /// `None` for what no link has: negative (negative zero too), infinite, not a number.
    pub fn new(bytes_per_second: f32) -> Option<Self> {
        (bytes_per_second.is_finite() && bytes_per_second.is_sign_positive()).then(|| Self(bytes_per_second.to_bits()))
    }

    /// As a number.
    pub fn bytes_per_second(self) -> f32 {
        f32::from_bits(self.0)
    }

    /// The lowest of all bandwidths in a list, whatever their scope: the one that counts (RFC 10005 §4). Values that no link
    /// has are passed over.
    pub fn lowest(list: &[ExtendedCommunity]) -> Option<Self> {
        list.iter().filter_map(ExtendedCommunity::bandwidth).min()
    }
}

impl ExtendedCommunity {
    /// One that names an AS, in the form that its number asks for (RFC 5668 §3): up to 65535 the two-octet one, whose local
    /// part has four octets, else the other. `None` if `local` does not fit two octets there.
    pub fn of_as(scope: Scope, subtype: u8, asn: Asn, local: u32) -> Option<Self> {
        let [l0, l1, l2, l3] = local.to_be_bytes();
        match u16::try_from(asn.0) {
            Ok(number) => {
                let [a0, a1] = number.to_be_bytes();
                Some(Self([TWO_OCTET_AS | scope.bit(), subtype, a0, a1, l0, l1, l2, l3]))
            }
            Err(_) if local <= u32::from(u16::MAX) => {
                let [a0, a1, a2, a3] = asn.0.to_be_bytes();
                Some(Self([FOUR_OCTET_AS | scope.bit(), subtype, a0, a1, a2, a3, l2, l3]))
            }
            Err(_) => None,
        }
    }

    /// One that names an IPv4 address (RFC 4360 §3.2).
    pub fn of_address(scope: Scope, subtype: u8, address: Ipv4Addr, local: u16) -> Self {
        let ([a0, a1, a2, a3], [l0, l1]) = (address.octets(), local.to_be_bytes());
        Self([IPV4_ADDRESS | scope.bit(), subtype, a0, a1, a2, a3, l0, l1])
    }

    /// How much a link carries (RFC 10005 §2). An AS above 65535 is named as AS_TRANS; the number has no meaning anyway.
    pub fn link_bandwidth(scope: Scope, asn: Asn, bandwidth: Bandwidth) -> Self {
        let [a0, a1] = asn.two_octets().to_be_bytes();
        let [b0, b1, b2, b3] = bandwidth.0.to_be_bytes();
        Self([TWO_OCTET_AS | scope.bit(), LINK_BANDWIDTH, a0, a1, b0, b1, b2, b3])
    }

    /// Whether it crosses the border of an AS.
    pub fn scope(&self) -> Scope {
        if self.0[0] & NON_TRANSITIVE == 0 { Scope::Transitive } else { Scope::NonTransitive }
    }

    /// The bandwidth if this is one (RFC 10005 §2) that a link can have; both scopes are, and no other type.
    pub fn bandwidth(&self) -> Option<Bandwidth> {
        match self.0 {
            [TWO_OCTET_AS | TWO_OCTET_AS_INSIDE, LINK_BANDWIDTH, _, _, b0, b1, b2, b3] => {
                Bandwidth::new(f32::from_be_bytes([b0, b1, b2, b3]))
            }
            _ => None,
        }
    }
}

/// The names of sub-types in text.
const NAMES: [(&str, u8); 2] = [("rt", ROUTE_TARGET), ("ro", ROUTE_ORIGIN)];
/// The names of a bandwidth in text.
const BANDWIDTHS: [(&str, Scope); 2] =
    [("link-bandwidth", Scope::Transitive), ("link-bandwidth-non-transitive", Scope::NonTransitive)];

impl fmt::Display for ExtendedCommunity {
    /// `rt:AS:NUMBER`, `ro:AS:NUMBER`, either with an address for the AS, `link-bandwidth:AS:BYTES`, else sixteen digits
    /// behind `0x`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [kind, subtype, a, b, c, d, e, g] = self.0;
        if let Some(bandwidth) = self.bandwidth() {
            let name = BANDWIDTHS.iter().find(|(_, scope)| *scope == self.scope()).map_or("", |(name, _)| name);
            return write!(f, "{name}:{}:{}", u16::from_be_bytes([a, b]), bandwidth.bytes_per_second());
        }
        let four_octets = u32::from_be_bytes([a, b, c, d]);
        match (kind, NAMES.iter().find(|(_, number)| *number == subtype)) {
            (TWO_OCTET_AS, Some((name, _))) => {
                write!(f, "{name}:{}:{}", u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, g]))
            }
            (IPV4_ADDRESS, Some((name, _))) => {
                write!(f, "{name}:{}:{}", Ipv4Addr::from(four_octets), u16::from_be_bytes([e, g]))
            }
            // A small number in the large form is another community than in the small one, and its text must say so.
            (FOUR_OCTET_AS, Some((name, _))) if four_octets > u32::from(u16::MAX) => {
                write!(f, "{name}:{four_octets}:{}", u16::from_be_bytes([e, g]))
            }
            _ => write!(f, "0x{:016x}", u64::from_be_bytes(self.0)),
        }
    }
}

impl FromStr for ExtendedCommunity {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, CommunityError> {
        read(text).ok_or_else(|| CommunityError {
            given: text.to_owned(),
            expected: "write rt:AS:NUMBER, ro:AS:NUMBER, link-bandwidth:AS:BYTES_PER_SECOND or 0x and 16 digits; \
                       NUMBER is at most 65535 where AS is above 65535 or an IPv4 address",
        })
    }
}

fn read(text: &str) -> Option<ExtendedCommunity> {
    if let Some(digits) = text.strip_prefix("0x") {
        let hex = digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        return hex.then(|| u64::from_str_radix(digits, 16).ok()).flatten().map(|n| ExtendedCommunity(n.to_be_bytes()));
    }
    let mut parts = text.splitn(3, ':');
    let (name, administrator, local) = (parts.next()?, parts.next()?, parts.next()?);
    if let Some((_, scope)) = BANDWIDTHS.iter().find(|(known, _)| *known == name) {
        let digits = local.bytes().all(|digit| digit.is_ascii_digit() || digit == b'.');
        let bandwidth = Bandwidth::new(local.parse().ok().filter(|_| digits)?)?;
        return Some(ExtendedCommunity::link_bandwidth(*scope, administrator.parse().ok()?, bandwidth));
    }
    let (_, subtype) = NAMES.iter().find(|(known, _)| *known == name)?;
    match administrator.parse::<Ipv4Addr>() {
        Ok(address) => Some(ExtendedCommunity::of_address(Scope::Transitive, *subtype, address, local.parse().ok()?)),
        Err(_) => {
            ExtendedCommunity::of_as(Scope::Transitive, *subtype, administrator.parse().ok()?, local.parse().ok()?)
        }
    }
}

impl fmt::Display for Ipv6ExtendedCommunity {
    /// Forty digits behind `0x`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bandwidth(asn: u32, bytes: f32, scope: Scope) -> [u8; 8] {
        ExtendedCommunity::link_bandwidth(scope, Asn(asn), Bandwidth::new(bytes).unwrap()).0
    }

    #[test]
    fn bandwidths_golden() {
        use Scope::*;
        let gigabit = [0xfd, 0xe9, 0x4c, 0xee, 0x6b, 0x28];
        assert_eq!(bandwidth(65_001, 1.25e8, Transitive), [&[0, 4][..], &gigabit].concat()[..]);
        assert_eq!(bandwidth(65_001, 1.25e8, NonTransitive), [&[0x40, 4][..], &gigabit].concat()[..]);
        assert_eq!(bandwidth(4_200_000_000, 1.0, Transitive), [0, 4, 0x5b, 0xa0, 0x3f, 0x80, 0, 0]);
        assert_eq!(bandwidth(65_001, 0.0, Transitive), [0, 4, 0xfd, 0xe9, 0, 0, 0, 0]);
        assert_eq!(bandwidth(65_001, 1.25e9, Transitive)[4..], [0x4e, 0x95, 0x02, 0xf9]);
        assert_eq!(bandwidth(65_001, 1.25e10, Transitive)[4..], [0x50, 0x3a, 0x43, 0xb7]);
    }

    #[test]
    fn bandwidths_that_no_link_has_are_neither_sent_nor_taken() {
        for bad in [f32::NAN, f32::INFINITY, -1.0, -0.0] {
            assert_eq!(Bandwidth::new(bad), None);
            let [b0, b1, b2, b3] = bad.to_be_bytes();
            assert_eq!(ExtendedCommunity([0, 4, 0, 1, b0, b1, b2, b3]).bandwidth(), None);
        }
    }

    #[test]
    fn the_lowest_bandwidth_counts_whatever_its_scope() {
        let one = |scope, bytes| ExtendedCommunity(bandwidth(1, bytes, scope));
        let list = [one(Scope::Transitive, 5.0), one(Scope::NonTransitive, 3.0), one(Scope::Transitive, 400.0)];
        assert_eq!(Bandwidth::lowest(&list).map(Bandwidth::bytes_per_second), Some(3.0));
        let negative = ExtendedCommunity([0, 4, 0, 1, 0xbf, 0x80, 0, 0]);
        assert_eq!(Bandwidth::lowest(&[negative, list[0]]).map(Bandwidth::bytes_per_second), Some(5.0));
        assert_eq!(Bandwidth::lowest(&[one(Scope::Transitive, 0.0), list[0]]), Bandwidth::new(0.0));
        let other = ExtendedCommunity([2, 4, 0, 1, 0, 0, 0, 0]);
        assert_eq!(Bandwidth::lowest(&[other]), None, "02 04 is not a bandwidth");
    }

    #[test]
    fn the_form_follows_the_number() {
        let target = |asn, local| ExtendedCommunity::of_as(Scope::Transitive, 2, Asn(asn), local);
        assert_eq!(target(65_535, 0x0102_0304).unwrap().0, [0, 2, 0xff, 0xff, 1, 2, 3, 4]);
        assert_eq!(target(65_536, 0x0304).unwrap().0, [2, 2, 0, 1, 0, 0, 3, 4]);
        assert_eq!(target(65_536, 0x1_0000), None);
        let inside = ExtendedCommunity::of_as(Scope::NonTransitive, 9, Asn(70_000), 1).unwrap();
        assert_eq!((inside.0[0], inside.scope()), (0x42, Scope::NonTransitive));
    }

    #[test]
    fn text_round_trips() {
        for (text, octets) in [
            ("rt:65000:100", [0, 2, 0xfd, 0xe8, 0, 0, 0, 100]),
            ("ro:4200000000:7", [2, 3, 0xfa, 0x56, 0xea, 0, 0, 7]),
            ("rt:192.0.2.1:9", [1, 2, 192, 0, 2, 1, 0, 9]),
            ("link-bandwidth:65001:125000000", [0, 4, 0xfd, 0xe9, 0x4c, 0xee, 0x6b, 0x28]),
            ("link-bandwidth-non-transitive:1:1", [0x40, 4, 0, 1, 0x3f, 0x80, 0, 0]),
            ("0x8006000000000000", [0x80, 6, 0, 0, 0, 0, 0, 0]),
            ("0x02020000fde80001", [2, 2, 0, 0, 0xfd, 0xe8, 0, 1]),
            ("0x00040001bf800000", [0, 4, 0, 1, 0xbf, 0x80, 0, 0]),
        ] {
            assert_eq!(text.parse::<ExtendedCommunity>().unwrap().0, octets, "{text}");
            assert_eq!(ExtendedCommunity(octets).to_string(), text);
        }
        let mut octets = [0; 20];
        octets[19] = 0xab;
        assert!(Ipv6ExtendedCommunity(octets).to_string().ends_with("00ab"));
    }

    #[test]
    fn nonsense_is_refused_with_a_hint() {
        for text in [
            "",
            "65000:1",
            "rt:65000",
            "rt:70000:65536",
            "rt:1.2.3.4:65536",
            "lb:1:2",
            "link-bandwidth:1:-1",
            "link-bandwidth:1:inf",
            "link-bandwidth:1:nan",
            "0x12",
            "0x+123456789012345",
        ] {
            let refused = text.parse::<ExtendedCommunity>().unwrap_err().to_string();
            assert!(refused.contains("rt:AS:NUMBER"), "{text}: {refused}");
        }
    }
}
