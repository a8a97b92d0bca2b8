//! Values of every kind that the codec knows, for properties.

use herald::wire::as_path::{AsPath, Segment, SegmentKind};
use herald::wire::capability::{
    AddPath, AddPathMode, Forwarding, GracefulRestart, LongLived, NextHopEncoding, PathsLimit, Role,
};
use herald::wire::{
    Aggregator, AsWidth, Asn, Attribute, Capability, Community, Context, ExtendedCommunity, Family,
    Ipv6ExtendedCommunity, LargeCommunity, Message, MpReach, MpUnreach, Nlri, Notification, Open, Origin, PeerKind,
    Prefix, RouteRefresh, RouterId, Text, Update,
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
    let ids = prop_oneof![Just(vec![]), Just(vec![Family::IPV4_UNICAST]), Just(vec![Family::IPV6_UNICAST])];
    (width, kind, max_len, ids, any::<bool>()).prop_map(|(as_width, peer_kind, max_len, ids, over_ipv6)| Context {
        as_width,
        peer_kind,
        max_len,
        families: both_families(),
        path_ids_received: ids.iter().copied().collect(),
        path_ids_sent: ids.into_iter().collect(),
        ipv6_next_hops: over_ipv6.then_some(Family::IPV4_UNICAST).into_iter().collect(),
        ..Context::before_open()
    })
}

/// Prefixes as a session with these terms names them.
fn nlri(prefixes: Vec<Prefix>, family: Family, context: &Context) -> Vec<Nlri> {
    let ids = context.path_ids_sent.contains(&family);
    let named = |(at, prefix): (usize, Prefix)| Nlri { prefix, path_id: ids.then_some(at as u32 * 0x0101_0101) };
    prefixes.into_iter().enumerate().map(named).collect()
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
            open().prop_map(Message::Open).boxed(),
            update(&context).prop_map(Message::Update).boxed(),
            notification().prop_map(Message::Notification).boxed(),
            Just(Message::Keepalive).boxed(),
            refresh().prop_map(Message::RouteRefresh).boxed(),
        ];
        (Just(context), message)
    })
}

fn open() -> impl Strategy<Value = Open> {
    let hold_time = prop_oneof![Just(0), 3..=u16::MAX];
    let router_id = (1..=u32::MAX).prop_map(|id| RouterId::new(id.into()).unwrap());
    (1..=u16::MAX, hold_time, router_id, vec(capability().boxed(), 0..12))
        .prop_map(|(my_as, hold_time, router_id, capabilities)| Open { my_as, hold_time, router_id, capabilities })
}

fn family() -> impl Strategy<Value = Family> {
    (any::<u16>(), any::<u8>()).prop_map(|(afi, safi)| Family { afi, safi })
}

/// Codes that are more than a number to the codec.
pub const KNOWN_CAPABILITIES: [u8; 14] = [1, 2, 5, 6, 9, 64, 65, 69, 70, 71, 73, 75, 76, 77];

fn text() -> impl Strategy<Value = Text> {
    vec(any::<u8>(), 0..100).prop_map(|octets| Text(octets.into()))
}

fn graceful_restart() -> impl Strategy<Value = Capability> {
    let families =
        vec((family(), any::<bool>()).prop_map(|(family, preserved)| Forwarding { family, preserved }), 0..4);
    (any::<bool>(), any::<bool>(), 0..4096u16, families).prop_map(
        |(restarted, notification, restart_time, families)| {
            Capability::GracefulRestart(GracefulRestart { restarted, notification, restart_time, families })
        },
    )
}

pub fn capability() -> impl Strategy<Value = Capability> {
    let unknown = any::<u8>().prop_filter("codes that are known", |code| !KNOWN_CAPABILITIES.contains(code));
    let mode = prop_oneof![Just(AddPathMode::Receive), Just(AddPathMode::Send), Just(AddPathMode::Both)];
    let add_path = (family(), mode).prop_map(|(family, mode)| AddPath { family, mode });
    let long_lived = (family(), any::<bool>(), 0..(1u32 << 24)).prop_map(|(family, preserved, stale_time)| LongLived {
        family,
        preserved,
        stale_time,
    });
    let encoding = (family(), any::<u16>()).prop_map(|(family, next_hop_afi)| NextHopEncoding { family, next_hop_afi });
    let limit = (family(), any::<u16>()).prop_map(|(family, limit)| PathsLimit { family, limit });
    prop_oneof![
        family().prop_map(Capability::Multiprotocol),
        Just(Capability::RouteRefresh),
        (1..=u32::MAX).prop_map(|number| Capability::FourOctetAs(Asn(number))),
        vec(encoding, 0..4).prop_map(Capability::ExtendedNextHop),
        Just(Capability::ExtendedMessage),
        (0..5u8).prop_map(|role| Capability::Role(ROLES[usize::from(role)])),
        graceful_restart(),
        vec(add_path, 0..4).prop_map(Capability::AddPath),
        Just(Capability::EnhancedRouteRefresh),
        vec(long_lived, 0..4).prop_map(Capability::LongLivedGracefulRestart),
        (text(), text()).prop_map(|(host, domain)| Capability::Fqdn { host, domain }),
        text().prop_map(Capability::SoftwareVersion),
        vec(limit, 0..4).prop_map(Capability::PathsLimit),
        Just(Capability::LinkLocalNextHop),
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
    let (kind, old, ids) = (context.peer_kind, context.as_width == AsWidth::Two, context.clone());
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
        option::of(
            btree_set(large_community(), 1..30).prop_map(|set| Attribute::LargeCommunities(Vec::from_iter(set))),
        ),
        option::of(reach(context).prop_map(Attribute::MpReach)),
        option::of(unreach(context).prop_map(Attribute::MpUnreach)),
        option::of(unknown(200)),
        option::of(unknown(201)),
    )
        .prop_map(|(a, b, c, d, e, f, g)| [a, b, c, d, e, f, g].into_iter().flatten().collect::<Vec<_>>());
    let attributes = (mandatory.boxed(), optional.boxed(), rare(context.as_width).boxed())
        .prop_map(move |(a, b, c)| {
            let mut all = [a, b, c].concat();
            all.retain(|attribute| match attribute {
                Attribute::OriginatorId(_) | Attribute::ClusterList(_) => kind == PeerKind::Internal,
                Attribute::As4Path(_) | Attribute::As4Aggregator(_) => old,
                _ => true,
            });
            all
        })
        .prop_shuffle();
    (vec(prefix4(), 0..20), attributes, vec(prefix4(), 0..20)).prop_map(move |(withdrawn, attributes, announced)| {
        Update {
            withdrawn: nlri(withdrawn, Family::IPV4_UNICAST, &ids),
            attributes,
            nlri: nlri(announced, Family::IPV4_UNICAST, &ids),
            faults: vec![],
        }
    })
}

const ROLES: [Role; 5] = [Role::Provider, Role::RouteServer, Role::RouteServerClient, Role::Customer, Role::Peer];

/// Attributes that one seldom meets; some belong to certain sessions only.
fn rare(width: AsWidth) -> impl Strategy<Value = Vec<Attribute>> {
    let v4 = || any::<Ipv4Addr>();
    let aggregator = |width| (asn(width), any::<Ipv4Addr>()).prop_map(|(asn, address)| Aggregator { asn, address });
    let wide = vec(asn(AsWidth::Four), 1..40).prop_map(|asns| Attribute::As4Path(AsPath::sequence(asns)));
    (
        option::of(Just(Attribute::AtomicAggregate)),
        option::of(aggregator(width).prop_map(Attribute::Aggregator)),
        option::of(v4().prop_map(Attribute::OriginatorId)),
        option::of(vec(v4(), 1..5).prop_map(Attribute::ClusterList)),
        option::of(vec(any::<[u8; 8]>().prop_map(ExtendedCommunity), 1..40).prop_map(Attribute::ExtendedCommunities)),
        option::of(wide),
        option::of(aggregator(AsWidth::Four).prop_map(Attribute::As4Aggregator)),
        option::of(
            vec(any::<[u8; 20]>().prop_map(Ipv6ExtendedCommunity), 1..20).prop_map(Attribute::Ipv6ExtendedCommunities),
        ),
        option::of(any::<u32>().prop_map(|asn| Attribute::OnlyToCustomer(Asn(asn)))),
    )
        .prop_map(|(a, b, c, d, e, f, g, h, i)| [a, b, c, d, e, f, g, h, i].into_iter().flatten().collect())
}

/// An AS number that fits, and is none.
fn asn(width: AsWidth) -> impl Strategy<Value = Asn> {
    let largest = match width {
        AsWidth::Two => u32::from(u16::MAX),
        AsWidth::Four => u32::MAX,
    };
    (1..=largest).prop_map(Asn)
}

fn origin() -> impl Strategy<Value = Origin> {
    prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)]
}

fn as_path(width: AsWidth) -> impl Strategy<Value = AsPath> {
    let segment = vec(asn(width), 1..=255).prop_map(|asns| Segment { kind: SegmentKind::Sequence, asns });
    vec(segment, 0..3).prop_map(|segments| AsPath { segments })
}

pub fn large_community() -> impl Strategy<Value = LargeCommunity> {
    any::<[u32; 3]>().prop_map(|[global, local1, local2]| LargeCommunity { global, local1, local2 })
}

fn reach(context: &Context) -> impl Strategy<Value = MpReach> + use<> {
    let context = context.clone();
    let v6 = || any::<Ipv6Addr>();
    let hop6 = || (v6().prop_map(IpAddr::V6), option::of(v6()));
    let hop4 = || any::<Ipv4Addr>().prop_map(|address| (IpAddr::V4(address), None));
    let over_ipv6 = context.ipv6_next_hops.contains(&Family::IPV4_UNICAST);
    let of4 = (
        if over_ipv6 { prop_oneof![hop4(), hop6()].boxed() } else { hop4().boxed() },
        vec(prefix4(), 0..20),
        Just(Family::IPV4_UNICAST),
    );
    let of6 = (hop6(), vec(prefix6(), 0..20), Just(Family::IPV6_UNICAST));
    prop_oneof![of4.boxed(), of6.boxed()].prop_map(move |((next_hop, link_local), prefixes, family)| MpReach {
        family,
        next_hop,
        link_local,
        nlri: nlri(prefixes, family, &context),
    })
}

fn unreach(context: &Context) -> impl Strategy<Value = MpUnreach> + use<> {
    let context = context.clone();
    let of4 = (Just(Family::IPV4_UNICAST), vec(prefix4(), 0..20));
    let of6 = (Just(Family::IPV6_UNICAST), vec(prefix6(), 0..20));
    let foreign = (family().prop_filter("unicast", |family| !both_families().contains(family)), Just(vec![]));
    prop_oneof![of4.boxed(), of6.boxed(), foreign.boxed()]
        .prop_map(move |(family, prefixes)| MpUnreach { family, withdrawn: nlri(prefixes, family, &context) })
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
