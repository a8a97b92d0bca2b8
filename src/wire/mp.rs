//! MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760 §3, §4).
//!
//! ```text
//! reach   | AFI (2) | SAFI | length | next hop: 4, 16 or 32 octets | reserved | prefixes …
//! unreach | AFI (2) | SAFI | prefixes …
//! ```
//!
//! IPv4 prefixes have an IPv6 next hop only where both sides said so (RFC 8950 §4): elsewhere its length is wrong.

use super::nlri::{self, Nlri, PathIds, Unicast};
use super::parse::Reader;
use super::{Context, Family};
use bytes::{BufMut, BytesMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// MP_REACH_NLRI of a unicast family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MpReach {
    /// Which family the prefixes are of.
    pub family: Family,
    /// The (global) next hop; its family may differ from that of the prefixes (RFC 8950).
    pub next_hop: IpAddr,
    /// A second, link-local next hop (RFC 2545 §3), only ever beside an IPv6 one.
    pub link_local: Option<Ipv6Addr>,
    /// The prefixes.
    pub nlri: Vec<Nlri>,
}

/// MP_UNREACH_NLRI of a unicast family; without prefixes it is the End-of-RIB (RFC 4724 §2) of that family, which may then
/// be any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MpUnreach {
    /// Which family the prefixes are of.
    pub family: Family,
    /// The prefixes.
    pub withdrawn: Vec<Nlri>,
}

/// What one of the two attributes turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read<T> {
    /// A family whose prefixes can be read.
    Unicast(T),
    /// Another family; whether octets follow where its prefixes would be.
    Foreign {
        /// Whether there are any.
        prefixes: Presence,
    },
}

/// Whether prefixes of a foreign family are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    None,
    Some,
}

/// Why one of the two attributes cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// Where it stops making sense.
    pub offset: usize,
    /// What is wrong there.
    pub what: &'static str,
}

fn family(reader: &mut Reader<'_>) -> Result<Family, Unreadable> {
    let offset = reader.offset();
    match (reader.u16(), reader.u8()) {
        (Ok(afi), Ok(safi)) => Ok(Family { afi, safi }),
        _ => Err(Unreadable { offset, what: "the family is cut off" }),
    }
}

fn prefixes(reader: Reader<'_>, unicast: Unicast, family: Family, context: &Context) -> Result<Vec<Nlri>, Unreadable> {
    let ids = PathIds::received(family, context);
    nlri::decode(reader, unicast, ids).map_err(|bad| Unreadable { offset: bad.offset, what: bad.what })
}

impl MpReach {
    /// Reads the value. IPv4 prefixes may have an IPv6 next hop where that was agreed (RFC 8950 §3); IPv6 prefixes have no
    /// other. A foreign family is read as far as its prefixes.
    pub(super) fn decode(mut reader: Reader<'_>, context: &Context) -> Result<Read<Self>, Unreadable> {
        let family = family(&mut reader)?;
        let offset = reader.offset();
        let cut = |_| Unreadable { offset, what: "the next hop is cut off" };
        let len = usize::from(reader.u8().map_err(cut)?);
        let mut hop = reader.sub(len).map_err(cut)?;
        let _reserved = reader.u8().map_err(cut)?;
        let Some(unicast) = Unicast::of(family) else {
            return Ok(Read::Foreign { prefixes: presence(&reader) });
        };
        let v6 = |octets: [u8; 16]| Ipv6Addr::from(octets);
        let of6 = match unicast {
            Unicast::V4 => context.ipv6_next_hops.contains(&family),
            Unicast::V6 => true,
        };
        let (next_hop, link_local) = match (unicast, len) {
            (Unicast::V4, 4) => (IpAddr::V4(Ipv4Addr::from(hop.array::<4>().map_err(cut)?)), None),
            (Unicast::V4 | Unicast::V6, 16) if of6 => (IpAddr::V6(hop.array().map(v6).map_err(cut)?), None),
            (Unicast::V4 | Unicast::V6, 32) if of6 => {
                (IpAddr::V6(hop.array().map(v6).map_err(cut)?), Some(hop.array().map(v6).map_err(cut)?))
            }
            _ => return Err(Unreadable { offset, what: "the next hop has a length that its family does not have" }),
        };
        Ok(Read::Unicast(Self { family, next_hop, link_local, nlri: prefixes(reader, unicast, family, context)? }))
    }

    /// Appends the value.
    pub(super) fn encode(&self, context: &Context, out: &mut BytesMut) {
        encode_reach_start(self.family, self.next_hop, self.link_local, out);
        nlri::encode(self.nlri.iter().copied(), PathIds::sent(self.family, context), out);
    }
}

/// Appends everything of MP_REACH_NLRI's value that comes before the prefixes.
pub(super) fn encode_reach_start(family: Family, next_hop: IpAddr, link_local: Option<Ipv6Addr>, out: &mut BytesMut) {
    encode_family(family, out);
    match (next_hop, link_local) {
        (IpAddr::V4(address), _) => {
            out.put_u8(4);
            out.put_slice(&address.octets());
        }
        (IpAddr::V6(address), None) => {
            out.put_u8(16);
            out.put_slice(&address.octets());
        }
        (IpAddr::V6(address), Some(link_local)) => {
            out.put_u8(32);
            out.put_slice(&address.octets());
            out.put_slice(&link_local.octets());
        }
    }
    out.put_u8(0);
}

/// Appends AFI and SAFI.
pub(super) fn encode_family(family: Family, out: &mut BytesMut) {
    out.put_u16(family.afi);
    out.put_u8(family.safi);
}

impl MpUnreach {
    /// Reads the value. Without prefixes any family is good: it is only named.
    pub(super) fn decode(mut reader: Reader<'_>, context: &Context) -> Result<Read<Self>, Unreadable> {
        let family = family(&mut reader)?;
        match Unicast::of(family) {
            Some(unicast) => Ok(Read::Unicast(Self { family, withdrawn: prefixes(reader, unicast, family, context)? })),
            None if reader.is_empty() => Ok(Read::Unicast(Self { family, withdrawn: Vec::new() })),
            None => Ok(Read::Foreign { prefixes: presence(&reader) }),
        }
    }

    /// Appends the value.
    pub(super) fn encode(&self, context: &Context, out: &mut BytesMut) {
        encode_family(self.family, out);
        nlri::encode(self.withdrawn.iter().copied(), PathIds::sent(self.family, context), out);
    }
}

fn presence(reader: &Reader<'_>) -> Presence {
    if reader.is_empty() { Presence::None } else { Presence::Some }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        Context { ipv6_next_hops: [Family::IPV4_UNICAST].into(), ..Context::before_open() }
    }

    fn reach(octets: &[u8]) -> Result<Read<MpReach>, Unreadable> {
        MpReach::decode(Reader::new(octets), &context())
    }

    fn unreach(octets: &[u8]) -> Result<Read<MpUnreach>, Unreadable> {
        MpUnreach::decode(Reader::new(octets), &context())
    }

    fn nlri(text: &str) -> Nlri {
        Nlri { prefix: text.parse().unwrap(), path_id: None }
    }

    fn value(family: [u8; 3], next_hop: &[u8], prefixes: &[u8]) -> Vec<u8> {
        let mut octets = family.to_vec();
        octets.push(u8::try_from(next_hop.len()).unwrap());
        octets.extend(next_hop);
        octets.push(0);
        octets.extend(prefixes);
        octets
    }

    const V6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    const LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

    #[test]
    fn golden_octets_both_ways() {
        let ipv6 = MpReach {
            family: Family::IPV6_UNICAST,
            next_hop: "2001:db8::1".parse().unwrap(),
            link_local: None,
            nlri: vec![nlri("2001:db8::/32")],
        };
        let two_hops = MpReach { link_local: Some("fe80::1".parse().unwrap()), ..ipv6.clone() };
        let ipv4 = MpReach {
            family: Family::IPV4_UNICAST,
            next_hop: "192.0.2.1".parse().unwrap(),
            nlri: vec![nlri("10.0.0.0/8")],
            ..ipv6.clone()
        };
        let ipv4_over_ipv6 = MpReach { family: Family::IPV4_UNICAST, nlri: ipv4.nlri.clone(), ..ipv6.clone() };
        let prefix = [32, 0x20, 1, 0x0d, 0xb8];
        for (value, octets) in [
            (ipv6, value([0, 2, 1], &V6, &prefix)),
            (two_hops, value([0, 2, 1], &[V6, LINK_LOCAL].concat(), &prefix)),
            (ipv4, value([0, 1, 1], &[192, 0, 2, 1], &[8, 10])),
            (ipv4_over_ipv6, value([0, 1, 1], &V6, &[8, 10])),
        ] {
            let mut out = BytesMut::new();
            value.encode(&context(), &mut out);
            assert_eq!(out[..], octets);
            assert_eq!(reach(&octets), Ok(Read::Unicast(value)));
        }
    }

    #[test]
    fn next_hops_of_wrong_length_are_unreadable() {
        for len in 0..40 {
            for (family, good) in [([0, 1, 1], &[4, 16, 32][..]), ([0, 2, 1], &[16, 32])] {
                assert_eq!(reach(&value(family, &vec![1; len], &[])).is_ok(), good.contains(&len), "{family:?} {len}");
            }
        }
        let plain = Context::before_open();
        let ipv4_over = |len| value([0, 1, 1], &vec![1; len], &[]);
        let good: Vec<_> =
            (0..40).filter(|len| MpReach::decode(Reader::new(&ipv4_over(*len)), &plain).is_ok()).collect();
        assert_eq!(good, [4], "an IPv6 next hop that was not agreed on");
        assert_eq!(reach(&[0, 2, 1, 16, 1, 2]).unwrap_err().what, "the next hop is cut off");
        assert_eq!(reach(&[0, 2]).unwrap_err().what, "the family is cut off");
        assert!(reach(&value([0, 2, 1], &V6, &[])[..20]).is_err(), "without the reserved octet");
    }

    #[test]
    fn bad_prefixes_are_unreadable() {
        assert_eq!(reach(&value([0, 2, 1], &V6, &[129])).unwrap_err().offset, 21);
        assert!(unreach(&[0, 1, 1, 33, 1, 2, 3, 4, 5]).is_err());
        assert!(unreach(&[0, 2]).is_err());
    }

    #[test]
    fn path_identifiers_are_read_where_they_are_spoken() {
        let ids = Context {
            path_ids_received: [Family::IPV6_UNICAST].into(),
            path_ids_sent: [Family::IPV6_UNICAST].into(),
            ..context()
        };
        let named = MpUnreach {
            family: Family::IPV6_UNICAST,
            withdrawn: vec![Nlri { path_id: Some(7), ..nlri("2001:db8::/32") }],
        };
        let octets = [0, 2, 1, 0, 0, 0, 7, 32, 0x20, 1, 0x0d, 0xb8];
        let mut out = BytesMut::new();
        named.encode(&ids, &mut out);
        assert_eq!(out[..], octets);
        assert_eq!(MpUnreach::decode(Reader::new(&octets), &ids), Ok(Read::Unicast(named)));
        let ipv4 = MpUnreach { family: Family::IPV4_UNICAST, withdrawn: vec![nlri("10.0.0.0/8")] };
        assert_eq!(MpUnreach::decode(Reader::new(&[0, 1, 1, 8, 10]), &ids), Ok(Read::Unicast(ipv4)));
    }

    #[test]
    fn foreign_families_are_looked_over_only() {
        assert_eq!(reach(&value([0, 25, 70], &[1; 4], &[9])), Ok(Read::Foreign { prefixes: Presence::Some }));
        assert_eq!(reach(&value([0, 25, 70], &[], &[])), Ok(Read::Foreign { prefixes: Presence::None }));
        assert!(reach(&[0, 25, 70, 5, 1, 1]).is_err());
        let end = MpUnreach { family: Family { afi: 25, safi: 70 }, withdrawn: vec![] };
        assert_eq!(unreach(&[0, 25, 70]), Ok(Read::Unicast(end)));
    }
}
