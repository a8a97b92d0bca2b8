//! UPDATEs as they are sent: full, of one kind each, written straight into the output buffer.
//!
//! An UPDATE carries exactly one of: prefixes withdrawn in the body, prefixes announced in the body, MP_REACH_NLRI,
//! MP_UNREACH_NLRI; and the last two come first among the attributes (RFC 7606 §5.1). Each writer takes as many prefixes
//! from the front of its list as one message holds and says how many; the caller calls again with the rest.

use super::attribute::{code, flags, put_head};
use super::error::EncodeError;
use super::header::{HEADER_LEN, Kind, enclose};
use super::mp::{encode_family, encode_reach_start};
use super::nlri::{self, PathIds};
use super::{Context, Family, Prefix};
use crate::planted::{Bug, planted};
use bytes::{BufMut, BytesMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Header and the two length fields: what an UPDATE takes before anything is in it.
const FRAME: usize = HEADER_LEN + 4;
/// NEXT_HOP with flags, type and length.
const NEXT_HOP_LEN: usize = 7;
/// MP_REACH_NLRI before its prefixes, without its next hop.
const REACH_START: usize = 2 + 1 + 1 + 1;
/// MP_UNREACH_NLRI before its prefixes.
const UNREACH_START: usize = 2 + 1;

/// An announcement to be sent: one set of attributes, many prefixes of one family. IPv4 with an IPv4 next hop goes into
/// the message body, all else into MP_REACH_NLRI, which comes first (RFC 7606 §5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announce<'a> {
    /// Everything but the next hop, already encoded in ascending type order by [`super::attribute::Outbound`].
    pub attributes: &'a [u8],
    /// Next hop of every prefix. IPv4 prefixes have an IPv6 one only where that was agreed (RFC 8950 §4).
    pub next_hop: IpAddr,
    /// A link-local address of the same next hop, on a link that the peer shares (RFC 2545 §3). Beside an IPv4 next hop there
    /// is no place for it, and it is left out.
    pub link_local: Option<Ipv6Addr>,
    /// Family of every prefix.
    pub family: Family,
    /// Prefixes; the writer takes as many as fit one message and says how many.
    pub prefixes: &'a [Prefix],
}

/// A withdrawal to be sent: many prefixes of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdraw<'a> {
    /// Family of every prefix.
    pub family: Family,
    /// Prefixes; the writer takes as many as fit one message and says how many.
    pub prefixes: &'a [Prefix],
}

/// The marker that a family's first full set has been sent (RFC 4724 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndOfRib(pub Family);

impl Announce<'_> {
    /// Appends one UPDATE with as many prefixes from the front as fit [`Context::max_len`], and returns how many. Without
    /// prefixes nothing is written.
    ///
    /// # Errors
    /// Never a panic and never a silent loss: [`EncodeError::NoRoom`] if the attributes leave no room for one prefix, and
    /// the other kinds for values that do not go together. `out` is then as it was.
    pub fn encode(&self, context: &Context, out: &mut BytesMut) -> Result<usize, EncodeError> {
        negotiated(self.family, context)?;
        if self.prefixes.is_empty() {
            return Ok(0);
        }
        match (self.family, self.next_hop) {
            (Family::IPV4_UNICAST, IpAddr::V4(next_hop)) => self.encode_in_body(next_hop, context, out),
            (Family::IPV6_UNICAST, IpAddr::V6(next_hop)) => self.encode_in_reach(next_hop, context, out),
            (Family::IPV4_UNICAST, IpAddr::V6(next_hop)) if context.ipv6_next_hops.contains(&self.family) => {
                self.encode_in_reach(next_hop, context, out)
            }
            (family, next_hop) => Err(EncodeError::NextHop { family, next_hop }),
        }
    }

    fn encode_in_body(&self, next_hop: Ipv4Addr, context: &Context, out: &mut BytesMut) -> Result<usize, EncodeError> {
        let len = self.attributes.len() + NEXT_HOP_LEN;
        let room = limit(context).saturating_sub(FRAME + len);
        let ids = PathIds::sent(self.family, context);
        let (count, _) = nlri::fitting(self.prefixes, self.family, ids, room)?;
        self.some(count, len, context)?;
        let (before, after) = self.attributes.split_at(next_hop_position(self.attributes));
        out.reserve(context.max_len);
        enclose(out, Kind::Update, context, |out| {
            out.put_u16(0);
            out.put_u16(attributes_len(len)?);
            out.put_slice(before);
            put_head(flags::WELL_KNOWN, code::NEXT_HOP, 4, out)?;
            out.put_slice(&next_hop.octets());
            out.put_slice(after);
            nlri::encode_own(&self.prefixes[..count], ids, out);
            Ok(())
        })?;
        Ok(count)
    }

    fn encode_in_reach(&self, next_hop: Ipv6Addr, context: &Context, out: &mut BytesMut) -> Result<usize, EncodeError> {
        let room = value_room(limit(context).saturating_sub(FRAME + self.attributes.len()));
        let ids = PathIds::sent(self.family, context);
        let start = REACH_START + if self.link_local.is_some() { 32 } else { 16 };
        let (count, octets) = nlri::fitting(self.prefixes, self.family, ids, room.saturating_sub(start))?;
        self.some(count, self.attributes.len() + 4 + start, context)?;
        out.reserve(context.max_len);
        enclose(out, Kind::Update, context, |out| {
            let value = start + octets;
            out.put_u16(0);
            out.put_u16(attributes_len(head_len(value) + value + self.attributes.len())?);
            put_head(flags::OPTIONAL, code::MP_REACH, value, out)?;
            encode_reach_start(self.family, IpAddr::V6(next_hop), self.link_local, out);
            nlri::encode_own(&self.prefixes[..count], ids, out);
            out.put_slice(self.attributes);
            Ok(())
        })?;
        Ok(count)
    }

    fn some(&self, count: usize, attributes: usize, context: &Context) -> Result<(), EncodeError> {
        match (count, self.prefixes.first()) {
            (0, Some(prefix)) => Err(EncodeError::NoRoom { attributes, prefix: *prefix, max_len: context.max_len }),
            _ => Ok(()),
        }
    }
}

impl Withdraw<'_> {
    /// Appends one UPDATE with as many prefixes from the front as fit [`Context::max_len`], and returns how many. Without
    /// prefixes nothing is written: that would be an End-of-RIB.
    ///
    /// # Errors
    /// [`EncodeError::FamilyNotNegotiated`] and [`EncodeError::FamilyMismatch`]; `out` is then as it was.
    pub fn encode(&self, context: &Context, out: &mut BytesMut) -> Result<usize, EncodeError> {
        negotiated(self.family, context)?;
        let Some(prefix) = self.prefixes.first() else { return Ok(0) };
        let room = context.max_len.saturating_sub(FRAME);
        let room =
            if self.family == Family::IPV4_UNICAST { room } else { value_room(room).saturating_sub(UNREACH_START) };
        let ids = PathIds::sent(self.family, context);
        let (count, octets) = nlri::fitting(self.prefixes, self.family, ids, room)?;
        if count == 0 {
            return Err(EncodeError::NoRoom { attributes: 0, prefix: *prefix, max_len: context.max_len });
        }
        out.reserve(context.max_len);
        enclose(out, Kind::Update, context, |out| {
            if self.family == Family::IPV4_UNICAST {
                out.put_u16(attributes_len(octets)?);
                nlri::encode_own(&self.prefixes[..count], ids, out);
                out.put_u16(0);
            } else {
                encode_unreach_start(self.family, octets, out)?;
                nlri::encode_own(&self.prefixes[..count], ids, out);
            }
            Ok(())
        })?;
        Ok(count)
    }
}

impl EndOfRib {
    /// Appends the UPDATE that says so: an empty one for IPv4 unicast, an empty MP_UNREACH_NLRI for all others.
    ///
    /// # Errors
    /// [`EncodeError::FamilyNotNegotiated`].
    pub fn encode(&self, context: &Context, out: &mut BytesMut) -> Result<(), EncodeError> {
        negotiated(self.0, context)?;
        enclose(out, Kind::Update, context, |out| {
            if self.0 == Family::IPV4_UNICAST {
                out.put_u32(0);
                Ok(())
            } else {
                encode_unreach_start(self.0, 0, out)
            }
        })
    }
}

/// No withdrawn routes, and MP_UNREACH_NLRI up to its prefixes, which take `octets`.
fn encode_unreach_start(family: Family, octets: usize, out: &mut BytesMut) -> Result<(), EncodeError> {
    let value = UNREACH_START + octets;
    out.put_u16(0);
    out.put_u16(attributes_len(head_len(value) + value)?);
    put_head(flags::OPTIONAL, code::MP_UNREACH, value, out)?;
    encode_family(family, out);
    Ok(())
}

/// Nothing leaves in a family that the session does not carry (RFC 4760 §8).
fn negotiated(family: Family, context: &Context) -> Result<(), EncodeError> {
    if context.families.contains(&family) { Ok(()) } else { Err(EncodeError::FamilyNotNegotiated(family)) }
}

/// Flags, type and length of an attribute whose value takes `value` octets.
fn head_len(value: usize) -> usize {
    if value > 255 { 4 } else { 3 }
}

/// Octets that a message may have.
fn limit(context: &Context) -> usize {
    let (short, long) = (planted(Bug::OneOctetShort), planted(Bug::OneOctetLong));
    context.max_len - usize::from(short) + usize::from(long)
}

/// The longest value of an attribute that takes `room` octets with its flags, type and length.
fn value_room(room: usize) -> usize {
    if room > 4 + 255 { room - 4 } else { room.saturating_sub(3).min(255) }
}

fn attributes_len(len: usize) -> Result<u16, EncodeError> {
    let max = usize::from(u16::MAX);
    u16::try_from(len).map_err(|_| EncodeError::FieldTooLong { field: "path attributes", len, max })
}

/// Where NEXT_HOP belongs in a block of attributes in ascending order: behind the last type below 3.
fn next_hop_position(block: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&[flags, code, high, ..]) = block.get(at..) {
        if code >= code::NEXT_HOP {
            break;
        }
        let len = match (flags & flags::EXTENDED_LENGTH, block.get(at + 3)) {
            (0, _) => 3 + usize::from(high),
            (_, Some(low)) => 4 + usize::from(u16::from_be_bytes([high, *low])),
            (_, None) => break,
        };
        if at + len > block.len() {
            break;
        }
        at += len;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::attribute::{Attribute, Outbound};
    use crate::wire::{AsPath, AsWidth, Asn, Message, Nlri, PeerKind, Update};

    fn context(max_len: usize) -> Context {
        Context {
            as_width: AsWidth::Four,
            peer_kind: PeerKind::External,
            max_len,
            families: [Family::IPV4_UNICAST, Family::IPV6_UNICAST].into(),
            ipv6_next_hops: [Family::IPV4_UNICAST].into(),
            ..Context::before_open()
        }
    }

    fn block() -> bytes::Bytes {
        let as_path = AsPath::sequence([Asn(65_000)]);
        Outbound { med: Some(1), ..Outbound::new(&as_path) }.encode(&context(4096)).unwrap()
    }

    fn prefixes(texts: &[&str]) -> Vec<Prefix> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn read(octets: &[u8]) -> Update {
        match Message::decode(octets, &context(65_535)) {
            Ok(Message::Update(update)) => update,
            other => panic!("not an UPDATE: {other:?}"),
        }
    }

    #[test]
    fn ipv4_goes_into_the_body_with_next_hop_in_its_place() {
        let prefixes = prefixes(&["192.0.2.1/32", "10.0.0.0/8"]);
        let announce = Announce {
            attributes: &block(),
            next_hop: "198.51.100.1".parse().unwrap(),
            link_local: None,
            family: Family::IPV4_UNICAST,
            prefixes: &prefixes,
        };
        let mut out = BytesMut::new();
        assert_eq!(announce.encode(&context(4096), &mut out), Ok(2));
        let mut wanted = vec![0xff; 16];
        wanted.extend([0, 57, 2, 0, 0, 0, 27, 0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe8]);
        wanted.extend([0x40, 3, 4, 198, 51, 100, 1, 0x80, 4, 4, 0, 0, 0, 1, 32, 192, 0, 2, 1, 8, 10]);
        assert_eq!(out[..], wanted);
        assert_eq!(read(&out).announced().map(|(prefix, _)| prefix).collect::<Vec<_>>(), prefixes);
    }

    #[test]
    fn ipv6_goes_into_mp_reach_and_that_comes_first() {
        let prefixes = prefixes(&["2001:db8::1/128"]);
        let announce = Announce {
            attributes: &block(),
            next_hop: "2001:db8::9".parse().unwrap(),
            link_local: None,
            family: Family::IPV6_UNICAST,
            prefixes: &prefixes,
        };
        let mut out = BytesMut::new();
        assert_eq!(announce.encode(&context(4096), &mut out), Ok(1));
        assert_eq!(out[19..30], [0, 0, 0, 61, 0x80, 14, 38, 0, 2, 1, 16]);
        let update = read(&out);
        let Some(Attribute::MpReach(reach)) = update.attributes.first() else { panic!("{update:?}") };
        assert_eq!((reach.link_local, reach.next_hop), (None, "2001:db8::9".parse().unwrap()));
        assert_eq!(reach.nlri, [Nlri::from(prefixes[0])]);
        assert_eq!((update.attributes.len(), update.faults.len()), (4, 0));
    }

    #[test]
    fn ipv4_with_an_ipv6_next_hop_goes_into_mp_reach() {
        let prefixes = prefixes(&["192.0.2.1/32"]);
        let next_hop = "2001:db8::9".parse().unwrap();
        let announce = Announce {
            attributes: &block(),
            next_hop,
            link_local: None,
            family: Family::IPV4_UNICAST,
            prefixes: &prefixes,
        };
        let mut out = BytesMut::new();
        assert_eq!(announce.encode(&context(4096), &mut out), Ok(1));
        let update = read(&out);
        assert!(update.nlri.is_empty());
        assert_eq!(update.announced().collect::<Vec<_>>(), [(prefixes[0], next_hop)]);
    }

    #[test]
    fn a_link_local_address_goes_behind_the_global_one() {
        let (next_hop, link_local) = ("2001:db8::9".parse().unwrap(), Some("fe80::9".parse().unwrap()));
        let (attributes, v6) = (block(), prefixes(&["2001:db8::1/128"]));
        let announce =
            Announce { attributes: &attributes, next_hop, link_local, family: Family::IPV6_UNICAST, prefixes: &v6 };
        let mut out = BytesMut::new();
        assert_eq!(announce.encode(&context(4096), &mut out), Ok(1));
        assert_eq!(out[19..30], [0, 0, 0, 77, 0x80, 14, 54, 0, 2, 1, 32]);
        let update = read(&out);
        let Some(Attribute::MpReach(reach)) = update.attributes.first() else { panic!("{update:?}") };
        assert_eq!((reach.next_hop, reach.link_local), (next_hop, link_local));
        let v4 = prefixes(&["192.0.2.1/32"]);
        let next_hop = "192.0.2.9".parse().unwrap();
        let ipv4 = Announce { next_hop, family: Family::IPV4_UNICAST, prefixes: &v4, ..announce };
        let mut out = BytesMut::new();
        assert_eq!(ipv4.encode(&context(4096), &mut out), Ok(1));
        assert_eq!(read(&out).announced().collect::<Vec<_>>(), [(v4[0], next_hop)]);
    }

    #[test]
    fn prefixes_are_sent_with_our_path_identifier_where_such_are_spoken() {
        let both: std::collections::BTreeSet<_> = [Family::IPV4_UNICAST, Family::IPV6_UNICAST].into();
        let ids = Context { path_ids_sent: both.clone(), path_ids_received: both, ..context(4096) };
        let v4 = prefixes(&["192.0.2.1/32"]);
        let mut out = BytesMut::new();
        assert_eq!(Withdraw { family: Family::IPV4_UNICAST, prefixes: &v4 }.encode(&ids, &mut out), Ok(1));
        assert_eq!(out[19..], [0, 9, 0, 0, 0, 1, 32, 192, 0, 2, 1, 0, 0]);
        let Ok(Message::Update(update)) = Message::decode(&out, &ids) else { panic!() };
        assert_eq!(update.withdrawn, [Nlri { prefix: v4[0], path_id: Some(1) }]);
    }

    #[test]
    fn withdrawals_and_ends_golden() {
        let v4 = prefixes(&["192.0.2.1/32"]);
        let v6 = prefixes(&["2001:db8::/32"]);
        let mut out = BytesMut::new();
        let withdraw = Withdraw { family: Family::IPV4_UNICAST, prefixes: &v4 };
        assert_eq!(withdraw.encode(&context(4096), &mut out), Ok(1));
        assert_eq!(out.split()[16..], [0, 28, 2, 0, 5, 32, 192, 0, 2, 1, 0, 0]);
        let withdraw = Withdraw { family: Family::IPV6_UNICAST, prefixes: &v6 };
        assert_eq!(withdraw.encode(&context(4096), &mut out), Ok(1));
        assert_eq!(out.split()[16..], [0, 34, 2, 0, 0, 0, 11, 0x80, 15, 8, 0, 2, 1, 32, 0x20, 1, 0x0d, 0xb8]);
        EndOfRib(Family::IPV4_UNICAST).encode(&context(4096), &mut out).unwrap();
        assert_eq!(out.split()[16..], [0, 23, 2, 0, 0, 0, 0]);
        EndOfRib(Family::IPV6_UNICAST).encode(&context(4096), &mut out).unwrap();
        assert_eq!(out[16..], [0, 29, 2, 0, 0, 0, 6, 0x80, 15, 3, 0, 2, 1]);
        assert_eq!(read(&out).end_of_rib(), Some(Family::IPV6_UNICAST));
    }

    #[test]
    fn nothing_to_send_is_nothing_sent() {
        let mut out = BytesMut::new();
        for family in [Family::IPV4_UNICAST, Family::IPV6_UNICAST] {
            let next_hop = "2001:db8::9".parse().unwrap();
            let announce = Announce { attributes: &block(), next_hop, link_local: None, family, prefixes: &[] };
            assert_eq!(announce.encode(&context(4096), &mut out), Ok(0));
            assert_eq!(Withdraw { family, prefixes: &[] }.encode(&context(4096), &mut out), Ok(0));
        }
        assert!(out.is_empty(), "an empty withdrawal would be an End-of-RIB");
    }

    #[test]
    fn attributes_that_leave_no_room_are_an_error() {
        let prefixes = prefixes(&["192.0.2.1/32"]);
        let exact = vec![0x40; 4096 - FRAME - NEXT_HOP_LEN - 5];
        let more = vec![0x40; exact.len() + 1];
        let announce = Announce {
            attributes: &exact,
            next_hop: "198.51.100.1".parse().unwrap(),
            link_local: None,
            family: Family::IPV4_UNICAST,
            prefixes: &prefixes,
        };
        let mut out = BytesMut::new();
        assert_eq!(announce.encode(&context(4096), &mut out), Ok(1));
        assert_eq!(out.split().len(), 4096);
        for next_hop in ["198.51.100.1", "2001:db8::1"] {
            let announce = Announce { attributes: &more, next_hop: next_hop.parse().unwrap(), ..announce.clone() };
            let refused = announce.encode(&context(4096), &mut out).unwrap_err();
            assert!(matches!(refused, EncodeError::NoRoom { max_len: 4096, .. }), "{refused}");
            assert!(out.is_empty());
        }
    }

    #[test]
    fn what_does_not_go_together_is_an_error() {
        let (v4, v6) = (prefixes(&["192.0.2.1/32"]), prefixes(&["192.0.2.1/32", "2001:db8::1/128"]));
        let (hop4, hop6): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let mut out = BytesMut::new();
        let mut refused = |family, next_hop, prefixes: &[Prefix], context: &Context| {
            Announce { attributes: &[], next_hop, link_local: None, family, prefixes }
                .encode(context, &mut out)
                .unwrap_err()
        };
        let both = context(4096);
        let (ipv4, ipv6) = (Family::IPV4_UNICAST, Family::IPV6_UNICAST);
        assert_eq!(refused(ipv6, hop4, &v6[1..], &both), EncodeError::NextHop { family: ipv6, next_hop: hop4 });
        let stranger = EncodeError::FamilyMismatch { prefix: v6[1], family: ipv4 };
        assert_eq!(refused(ipv4, hop4, &v6, &both), stranger);
        assert_eq!(refused(ipv4, hop6, &v6, &both), stranger);
        let plain = Context { ipv6_next_hops: [].into(), ..both.clone() };
        assert_eq!(refused(ipv4, hop6, &v4, &plain), EncodeError::NextHop { family: ipv4, next_hop: hop6 });
        let only6 = Context { families: [ipv6].into(), ..both };
        assert_eq!(refused(ipv4, hop4, &v4, &only6), EncodeError::FamilyNotNegotiated(ipv4));
        assert!(Withdraw { family: ipv4, prefixes: &v4 }.encode(&only6, &mut out).is_err());
        assert!(EndOfRib(ipv4).encode(&only6, &mut out).is_err());
        assert!(out.is_empty());
    }

    #[test]
    fn the_room_of_a_value_is_used_to_the_octet() {
        for room in 3..600 {
            let value = value_room(room);
            assert!(head_len(value) + value <= room, "{room}");
            assert!(head_len(value + 1) + value + 1 > room, "{room}");
        }
    }

    #[test]
    fn next_hop_finds_its_place_in_any_block() {
        assert_eq!(next_hop_position(&[]), 0);
        assert_eq!(next_hop_position(&block()), 13);
        assert_eq!(next_hop_position(&[0x80, 4, 4, 0, 0, 0, 1]), 0);
        assert_eq!(next_hop_position(&[0x50, 2, 0, 0, 0x80, 4, 0]), 4);
        assert_eq!(next_hop_position(&[0x40, 1, 200, 0]), 0);
    }
}
