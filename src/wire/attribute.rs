//! Path attributes (RFC 4271 §4.3, §5) as values, and their octets. How a list of them is read and judged is in
//! `attribute_list`.
//!
//! ```text
//! | flags | type | length: 1 octet, 2 with the Extended Length flag | value … |
//! ```

use super::error::EncodeError;
use super::{
    AsPath, AsWidth, Asn, Community, Context, ExtendedCommunity, Ipv6ExtendedCommunity, LargeCommunity, PeerKind, Scope,
};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

pub use super::mp::{MpReach, MpUnreach};

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

/// Who aggregated a route (RFC 4271 §5.1.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Aggregator {
    /// Its AS; not zero (RFC 7607 §2).
    pub asn: Asn,
    /// Its address.
    pub address: Ipv4Addr,
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
    /// Type 6.
    AtomicAggregate,
    /// Type 7: as wide as the numbers in AS_PATH.
    Aggregator(Aggregator),
    /// Type 8.
    Communities(Vec<Community>),
    /// Type 9 (RFC 4456 §8): iBGP only.
    OriginatorId(Ipv4Addr),
    /// Type 10 (RFC 4456 §8): iBGP only.
    ClusterList(Vec<Ipv4Addr>),
    /// Type 14 (RFC 4760 §3).
    MpReach(MpReach),
    /// Type 15 (RFC 4760 §4).
    MpUnreach(MpUnreach),
    /// Type 16 (RFC 4360).
    ExtendedCommunities(Vec<ExtendedCommunity>),
    /// Type 17 (RFC 6793 §3): between us and peers with two-octet AS numbers; without confederation segments.
    As4Path(AsPath),
    /// Type 18 (RFC 6793 §3).
    As4Aggregator(Aggregator),
    /// Type 25 (RFC 5701).
    Ipv6ExtendedCommunities(Vec<Ipv6ExtendedCommunity>),
    /// Type 32, without duplicates (RFC 8092 §5).
    LargeCommunities(Vec<LargeCommunity>),
    /// Type 35 (RFC 9234 §5): the AS from which on the route goes down only.
    OnlyToCustomer(Asn),
    /// Anything else, octet by octet.
    Unknown {
        /// The flags octet as received, but without Extended Length, which says nothing about the attribute.
        flags: u8,
        /// The type code.
        code: u8,
        /// The value.
        data: Bytes,
    },
}

/// Type codes.
pub(super) mod code {
    pub const ORIGIN: u8 = 1;
    pub const AS_PATH: u8 = 2;
    pub const NEXT_HOP: u8 = 3;
    pub const MULTI_EXIT_DISC: u8 = 4;
    pub const LOCAL_PREF: u8 = 5;
    pub const ATOMIC_AGGREGATE: u8 = 6;
    pub const AGGREGATOR: u8 = 7;
    pub const COMMUNITIES: u8 = 8;
    pub const ORIGINATOR_ID: u8 = 9;
    pub const CLUSTER_LIST: u8 = 10;
    pub const MP_REACH: u8 = 14;
    pub const MP_UNREACH: u8 = 15;
    pub const EXTENDED_COMMUNITIES: u8 = 16;
    pub const AS4_PATH: u8 = 17;
    pub const AS4_AGGREGATOR: u8 = 18;
    pub const IPV6_EXTENDED_COMMUNITIES: u8 = 25;
    pub const LARGE_COMMUNITY: u8 = 32;
    pub const ONLY_TO_CUSTOMER: u8 = 35;
}

/// Flags octets (RFC 4271 §4.3).
pub(super) mod flags {
    pub const OPTIONAL: u8 = 0x80;
    pub const TRANSITIVE: u8 = 0x40;
    pub const EXTENDED_LENGTH: u8 = 0x10;
    pub const WELL_KNOWN: u8 = TRANSITIVE;
    pub const OPTIONAL_TRANSITIVE: u8 = OPTIONAL | TRANSITIVE;
}

impl Origin {
    /// The octet of RFC 4271 §4.3.
    pub(super) fn octet(self) -> u8 {
        match self {
            Origin::Igp => 0,
            Origin::Egp => 1,
            Origin::Incomplete => 2,
        }
    }

    pub(super) fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            0 => Some(Origin::Igp),
            1 => Some(Origin::Egp),
            2 => Some(Origin::Incomplete),
            _ => None,
        }
    }
}

impl Attribute {
    /// Flags, without Extended Length, and type code.
    pub(super) fn head(&self) -> (u8, u8) {
        match self {
            Attribute::Origin(_) => (flags::WELL_KNOWN, code::ORIGIN),
            Attribute::AsPath(_) => (flags::WELL_KNOWN, code::AS_PATH),
            Attribute::NextHop(_) => (flags::WELL_KNOWN, code::NEXT_HOP),
            Attribute::MultiExitDisc(_) => (flags::OPTIONAL, code::MULTI_EXIT_DISC),
            Attribute::LocalPref(_) => (flags::WELL_KNOWN, code::LOCAL_PREF),
            Attribute::AtomicAggregate => (flags::WELL_KNOWN, code::ATOMIC_AGGREGATE),
            Attribute::Aggregator(_) => (flags::OPTIONAL_TRANSITIVE, code::AGGREGATOR),
            Attribute::Communities(_) => (flags::OPTIONAL_TRANSITIVE, code::COMMUNITIES),
            Attribute::OriginatorId(_) => (flags::OPTIONAL, code::ORIGINATOR_ID),
            Attribute::ClusterList(_) => (flags::OPTIONAL, code::CLUSTER_LIST),
            Attribute::MpReach(_) => (flags::OPTIONAL, code::MP_REACH),
            Attribute::MpUnreach(_) => (flags::OPTIONAL, code::MP_UNREACH),
            Attribute::ExtendedCommunities(_) => (flags::OPTIONAL_TRANSITIVE, code::EXTENDED_COMMUNITIES),
            Attribute::As4Path(_) => (flags::OPTIONAL_TRANSITIVE, code::AS4_PATH),
            Attribute::As4Aggregator(_) => (flags::OPTIONAL_TRANSITIVE, code::AS4_AGGREGATOR),
            Attribute::Ipv6ExtendedCommunities(_) => (flags::OPTIONAL_TRANSITIVE, code::IPV6_EXTENDED_COMMUNITIES),
            Attribute::LargeCommunities(_) => (flags::OPTIONAL_TRANSITIVE, code::LARGE_COMMUNITY),
            Attribute::OnlyToCustomer(_) => (flags::OPTIONAL_TRANSITIVE, code::ONLY_TO_CUSTOMER),
            Attribute::Unknown { flags, code, data: _ } => (flags & !flags::EXTENDED_LENGTH, *code),
        }
    }

    /// The type code.
    pub fn code(&self) -> u8 {
        self.head().1
    }

    /// Appends the attribute with flags, type and length.
    pub(super) fn encode(&self, context: &Context, out: &mut BytesMut) -> Result<(), EncodeError> {
        let (flags, code) = self.head();
        let mut value = BytesMut::new();
        match self {
            Attribute::Origin(origin) => value.put_u8(origin.octet()),
            Attribute::AsPath(path) => path.encode(context.as_width, &mut value)?,
            Attribute::NextHop(address) | Attribute::OriginatorId(address) => value.put_slice(&address.octets()),
            Attribute::MultiExitDisc(number) | Attribute::LocalPref(number) => value.put_u32(*number),
            Attribute::AtomicAggregate => {}
            Attribute::Aggregator(aggregator) => aggregator.encode(context.as_width, &mut value),
            Attribute::Communities(list) => put_communities(list, &mut value),
            Attribute::ClusterList(list) => list.iter().for_each(|id| value.put_slice(&id.octets())),
            Attribute::MpReach(reach) => reach.encode(context, &mut value),
            Attribute::MpUnreach(unreach) => unreach.encode(context, &mut value),
            Attribute::ExtendedCommunities(list) => list.iter().for_each(|one| value.put_slice(&one.0)),
            Attribute::As4Path(path) => path.encode(AsWidth::Four, &mut value)?,
            Attribute::As4Aggregator(aggregator) => aggregator.encode(AsWidth::Four, &mut value),
            Attribute::Ipv6ExtendedCommunities(list) => list.iter().for_each(|one| value.put_slice(&one.0)),
            Attribute::LargeCommunities(list) => put_large_communities(list, &mut value),
            Attribute::OnlyToCustomer(asn) => value.put_u32(asn.0),
            Attribute::Unknown { data, .. } => value.put_slice(data),
        }
        put(flags, code, &value, out)
    }
}

impl Aggregator {
    /// Appends the value; in two octets AS_TRANS stands for what does not fit (RFC 6793 §4.2.2).
    fn encode(&self, width: AsWidth, out: &mut BytesMut) {
        match width {
            AsWidth::Two => out.put_u16(self.asn.two_octets()),
            AsWidth::Four => out.put_u32(self.asn.0),
        }
        out.put_slice(&self.address.octets());
    }
}

/// What an announcement says about its prefixes, next hop excepted: the values that [`super::Announce::attributes`] wants
/// as octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outbound<'a> {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH: towards an eBGP peer it begins with our number, towards an iBGP peer ours are empty.
    pub as_path: &'a AsPath,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF. Mandatory towards iBGP peers; left out towards eBGP peers whatever stands here (RFC 4271 §5.1.5).
    pub local_pref: Option<u32>,
    /// COMMUNITIES; none, no attribute.
    pub communities: &'a [Community],
    /// EXTENDED COMMUNITIES; none, no attribute. Those that may not leave the AS do not (RFC 4360 §6), except a link
    /// bandwidth, which may (RFC 10005 §3.1): whoever puts it here wants it sent.
    pub extended_communities: &'a [ExtendedCommunity],
    /// LARGE_COMMUNITY; none, no attribute. Duplicates are sent once (RFC 8092 §5).
    pub large_communities: &'a [LargeCommunity],
    /// ONLY_TO_CUSTOMER: our AS, towards a customer, a peer or a client of our route server (RFC 9234 §5).
    pub only_to_customer: Option<Asn>,
}

impl<'a> Outbound<'a> {
    /// The mandatory attributes alone.
    pub fn new(as_path: &'a AsPath) -> Self {
        Self {
            origin: Origin::Igp,
            as_path,
            med: None,
            local_pref: None,
            communities: &[],
            extended_communities: &[],
            large_communities: &[],
            only_to_customer: None,
        }
    }

    /// The attributes in ascending order of type. Towards a peer with two-octet AS numbers a path that does not fit goes
    /// out with AS_TRANS in it and whole in AS4_PATH (RFC 6793 §4.2.2).
    ///
    /// # Errors
    /// [`EncodeError::FieldTooLong`].
    pub fn encode(&self, context: &Context) -> Result<Bytes, EncodeError> {
        let communities = 4 * self.communities.len() + 8 * self.extended_communities.len();
        let mut out = BytesMut::with_capacity(64 + communities + 12 * self.large_communities.len());
        let width = context.as_width;
        put(flags::WELL_KNOWN, code::ORIGIN, &[self.origin.octet()], &mut out)?;
        put_path(flags::WELL_KNOWN, code::AS_PATH, self.as_path, width, &mut out)?;
        if let Some(med) = self.med {
            put(flags::OPTIONAL, code::MULTI_EXIT_DISC, &med.to_be_bytes(), &mut out)?;
        }
        if let (Some(preference), PeerKind::Internal) = (self.local_pref, context.peer_kind) {
            put(flags::WELL_KNOWN, code::LOCAL_PREF, &preference.to_be_bytes(), &mut out)?;
        }
        let mut value = BytesMut::new();
        put_communities(self.communities, &mut value);
        put_some(code::COMMUNITIES, &mut value, &mut out)?;
        let leaving = self.extended_communities.iter().filter(|one| leaves(one, context.peer_kind));
        leaving.for_each(|one| value.put_slice(&one.0));
        put_some(code::EXTENDED_COMMUNITIES, &mut value, &mut out)?;
        let (fits, wide) = (|asn: Asn| asn.0 <= u32::from(u16::MAX), self.as_path.unconfederated());
        if width == AsWidth::Two && !wide.asns().all(fits) {
            put_path(flags::OPTIONAL_TRANSITIVE, code::AS4_PATH, &wide, AsWidth::Four, &mut out)?;
        }
        put_large_communities(&distinct(self.large_communities.iter().copied()), &mut value);
        put_some(code::LARGE_COMMUNITY, &mut value, &mut out)?;
        if let Some(asn) = self.only_to_customer {
            put(flags::OPTIONAL_TRANSITIVE, code::ONLY_TO_CUSTOMER, &asn.0.to_be_bytes(), &mut out)?;
        }
        Ok(out.freeze())
    }
}

/// Whether a community goes to this peer.
fn leaves(community: &ExtendedCommunity, peer_kind: PeerKind) -> bool {
    match (community.scope(), peer_kind) {
        (Scope::Transitive, _) | (Scope::NonTransitive, PeerKind::Internal) => true,
        (Scope::NonTransitive, PeerKind::External) => community.bandwidth().is_some(),
    }
}

/// Appends an optional transitive attribute if it has a value, and takes the value.
fn put_some(code: u8, value: &mut BytesMut, out: &mut BytesMut) -> Result<(), EncodeError> {
    if !value.is_empty() {
        put(flags::OPTIONAL_TRANSITIVE, code, value, out)?;
        value.clear();
    }
    Ok(())
}

/// Each value once, where it came first.
pub(super) fn distinct<T: Copy + Ord>(list: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    list.filter(|item| seen.insert(*item)).collect()
}

fn put_path(flags: u8, code: u8, path: &AsPath, width: AsWidth, out: &mut BytesMut) -> Result<(), EncodeError> {
    let mut value = BytesMut::new();
    path.encode(width, &mut value)?;
    put(flags, code, &value, out)
}

fn put_communities(list: &[Community], out: &mut BytesMut) {
    for community in list {
        out.put_u32(community.0);
    }
}

fn put_large_communities(list: &[LargeCommunity], out: &mut BytesMut) {
    for community in list {
        out.put_u32(community.global);
        out.put_u32(community.local1);
        out.put_u32(community.local2);
    }
}

/// Appends one attribute.
fn put(flags: u8, code: u8, value: &[u8], out: &mut BytesMut) -> Result<(), EncodeError> {
    put_head(flags, code, value.len(), out)?;
    out.put_slice(value);
    Ok(())
}

/// Appends flags, type and length; the two-octet length only where it is needed (RFC 4271 §4.3).
pub(super) fn put_head(flags: u8, code: u8, len: usize, out: &mut BytesMut) -> Result<(), EncodeError> {
    let two_octets = u16::try_from(len).map_err(|_| EncodeError::FieldTooLong {
        field: "path attribute",
        len,
        max: usize::from(u16::MAX),
    })?;
    match u8::try_from(len) {
        Ok(one_octet) => out.put_slice(&[flags, code, one_octet]),
        Err(_) => {
            out.put_slice(&[flags | flags::EXTENDED_LENGTH, code]);
            out.put_u16(two_octets);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbound(as_path: &AsPath) -> Outbound<'_> {
        Outbound::new(as_path)
    }

    fn context(as_width: AsWidth, peer_kind: PeerKind) -> Context {
        Context { as_width, peer_kind, ..Context::before_open() }
    }

    #[test]
    fn the_smallest_block_is_13_octets() {
        let path = AsPath::sequence([Asn(65_000)]);
        let octets = outbound(&path).encode(&context(AsWidth::Four, PeerKind::External)).unwrap();
        assert_eq!(octets[..], [0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe8]);
    }

    #[test]
    fn everything_in_ascending_order() {
        let path = AsPath::default();
        let full = Outbound {
            med: Some(5),
            local_pref: Some(100),
            communities: &[Community(0xffff_ff01)],
            extended_communities: &[ExtendedCommunity([0, 2, 0, 1, 0, 0, 0, 2])],
            large_communities: &[LargeCommunity { global: 1, local1: 2, local2: 3 }; 2],
            only_to_customer: Some(Asn(7)),
            ..outbound(&path)
        };
        let octets = full.encode(&context(AsWidth::Four, PeerKind::Internal)).unwrap();
        let mut wanted = vec![0x40, 1, 1, 0, 0x40, 2, 0, 0x80, 4, 4, 0, 0, 0, 5, 0x40, 5, 4, 0, 0, 0, 100];
        wanted.extend([0xc0, 8, 4, 0xff, 0xff, 0xff, 1, 0xc0, 16, 8, 0, 2, 0, 1, 0, 0, 0, 2]);
        wanted.extend([0xc0, 32, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0xc0, 35, 4, 0, 0, 0, 7]);
        assert_eq!(octets[..], wanted);
    }

    #[test]
    fn local_pref_never_leaves_the_as() {
        let path = AsPath::default();
        let with = Outbound { local_pref: Some(100), ..outbound(&path) };
        let external = context(AsWidth::Four, PeerKind::External);
        assert_eq!(with.encode(&external), outbound(&path).encode(&external));
    }

    #[test]
    fn a_community_of_the_as_stays_in_it_unless_it_is_a_bandwidth() {
        let path = AsPath::default();
        let list =
            [ExtendedCommunity([0x40, 6, 0, 1, 0, 0, 0, 2]), ExtendedCommunity([0x40, 4, 0, 1, 0x3f, 0x80, 0, 0])];
        let with = Outbound { extended_communities: &list, ..outbound(&path) };
        let count =
            |kind| with.encode(&context(AsWidth::Four, kind)).unwrap().windows(2).filter(|w| w == &[0, 1]).count();
        assert_eq!((count(PeerKind::Internal), count(PeerKind::External)), (2, 1));
        let only = Outbound { extended_communities: &list[..1], ..outbound(&path) };
        let external = context(AsWidth::Four, PeerKind::External);
        assert_eq!(only.encode(&external), outbound(&path).encode(&external), "no empty attribute");
    }

    #[test]
    fn an_old_peer_gets_as4_path_only_where_it_is_needed() {
        let old = context(AsWidth::Two, PeerKind::External);
        let small = AsPath::sequence([Asn(65_000)]);
        assert_eq!(outbound(&small).encode(&old).unwrap()[..], [0x40, 1, 1, 0, 0x40, 2, 4, 2, 1, 0xfd, 0xe8]);
        let large = AsPath::sequence([Asn(65_536)]);
        let octets = outbound(&large).encode(&old).unwrap();
        assert_eq!(octets[4..11], [0x40, 2, 4, 2, 1, 0x5b, 0xa0]);
        assert_eq!(octets[11..], [0xc0, 17, 6, 2, 1, 0, 1, 0, 0]);
    }

    #[test]
    fn the_length_takes_two_octets_above_255() {
        let path = AsPath::default();
        let communities = vec![Community(7); 64];
        let octets = Outbound { communities: &communities, ..outbound(&path) }
            .encode(&context(AsWidth::Four, PeerKind::External))
            .unwrap();
        assert_eq!(octets[7..11], [0xd0, 8, 1, 0]);
        let fewer = Outbound { communities: &communities[..63], ..outbound(&path) }
            .encode(&context(AsWidth::Four, PeerKind::External))
            .unwrap();
        assert_eq!(fewer[7..10], [0xc0, 8, 252]);
    }

    #[test]
    fn more_communities_than_a_length_field_can_say_are_an_error() {
        let path = AsPath::default();
        let communities = vec![Community(7); 16_384];
        let refused = Outbound { communities: &communities, ..outbound(&path) }
            .encode(&context(AsWidth::Four, PeerKind::External));
        assert!(matches!(refused, Err(EncodeError::FieldTooLong { field: "path attribute", len: 65_536, .. })));
    }
}
