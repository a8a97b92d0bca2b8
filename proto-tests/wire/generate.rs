//! Values of every kind that the codec knows, for properties.

use herald::wire::as_path::{AsPath, Segment, SegmentKind};
use herald::wire::{
    AsWidth, Asn, Attribute, Capability, Community, Context, Family, LargeCommunity, Message, MpReach, MpUnreach,
    Notification, Open, Origin, PeerKind, Prefix, RouteRefresh, RouterId, Update,
};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What two sessions may have agreed on.
pub fn context() -> impl Strategy<Value = Context> {
    let width = prop_oneof![Just(AsWidth::Two), Just(AsWidth::Four)];
    let kind = prop_oneof![Just(PeerKind::Internal), Just(PeerKind::External)];
    let max_len = prop_oneof![Just(4096), Just(65_535)];
    (width, kind, max_len).prop_map(|(as_width, peer_kind, max_len)| Context {
        as_width,
        peer_kind,
        max_len,
        families: both_families(),
    })
}

/// IPv4 and IPv6 unicast.
pub fn both_families() -> std::collections::BTreeSet<Family> {
    [Family::IPV4_UNICAST, Family::IPV6_UNICAST].into()
}

pub fn prefix4() -> impl Strategy<Value = Prefix> {
    (any::<Ipv4Addr>(), 0..=32u8).prop_map(|(address, len)| Prefix::covering(address.into(), len).unwrap())
}

pub fn prefix6() -> impl Strategy<Value = Prefix> {
    (any::<Ipv6Addr>(), 0..=128u8).prop_map(|(address, len)| Prefix::covering(address.into(), len).unwrap())
}

/// Any message, in a context in which it may be sent.
pub fn message() -> impl Strategy<Value = (Context, Message)> {
    context().prop_flat_map(|context| {
        let message = prop_oneof![
            open().prop_map(Message::Open),
            update(&context).prop_map(Message::Update),
            notification().prop_map(Message::Notification),
            Just(Message::Keepalive),
            refresh().prop_map(Message::RouteRefresh),
        ];
        (Just(context), message)
    })
}

fn open() -> impl Strategy<Value = Open> {
    let hold_time = prop_oneof![Just(0), 3..=u16::MAX];
    let router_id = (1..=u32::MAX).prop_map(|id| RouterId::new(id.into()).unwrap());
    (1..=u16::MAX, hold_time, router_id, vec(capability(), 0..12))
        .prop_map(|(my_as, hold_time, router_id, capabilities)| Open { my_as, hold_time, router_id, capabilities })
}

fn family() -> impl Strategy<Value = Family> {
    (any::<u16>(), any::<u8>()).prop_map(|(afi, safi)| Family { afi, safi })
}

fn capability() -> impl Strategy<Value = Capability> {
    let unknown = any::<u8>().prop_filter("codes that are known", |code| ![1, 2, 65].contains(code));
    prop_oneof![
        family().prop_map(Capability::Multiprotocol),
        Just(Capability::RouteRefresh),
        (1..=u32::MAX).prop_map(|number| Capability::FourOctetAs(Asn(number))),
        (unknown, vec(any::<u8>(), 0..=255)).prop_map(|(code, data)| Capability::Unknown { code, data: data.into() }),
    ]
}

fn notification() -> impl Strategy<Value = Notification> {
    (any::<u8>(), any::<u8>(), vec(any::<u8>(), 0..200)).prop_map(|(code, subcode, data)| Notification {
        code,
        subcode,
        data: data.into(),
    })
}

fn refresh() -> impl Strategy<Value = RouteRefresh> {
    (family(), any::<u8>()).prop_map(|(family, subtype)| RouteRefresh { family, subtype })
}

/// A faultless UPDATE.
pub fn update(context: &Context) -> impl Strategy<Value = Update> + use<> {
    let kind = context.peer_kind;
    let mandatory = (origin(), as_path(context.as_width), any::<Ipv4Addr>(), any::<u32>()).prop_map(
        move |(origin, path, next_hop, preference)| {
            let mut list = vec![Attribute::Origin(origin), Attribute::AsPath(path), Attribute::NextHop(next_hop)];
            if kind == PeerKind::Internal {
                list.push(Attribute::LocalPref(preference));
            }
            list
        },
    );
    let optional = (
        option::of(any::<u32>().prop_map(Attribute::MultiExitDisc)),
        option::of(vec(any::<u32>().prop_map(Community), 1..90).prop_map(Attribute::Communities)),
        option::of(vec(large_community(), 1..30).prop_map(Attribute::LargeCommunities)),
        option::of(reach().prop_map(Attribute::MpReach)),
        option::of(unreach().prop_map(Attribute::MpUnreach)),
        option::of(unknown(200)),
        option::of(unknown(201)),
    )
        .prop_map(|(a, b, c, d, e, f, g)| [a, b, c, d, e, f, g].into_iter().flatten().collect::<Vec<_>>());
    let attributes = (mandatory, optional).prop_map(|(a, b)| [a, b].concat()).prop_shuffle();
    (vec(prefix4(), 0..20), attributes, vec(prefix4(), 0..20)).prop_map(|(withdrawn, attributes, nlri)| Update {
        withdrawn,
        attributes,
        nlri,
        faults: vec![],
    })
}

fn origin() -> impl Strategy<Value = Origin> {
    prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)]
}

fn as_path(width: AsWidth) -> impl Strategy<Value = AsPath> {
    let largest = match width {
        AsWidth::Two => u32::from(u16::MAX),
        AsWidth::Four => u32::MAX,
    };
    let segment =
        vec((1..=largest).prop_map(Asn), 1..=255).prop_map(|asns| Segment { kind: SegmentKind::Sequence, asns });
    vec(segment, 0..3).prop_map(|segments| AsPath { segments })
}

pub fn large_community() -> impl Strategy<Value = LargeCommunity> {
    any::<[u32; 3]>().prop_map(|[global, local1, local2]| LargeCommunity { global, local1, local2 })
}

fn reach() -> impl Strategy<Value = MpReach> {
    let v6 = || any::<Ipv6Addr>();
    let hop6 = || (v6().prop_map(IpAddr::V6), option::of(v6()));
    let hop4 = || any::<Ipv4Addr>().prop_map(|address| (IpAddr::V4(address), None));
    let of4 = (prop_oneof![hop4().boxed(), hop6().boxed()], vec(prefix4(), 0..20), Just(Family::IPV4_UNICAST));
    let of6 = (hop6(), vec(prefix6(), 0..20), Just(Family::IPV6_UNICAST));
    prop_oneof![of4.boxed(), of6.boxed()].prop_map(|((next_hop, link_local), nlri, family)| MpReach {
        family,
        next_hop,
        link_local,
        nlri,
    })
}

fn unreach() -> impl Strategy<Value = MpUnreach> {
    let of4 = (Just(Family::IPV4_UNICAST), vec(prefix4(), 0..20));
    let of6 = (Just(Family::IPV6_UNICAST), vec(prefix6(), 0..20));
    let foreign = (family().prop_filter("unicast", |family| !both_families().contains(family)), Just(vec![]));
    prop_oneof![of4.boxed(), of6.boxed(), foreign.boxed()]
        .prop_map(|(family, withdrawn)| MpUnreach { family, withdrawn })
}

fn unknown(code: u8) -> impl Strategy<Value = Attribute> {
    let flags = prop_oneof![Just(0x80), Just(0xc0), Just(0xe0)];
    (flags, vec(any::<u8>(), 0..400)).prop_map(move |(flags, data)| Attribute::Unknown {
        flags,
        code,
        data: data.into(),
    })
}

/// Distinct prefixes of one family, ascending.
pub fn prefixes(family: Family, most: usize) -> BoxedStrategy<Vec<Prefix>> {
    let sorted = |set: std::collections::BTreeSet<Prefix>| set.into_iter().collect();
    if family == Family::IPV4_UNICAST {
        btree_set(prefix4(), 1..most).prop_map(sorted).boxed()
    } else {
        btree_set(prefix6(), 1..most).prop_map(sorted).boxed()
    }
}
