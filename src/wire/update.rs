//! UPDATE (RFC 4271 §4.3) as it is read, and what becomes of a bad one (RFC 7606). What we send is in `announce`.
//!
//! ```text
//! 19           21
//! | length (2) | prefixes withdrawn … | length (2) | path attributes … | prefixes announced …
//! ```

use super::attribute_list;
use super::emit::prefixed_u16;
use super::error::EncodeError;
use super::nlri::{self, Nlri, PathIds, Unicast};
use super::parse::Reader;
use super::{Aggregator, AsPath, Asn, Attribute, Context, Error, Family, Prefix};
use bytes::BytesMut;
use std::net::IpAddr;

pub use super::announce::{Announce, EndOfRib, Withdraw};
pub use super::fault::{Fault, Verdict};

/// An UPDATE as read from the wire.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    /// IPv4 prefixes withdrawn in the body.
    pub withdrawn: Vec<Nlri>,
    /// Path attributes in wire order, without those that are at fault.
    pub attributes: Vec<Attribute>,
    /// IPv4 prefixes announced in the body.
    pub nlri: Vec<Nlri>,
    /// What was wrong but does not end the session, strongest verdict first.
    pub faults: Vec<Fault>,
}

impl Update {
    /// The family whose End-of-RIB this is (RFC 4724 §2), if it is one. A message that is empty only because something in
    /// it was at fault is none.
    pub fn end_of_rib(&self) -> Option<Family> {
        if !self.faults.is_empty() || !self.withdrawn.is_empty() || !self.nlri.is_empty() {
            return None;
        }
        match &self.attributes[..] {
            [] => Some(Family::IPV4_UNICAST),
            [Attribute::MpUnreach(unreach)] if unreach.withdrawn.is_empty() => Some(unreach.family),
            _ => None,
        }
    }

    /// The strongest verdict of all faults.
    pub fn verdict(&self) -> Option<Verdict> {
        self.faults.iter().map(|fault| fault.verdict).max()
    }

    /// What the message announces, each prefix with its next hop: nothing if it is to be treated as a withdrawal, and no
    /// prefix whose next hop can be none ([`Update::astray`]). To be looked at after [`Update::gone`]: a prefix in both is
    /// announced (RFC 4271 §4.3).
    pub fn announced(&self) -> impl Iterator<Item = (Prefix, IpAddr)> {
        self.named().filter(|(_, next_hop)| can_be_next_hop(*next_hop))
    }

    /// Prefixes with a next hop that no host has: such routes are ignored and logged, and the session is none the worse
    /// (RFC 4271 §6.3).
    pub fn astray(&self) -> impl Iterator<Item = (Prefix, IpAddr)> {
        self.named().filter(|(_, next_hop)| !can_be_next_hop(*next_hop))
    }

    /// Every prefix that the message announces, whatever is wrong with it.
    pub fn offered(&self) -> impl Iterator<Item = Prefix> {
        let mp = self.attributes.iter().flat_map(|attribute| match attribute {
            Attribute::MpReach(reach) => &reach.nlri[..],
            _ => &[],
        });
        self.nlri.iter().chain(mp).map(|nlri| nlri.prefix)
    }

    fn named(&self) -> impl Iterator<Item = (Prefix, IpAddr)> {
        let wanted = self.verdict() < Some(Verdict::TreatAsWithdraw);
        let body_hop = self.attributes.iter().find_map(|attribute| match attribute {
            Attribute::NextHop(address) => Some(IpAddr::V4(*address)),
            _ => None,
        });
        let body = self.nlri.iter().filter_map(move |nlri| Some((nlri.prefix, body_hop?)));
        let mp = self.attributes.iter().flat_map(|attribute| match attribute {
            Attribute::MpReach(reach) => reach.nlri.iter().map(|nlri| (nlri.prefix, reach.next_hop)).collect(),
            _ => Vec::new(),
        });
        mp.chain(body).filter(move |_| wanted)
    }

    /// What the message takes back: what it withdraws, and what it announces if that is to be treated as a withdrawal.
    pub fn gone(&self) -> impl Iterator<Item = Prefix> {
        let announced_too = self.verdict() == Some(Verdict::TreatAsWithdraw);
        let mp = self.attributes.iter().flat_map(move |attribute| match attribute {
            Attribute::MpUnreach(unreach) => &unreach.withdrawn[..],
            Attribute::MpReach(reach) if announced_too => &reach.nlri,
            _ => &[],
        });
        let body = self.nlri.iter().filter(move |_| announced_too);
        self.withdrawn.iter().chain(mp).chain(body).map(|nlri| nlri.prefix)
    }

    /// The path with the numbers that two octets could not hold: AS_PATH and AS4_PATH as one (RFC 6793 §4.2.3). `None`
    /// without AS_PATH.
    pub fn as_path(&self) -> Option<AsPath> {
        let narrow = self.attributes.iter().find_map(|attribute| match attribute {
            Attribute::AsPath(path) => Some(path),
            _ => None,
        })?;
        let wide = self.attributes.iter().find_map(|attribute| match attribute {
            Attribute::As4Path(path) => Some(path),
            _ => None,
        });
        match (wide, self.aggregators()) {
            // An old speaker aggregated the route, and what newer ones said before that no longer holds.
            (Some(_), (Some(Aggregator { asn, .. }), Some(_))) if asn != Asn::TRANS => Some(narrow.clone()),
            (Some(wide), _) => Some(narrow.merged(wide)),
            (None, _) => Some(narrow.clone()),
        }
    }

    /// Who aggregated the route: AGGREGATOR, or AS4_AGGREGATOR where AS_TRANS stands in it (RFC 6793 §4.2.3).
    pub fn aggregator(&self) -> Option<Aggregator> {
        match self.aggregators() {
            (Some(Aggregator { asn: Asn::TRANS, .. }), Some(wide)) => Some(wide),
            (narrow, _) => narrow,
        }
    }

    fn aggregators(&self) -> (Option<Aggregator>, Option<Aggregator>) {
        let (mut narrow, mut wide) = (None, None);
        for attribute in &self.attributes {
            match attribute {
                Attribute::Aggregator(aggregator) => narrow = Some(*aggregator),
                Attribute::As4Aggregator(aggregator) => wide = Some(*aggregator),
                _ => {}
            }
        }
        (narrow, wide)
    }

    /// Reads the body.
    pub(super) fn decode(mut reader: Reader<'_>, context: &Context) -> Result<Self, Error> {
        let withdrawn = part(&mut reader, "Withdrawn Routes Length")?;
        let attributes = part(&mut reader, "Total Path Attribute Length")?;
        let withdrawn = body_prefixes(withdrawn, "Withdrawn Routes", context)?;
        let nlri = body_prefixes(reader, "NLRI", context)?;
        let (attributes, faults) = attribute_list::decode(attributes, context)?.conclude(&nlri, context)?;
        Ok(Self { withdrawn, attributes, nlri, faults })
    }

    /// Appends the body, as it is: faults leave no octets.
    pub(super) fn encode(&self, context: &Context, out: &mut BytesMut) -> Result<(), EncodeError> {
        let ids = PathIds::sent(Family::IPV4_UNICAST, context);
        prefixed_u16(out, "withdrawn routes", |out| {
            nlri::encode(self.withdrawn.iter().copied(), ids, out);
            Ok(())
        })?;
        prefixed_u16(out, "path attributes", |out| {
            self.attributes.iter().try_for_each(|attribute| attribute.encode(context, out))
        })?;
        nlri::encode(self.nlri.iter().copied(), ids, out);
        Ok(())
    }
}

/// Whether a host can have this address: not unspecified, loopback, multicast, of class E, or of "this network".
fn can_be_next_hop(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let first = address.octets()[0];
            first != 0 && first != 127 && first < 224
        }
        IpAddr::V6(address) => !(address.is_unspecified() || address.is_loopback() || address.is_multicast()),
    }
}

/// A part of the body with its length in front.
fn part<'a>(reader: &mut Reader<'a>, field: &'static str) -> Result<Reader<'a>, Error> {
    let offset = reader.offset();
    let exceeds = |_| Error::UpdateLengths { offset, field };
    let len = reader.u16().map_err(exceeds)?;
    reader.sub(len.into()).map_err(exceeds)
}

fn body_prefixes(reader: Reader<'_>, field: &'static str, context: &Context) -> Result<Vec<Nlri>, Error> {
    let ids = PathIds::received(Family::IPV4_UNICAST, context);
    nlri::decode(reader, Unicast::V4, ids).map_err(|bad| Error::Network { offset: bad.offset, what: bad.what, field })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{AsPath, AsWidth, Asn, Message, MpReach, MpUnreach, Origin};

    const ATTRIBUTES: [u8; 20] = [0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe8, 0x40, 3, 4, 192, 0, 2, 1];

    fn context() -> Context {
        Context { as_width: AsWidth::Four, ..Context::before_open() }
    }

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn nlri(text: &str) -> Nlri {
        prefix(text).into()
    }

    /// A message with the given parts, and lengths to match.
    fn message(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
        let len = |part: &[u8]| u16::try_from(part.len()).unwrap().to_be_bytes();
        let body = [&len(withdrawn), withdrawn, &len(attributes), attributes, nlri].concat();
        [&[0xff; 16][..], &u16::try_from(19 + body.len()).unwrap().to_be_bytes(), &[2], &body].concat()
    }

    fn decode(octets: &[u8]) -> Result<Update, Error> {
        match Message::decode(octets, &context())? {
            Message::Update(update) => Ok(update),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn golden_octets_both_ways() {
        let octets = message(&[8, 11], &ATTRIBUTES, &[8, 10, 32, 192, 0, 2, 1]);
        let update = Update {
            withdrawn: vec![nlri("11.0.0.0/8")],
            attributes: vec![
                Attribute::Origin(Origin::Igp),
                Attribute::AsPath(AsPath::sequence([Asn(65_000)])),
                Attribute::NextHop([192, 0, 2, 1].into()),
            ],
            nlri: vec![nlri("10.0.0.0/8"), nlri("192.0.2.1/32")],
            faults: vec![],
        };
        assert_eq!(decode(&octets).as_ref(), Ok(&update));
        let mut out = BytesMut::new();
        Message::Update(update).encode(&context(), &mut out).unwrap();
        assert_eq!(out[..], octets);
    }

    #[test]
    fn lengths_beyond_the_message_reset() {
        let good = message(&[], &ATTRIBUTES, &[8, 10]);
        for (at, field) in [(19, "Withdrawn Routes Length"), (21, "Total Path Attribute Length")] {
            let mut octets = good.clone();
            octets[at + 1] = 200;
            let error = decode(&octets).unwrap_err();
            assert_eq!(error, Error::UpdateLengths { offset: at, field });
            assert_eq!((error.notification().code, error.notification().subcode), (3, 1));
        }
        // One octet more for the withdrawn routes than leaves room for the second length field.
        let mut octets = message(&[], &[], &[]);
        octets[20] = 1;
        assert!(matches!(decode(&octets), Err(Error::UpdateLengths { .. })));
    }

    #[test]
    fn bad_prefixes_in_the_body_reset() {
        for (octets, field, offset) in [
            (message(&[33, 1, 2, 3, 4, 5], &[], &[]), "Withdrawn Routes", 21),
            (message(&[], &ATTRIBUTES, &[8, 10, 24, 1, 2]), "NLRI", 45),
        ] {
            let error = decode(&octets).unwrap_err();
            assert!(
                matches!(error, Error::Network { field: f, offset: o, .. } if (f, o) == (field, offset)),
                "{error}"
            );
            assert_eq!((error.notification().code, error.notification().subcode), (3, 10));
        }
    }

    #[test]
    fn end_of_rib_is_empty_and_nothing_else_is() {
        assert_eq!(decode(&message(&[], &[], &[])).unwrap().end_of_rib(), Some(Family::IPV4_UNICAST));
        let ipv6 = message(&[], &[0x80, 15, 3, 0, 2, 1], &[]);
        assert_eq!(decode(&ipv6).unwrap().end_of_rib(), Some(Family::IPV6_UNICAST));
        for octets in [
            message(&[8, 10], &[], &[]),
            message(&[], &ATTRIBUTES, &[8, 10]),
            message(&[], &ATTRIBUTES, &[]),
            message(&[], &[0x80, 15, 5, 0, 2, 1, 8, 0x20], &[]),
            message(&[], &[0x80, 15, 3, 0, 2, 1, 0xc0, 99, 0], &[]),
            message(&[], &[0x40, 5, 4, 0, 0, 0, 1], &[]),
        ] {
            assert_eq!(decode(&octets).unwrap().end_of_rib(), None, "{octets:?}");
        }
    }

    #[test]
    fn what_is_announced_and_what_is_gone() {
        let (hop4, hop6) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let mut update = decode(&message(&[8, 11], &ATTRIBUTES, &[8, 10])).unwrap();
        let (v6, v6_gone) = (prefix("2001:db8:1::/48"), prefix("2001:db8:2::/48"));
        let family = Family::IPV6_UNICAST;
        update.attributes.push(Attribute::MpReach(MpReach {
            family,
            next_hop: hop6,
            link_local: None,
            nlri: vec![v6.into()],
        }));
        update.attributes.push(Attribute::MpUnreach(MpUnreach { family, withdrawn: vec![v6_gone.into()] }));
        assert_eq!(update.announced().collect::<Vec<_>>(), [(v6, hop6), (prefix("10.0.0.0/8"), hop4)]);
        assert_eq!(update.gone().collect::<Vec<_>>(), [prefix("11.0.0.0/8"), v6_gone]);
        assert_eq!(update.verdict(), None);
    }

    #[test]
    fn a_fault_turns_an_announcement_into_a_withdrawal() {
        let mut octets = message(&[8, 11], &ATTRIBUTES, &[8, 10]);
        octets[28] = 9;
        let update = decode(&octets).unwrap();
        assert_eq!(update.verdict(), Some(Verdict::TreatAsWithdraw));
        assert_eq!(update.announced().count(), 0);
        assert_eq!(update.gone().collect::<Vec<_>>(), [prefix("11.0.0.0/8"), prefix("10.0.0.0/8")]);
        assert_eq!(update.nlri, [nlri("10.0.0.0/8")], "what was named stays readable");
    }

    #[test]
    fn routes_with_impossible_next_hops_are_told_apart() {
        for hop in [[0, 0, 0, 0], [0, 1, 2, 3], [127, 0, 0, 1], [224, 0, 0, 5], [255, 255, 255, 255]] {
            let mut octets = message(&[], &ATTRIBUTES, &[8, 10]);
            octets[39..43].copy_from_slice(&hop);
            let update = decode(&octets).unwrap();
            assert_eq!((update.announced().count(), update.gone().count(), update.verdict()), (0, 0, None), "{hop:?}");
            assert_eq!(update.astray().collect::<Vec<_>>(), [(prefix("10.0.0.0/8"), hop.into())]);
        }
        let free = decode(&message(&[], &ATTRIBUTES, &[8, 10])).unwrap();
        assert_eq!((free.announced().count(), free.astray().count()), (1, 0));
    }

    #[test]
    fn the_whole_path_and_the_real_aggregator() {
        let who = |asn| Aggregator { asn: Asn(asn), address: [1, 2, 3, 4].into() };
        let path = |asns: [u32; 2]| AsPath::sequence(asns.map(Asn));
        let told = |aggregator: Option<u32>, as4_aggregator: Option<u32>| {
            let attributes = vec![Attribute::AsPath(path([1, 23_456])), Attribute::As4Path(path([1, 70_000]))];
            let mut update = Update { attributes, ..Update::default() };
            update.attributes.extend(aggregator.map(|asn| Attribute::Aggregator(who(asn))));
            update.attributes.extend(as4_aggregator.map(|asn| Attribute::As4Aggregator(who(asn))));
            (update.as_path().unwrap(), update.aggregator().map(|aggregator| aggregator.asn.0))
        };
        assert_eq!(told(None, None), (path([1, 70_000]), None));
        assert_eq!(told(None, Some(70_000)), (path([1, 70_000]), None));
        assert_eq!(told(Some(23_456), Some(70_000)), (path([1, 70_000]), Some(70_000)));
        assert_eq!(told(Some(5), None), (path([1, 70_000]), Some(5)));
        assert_eq!(told(Some(5), Some(70_000)), (path([1, 23_456]), Some(5)), "an old speaker aggregated");
        assert_eq!(Update::default().as_path(), None);
    }
}
