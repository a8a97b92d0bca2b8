//! The codec of NetGauze.

use crate::oracle::{Lines, Oracle, Told};
use herald::wire::as_path::{Segment, SegmentKind};
use herald::wire::capability::{AddPath, AddPathMode, Forwarding, GracefulRestart, LongLived, NextHopEncoding, Role};
use herald::wire::{
    Aggregator, AsPath, AsWidth, Asn, Attribute, Capability, Community, Context, ExtendedCommunity, Family,
    Ipv6ExtendedCommunity, LargeCommunity, MpReach, MpUnreach, Nlri, Notification, Origin, Prefix, RefreshKind,
    RouteRefresh, Text,
};
use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::capabilities::BgpCapability;
use netgauze_bgp_pkt::iana::{BgpRoleValue, RouteRefreshSubcode};
use netgauze_bgp_pkt::nlri::{Ipv4UnicastAddress, Ipv6UnicastAddress};
use netgauze_bgp_pkt::path_attribute as theirs;
use netgauze_bgp_pkt::path_attribute::PathAttributeValue;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_iana::address_family::AddressType;
use netgauze_parse_utils::WritablePdu;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;

pub struct NetGauze;

impl Oracle for NetGauze {
    fn read(&self, octets: &[u8], context: &Context) -> Result<Told, String> {
        let ids = |family| context.path_ids_received.contains(&family);
        let ids = [
            (AddressType::Ipv4Unicast, ids(Family::IPV4_UNICAST)),
            (AddressType::Ipv6Unicast, ids(Family::IPV6_UNICAST)),
        ];
        // Multicast prefixes are passed over, anything else that is wrong is an error.
        let wide = context.as_width == AsWidth::Four;
        let mut terms = BgpParsingContext::new(wide, [].into(), ids.into(), false, false, true, true);
        let mut lines = Lines::default();
        let message = BgpMessage::parse(&mut SliceReader::new(octets), &mut terms);
        match message.map_err(|error| format!("{error:?}"))? {
            BgpMessage::Open(open) => {
                lines.open(open.my_as(), open.hold_time(), open.bgp_id());
                open.capabilities().into_iter().for_each(|one| lines.capability(&capability(one)));
            }
            BgpMessage::Update(update) => {
                update.withdraw_routes().iter().for_each(|one| lines.withdrawn(nlri4(one)));
                update.nlri().iter().for_each(|one| lines.nlri(nlri4(one)));
                for one in update.path_attributes() {
                    lines.attribute(&attribute(one)?);
                }
            }
            BgpMessage::Notification(told) => {
                let body = written(&told);
                let data = body[2..].to_vec().into();
                lines.notification(&Notification { code: body[0], subcode: body[1], data });
            }
            BgpMessage::KeepAlive => lines.add("keepalive".into()),
            BgpMessage::RouteRefresh(refresh) => {
                let kind = match refresh.operation_type() {
                    RouteRefreshSubcode::NormalRequest => RefreshKind::Request,
                    RouteRefreshSubcode::BeginningOfRouteRefresh => RefreshKind::Begin,
                    RouteRefreshSubcode::EndOfRouteRefresh => RefreshKind::End,
                };
                lines.refresh(&RouteRefresh::new(family(refresh.address_type()), kind));
            }
        }
        Ok(lines.0)
    }
}

/// A value in their octets.
fn written<E: std::fmt::Debug>(value: &impl WritablePdu<E>) -> Vec<u8> {
    let mut octets = Vec::new();
    value.write(&mut octets).unwrap();
    octets
}

fn nlri4(theirs: &Ipv4UnicastAddress) -> Nlri {
    let block = theirs.network().address();
    Nlri { prefix: Prefix::covering(block.addr().into(), block.prefix_len()).unwrap(), path_id: theirs.path_id() }
}

fn nlri6(theirs: &Ipv6UnicastAddress) -> Nlri {
    let block = theirs.network().address();
    Nlri { prefix: Prefix::covering(block.addr().into(), block.prefix_len()).unwrap(), path_id: theirs.path_id() }
}

fn family(theirs: AddressType) -> Family {
    Family { afi: theirs.address_family().into(), safi: theirs.subsequent_address_family().into() }
}

fn kind(theirs: theirs::AsPathSegmentType) -> SegmentKind {
    match theirs {
        theirs::AsPathSegmentType::AsSet => SegmentKind::Set,
        theirs::AsPathSegmentType::AsSequence => SegmentKind::Sequence,
    }
}

fn wide_path(segments: &[theirs::As4PathSegment]) -> AsPath {
    let segment = |one: &theirs::As4PathSegment| Segment {
        kind: kind(one.segment_type()),
        asns: one.as_numbers().iter().map(|asn| Asn(*asn)).collect(),
    };
    AsPath { segments: segments.iter().map(segment).collect() }
}

fn as_path(theirs: &theirs::AsPath) -> AsPath {
    match theirs {
        theirs::AsPath::As2PathSegments(segments) => {
            let segment = |one: &theirs::As2PathSegment| Segment {
                kind: kind(one.segment_type()),
                asns: one.as_numbers().iter().map(|asn| Asn(u32::from(*asn))).collect(),
            };
            AsPath { segments: segments.iter().map(segment).collect() }
        }
        theirs::AsPath::As4PathSegments(segments) => wide_path(segments),
    }
}

fn attribute(attribute: &theirs::PathAttribute) -> Result<Attribute, String> {
    use PathAttributeValue as Value;
    Ok(match attribute.value() {
        Value::Origin(theirs::Origin::IGP) => Attribute::Origin(Origin::Igp),
        Value::Origin(theirs::Origin::EGP) => Attribute::Origin(Origin::Egp),
        Value::Origin(theirs::Origin::Incomplete) => Attribute::Origin(Origin::Incomplete),
        Value::AsPath(path) => Attribute::AsPath(as_path(path)),
        Value::As4Path(path) => Attribute::As4Path(wide_path(path.segments())),
        Value::NextHop(hop) => Attribute::NextHop(hop.next_hop()),
        Value::MultiExitDiscriminator(med) => Attribute::MultiExitDisc(med.metric()),
        Value::LocalPreference(preference) => Attribute::LocalPref(preference.metric()),
        Value::AtomicAggregate(_) => Attribute::AtomicAggregate,
        Value::Aggregator(theirs::Aggregator::As2Aggregator(one)) => {
            Attribute::Aggregator(Aggregator { asn: Asn((*one.asn()).into()), address: one.origin() })
        }
        Value::Aggregator(theirs::Aggregator::As4Aggregator(one)) => {
            Attribute::Aggregator(Aggregator { asn: Asn(*one.asn()), address: one.origin() })
        }
        Value::Communities(list) => {
            Attribute::Communities(list.communities().iter().map(|one| Community(one.value())).collect())
        }
        Value::ExtendedCommunities(list) => {
            let one = |one| ExtendedCommunity(written(one).try_into().unwrap());
            Attribute::ExtendedCommunities(list.communities().iter().map(one).collect())
        }
        Value::ExtendedCommunitiesIpv6(list) => {
            let one = |one| Ipv6ExtendedCommunity(written(one).try_into().unwrap());
            Attribute::Ipv6ExtendedCommunities(list.communities().iter().map(one).collect())
        }
        Value::LargeCommunities(list) => {
            let one = |one: &netgauze_bgp_pkt::community::LargeCommunity| LargeCommunity {
                global: one.global_admin(),
                local1: one.local_data1(),
                local2: one.local_data2(),
            };
            Attribute::LargeCommunities(list.communities().iter().map(one).collect())
        }
        Value::Originator(id) => Attribute::OriginatorId(id.id()),
        Value::ClusterList(list) => Attribute::ClusterList(list.cluster_list().iter().map(|one| one.id()).collect()),
        Value::MpReach(reach) => Attribute::MpReach(mp_reach(reach)?),
        Value::MpUnreach(unreach) => Attribute::MpUnreach(mp_unreach(unreach)?),
        Value::OnlyToCustomer(one) => Attribute::OnlyToCustomer(Asn(one.asn())),
        Value::UnknownAttribute(one) => {
            let bit = |set: bool, bit: u8| if set { bit } else { 0 };
            let flags =
                bit(attribute.optional(), 0x80) | bit(attribute.transitive(), 0x40) | bit(attribute.partial(), 0x20);
            Attribute::Unknown { flags, code: one.code(), data: one.value().to_vec().into() }
        }
        other @ (Value::BgpLs(_) | Value::Aigp(_) | Value::PrefixSegmentIdentifier(_)) => {
            return Err(format!("an attribute of another kind: {other:?}"));
        }
    })
}

fn mp_reach(theirs: &theirs::MpReach) -> Result<MpReach, String> {
    match theirs {
        theirs::MpReach::Ipv4Unicast { next_hop, next_hop_local, nlri } => Ok(MpReach {
            family: Family::IPV4_UNICAST,
            next_hop: *next_hop,
            link_local: *next_hop_local,
            nlri: nlri.iter().map(nlri4).collect(),
        }),
        theirs::MpReach::Ipv6Unicast { next_hop_global, next_hop_local, nlri } => Ok(MpReach {
            family: Family::IPV6_UNICAST,
            next_hop: (*next_hop_global).into(),
            link_local: *next_hop_local,
            nlri: nlri.iter().map(nlri6).collect(),
        }),
        other => Err(format!("MP_REACH_NLRI of another family: {:?} {:?}", other.afi(), other.safi())),
    }
}

fn mp_unreach(theirs: &theirs::MpUnreach) -> Result<MpUnreach, String> {
    match theirs {
        theirs::MpUnreach::Ipv4Unicast { nlri } => {
            Ok(MpUnreach { family: Family::IPV4_UNICAST, withdrawn: nlri.iter().map(nlri4).collect() })
        }
        theirs::MpUnreach::Ipv6Unicast { nlri } => {
            Ok(MpUnreach { family: Family::IPV6_UNICAST, withdrawn: nlri.iter().map(nlri6).collect() })
        }
        other => Ok(MpUnreach {
            family: Family { afi: other.afi().into(), safi: other.safi().into() },
            withdrawn: Vec::new(),
        }),
    }
}

fn capability(theirs: &BgpCapability) -> Capability {
    match theirs {
        BgpCapability::MultiProtocolExtensions(one) => Capability::Multiprotocol(family(one.address_type())),
        BgpCapability::RouteRefresh => Capability::RouteRefresh,
        BgpCapability::EnhancedRouteRefresh => Capability::EnhancedRouteRefresh,
        BgpCapability::ExtendedMessage => Capability::ExtendedMessage,
        BgpCapability::GracefulRestartCapability(one) => {
            let families = one
                .address_families()
                .iter()
                .map(|one| Forwarding { family: family(one.address_type()), preserved: one.forwarding_state() });
            Capability::GracefulRestart(GracefulRestart {
                restarted: one.restart(),
                notification: one.graceful_notification(),
                restart_time: one.time(),
                families: families.collect(),
            })
        }
        BgpCapability::LongLivedGracefulRestart(list) => {
            let one = |one: &netgauze_bgp_pkt::capabilities::LongLivedGracefulRestartAddressFamily| LongLived {
                family: family(one.address_type()),
                preserved: one.forwarding_state(),
                stale_time: one.stale_time(),
            };
            Capability::LongLivedGracefulRestart(list.address_families().iter().map(one).collect())
        }
        BgpCapability::Fqdn(one) => {
            Capability::Fqdn { host: Text::from(one.hostname()), domain: Text::from(one.domain_name()) }
        }
        BgpCapability::AddPath(list) => {
            let one = |one: &netgauze_bgp_pkt::capabilities::AddPathAddressFamily| AddPath {
                family: family(one.address_type()),
                mode: match (one.send(), one.receive()) {
                    (true, true) => AddPathMode::Both,
                    (true, false) => AddPathMode::Send,
                    (false, true) => AddPathMode::Receive,
                    (false, false) => panic!("neither sends nor receives"),
                },
            };
            Capability::AddPath(list.address_families().iter().map(one).collect())
        }
        BgpCapability::BgpRole(one) => Capability::Role(match one.role() {
            BgpRoleValue::Provider => Role::Provider,
            BgpRoleValue::RS => Role::RouteServer,
            BgpRoleValue::RsClient => Role::RouteServerClient,
            BgpRoleValue::Customer => Role::Customer,
            BgpRoleValue::Peer => Role::Peer,
        }),
        BgpCapability::FourOctetAs(one) => Capability::FourOctetAs(Asn(one.asn4())),
        BgpCapability::ExtendedNextHopEncoding(list) => {
            let one = |one: &netgauze_bgp_pkt::capabilities::ExtendedNextHopEncoding| NextHopEncoding {
                family: family(one.address_type()),
                next_hop_afi: one.next_hop_afi().into(),
            };
            Capability::ExtendedNextHop(list.encodings().iter().map(one).collect())
        }
        BgpCapability::CiscoRouteRefresh
        | BgpCapability::MultipleLabels(_)
        | BgpCapability::Experimental(_)
        | BgpCapability::Unrecognized(_) => match &written(theirs)[..] {
            [code, _, data @ ..] => Capability::Unknown { code: *code, data: data.to_vec().into() },
            short => panic!("a capability of {} octets", short.len()),
        },
    }
}
