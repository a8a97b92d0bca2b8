//! ROUTE-REFRESH (RFC 2918 §3).
//!
//! ```text
//! 19    21        22
//! | AFI | subtype | SAFI |
//! ```

use super::parse::Reader;
use super::{Context, Error, Family};
use bytes::{BufMut, Bytes, BytesMut};

/// A request to send one family again, or one end of what is sent for it (RFC 7313 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRefresh {
    /// The family wanted.
    pub family: Family,
    /// What kind it is, as it came: [`RouteRefresh::kind`] says what it means.
    pub subtype: u8,
}

/// What the octet between AFI and SAFI is to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subtypes {
    /// Reserved (RFC 2918 §3): the peer did not offer enhanced route refresh.
    Reserved,
    /// The subtype of RFC 7313 §3.2: it did.
    Defined,
}

/// What a ROUTE-REFRESH means (RFC 7313 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefreshKind {
    /// 0: send everything again.
    Request,
    /// 1, BoRR: everything follows.
    Begin,
    /// 2, EoRR: that was everything.
    End,
    /// Another one, to be ignored (RFC 7313 §5).
    Unknown(u8),
}

impl RefreshKind {
    /// The subtype octet.
    pub fn octet(self) -> u8 {
        match self {
            RefreshKind::Request => 0,
            RefreshKind::Begin => 1,
            RefreshKind::End => 2,
            RefreshKind::Unknown(octet) => octet,
        }
    }
}

impl RouteRefresh {
    /// One of a kind.
    pub fn new(family: Family, kind: RefreshKind) -> Self {
        Self { family, subtype: kind.octet() }
    }

    /// What it means.
    pub fn kind(&self) -> RefreshKind {
        match self.subtype {
            0 => RefreshKind::Request,
            1 => RefreshKind::Begin,
            2 => RefreshKind::End,
            octet => RefreshKind::Unknown(octet),
        }
    }

    /// Reads the body of `message`. Longer ones are refused where the subtype says what they should contain (RFC 7313 §5);
    /// an unknown subtype is for the reader to ignore, whatever follows it. Filters behind a plain request (RFC 5291) are
    /// refused: nobody here offered to take them. Errors of RFC 7313 are for those alone that offered it (§5); others made
    /// a message of a wrong length.
    pub(super) fn decode(message: &[u8], mut reader: Reader<'_>, context: &Context) -> Result<Self, Error> {
        let len = u16::try_from(message.len()).unwrap_or(u16::MAX);
        let wrong = Error::Length { len, kind: 5 };
        let (Ok(afi), Ok(subtype), Ok(safi)) = (reader.u16(), reader.u8(), reader.u8()) else { return Err(wrong) };
        match (subtype, context.subtypes, reader.is_empty()) {
            (0, _, false) | (1 | 2, Subtypes::Reserved, false) => Err(wrong),
            (1 | 2, Subtypes::Defined, false) => {
                Err(Error::RefreshLength { subtype, message: Bytes::copy_from_slice(message) })
            }
            _ => Ok(Self { family: Family { afi, safi }, subtype }),
        }
    }

    /// Appends the body.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u16(self.family.afi);
        out.put_u8(self.subtype);
        out.put_u8(self.family.safi);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(body: &[u8]) -> Result<RouteRefresh, Error> {
        decode_from(Subtypes::Defined, body)
    }

    fn decode_from(subtypes: Subtypes, body: &[u8]) -> Result<RouteRefresh, Error> {
        let context = Context { subtypes, ..Context::before_open() };
        let mut message = vec![0xff; 19];
        message.extend(body);
        let mut reader = Reader::new(&message);
        reader.take(19).unwrap();
        RouteRefresh::decode(&message, reader, &context)
    }

    #[test]
    fn golden_octets_both_ways() {
        let refresh = RouteRefresh { family: Family::IPV6_UNICAST, subtype: 0 };
        assert_eq!(decode(&[0, 2, 0, 1]), Ok(refresh));
        let mut out = BytesMut::new();
        refresh.encode(&mut out);
        assert_eq!(out[..], [0, 2, 0, 1]);
    }

    #[test]
    fn the_length_is_judged_by_the_subtype() {
        assert_eq!(decode(&[0, 1, 0, 1, 1, 3, 0, 0]), Err(Error::Length { len: 27, kind: 5 }));
        assert!(matches!(decode(&[0, 1, 1, 1, 0]), Err(Error::RefreshLength { subtype: 1, .. })));
        assert!(matches!(decode(&[0, 1, 2, 1, 0]), Err(Error::RefreshLength { subtype: 2, .. })));
        assert_eq!(decode(&[0, 1, 3, 1, 0]).unwrap().subtype, 3);
        assert_eq!(decode(&[0, 1, 0]), Err(Error::Length { len: 22, kind: 5 }));
    }

    #[test]
    fn who_did_not_offer_subtypes_hears_of_no_error_in_them() {
        for subtype in [1, 2] {
            let told = decode_from(Subtypes::Reserved, &[0, 1, subtype, 1, 0x78]).unwrap_err().notification();
            assert_eq!((told.code, told.subcode, &told.data[..]), (1, 2, &[0, 24][..]), "not 7/1");
            assert_eq!(decode_from(Subtypes::Reserved, &[0, 1, subtype, 1]).unwrap().subtype, subtype);
        }
    }

    #[test]
    fn kinds_are_subtypes() {
        for (subtype, kind) in [
            (0, RefreshKind::Request),
            (1, RefreshKind::Begin),
            (2, RefreshKind::End),
            (3, RefreshKind::Unknown(3)),
            (255, RefreshKind::Unknown(255)),
        ] {
            let refresh = RouteRefresh::new(Family::IPV4_UNICAST, kind);
            assert_eq!((refresh.subtype, refresh.kind()), (subtype, kind));
        }
    }
}
