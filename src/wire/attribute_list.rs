//! Reading a list of path attributes and judging what is wrong with it as a whole (RFC 7606 §3–§5). What can be wrong
//! with one of them is in `attribute_value`.

use super::attribute::{Attribute, MpReach, MpUnreach, code, flags};
use super::attribute_value::{Raw, is_foreign, next, unknown, value, verdict};
use super::fault::{Fault, Reason, Verdict};
use super::mp::{Presence, Read, Unreadable};
use super::parse::Reader;
use super::{Context, Error, Nlri, PeerKind};
use bytes::Bytes;

/// A list as far as it could be read.
#[derive(Debug)]
pub(super) struct AttributeList {
    /// Where it begins in the message.
    offset: usize,
    /// The good ones, in wire order.
    attributes: Vec<Attribute>,
    /// What is wrong with the others.
    faults: Vec<Fault>,
    /// What is wrong with AS_PATH if something is announced: it is not the peer's.
    foreign_path: Option<Fault>,
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

/// Why an attribute has no value.
enum Refusal {
    /// The session survives it.
    Fault(Reason),
    /// It does not: prefixes cannot be read with certainty (RFC 7606 §3 j).
    Reset { offset: usize, what: &'static str },
}

impl From<Unreadable> for Refusal {
    fn from(unreadable: Unreadable) -> Self {
        Refusal::Reset { offset: unreadable.offset, what: unreadable.what }
    }
}

/// Reads a list to the end of `reader`.
pub(super) fn decode(mut reader: Reader<'_>, context: &Context) -> Result<AttributeList, Error> {
    let mut list = AttributeList {
        offset: reader.offset(),
        attributes: Vec::new(),
        faults: Vec::new(),
        foreign_path: None,
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

impl AttributeList {
    fn take(&mut self, raw: Raw<'_>, context: &Context) -> Result<(), Error> {
        let Raw { offset, code, whole, .. } = raw;
        if self.seen.contains(code) {
            if code == code::MP_REACH || code == code::MP_UNREACH {
                return Err(Error::MultiprotocolRepeated { offset, code });
            }
            self.faults.push(fault(raw, Reason::Repeated));
            return Ok(());
        }
        self.seen.insert(code);
        match self.value(raw, context) {
            Ok(attribute) => {
                if is_foreign(&attribute, context) {
                    self.foreign_path = Some(fault(raw, Reason::FirstAs));
                }
                self.attributes.push(attribute);
            }
            Err(Refusal::Fault(reason)) => self.faults.push(fault(raw, reason)),
            Err(Refusal::Reset { offset, what }) => {
                return Err(Error::Multiprotocol { offset, code, what, octets: Bytes::copy_from_slice(whole) });
            }
        }
        Ok(())
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
                let read = MpReach::decode(raw.value, context)?;
                self.mp_announces = match &read {
                    Read::Unicast(reach) if reach.nlri.is_empty() => Presence::None,
                    Read::Unicast(_) => Presence::Some,
                    Read::Foreign { prefixes } => *prefixes,
                };
                Ok(kept(read, raw, Attribute::MpReach))
            }
            code::MP_UNREACH => {
                mp_flags(raw)?;
                Ok(kept(MpUnreach::decode(raw.value, context)?, raw, Attribute::MpUnreach))
            }
            _ => value(raw, context).map_err(Refusal::Fault),
        }
    }

    /// The attributes and the faults, strongest verdict first, once it is known which prefixes the body announces.
    pub fn conclude(mut self, nlri: &[Nlri], context: &Context) -> Result<(Vec<Attribute>, Vec<Fault>), Error> {
        if !nlri.is_empty() || self.mp_announces == Presence::Some {
            self.miss(nlri, context);
            if let Some(foreign) = self.foreign_path {
                self.attributes.retain(|attribute| !matches!(attribute, Attribute::AsPath(_)));
                self.faults.push(foreign);
            }
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
    fn miss(&mut self, nlri: &[Nlri], context: &Context) {
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

fn fault(Raw { offset, code, whole, .. }: Raw<'_>, reason: Reason) -> Fault {
    Fault { code, verdict: verdict(code, reason), reason, offset, octets: Bytes::copy_from_slice(whole) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::attribute::{Aggregator, Origin};
    use crate::wire::{
        AsPath, AsWidth, Asn, Community, ExtendedCommunity, Family, Ipv6ExtendedCommunity, LargeCommunity,
    };
    use bytes::BytesMut;

    /// ORIGIN, AS_PATH of nothing, NEXT_HOP: what an announcement in the body needs on eBGP.
    const MANDATORY: [u8; 14] = [0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4, 192, 0, 2, 1];
    /// LOCAL_PREF, which iBGP needs besides.
    const LOCAL_PREF: [u8; 7] = [0x40, 5, 4, 0, 0, 0, 100];

    fn context(peer_kind: PeerKind, as_width: AsWidth) -> Context {
        Context { as_width, peer_kind, ..Context::before_open() }
    }

    fn external() -> Context {
        context(PeerKind::External, AsWidth::Four)
    }

    fn internal() -> Context {
        context(PeerKind::Internal, AsWidth::Four)
    }

    fn prefix() -> Nlri {
        Nlri { prefix: "192.0.2.0/24".parse().unwrap(), path_id: None }
    }

    fn judge(octets: &[u8], nlri: &[Nlri], context: &Context) -> Result<(Vec<Attribute>, Vec<Fault>), Error> {
        decode(Reader::new(octets), context)?.conclude(nlri, context)
    }

    fn told(fault: Fault) -> (u8, Reason, Verdict) {
        (fault.code, fault.reason, fault.verdict)
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

    /// Each type, its octets, and the session that it belongs to.
    fn golden() -> Vec<(Vec<u8>, Attribute, Context)> {
        let old = context(PeerKind::External, AsWidth::Two);
        let who = |asn| Aggregator { asn: Asn(asn), address: [1, 2, 3, 4].into() };
        let community = LargeCommunity { global: 1, local1: 2, local2: 3 };
        vec![
            (attribute(0x40, 1, &[0]), Attribute::Origin(Origin::Igp), external()),
            (attribute(0x40, 2, &[]), Attribute::AsPath(AsPath::default()), external()),
            (attribute(0x40, 3, &[192, 0, 2, 1]), Attribute::NextHop([192, 0, 2, 1].into()), external()),
            (attribute(0x80, 4, &[0, 0, 0, 7]), Attribute::MultiExitDisc(7), external()),
            (LOCAL_PREF.to_vec(), Attribute::LocalPref(100), internal()),
            (attribute(0x40, 6, &[]), Attribute::AtomicAggregate, external()),
            (attribute(0xc0, 7, &[0, 1, 0, 0, 1, 2, 3, 4]), Attribute::Aggregator(who(65_536)), external()),
            (attribute(0xc0, 7, &[0x5b, 0xa0, 1, 2, 3, 4]), Attribute::Aggregator(who(23_456)), old.clone()),
            (
                attribute(0xc0, 8, &[0xff, 0xff, 0xff, 1]),
                Attribute::Communities(vec![Community(0xffff_ff01)]),
                external(),
            ),
            (attribute(0x80, 9, &[1, 2, 3, 4]), Attribute::OriginatorId([1, 2, 3, 4].into()), internal()),
            (attribute(0x80, 10, &[1, 2, 3, 4]), Attribute::ClusterList(vec![[1, 2, 3, 4].into()]), internal()),
            (attribute(0xc0, 16, &[7; 8]), Attribute::ExtendedCommunities(vec![ExtendedCommunity([7; 8])]), external()),
            (
                attribute(0xc0, 17, &[2, 1, 0, 1, 0, 0]),
                Attribute::As4Path(AsPath::sequence([Asn(65_536)])),
                old.clone(),
            ),
            (attribute(0xc0, 18, &[0, 1, 0, 0, 1, 2, 3, 4]), Attribute::As4Aggregator(who(65_536)), old),
            (
                attribute(0xc0, 25, &[7; 20]),
                Attribute::Ipv6ExtendedCommunities(vec![Ipv6ExtendedCommunity([7; 20])]),
                external(),
            ),
            (
                attribute(0xc0, 32, &[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]),
                Attribute::LargeCommunities(vec![community]),
                external(),
            ),
            (attribute(0xc0, 35, &[0, 1, 0, 0]), Attribute::OnlyToCustomer(Asn(65_536)), external()),
            (
                attribute(0xc0, 99, &[5, 6]),
                Attribute::Unknown { flags: 0xc0, code: 99, data: Bytes::from_static(&[5, 6]) },
                external(),
            ),
        ]
    }

    #[test]
    fn golden_octets_both_ways() {
        for (octets, wanted, context) in golden() {
            let (attributes, faults) = judge(&octets, &[], &context).unwrap();
            assert_eq!((&attributes[..], faults), (&[wanted.clone()][..], vec![]), "{octets:?}");
            let mut out = BytesMut::new();
            wanted.encode(&context, &mut out).unwrap();
            assert_eq!((&out[..], wanted.code()), (&octets[..], octets[1]));
        }
        assert_eq!(golden().len(), 18);
    }

    #[test]
    fn the_extended_length_is_of_no_consequence() {
        let octets = [0xd0, 99, 0, 2, 5, 6];
        let (attributes, _) = judge(&octets, &[], &external()).unwrap();
        assert_eq!(attributes, [golden().pop().unwrap().1]);
    }

    #[test]
    fn confederation_segments_are_taken_out_of_as4_path() {
        let old = context(PeerKind::External, AsWidth::Two);
        let octets = attribute(0xc0, 17, &[3, 1, 0, 0, 0, 9, 2, 1, 0, 1, 0, 0]);
        let (attributes, faults) = judge(&octets, &[], &old).unwrap();
        assert_eq!(faults, []);
        assert_eq!(attributes, [Attribute::As4Path(AsPath::sequence([Asn(65_536)]))]);
    }

    #[test]
    fn later_copies_are_dropped_except_of_prefixes() {
        let twice = [&MANDATORY[..], &attribute(0x80, 4, &[0, 0, 0, 1]), &attribute(0x80, 4, &[0, 0])].concat();
        let (attributes, faults) = judge(&twice, &[prefix()], &external()).unwrap();
        assert_eq!(attributes.last(), Some(&Attribute::MultiExitDisc(1)));
        assert_eq!(faults.into_iter().map(told).collect::<Vec<_>>(), discards(4, Reason::Repeated));
        for code in [14, 15] {
            let mp = attribute(0x80, code, &[0, 25, 70, 0, 0]);
            let twice = [&mp[..], &mp].concat();
            let error = Error::MultiprotocolRepeated { offset: 8, code };
            assert_eq!(judge(&twice, &[prefix()], &external()).unwrap_err(), error);
        }
    }

    #[test]
    fn what_an_announcement_lacks_is_noticed() {
        let missing = |octets: &[u8], nlri: &[Nlri], context: &Context| -> Vec<u8> {
            let (_, faults) = judge(octets, nlri, context).unwrap();
            assert!(faults.iter().all(|f| (f.reason, f.verdict) == (Reason::Missing, Verdict::TreatAsWithdraw)));
            faults.iter().map(|fault| fault.code).collect()
        };
        assert_eq!(missing(&[], &[prefix()], &external()), [1, 2, 3]);
        assert_eq!(missing(&MANDATORY[4..], &[prefix()], &internal()), [1, 5]);
        let reach = attribute(0x80, 14, &[&[0, 1, 1, 4, 192, 0, 2, 1, 0], &[8, 10][..]].concat());
        assert_eq!(missing(&reach, &[], &internal()), [1, 2, 5], "no NEXT_HOP needed beside MP_REACH_NLRI");
        let foreign = attribute(0x80, 14, &[0, 25, 70, 0, 0, 1]);
        assert_eq!(missing(&foreign, &[], &external()), [1, 2]);
        assert_eq!(missing(&MANDATORY[..4], &[], &external()), [0; 0], "nothing announced, nothing needed");
        assert_eq!(missing(&attribute(0x40, 1, &[0]), &[], &internal()), [0; 0]);
    }

    #[test]
    fn a_bad_attribute_is_not_missing_as_well() {
        let octets = [&attribute(0x40, 1, &[9]), &MANDATORY[4..]].concat();
        let (_, faults) = judge(&octets, &[prefix()], &external()).unwrap();
        assert_eq!(faults.into_iter().map(told).collect::<Vec<_>>(), withdraws(1, Reason::OriginUndefined));
    }

    #[test]
    fn a_broken_list_withdraws_what_the_body_announces() {
        for rest in [&[0x80][..], &[0x80, 4], &[0x90, 4, 0], &[0x80, 4, 5, 0, 0, 0, 1], &[0x90, 4, 0xff, 0xff]] {
            let (_, faults) = judge(&[&MANDATORY, rest].concat(), &[prefix()], &external()).unwrap();
            assert_eq!((faults[0].offset, &faults[0].octets[..]), (14, rest));
            assert_eq!(faults.into_iter().map(told).collect::<Vec<_>>(), withdraws(0, Reason::ListBroken));
        }
        for code in [14, 15] {
            let error = judge(&[&MANDATORY[..], &[0x80, code, 9, 0]].concat(), &[prefix()], &external()).unwrap_err();
            assert!(matches!(error, Error::Multiprotocol { offset: 14, .. }), "{error}");
        }
    }

    #[test]
    fn without_routes_there_is_nothing_to_withdraw() {
        let unreach = attribute(0x80, 15, &[0, 2, 1]);
        for (rest, reason, offset) in [
            (attribute(0x40, 1, &[9]), Reason::OriginUndefined, 6),
            (attribute(0x00, 200, &[]), Reason::UnrecognizedWellKnown, 6),
            (vec![0x80, 4, 9], Reason::ListBroken, 6),
        ] {
            let error = judge(&[&unreach, &rest[..]].concat(), &[], &external()).unwrap_err();
            assert!(
                matches!(&error, Error::NothingToWithdraw { reason: r, offset: o, .. } if (*r, *o) == (reason, offset)),
                "{error}"
            );
        }
        let harmless = attribute(0x40, 5, &[1]);
        let (_, faults) = judge(&[&unreach[..], &harmless].concat(), &[], &external()).unwrap();
        assert_eq!(faults.into_iter().map(told).collect::<Vec<_>>(), discards(5, Reason::NotFromExternal));
    }

    #[test]
    fn what_cannot_be_read_of_prefixes_resets() {
        for (flags, code, value) in [
            (0x80, 14, &[0, 2, 1, 4, 1, 2, 3, 4, 0][..]),
            (0x80, 14, &[0, 1, 1, 4]),
            (0x80, 14, &[]),
            (0x40, 14, &[0, 25, 70, 0, 0]),
            (0xc0, 14, &[0, 25, 70, 0, 0]),
            (0x80, 15, &[0, 1]),
            (0x80, 15, &[0, 1, 1, 33]),
            (0xc0, 15, &[0, 1, 1]),
        ] {
            let octets = [&MANDATORY[..], &attribute(flags, code, value)].concat();
            let error = judge(&octets, &[prefix()], &external()).unwrap_err();
            let Error::Multiprotocol { offset, octets, .. } = &error else { panic!("{error}") };
            assert!(*offset >= 14);
            assert_eq!(octets[..], attribute(flags, code, value));
            assert_eq!((error.notification().code, error.notification().subcode), (3, 9));
        }
    }

    #[test]
    fn the_strongest_verdict_comes_first() {
        let octets =
            [&attribute(0x40, 5, &[1])[..], &attribute(0x40, 6, &[1]), &attribute(0x40, 1, &[9]), &MANDATORY[4..]]
                .concat();
        let (_, faults) = judge(&octets, &[prefix()], &external()).unwrap();
        assert_eq!(faults.iter().map(|fault| fault.code).collect::<Vec<_>>(), [1, 5, 6]);
    }

    #[test]
    fn foreign_families_are_kept_octet_by_octet() {
        let octets = attribute(0x80, 14, &[0, 25, 70, 0, 0]);
        let (attributes, _) = judge(&octets, &[], &external()).unwrap();
        let data = Bytes::from_static(&[0, 25, 70, 0, 0]);
        assert_eq!(attributes, [Attribute::Unknown { flags: 0x80, code: 14, data }]);
        let (attributes, _) = judge(&attribute(0x80, 15, &[0, 25, 70]), &[], &external()).unwrap();
        let end = MpUnreach { family: Family { afi: 25, safi: 70 }, withdrawn: vec![] };
        assert_eq!(attributes, [Attribute::MpUnreach(end)]);
    }
}
