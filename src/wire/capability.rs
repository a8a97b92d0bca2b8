//! Capabilities in OPEN (RFC 5492).
//!
//! ```text
//! | code | length | value … |
//! ```

use super::emit::prefixed_u8;
use super::error::EncodeError;
use super::parse::Reader;
use super::{Asn, Error, Family};
use bytes::{BufMut, Bytes, BytesMut};

/// One capability. An unknown one is kept and never a reason to refuse (RFC 5492 §3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capability {
    /// Code 1 (RFC 4760 §8).
    Multiprotocol(Family),
    /// Code 2 (RFC 2918 §2).
    RouteRefresh,
    /// Code 65 (RFC 6793 §3): the sender's real AS number.
    FourOctetAs(Asn),
    /// Any other code with its value.
    Unknown {
        /// The capability code.
        code: u8,
        /// Its value.
        data: Bytes,
    },
}

const MULTIPROTOCOL: u8 = 1;
const ROUTE_REFRESH: u8 = 2;
const FOUR_OCTET_AS: u8 = 65;

impl Capability {
    /// Reads one capability.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let start = reader.offset();
        let whole = |_| Error::Open { offset: start, what: "a capability ends with its parameter" };
        let code = reader.u8().map_err(whole)?;
        let len = reader.u8().map_err(whole)?;
        let mut value = reader.sub(len.into()).map_err(whole)?;
        let fixed = |_| Error::Open { offset: start, what: "a known capability has a fixed length" };
        let capability = match code {
            MULTIPROTOCOL => {
                let afi = value.u16().map_err(fixed)?;
                let _reserved = value.u8().map_err(fixed)?;
                Capability::Multiprotocol(Family { afi, safi: value.u8().map_err(fixed)? })
            }
            ROUTE_REFRESH => Capability::RouteRefresh,
            FOUR_OCTET_AS => {
                let offset = value.offset();
                let asn = Asn(value.u32().map_err(fixed)?);
                if asn == Asn(0) {
                    return Err(Error::AsZero { offset });
                }
                Capability::FourOctetAs(asn)
            }
            code => {
                let data = value.take(len.into()).map_err(whole)?;
                Capability::Unknown { code, data: Bytes::copy_from_slice(data) }
            }
        };
        value.finish().map_err(fixed)?;
        Ok(capability)
    }

    /// Appends the capability with code and length.
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u8(self.code());
        prefixed_u8(out, "capability", |out| {
            match self {
                Capability::Multiprotocol(family) => {
                    out.put_u16(family.afi);
                    out.put_u8(0);
                    out.put_u8(family.safi);
                }
                Capability::RouteRefresh => {}
                Capability::FourOctetAs(asn) => out.put_u32(asn.0),
                Capability::Unknown { code: _, data } => out.put_slice(data),
            }
            Ok(())
        })
    }

    /// The capability code (RFC 5492 §4).
    pub fn code(&self) -> u8 {
        match self {
            Capability::Multiprotocol(_) => MULTIPROTOCOL,
            Capability::RouteRefresh => ROUTE_REFRESH,
            Capability::FourOctetAs(_) => FOUR_OCTET_AS,
            Capability::Unknown { code, data: _ } => *code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(octets: &[u8]) -> Result<Capability, Error> {
        let mut reader = Reader::new(octets);
        let capability = Capability::decode(&mut reader)?;
        assert!(reader.is_empty());
        Ok(capability)
    }

    #[test]
    fn golden_octets_both_ways() {
        let cases: [(&[u8], Capability); 4] = [
            (&[1, 4, 0, 2, 0, 1], Capability::Multiprotocol(Family::IPV6_UNICAST)),
            (&[2, 0], Capability::RouteRefresh),
            (&[65, 4, 0, 1, 0, 0], Capability::FourOctetAs(Asn(65_536))),
            (&[73, 2, 1, b'h'], Capability::Unknown { code: 73, data: Bytes::from_static(&[1, b'h']) }),
        ];
        for (octets, capability) in cases {
            assert_eq!(decode(octets).as_ref(), Ok(&capability));
            let mut out = BytesMut::new();
            capability.encode(&mut out).unwrap();
            assert_eq!(out[..], *octets);
        }
    }

    #[test]
    fn the_reserved_octet_is_ignored() {
        assert_eq!(decode(&[1, 4, 0, 1, 9, 1]), Ok(Capability::Multiprotocol(Family::IPV4_UNICAST)));
    }

    #[test]
    fn a_known_capability_of_wrong_length_is_malformed() {
        for octets in [&[1, 3, 0, 1, 0][..], &[1, 5, 0, 1, 0, 1, 0], &[1, 0], &[2, 1, 0], &[65, 0], &[65, 3, 0, 0, 1]] {
            assert!(matches!(decode(octets), Err(Error::Open { offset: 0, .. })), "{octets:?}");
        }
    }

    #[test]
    fn a_capability_may_not_overrun() {
        for octets in [&[2][..], &[73, 3, 1, 2], &[1, 4, 0, 1, 0]] {
            assert!(matches!(decode(octets), Err(Error::Open { offset: 0, .. })), "{octets:?}");
        }
    }

    #[test]
    fn as_zero_is_no_as() {
        assert_eq!(decode(&[65, 4, 0, 0, 0, 0]), Err(Error::AsZero { offset: 2 }));
    }
}
