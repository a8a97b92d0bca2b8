//! The codec of rustbgpd.

use crate::oracle::{Lines, Oracle, Told};
use bytes::Bytes;
use herald::wire::as_path::{Segment, SegmentKind};
use herald::wire::capability::{
    AddPath, AddPathMode, Forwarding, GracefulRestart, LongLived, NextHopEncoding, PathsLimit, Role,
};
use herald::wire::{
    Aggregator, AsPath, AsWidth, Asn, Attribute, Capability, Community, Context, ExtendedCommunity, Family,
    Ipv6ExtendedCommunity, LargeCommunity, MpReach, MpUnreach, Nlri, Notification, Origin, PeerKind, Prefix,
    RouteRefresh, Update,
};
use rustbgpd_wire as theirs;
use theirs::attribute::{AsPathSegment, Origin as TheirOrigin, PathAttribute};
use theirs::nlri::{Ipv4NlriEntry, NlriEntry, Prefix as TheirPrefix};
use theirs::{Afi, Safi};

pub struct Rustbgpd;

impl Oracle for Rustbgpd {
    fn read(&self, octets: &[u8], context: &Context) -> Result<Told, String> {
        let mut buffer = Bytes::copy_from_slice(octets);
        let max_len = u16::try_from(context.max_len).unwrap_or(u16::MAX);
        let mut lines = Lines::default();
        match theirs::decode_message(&mut buffer, max_len).map_err(|error| error.to_string())? {
            theirs::Message::Open(open) => {
                lines.open(open.my_as, open.hold_time, open.bgp_identifier);
                open.capabilities.iter().for_each(|one| lines.capability(&capability(one)));
            }
            theirs::Message::Update(update) => read_update(&update, context, &mut lines)?,
            theirs::Message::Notification(told) => {
                lines.notification(&Notification { code: told.code.as_u8(), subcode: told.subcode, data: told.data });
            }
            theirs::Message::Keepalive => lines.add("keepalive".into()),
            theirs::Message::RouteRefresh(refresh) => {
                let family = Family { afi: refresh.afi_raw, safi: refresh.safi_raw };
                lines.refresh(&RouteRefresh { family, subtype: refresh.subtype_raw });
            }
            other => return Err(format!("a message of another kind: {other}")),
        }
        Ok(lines.0)
    }

    /// It makes one path of AS_PATH and AS4_PATH, with one sequence across the joint, and one of the aggregators.
    fn put(&self, update: &Update) -> Update {
        let (path, aggregator) = (update.as_path(), update.aggregator());
        let mut update = update.clone();
        update.attributes.retain(|one| !matches!(one, Attribute::As4Path(_) | Attribute::As4Aggregator(_)));
        for attribute in &mut update.attributes {
            match attribute {
                Attribute::AsPath(narrow) => *narrow = joined(path.clone().unwrap()),
                Attribute::Aggregator(narrow) => *narrow = aggregator.unwrap(),
                _ => {}
            }
        }
        update
    }
}

/// Sequences that follow each other as one: where they are parted means nothing.
fn joined(path: AsPath) -> AsPath {
    let mut segments: Vec<Segment> = Vec::new();
    for segment in path.segments {
        match segments.last_mut() {
            Some(last) if last.kind == SegmentKind::Sequence && segment.kind == SegmentKind::Sequence => {
                last.asns.extend(segment.asns);
            }
            _ => segments.push(segment),
        }
    }
    AsPath { segments }
}

fn read_update(update: &theirs::UpdateMessage, context: &Context, lines: &mut Lines) -> Result<(), String> {
    let ids = |family: Family| context.path_ids_received.contains(&family);
    let families: Vec<(Afi, Safi)> = [(Family::IPV4_UNICAST, Afi::Ipv4), (Family::IPV6_UNICAST, Afi::Ipv6)]
        .into_iter()
        .filter(|(family, _)| ids(*family))
        .map(|(_, afi)| (afi, Safi::Unicast))
        .collect();
    let (wide, internal) = (context.as_width == AsWidth::Four, context.peer_kind == PeerKind::Internal);
    let v4_ids = ids(Family::IPV4_UNICAST);
    let parsed = update.parse_revised(wide, internal, v4_ids, &families).map_err(|error| error.to_string())?;
    if let Some(bad) = parsed.malformed.first() {
        return Err(format!("malformed {}: {:?}", bad.type_code, bad.disposition));
    }
    parsed.update.withdrawn.iter().for_each(|entry| lines.withdrawn(nlri4(entry, v4_ids)));
    parsed.update.announced.iter().for_each(|entry| lines.nlri(nlri4(entry, v4_ids)));
    for one in &parsed.update.attributes {
        lines.attribute(&attribute(one, context)?);
    }
    Ok(())
}

fn nlri4(entry: &Ipv4NlriEntry, ids: bool) -> Nlri {
    let prefix = Prefix::covering(entry.prefix.addr.into(), entry.prefix.len).unwrap();
    Nlri { prefix, path_id: ids.then_some(entry.path_id) }
}

fn nlri(entry: &NlriEntry, ids: bool) -> Nlri {
    let prefix = match entry.prefix {
        TheirPrefix::V4(prefix) => Prefix::covering(prefix.addr.into(), prefix.len),
        TheirPrefix::V6(prefix) => Prefix::covering(prefix.addr.into(), prefix.len),
    };
    Nlri { prefix: prefix.unwrap(), path_id: ids.then_some(entry.path_id) }
}

fn family(afi: Afi, safi: Safi) -> Family {
    Family { afi: afi as u16, safi: safi as u8 }
}

fn attribute(theirs: &PathAttribute, context: &Context) -> Result<Attribute, String> {
    Ok(match theirs {
        PathAttribute::Origin(TheirOrigin::Igp) => Attribute::Origin(Origin::Igp),
        PathAttribute::Origin(TheirOrigin::Egp) => Attribute::Origin(Origin::Egp),
        PathAttribute::Origin(TheirOrigin::Incomplete) => Attribute::Origin(Origin::Incomplete),
        PathAttribute::AsPath(path) => {
            let segment = |(kind, asns): (SegmentKind, &Vec<u32>)| Segment {
                kind,
                asns: asns.iter().map(|asn| Asn(*asn)).collect(),
            };
            let segments = path.segments.iter().map(|one| match one {
                AsPathSegment::AsSet(asns) => segment((SegmentKind::Set, asns)),
                AsPathSegment::AsSequence(asns) => segment((SegmentKind::Sequence, asns)),
            });
            Attribute::AsPath(joined(AsPath { segments: segments.collect() }))
        }
        PathAttribute::Aggregator(one) => {
            Attribute::Aggregator(Aggregator { asn: Asn(one.asn), address: one.router_id })
        }
        PathAttribute::AtomicAggregate => Attribute::AtomicAggregate,
        PathAttribute::NextHop(address) => Attribute::NextHop(*address),
        PathAttribute::LocalPref(number) => Attribute::LocalPref(*number),
        PathAttribute::Med(number) => Attribute::MultiExitDisc(*number),
        PathAttribute::Communities(list) => Attribute::Communities(list.iter().map(|one| Community(*one)).collect()),
        PathAttribute::ExtendedCommunities(list) => Attribute::ExtendedCommunities(
            list.iter().map(|one| ExtendedCommunity(one.as_u64().to_be_bytes())).collect(),
        ),
        PathAttribute::Ipv6ExtendedCommunities(list) => {
            Attribute::Ipv6ExtendedCommunities(list.iter().map(|one| Ipv6ExtendedCommunity(*one.as_bytes())).collect())
        }
        PathAttribute::LargeCommunities(list) => {
            let one = |one: &theirs::LargeCommunity| LargeCommunity {
                global: one.global_admin,
                local1: one.local_data1,
                local2: one.local_data2,
            };
            Attribute::LargeCommunities(list.iter().map(one).collect())
        }
        PathAttribute::OriginatorId(id) => Attribute::OriginatorId(*id),
        PathAttribute::ClusterList(list) => Attribute::ClusterList(list.clone()),
        PathAttribute::MpReachNlri(reach) => {
            let family = family(reach.afi, reach.safi);
            let ids = context.path_ids_received.contains(&family);
            Attribute::MpReach(MpReach {
                family,
                next_hop: reach.next_hop,
                link_local: reach.link_local_next_hop,
                nlri: reach.announced.iter().map(|entry| nlri(entry, ids)).collect(),
            })
        }
        PathAttribute::MpUnreachNlri(unreach) => {
            let family = family(unreach.afi, unreach.safi);
            let ids = context.path_ids_received.contains(&family);
            let withdrawn = unreach.withdrawn.iter().map(|entry| nlri(entry, ids)).collect();
            Attribute::MpUnreach(MpUnreach { family, withdrawn })
        }
        PathAttribute::OnlyToCustomer(asn) => Attribute::OnlyToCustomer(Asn(*asn)),
        PathAttribute::Unknown(raw) => {
            Attribute::Unknown { flags: raw.flags & !0x10, code: raw.type_code, data: raw.data.clone() }
        }
        other => return Err(format!("attribute {} of another kind", other.type_code())),
    })
}

fn capability(theirs: &theirs::Capability) -> Capability {
    use theirs::Capability as Theirs;
    match theirs {
        Theirs::MultiProtocol { afi, safi } => Capability::Multiprotocol(family(*afi, *safi)),
        Theirs::ExtendedNextHop(list) => Capability::ExtendedNextHop(
            list.iter()
                .map(|one| NextHopEncoding {
                    family: family(one.nlri_afi, one.nlri_safi),
                    next_hop_afi: one.next_hop_afi as u16,
                })
                .collect(),
        ),
        Theirs::GracefulRestart { restart_state, notification, restart_time, families } => {
            let one = |one: &theirs::GracefulRestartFamily| Forwarding {
                family: family(one.afi, one.safi),
                preserved: one.forwarding_preserved,
            };
            Capability::GracefulRestart(GracefulRestart {
                restarted: *restart_state,
                notification: *notification,
                restart_time: *restart_time,
                families: families.iter().map(one).collect(),
            })
        }
        Theirs::RouteRefresh => Capability::RouteRefresh,
        Theirs::EnhancedRouteRefresh => Capability::EnhancedRouteRefresh,
        Theirs::ExtendedMessage => Capability::ExtendedMessage,
        Theirs::LinkLocalNextHop => Capability::LinkLocalNextHop,
        Theirs::LongLivedGracefulRestart(list) => Capability::LongLivedGracefulRestart(
            list.iter()
                .map(|one| LongLived {
                    family: family(one.afi, one.safi),
                    preserved: one.forwarding_preserved,
                    stale_time: one.stale_time,
                })
                .collect(),
        ),
        Theirs::AddPath(list) => {
            let one = |one: &theirs::AddPathFamily| AddPath {
                family: family(one.afi, one.safi),
                mode: match one.send_receive {
                    theirs::AddPathMode::Receive => AddPathMode::Receive,
                    theirs::AddPathMode::Send => AddPathMode::Send,
                    theirs::AddPathMode::Both => AddPathMode::Both,
                },
            };
            Capability::AddPath(list.iter().map(one).collect())
        }
        Theirs::PathsLimit(list) => Capability::PathsLimit(
            list.iter().map(|one| PathsLimit { family: family(one.afi, one.safi), limit: one.receive_limit }).collect(),
        ),
        Theirs::FourOctetAs { asn } => Capability::FourOctetAs(Asn(*asn)),
        Theirs::Role { role } => Capability::Role(match role {
            theirs::BgpRole::Provider => Role::Provider,
            theirs::BgpRole::RouteServer => Role::RouteServer,
            theirs::BgpRole::RouteServerClient => Role::RouteServerClient,
            theirs::BgpRole::Customer => Role::Customer,
            theirs::BgpRole::Peer => Role::Peer,
            other => panic!("another role: {other:?}"),
        }),
        Theirs::Unknown { code, data } => Capability::Unknown { code: *code, data: data.clone() },
        other => panic!("a capability of another kind: {other:?}"),
    }
}
