//! Prefixes on the wire (RFC 4271 §4.3, RFC 4760 §5), with path identifiers where they are spoken (RFC 7911 §3).
//!
//! ```text
//! | path identifier (4), if spoken | length in bits | as many octets as hold them |
//! ```

use super::error::EncodeError;
use super::parse::Reader;
use super::prefix::PrefixError;
use super::{Context, Family, Prefix};
use crate::planted::{Bug, planted};
use bytes::{BufMut, BytesMut};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A prefix as a message names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nlri {
    /// The prefix.
    pub prefix: Prefix,
    /// Which of several paths to it, where the session speaks of such (RFC 7911 §3).
    pub path_id: Option<u32>,
}

/// The path identifier of what we send: there is one path to each prefix, and any number does.
pub(super) const OWN_PATH_ID: u32 = 1;

impl From<Prefix> for Nlri {
    fn from(prefix: Prefix) -> Self {
        Self { prefix, path_id: None }
    }
}

impl FromStr for Nlri {
    type Err = PrefixError;

    /// A prefix without path identifier, as [`Prefix`] reads it.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        text.parse::<Prefix>().map(Self::from)
    }
}

impl fmt::Display for Nlri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path_id {
            Some(id) => write!(f, "{} path {id}", self.prefix),
            None => self.prefix.fmt(f),
        }
    }
}

/// Whether each prefix has a path identifier in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathIds {
    Absent,
    Present,
}

impl PathIds {
    /// In what the peer sends.
    pub fn received(family: Family, context: &Context) -> Self {
        if context.path_ids_received.contains(&family) { PathIds::Present } else { PathIds::Absent }
    }

    /// In what we send.
    pub fn sent(family: Family, context: &Context) -> Self {
        if context.path_ids_sent.contains(&family) { PathIds::Present } else { PathIds::Absent }
    }

    /// Octets that one takes.
    fn octets(self) -> usize {
        match self {
            PathIds::Absent => 0,
            PathIds::Present => 4,
        }
    }
}

/// A prefix that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadPrefix {
    /// Where it begins in the message.
    pub offset: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// The two families whose prefixes can be read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unicast {
    V4,
    V6,
}

impl Unicast {
    /// `None` for any family but IPv4 and IPv6 unicast.
    pub fn of(family: Family) -> Option<Self> {
        match family {
            Family::IPV4_UNICAST => Some(Unicast::V4),
            Family::IPV6_UNICAST => Some(Unicast::V6),
            _ => None,
        }
    }
}

/// Reads prefixes to the end of `reader`. Bits to the right of a length are of no consequence (RFC 4271 §4.3) and cleared.
pub(super) fn decode(mut reader: Reader<'_>, family: Unicast, ids: PathIds) -> Result<Vec<Nlri>, BadPrefix> {
    let mut prefixes = Vec::new();
    while !reader.is_empty() {
        let offset = reader.offset();
        let cut = |_| BadPrefix { offset, what: "a path identifier is cut off" };
        let path_id = match ids {
            PathIds::Absent => None,
            PathIds::Present => Some(reader.u32().map_err(cut)?),
        };
        prefixes.push(Nlri { prefix: decode_one(&mut reader, family)?, path_id });
    }
    Ok(prefixes)
}

fn decode_one(reader: &mut Reader<'_>, family: Unicast) -> Result<Prefix, BadPrefix> {
    let offset = reader.offset();
    let cut = |_| BadPrefix { offset, what: "a prefix is cut off" };
    let too_long = BadPrefix { offset, what: "a prefix has more bits than its family" };
    let len = reader.u8().map_err(cut)?;
    let octets = usize::from(len.div_ceil(8));
    let address = match family {
        Unicast::V4 if len > 32 => return Err(too_long),
        Unicast::V6 if len > 128 => return Err(too_long),
        Unicast::V4 => IpAddr::V4(Ipv4Addr::from(padded::<4>(reader.take(octets).map_err(cut)?))),
        Unicast::V6 => IpAddr::V6(Ipv6Addr::from(padded::<16>(reader.take(octets).map_err(cut)?))),
    };
    Ok(Prefix::covering(address, len).expect("the length was compared with the family above"))
}

fn padded<const N: usize>(octets: &[u8]) -> [u8; N] {
    let mut all = [0; N];
    all[..octets.len()].copy_from_slice(octets);
    all
}

/// Octets that a prefix takes, without its path identifier.
pub(super) fn octets(prefix: &Prefix) -> usize {
    1 + usize::from(prefix.len().div_ceil(8))
}

/// How many prefixes from the front of the list fit in `room` octets, and how many octets they take.
///
/// # Errors
/// [`EncodeError::FamilyMismatch`] for a prefix of another family among them.
pub(super) fn fitting(
    prefixes: &[Prefix],
    family: Family,
    ids: PathIds,
    room: usize,
) -> Result<(usize, usize), EncodeError> {
    let mut taken = 0;
    for (count, prefix) in prefixes.iter().enumerate() {
        if prefix.family() != family {
            return Err(EncodeError::FamilyMismatch { prefix: *prefix, family });
        }
        let id = if planted(Bug::PathIdsUncounted) { 0 } else { ids.octets() };
        let more = id + octets(prefix);
        if taken + more > room {
            return Ok((count, taken));
        }
        taken += more;
    }
    Ok((prefixes.len(), taken))
}

/// Appends prefixes; a path identifier only where it is spoken, ours where none is given.
pub(super) fn encode(prefixes: impl IntoIterator<Item = Nlri>, ids: PathIds, out: &mut BytesMut) {
    for Nlri { prefix, path_id } in prefixes {
        match ids {
            PathIds::Absent => {}
            PathIds::Present => out.put_u32(path_id.unwrap_or(OWN_PATH_ID)),
        }
        let count = octets(&prefix) - 1;
        out.put_u8(prefix.len());
        match prefix.address() {
            IpAddr::V4(address) => out.put_slice(&address.octets()[..count]),
            IpAddr::V6(address) => out.put_slice(&address.octets()[..count]),
        }
    }
}

/// Appends our own prefixes.
pub(super) fn encode_own(prefixes: &[Prefix], ids: PathIds, out: &mut BytesMut) {
    encode(prefixes.iter().map(|prefix| Nlri::from(*prefix)), ids, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(texts: &[&str]) -> Vec<Prefix> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn read(octets: &[u8], family: Unicast) -> Result<Vec<Prefix>, BadPrefix> {
        let list = decode(Reader::new(octets), family, PathIds::Absent)?;
        Ok(list.into_iter().map(|nlri| nlri.prefix).collect())
    }

    #[test]
    fn golden_octets_both_ways() {
        let v4 = prefixes(&["0.0.0.0/0", "10.0.0.0/8", "198.51.100.128/25", "192.0.2.1/32"]);
        let octets = [0, 8, 10, 25, 198, 51, 100, 128, 32, 192, 0, 2, 1];
        let mut out = BytesMut::new();
        encode_own(&v4, PathIds::Absent, &mut out);
        assert_eq!(out[..], octets);
        assert_eq!(read(&octets, Unicast::V4), Ok(v4));

        let v6 = prefixes(&["2001:db8::/33", "::/0", "2001:db8::1/128"]);
        let mut out = BytesMut::new();
        encode_own(&v6, PathIds::Absent, &mut out);
        assert_eq!(out[..7], [33, 0x20, 0x01, 0x0d, 0xb8, 0, 0]);
        assert_eq!(read(&out, Unicast::V6), Ok(v6));
    }

    #[test]
    fn bits_behind_the_length_are_cleared() {
        assert_eq!(read(&[9, 10, 0xff], Unicast::V4), Ok(prefixes(&["10.128.0.0/9"])));
    }

    #[test]
    fn a_prefix_longer_than_its_family_is_refused_at_its_place() {
        let error = read(&[8, 10, 33, 1, 2, 3, 4, 5], Unicast::V4).unwrap_err();
        assert_eq!((error.offset, error.what), (2, "a prefix has more bits than its family"));
        assert!(read(&[129; 18], Unicast::V6).is_err());
        assert!(read(&[255], Unicast::V4).is_err());
    }

    #[test]
    fn a_prefix_that_is_cut_off_is_refused() {
        let error = read(&[8, 10, 24, 1, 2], Unicast::V4).unwrap_err();
        assert_eq!((error.offset, error.what), (2, "a prefix is cut off"));
    }

    #[test]
    fn what_fits_is_counted_to_the_octet() {
        let list = prefixes(&["10.0.0.0/8", "192.0.2.1/32", "192.0.2.2/32"]);
        let family = Family::IPV4_UNICAST;
        let (without, with) = (PathIds::Absent, PathIds::Present);
        assert_eq!(fitting(&list, family, without, 12), Ok((3, 12)));
        assert_eq!(fitting(&list, family, without, 11), Ok((2, 7)));
        assert_eq!(fitting(&list, family, without, 1), Ok((0, 0)));
        assert_eq!(fitting(&list, family, with, 24), Ok((3, 24)));
        assert_eq!(fitting(&list, family, with, 23), Ok((2, 15)));
        assert!(fitting(&list, Family::IPV6_UNICAST, without, 99).is_err());
    }

    #[test]
    fn path_identifiers_golden_both_ways() {
        let prefix = "10.0.0.0/8".parse().unwrap();
        let list = [Nlri { prefix, path_id: Some(258) }, Nlri { prefix, path_id: None }];
        let mut out = BytesMut::new();
        encode(list, PathIds::Present, &mut out);
        assert_eq!(out[..], [0, 0, 1, 2, 8, 10, 0, 0, 0, 1, 8, 10]);
        let back = decode(Reader::new(&out), Unicast::V4, PathIds::Present).unwrap();
        assert_eq!(back, [list[0], Nlri { path_id: Some(OWN_PATH_ID), ..list[1] }]);
        assert_eq!(back[0].to_string(), "10.0.0.0/8 path 258");
        for cut in [1, 3, 4, 5, 7] {
            assert!(decode(Reader::new(&out[..cut]), Unicast::V4, PathIds::Present).is_err(), "{cut}");
        }
        out.clear();
        encode(list, PathIds::Absent, &mut out);
        assert_eq!(out[..], [8, 10, 8, 10]);
    }
}
