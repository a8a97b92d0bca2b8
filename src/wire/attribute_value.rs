//! One path attribute: its value, or what is wrong with it, and what becomes of the route then (RFC 7606 §7).
//!
//! [`value`] reads and names what is wrong, [`verdict`] alone decides what follows from it. MP_REACH_NLRI and
//! MP_UNREACH_NLRI are in `mp`.

use super::attribute::{Aggregator, Attribute, Origin, code, distinct, flags};
use super::fault::{Reason, Verdict};
use super::parse::Reader;
use super::{
    AsPath, AsWidth, Asn, Community, Context, ExtendedCommunity, Ipv6ExtendedCommunity, LargeCommunity, PeerKind,
};
use bytes::Bytes;

/// One attribute as the walk cut it.
#[derive(Clone, Copy)]
pub(super) struct Raw<'a> {
    /// Where it begins in the message.
    pub offset: usize,
    /// The flags octet.
    pub flags: u8,
    /// The type code.
    pub code: u8,
    /// The value.
    pub value: Reader<'a>,
    /// Flags, type, length and value.
    pub whole: &'a [u8],
}

/// Cuts off the next attribute; `None` where the list ends inside it (RFC 7606 §4).
pub(super) fn next<'a>(reader: &mut Reader<'a>) -> Option<Raw<'a>> {
    let start = *reader;
    let flags = reader.u8().ok()?;
    let code = reader.u8().ok()?;
    let len = match flags & flags::EXTENDED_LENGTH {
        0 => usize::from(reader.u8().ok()?),
        _ => usize::from(reader.u16().ok()?),
    };
    let value = reader.sub(len).ok()?;
    let whole = &start.rest()[..start.left() - reader.left()];
    Some(Raw { offset: start.offset(), flags, code, value, whole })
}

/// What becomes of the route: the table of RFC 7606 §7 and of the RFCs that defined attributes later.
pub(super) fn verdict(code: u8, reason: Reason) -> Verdict {
    use Reason::*;
    match (code, reason) {
        (_, Repeated | NotFromExternal | NotFromFourOctetSpeaker) => Verdict::AttributeDiscard,
        // RFC 9774 §3 extends to AS4_PATH.
        (_, AsSet | ListBroken | Missing | UnrecognizedWellKnown) => Verdict::TreatAsWithdraw,
        // RFC 6793 §6: what is malformed in these, flags included, costs only the attribute.
        (code::AS4_PATH | code::AS4_AGGREGATOR, _) => Verdict::AttributeDiscard,
        // RFC 7606 §3 c beats §7.6 and §7.7: wrong flags mean that nothing about the attribute is sure.
        (_, Flags) => Verdict::TreatAsWithdraw,
        (code::ATOMIC_AGGREGATE | code::AGGREGATOR, _) => Verdict::AttributeDiscard,
        (
            _,
            Length | OriginUndefined | SegmentType | SegmentEmpty | SegmentLength | AsZero | ConfedSegment | FirstAs,
        ) => Verdict::TreatAsWithdraw,
    }
}

/// The Optional and Transitive bits of the types that are judged here; `None` for all others.
fn defined_flags(code: u8) -> Option<u8> {
    match code {
        code::ORIGIN | code::AS_PATH | code::NEXT_HOP | code::LOCAL_PREF | code::ATOMIC_AGGREGATE => {
            Some(flags::WELL_KNOWN)
        }
        code::MULTI_EXIT_DISC | code::ORIGINATOR_ID | code::CLUSTER_LIST | code::MP_REACH | code::MP_UNREACH => {
            Some(flags::OPTIONAL)
        }
        code::AGGREGATOR
        | code::COMMUNITIES
        | code::EXTENDED_COMMUNITIES
        | code::AS4_PATH
        | code::AS4_AGGREGATOR
        | code::IPV6_EXTENDED_COMMUNITIES
        | code::LARGE_COMMUNITY
        | code::ONLY_TO_CUSTOMER => Some(flags::OPTIONAL_TRANSITIVE),
        _ => None,
    }
}

/// The attribute as it came.
pub(super) fn unknown(raw: Raw<'_>, data: &[u8]) -> Attribute {
    let flags = raw.flags & !flags::EXTENDED_LENGTH;
    Attribute::Unknown { flags, code: raw.code, data: Bytes::copy_from_slice(data) }
}

/// Reads one attribute other than MP_REACH_NLRI and MP_UNREACH_NLRI, or names what is wrong with it.
pub(super) fn value(raw: Raw<'_>, context: &Context) -> Result<Attribute, Reason> {
    out_of_place(raw.code, context)?;
    match defined_flags(raw.code) {
        Some(defined) if raw.flags & flags::OPTIONAL_TRANSITIVE != defined => return Err(Reason::Flags),
        None if raw.flags & flags::OPTIONAL == 0 => return Err(Reason::UnrecognizedWellKnown),
        Some(_) | None => {}
    }
    let value = raw.value;
    Ok(match raw.code {
        code::ORIGIN => {
            let [octet] = exactly(value)?;
            Attribute::Origin(Origin::from_octet(octet).ok_or(Reason::OriginUndefined)?)
        }
        code::AS_PATH => Attribute::AsPath(as_path(value, context)?),
        code::NEXT_HOP => Attribute::NextHop(exactly::<4>(value)?.into()),
        code::MULTI_EXIT_DISC => Attribute::MultiExitDisc(number(value)?),
        code::LOCAL_PREF => Attribute::LocalPref(number(value)?),
        code::ATOMIC_AGGREGATE => exactly::<0>(value).map(|[]| Attribute::AtomicAggregate)?,
        code::AGGREGATOR => Attribute::Aggregator(aggregator(value, context.as_width)?),
        code::COMMUNITIES => Attribute::Communities(each(value)?.map(u32::from_be_bytes).map(Community).collect()),
        code::ORIGINATOR_ID => Attribute::OriginatorId(exactly::<4>(value)?.into()),
        code::CLUSTER_LIST => Attribute::ClusterList(each::<4>(value)?.map(Into::into).collect()),
        code::EXTENDED_COMMUNITIES => Attribute::ExtendedCommunities(each(value)?.map(ExtendedCommunity).collect()),
        code::AS4_PATH => Attribute::As4Path(as4_path(value)?),
        code::AS4_AGGREGATOR => Attribute::As4Aggregator(aggregator(value, AsWidth::Four)?),
        code::IPV6_EXTENDED_COMMUNITIES => {
            Attribute::Ipv6ExtendedCommunities(each(value)?.map(Ipv6ExtendedCommunity).collect())
        }
        code::LARGE_COMMUNITY => Attribute::LargeCommunities(distinct(each::<12>(value)?.map(large_community))),
        code::ONLY_TO_CUSTOMER => Attribute::OnlyToCustomer(Asn(number(value)?)),
        _ => unknown(raw, value.rest()),
    })
}

/// Attributes that this peer may not send: they are dropped unread.
fn out_of_place(code: u8, context: &Context) -> Result<(), Reason> {
    match (code, context.peer_kind, context.as_width) {
        (code::LOCAL_PREF | code::ORIGINATOR_ID | code::CLUSTER_LIST, PeerKind::External, _) => {
            Err(Reason::NotFromExternal)
        }
        (code::AS4_PATH | code::AS4_AGGREGATOR, _, AsWidth::Four) => Err(Reason::NotFromFourOctetSpeaker),
        _ => Ok(()),
    }
}

/// AS_PATH, unless there is something in it that may not be.
fn as_path(value: Reader<'_>, context: &Context) -> Result<AsPath, Reason> {
    let path = AsPath::decode(value, context.as_width)?;
    path.objection().map_or(Ok(path), Err)
}

/// Whether a path does not begin with the peer's AS, where that is asked for (RFC 4271 §6.3). It says something about routes
/// that are announced, and nothing where none is.
pub(super) fn is_foreign(attribute: &Attribute, context: &Context) -> bool {
    let (Attribute::AsPath(path), Some(first)) = (attribute, context.first_as) else { return false };
    context.peer_kind == PeerKind::External && path.first() != Some(in_width(first, context.as_width))
}

/// An AS number as a path of this width tells it.
fn in_width(asn: Asn, width: AsWidth) -> Asn {
    match width {
        AsWidth::Two => Asn(asn.two_octets().into()),
        AsWidth::Four => asn,
    }
}

/// AS4_PATH without its confederation segments, which do not belong there (RFC 6793 §3, §6); of nothing else it may not
/// consist.
fn as4_path(value: Reader<'_>) -> Result<AsPath, Reason> {
    if value.is_empty() {
        return Err(Reason::Length);
    }
    let path = AsPath::decode(value, AsWidth::Four)?.unconfederated();
    match path.objection() {
        Some(reason) => Err(reason),
        None if path.segments.is_empty() => Err(Reason::ConfedSegment),
        None => Ok(path),
    }
}

/// AGGREGATOR and AS4_AGGREGATOR; AS number 0 makes them malformed (RFC 7607 §2).
fn aggregator(value: Reader<'_>, width: AsWidth) -> Result<Aggregator, Reason> {
    let (asn, address) = match width {
        AsWidth::Two => {
            let [a, b, address @ ..] = exactly::<6>(value)?;
            (Asn(u16::from_be_bytes([a, b]).into()), address)
        }
        AsWidth::Four => {
            let [a, b, c, d, address @ ..] = exactly::<8>(value)?;
            (Asn(u32::from_be_bytes([a, b, c, d])), address)
        }
    };
    if asn == Asn(0) { Err(Reason::AsZero) } else { Ok(Aggregator { asn, address: address.into() }) }
}

/// A value of a fixed length.
fn exactly<const N: usize>(mut value: Reader<'_>) -> Result<[u8; N], Reason> {
    let octets = value.array().map_err(|_| Reason::Length)?;
    value.finish().map_err(|_| Reason::Length)?;
    Ok(octets)
}

fn number(value: Reader<'_>) -> Result<u32, Reason> {
    exactly(value).map(u32::from_be_bytes)
}

/// A value of one or more items of a fixed length.
fn each<'a, const N: usize>(value: Reader<'a>) -> Result<impl Iterator<Item = [u8; N]> + use<'a, N>, Reason> {
    let (items, rest) = value.rest().as_chunks::<N>();
    if items.is_empty() || !rest.is_empty() { Err(Reason::Length) } else { Ok(items.iter().copied()) }
}

fn large_community(octets: [u8; 12]) -> LargeCommunity {
    let part = |at: usize| u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]);
    LargeCommunity { global: part(0), local1: part(4), local2: part(8) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(peer_kind: PeerKind, as_width: AsWidth) -> Context {
        Context { as_width, peer_kind, ..Context::before_open() }
    }

    fn external() -> Context {
        context(PeerKind::External, AsWidth::Four)
    }

    fn internal() -> Context {
        context(PeerKind::Internal, AsWidth::Four)
    }

    fn faults(octets: &[u8], context: &Context) -> Vec<(u8, Reason, Verdict)> {
        let raw = next(&mut Reader::new(octets)).unwrap();
        assert_eq!(raw.whole, octets);
        value(raw, context).err().map(|reason| (raw.code, reason, verdict(raw.code, reason))).into_iter().collect()
    }

    fn withdraws(code: u8, reason: Reason) -> Vec<(u8, Reason, Verdict)> {
        vec![(code, reason, Verdict::TreatAsWithdraw)]
    }

    fn discards(code: u8, reason: Reason) -> Vec<(u8, Reason, Verdict)> {
        vec![(code, reason, Verdict::AttributeDiscard)]
    }

    /// An attribute with a one-octet length.
    fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
        [&[flags, code, u8::try_from(value.len()).unwrap()], value].concat()
    }

    #[test]
    fn origin() {
        assert_eq!(faults(&attribute(0x40, 1, &[2]), &external()), []);
        assert_eq!(faults(&attribute(0x40, 1, &[3]), &external()), withdraws(1, Reason::OriginUndefined));
        assert_eq!(faults(&attribute(0x40, 1, &[]), &external()), withdraws(1, Reason::Length));
        assert_eq!(faults(&attribute(0x40, 1, &[0, 0]), &external()), withdraws(1, Reason::Length));
    }

    #[test]
    fn as_path() {
        let path = |value: &[u8]| faults(&attribute(0x40, 2, value), &external());
        assert_eq!(path(&[2, 1, 0, 0, 0, 1]), []);
        assert_eq!(path(&[5, 1, 0, 0, 0, 1]), withdraws(2, Reason::SegmentType));
        assert_eq!(path(&[2, 0]), withdraws(2, Reason::SegmentEmpty));
        assert_eq!(path(&[2, 2, 0, 0, 0, 1]), withdraws(2, Reason::SegmentLength));
        assert_eq!(path(&[2, 1, 0, 0, 0, 1, 2]), withdraws(2, Reason::SegmentLength));
        assert_eq!(path(&[2, 1, 0, 0, 0, 0]), withdraws(2, Reason::AsZero));
        assert_eq!(path(&[1, 1, 0, 0, 0, 1]), withdraws(2, Reason::AsSet));
        assert_eq!(path(&[3, 1, 0, 0, 0, 1]), withdraws(2, Reason::ConfedSegment));
    }

    #[test]
    fn the_first_as_is_the_peers_where_that_is_asked_for() {
        let asked = |context: Context| Context { first_as: Some(Asn(70_000)), ..context };
        let foreign = |context: &Context, octets: &[u8]| {
            let octets = attribute(0x40, 2, octets);
            is_foreign(&value(next(&mut Reader::new(&octets)).unwrap(), context).unwrap(), context)
        };
        let (own, other) = ([2, 2, 0, 1, 0x11, 0x70, 0, 0, 0, 7], [2, 1, 0, 0, 0, 7]);
        assert!(!foreign(&asked(external()), &own));
        assert!(foreign(&asked(external()), &other));
        assert!(foreign(&asked(external()), &[]));
        assert!(!foreign(&asked(internal()), &other));
        assert!(!foreign(&external(), &other), "not asked for");
        let old = asked(context(PeerKind::External, AsWidth::Two));
        assert!(!foreign(&old, &[2, 1, 0x5b, 0xa0]), "AS_TRANS stands for it");
        assert!(foreign(&old, &[2, 1, 0, 7]));
    }

    #[test]
    fn as4_path_of_confederation_segments_alone_is_malformed() {
        let old = context(PeerKind::External, AsWidth::Two);
        assert_eq!(faults(&attribute(0xc0, 17, &[3, 1, 0, 0, 0, 1]), &old), discards(17, Reason::ConfedSegment));
    }

    #[test]
    fn large_communities_that_repeat_are_taken_once() {
        let twice = attribute(0xc0, 32, &[1; 24]);
        let read = value(next(&mut Reader::new(&twice)).unwrap(), &external());
        assert!(matches!(read, Ok(Attribute::LargeCommunities(list)) if list.len() == 1));
    }

    #[test]
    fn lengths_that_withdraw() {
        for (flags, code, good, context) in [
            (0x40, 3, 4, external()),
            (0x80, 4, 4, external()),
            (0x40, 5, 4, internal()),
            (0xc0, 8, 4, external()),
            (0x80, 9, 4, internal()),
            (0x80, 10, 4, internal()),
            (0xc0, 16, 8, external()),
            (0xc0, 25, 20, external()),
            (0xc0, 32, 12, external()),
            (0xc0, 35, 4, external()),
        ] {
            assert_eq!(faults(&attribute(flags, code, &vec![1; good]), &context), []);
            for bad in [0, 1, good - 1, good + 1] {
                let faults = faults(&attribute(flags, code, &vec![1; bad]), &context);
                assert_eq!(faults, withdraws(code, Reason::Length), "{code} {bad}");
            }
        }
    }

    #[test]
    fn lengths_that_discard() {
        let old = context(PeerKind::External, AsWidth::Two);
        for (flags, code, good, context) in
            [(0x40, 6, 0, external()), (0xc0, 7, 8, external()), (0xc0, 7, 6, old.clone()), (0xc0, 18, 8, old)]
        {
            assert_eq!(faults(&attribute(flags, code, &vec![1; good]), &context), []);
            for bad in [1, good + 1, good + 2] {
                let faults = faults(&attribute(flags, code, &vec![1; bad]), &context);
                assert_eq!(faults, discards(code, Reason::Length), "{code} {bad}");
            }
        }
    }

    #[test]
    fn as_zero_in_an_aggregator_costs_only_the_aggregator() {
        let old = context(PeerKind::External, AsWidth::Two);
        assert_eq!(faults(&attribute(0xc0, 7, &[0, 0, 0, 0, 1, 2, 3, 4]), &external()), discards(7, Reason::AsZero));
        assert_eq!(faults(&attribute(0xc0, 7, &[0, 0, 1, 2, 3, 4]), &old), discards(7, Reason::AsZero));
        assert_eq!(faults(&attribute(0xc0, 18, &[0, 0, 0, 0, 1, 2, 3, 4]), &old), discards(18, Reason::AsZero));
    }

    #[test]
    fn attributes_of_ibgp_from_ebgp_are_dropped_unread() {
        for (flags, code) in [(0x40, 5), (0x80, 9), (0x80, 10), (0xff, 5)] {
            for len in [0, 1, 4] {
                let faults = faults(&attribute(flags & !0x10, code, &vec![1; len]), &external());
                assert_eq!(faults, discards(code, Reason::NotFromExternal));
            }
        }
    }

    #[test]
    fn as4_attributes_are_for_old_speakers() {
        let old = context(PeerKind::External, AsWidth::Two);
        for code in [17, 18] {
            let faults = faults(&attribute(0xc0, code, &[2, 1, 0, 0, 0, 1]), &external());
            assert_eq!(faults, discards(code, Reason::NotFromFourOctetSpeaker));
        }
        let path = |value: &[u8]| faults(&attribute(0xc0, 17, value), &old);
        assert_eq!(path(&[2, 1, 0, 1, 0, 0]), []);
        assert_eq!(path(&[]), discards(17, Reason::Length));
        assert_eq!(path(&[2, 1, 0, 1, 0]), discards(17, Reason::SegmentLength));
        assert_eq!(path(&[7, 1, 0, 1, 0, 0]), discards(17, Reason::SegmentType));
        assert_eq!(path(&[2, 1, 0, 0, 0, 0]), discards(17, Reason::AsZero));
        assert_eq!(path(&[1, 1, 0, 1, 0, 0]), withdraws(17, Reason::AsSet));
        assert_eq!(faults(&attribute(0x80, 17, &[2, 1, 0, 1, 0, 0]), &old), discards(17, Reason::Flags));
    }

    #[test]
    fn wrong_flags_withdraw_and_the_partial_bit_is_no_matter() {
        for (good, code, value) in [
            (0x40, 1, &[0][..]),
            (0x40, 2, &[]),
            (0x40, 3, &[1, 2, 3, 4]),
            (0x80, 4, &[1, 2, 3, 4]),
            (0x40, 6, &[]),
            (0xc0, 7, &[1; 8]),
            (0xc0, 8, &[1, 2, 3, 4]),
            (0xc0, 16, &[1; 8]),
            (0xc0, 25, &[1; 20]),
            (0xc0, 32, &[1; 12]),
            (0xc0, 35, &[1; 4]),
        ] {
            assert_eq!(faults(&attribute(good | 0x2f, code, value), &external()), [], "{code}");
            for bad in [0x00, 0x40, 0x80, 0xc0].into_iter().filter(|flags| *flags != good) {
                assert_eq!(faults(&attribute(bad, code, value), &external()), withdraws(code, Reason::Flags), "{code}");
            }
        }
    }

    #[test]
    fn unknown_attributes_are_kept_if_optional() {
        for flags in [0x80, 0xc0, 0xe0] {
            assert_eq!(faults(&attribute(flags, 200, &[]), &external()), []);
        }
        for flags in [0x00, 0x40] {
            assert_eq!(
                faults(&attribute(flags, 200, &[1]), &external()),
                withdraws(200, Reason::UnrecognizedWellKnown)
            );
        }
    }
}
