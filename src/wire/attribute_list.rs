//! Reading a list of path attributes and judging what is wrong with it (RFC 7606).
//!
//! Three steps that do not mix: the walk cuts the list into attributes, [`value`] reads one and names what is wrong with
//! it, and [`verdict`] alone decides what becomes of the route.

use super::as_path::SegmentKind;
use super::attribute::{Attribute, MpReach, MpUnreach, Origin, code, flags};
use super::fault::{Fault, Reason, Verdict};
use super::mp::{Presence, Read, Unreadable};
use super::parse::{Misread, Reader};
use super::{AsPath, AsWidth, Community, Context, Error, LargeCommunity, PeerKind, Prefix};
use bytes::{Bytes, BytesMut};

/// A list as far as it could be read.
#[derive(Debug)]
pub(super) struct AttributeList {
    /// Where it begins in the message.
    offset: usize,
    /// The good ones, in wire order.
    attributes: Vec<Attribute>,
    /// What is wrong with the others.
    faults: Vec<Fault>,
    /// Which types came, good or bad.
    seen: Seen,
    /// Whether MP_REACH_NLRI announces something, in whatever family.
    mp_announces: Presence,
}

/// A set of type codes.
#[derive(Debug, Default)]
struct Seen([u64; 4]);

impl Seen {
    fn contains(&self, code: u8) -> bool {
        self.0[usize::from(code / 64)] & 1 << (code % 64) != 0
    }

    fn insert(&mut self, code: u8) {
        self.0[usize::from(code / 64)] |= 1 << (code % 64);
    }

    /// Whether there is a type in it besides MP_UNREACH_NLRI.
    fn more_than_unreach(&self) -> bool {
        let mut rest = self.0;
        rest[0] &= !(1 << code::MP_UNREACH);
        rest != [0; 4]
    }
}

/// One attribute as the walk cut it.
#[derive(Clone, Copy)]
struct Raw<'a> {
    offset: usize,
    flags: u8,
    code: u8,
    value: Reader<'a>,
    /// Flags, type, length and value.
    whole: &'a [u8],
}

/// Why an attribute has no value.
enum Refusal {
    /// The session survives it.
    Fault(Reason),
    /// It does not: prefixes cannot be read with certainty (RFC 7606 §3 j).
    Reset { offset: usize, what: &'static str },
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Refusal::Fault(reason)
    }
}

impl From<Unreadable> for Refusal {
    fn from(unreadable: Unreadable) -> Self {
        Refusal::Reset { offset: unreadable.offset, what: unreadable.what }
    }
}

/// A value whose octets do not fit its type.
impl From<Misread> for Refusal {
    fn from(_: Misread) -> Self {
        Refusal::Fault(Reason::Length)
    }
}

/// Reads a list to the end of `reader`.
pub(super) fn decode(mut reader: Reader<'_>, context: &Context) -> Result<AttributeList, Error> {
    let mut list = AttributeList {
        offset: reader.offset(),
        attributes: Vec::new(),
        faults: Vec::new(),
        seen: Seen::default(),
        mp_announces: Presence::None,
    };
    while !reader.is_empty() {
        let start = reader;
        match next(&mut reader) {
            Some(raw) => list.take(raw, context)?,
            None => {
                list.broken(start)?;
                break;
            }
        }
    }
    Ok(list)
}

/// Cuts off the next attribute; `None` where the list ends inside it (RFC 7606 §4).
fn next<'a>(reader: &mut Reader<'a>) -> Option<Raw<'a>> {
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

impl AttributeList {
    fn take(&mut self, raw: Raw<'_>, context: &Context) -> Result<(), Error> {
        let Raw { offset, code, whole, .. } = raw;
        if self.seen.contains(code) {
            if code == code::MP_REACH || code == code::MP_UNREACH {
                return Err(Error::MultiprotocolRepeated { offset, code });
            }
            self.fault(raw, Reason::Repeated);
            return Ok(());
        }
        self.seen.insert(code);
        match self.value(raw, context) {
            Ok(attribute) => self.attributes.push(attribute),
            Err(Refusal::Fault(reason)) => self.fault(raw, reason),
            Err(Refusal::Reset { offset, what }) => {
                return Err(Error::Multiprotocol { offset, code, what, octets: Bytes::copy_from_slice(whole) });
            }
        }
        Ok(())
    }

    fn fault(&mut self, Raw { offset, code, whole, .. }: Raw<'_>, reason: Reason) {
        let octets = Bytes::copy_from_slice(whole);
        self.faults.push(Fault { code, verdict: verdict(code, reason), reason, offset, octets });
    }

    /// The list ends inside an attribute. If it is one that carries prefixes, they cannot be told.
    fn broken(&mut self, rest: Reader<'_>) -> Result<(), Error> {
        let (offset, octets) = (rest.offset(), Bytes::copy_from_slice(rest.rest()));
        if let Some(&code @ (code::MP_REACH | code::MP_UNREACH)) = octets.get(1) {
            return Err(Error::Multiprotocol { offset, code, what: "the attribute list ends inside it", octets });
        }
        let (code, reason) = (0, Reason::ListBroken);
        self.seen.insert(code);
        self.faults.push(Fault { code, verdict: verdict(code, reason), reason, offset, octets });
        Ok(())
    }

    fn value(&mut self, raw: Raw<'_>, context: &Context) -> Result<Attribute, Refusal> {
        match raw.code {
            code::MP_REACH => {
                mp_flags(raw)?;
                let read = MpReach::decode(raw.value)?;
                self.mp_announces = match &read {
                    Read::Unicast(reach) if reach.nlri.is_empty() => Presence::None,
                    Read::Unicast(_) => Presence::Some,
                    Read::Foreign { prefixes } => *prefixes,
                };
                Ok(kept(read, raw, Attribute::MpReach))
            }
            code::MP_UNREACH => {
                mp_flags(raw)?;
                Ok(kept(MpUnreach::decode(raw.value)?, raw, Attribute::MpUnreach))
            }
            _ => value(raw, context).map_err(Refusal::Fault),
        }
    }

    /// The attributes and the faults, strongest verdict first, once it is known which prefixes the body announces.
    pub fn conclude(mut self, nlri: &[Prefix], context: &Context) -> Result<(Vec<Attribute>, Vec<Fault>), Error> {
        if !nlri.is_empty() || self.mp_announces == Presence::Some {
            self.miss(nlri, context);
        } else if self.seen.more_than_unreach() {
            // RFC 7606 §5.2: with no route in sight there is nothing to withdraw, and routes may have been overlooked.
            let fatal = self.faults.iter().position(|fault| fault.verdict > Verdict::AttributeDiscard);
            if let Some(at) = fatal {
                let Fault { code, reason, offset, octets, .. } = self.faults.swap_remove(at);
                return Err(Error::NothingToWithdraw { offset, code, reason, octets });
            }
        }
        self.faults.sort_by_key(|fault| std::cmp::Reverse(fault.verdict));
        Ok((self.attributes, self.faults))
    }

    /// Notes which mandatory attributes an announcement lacks (RFC 4271 §5, RFC 4760 §3, RFC 7606 §3 d).
    fn miss(&mut self, nlri: &[Prefix], context: &Context) {
        let mut wanted = vec![code::ORIGIN, code::AS_PATH];
        if !nlri.is_empty() {
            wanted.push(code::NEXT_HOP);
        }
        if context.peer_kind == PeerKind::Internal {
            wanted.push(code::LOCAL_PREF);
        }
        for code in wanted {
            if !self.seen.contains(code) {
                let (reason, octets) = (Reason::Missing, Bytes::new());
                self.faults.push(Fault { code, verdict: verdict(code, reason), reason, offset: self.offset, octets });
            }
        }
    }
}

/// What becomes of the route: the table of RFC 7606 §7 and of the RFCs that defined attributes later.
fn verdict(code: u8, reason: Reason) -> Verdict {
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
        (_, Length | OriginUndefined | SegmentType | SegmentEmpty | SegmentLength | AsZero | ConfedSegment) => {
            Verdict::TreatAsWithdraw
        }
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

/// Wrong flags on MP_REACH_NLRI and MP_UNREACH_NLRI make their prefixes unsure (RFC 7606 §5.3).
fn mp_flags(raw: Raw<'_>) -> Result<(), Unreadable> {
    match raw.flags & flags::OPTIONAL_TRANSITIVE {
        flags::OPTIONAL => Ok(()),
        _ => Err(Unreadable { offset: raw.offset, what: "its flags are not those of an optional non-transitive one" }),
    }
}

fn kept<T>(read: Read<T>, raw: Raw<'_>, attribute: impl FnOnce(T) -> Attribute) -> Attribute {
    match read {
        Read::Unicast(value) => attribute(value),
        Read::Foreign { .. } => unknown(raw, raw.value.rest()),
    }
}

fn unknown(raw: Raw<'_>, data: &[u8]) -> Attribute {
    let flags = raw.flags & !flags::EXTENDED_LENGTH;
    Attribute::Unknown { flags, code: raw.code, data: Bytes::copy_from_slice(data) }
}

/// Reads one attribute other than MP_REACH_NLRI and MP_UNREACH_NLRI, or names what is wrong with it.
fn value(raw: Raw<'_>, context: &Context) -> Result<Attribute, Reason> {
    out_of_place(raw.code, context)?;
    match defined_flags(raw.code) {
        Some(defined) if raw.flags & flags::OPTIONAL_TRANSITIVE != defined => return Err(Reason::Flags),
        None if raw.flags & flags::OPTIONAL == 0 => return Err(Reason::UnrecognizedWellKnown),
        Some(_) | None => {}
    }
    let value = raw.value;
    match raw.code {
        code::ORIGIN => {
            let [octet] = exactly(value)?;
            Origin::from_octet(octet).map(Attribute::Origin).ok_or(Reason::OriginUndefined)
        }
        code::AS_PATH => {
            let path = AsPath::decode(value, context.as_width)?;
            path.objection().map_or(Ok(Attribute::AsPath(path)), Err)
        }
        code::NEXT_HOP => exactly::<4>(value).map(|octets| Attribute::NextHop(octets.into())),
        code::MULTI_EXIT_DISC => number(value).map(Attribute::MultiExitDisc),
        code::LOCAL_PREF => number(value).map(Attribute::LocalPref),
        code::COMMUNITIES => {
            let community = |octets| Community(u32::from_be_bytes(octets));
            Ok(Attribute::Communities(each(value)?.map(community).collect()))
        }
        code::LARGE_COMMUNITY => {
            let list = each::<12>(value)?.map(large_community);
            Ok(Attribute::LargeCommunities(list.collect()))
        }
        code::AS4_PATH => as4_path(value).map(|data| unknown(raw, &data)),
        code => {
            judge_unread(code, value, context)?;
            Ok(unknown(raw, value.rest()))
        }
    }
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

/// What can be said about attributes whose value is kept as octets.
fn judge_unread(code: u8, value: Reader<'_>, context: &Context) -> Result<(), Reason> {
    match code {
        code::ATOMIC_AGGREGATE => exactly::<0>(value).map(drop),
        code::AGGREGATOR => match context.as_width {
            AsWidth::Two => exactly::<6>(value).and_then(|octets| not_as_zero(&octets[..2])),
            AsWidth::Four => exactly::<8>(value).and_then(|octets| not_as_zero(&octets[..4])),
        },
        code::AS4_AGGREGATOR => exactly::<8>(value).and_then(|octets| not_as_zero(&octets[..4])),
        code::ORIGINATOR_ID | code::ONLY_TO_CUSTOMER => exactly::<4>(value).map(drop),
        code::CLUSTER_LIST => each::<4>(value).map(drop),
        code::EXTENDED_COMMUNITIES => each::<8>(value).map(drop),
        code::IPV6_EXTENDED_COMMUNITIES => each::<20>(value).map(drop),
        _ => Ok(()),
    }
}

/// AS number 0 makes an aggregator malformed (RFC 7607 §2).
fn not_as_zero(number: &[u8]) -> Result<(), Reason> {
    if number.iter().all(|octet| *octet == 0) { Err(Reason::AsZero) } else { Ok(()) }
}

/// AS4_PATH without its confederation segments, which do not belong there (RFC 6793 §3, §6).
fn as4_path(value: Reader<'_>) -> Result<Bytes, Reason> {
    if value.is_empty() {
        return Err(Reason::Length);
    }
    let mut path = AsPath::decode(value, AsWidth::Four)?;
    path.segments.retain(|segment| match segment.kind {
        SegmentKind::Set | SegmentKind::Sequence => true,
        SegmentKind::ConfedSet | SegmentKind::ConfedSequence => false,
    });
    if let Some(reason) = path.objection() {
        return Err(reason);
    }
    let mut out = BytesMut::new();
    path.encode(AsWidth::Four, &mut out).map_err(|_| Reason::SegmentLength)?;
    Ok(out.freeze())
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
