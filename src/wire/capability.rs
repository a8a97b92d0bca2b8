//! Capabilities in OPEN (RFC 5492).
//!
//! ```text
//! | code | length | value … |
//! ```
//!
//! Three decide how everything after the OPEN is read (1, 2 and 65): malformed, they refuse the session. All others are
//! offers that one may ignore; a malformed offer is one that was not made, and is kept as [`Capability::Unknown`].

use super::emit::prefixed_u8;
use super::error::EncodeError;
use super::notification::Notification;
use super::offer;
use super::parse::Reader;
use super::{Asn, Error, Family, Text};
use bytes::{BufMut, Bytes, BytesMut};

pub use super::offer::{
    AddPath, AddPathMode, Forwarding, GracefulRestart, LongLived, NextHopEncoding, PathsLimit, Role,
};

/// One capability. An unknown one is kept and never a reason to refuse (RFC 5492 §3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capability {
    /// Code 1 (RFC 4760 §8).
    Multiprotocol(Family),
    /// Code 2 (RFC 2918 §2).
    RouteRefresh,
    /// Code 5 (RFC 8950 §4): families whose next hop may be of another family.
    ExtendedNextHop(Vec<NextHopEncoding>),
    /// Code 6 (RFC 8654 §3): messages of up to 65,535 octets.
    ExtendedMessage,
    /// Code 9 (RFC 9234 §4.1): what the sender is to the receiver.
    Role(Role),
    /// Code 64 (RFC 4724 §3, RFC 8538 §2).
    GracefulRestart(GracefulRestart),
    /// Code 65 (RFC 6793 §3): the sender's real AS number.
    FourOctetAs(Asn),
    /// Code 69 (RFC 7911 §4).
    AddPath(Vec<AddPath>),
    /// Code 70 (RFC 7313 §3.1).
    EnhancedRouteRefresh,
    /// Code 71 (RFC 9494 §3.1).
    LongLivedGracefulRestart(Vec<LongLived>),
    /// Code 73 (draft-walton-bgp-hostname-capability).
    Fqdn {
        /// Name of the host, at most 255 octets.
        host: Text,
        /// Its domain, at most 255 octets, often empty.
        domain: Text,
    },
    /// Code 75 (draft-abraitis-bgp-version-capability): at most 254 octets.
    SoftwareVersion(Text),
    /// Code 76 (draft-abraitis-idr-addpath-paths-limit).
    PathsLimit(Vec<PathsLimit>),
    /// Code 77 (draft-ietf-idr-linklocal-capability): a next hop may be a link-local address alone.
    LinkLocalNextHop,
    /// Any other code with its value, and any offer that is malformed.
    Unknown {
        /// The capability code.
        code: u8,
        /// Its value.
        data: Bytes,
    },
}

/// Capability codes (RFC 5492 §4).
pub(super) mod code {
    pub const MULTIPROTOCOL: u8 = 1;
    pub const ROUTE_REFRESH: u8 = 2;
    pub const EXTENDED_NEXT_HOP: u8 = 5;
    pub const EXTENDED_MESSAGE: u8 = 6;
    pub const ROLE: u8 = 9;
    pub const GRACEFUL_RESTART: u8 = 64;
    pub const FOUR_OCTET_AS: u8 = 65;
    pub const ADD_PATH: u8 = 69;
    pub const ENHANCED_ROUTE_REFRESH: u8 = 70;
    pub const LONG_LIVED_GRACEFUL_RESTART: u8 = 71;
    pub const FQDN: u8 = 73;
    pub const SOFTWARE_VERSION: u8 = 75;
    pub const PATHS_LIMIT: u8 = 76;
    pub const LINK_LOCAL_NEXT_HOP: u8 = 77;
}

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
            code::MULTIPROTOCOL => {
                let afi = value.u16().map_err(fixed)?;
                let _reserved = value.u8().map_err(fixed)?;
                Capability::Multiprotocol(Family { afi, safi: value.u8().map_err(fixed)? })
            }
            code::ROUTE_REFRESH => Capability::RouteRefresh,
            code::FOUR_OCTET_AS => {
                let offset = value.offset();
                let asn = Asn(value.u32().map_err(fixed)?);
                if asn == Asn(0) {
                    return Err(Error::AsZero { offset });
                }
                Capability::FourOctetAs(asn)
            }
            code => {
                let offered = Self::offer(code, value);
                let data = value.take(len.into()).map_err(whole)?;
                offered.unwrap_or_else(|| Capability::Unknown { code, data: Bytes::copy_from_slice(data) })
            }
        };
        value.finish().map_err(fixed)?;
        Ok(capability)
    }

    /// A capability that may be ignored; `None` if its code is unknown or its value malformed.
    fn offer(code: u8, value: Reader<'_>) -> Option<Self> {
        match code {
            code::EXTENDED_NEXT_HOP => offer::next_hops(value).map(Capability::ExtendedNextHop),
            code::EXTENDED_MESSAGE => value.is_empty().then_some(Capability::ExtendedMessage),
            code::ROLE => offer::role(value).map(Capability::Role),
            code::GRACEFUL_RESTART => offer::graceful_restart(value).map(Capability::GracefulRestart),
            code::ADD_PATH => offer::add_paths(value).map(Capability::AddPath),
            code::ENHANCED_ROUTE_REFRESH => value.is_empty().then_some(Capability::EnhancedRouteRefresh),
            code::LONG_LIVED_GRACEFUL_RESTART => offer::long_lived(value).map(Capability::LongLivedGracefulRestart),
            code::FQDN => offer::fqdn(value).map(|(host, domain)| Capability::Fqdn { host, domain }),
            code::SOFTWARE_VERSION => offer::only_text(value).map(Capability::SoftwareVersion),
            code::PATHS_LIMIT => offer::paths_limits(value).map(Capability::PathsLimit),
            code::LINK_LOCAL_NEXT_HOP => value.is_empty().then_some(Capability::LinkLocalNextHop),
            _ => None,
        }
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
                Capability::RouteRefresh
                | Capability::ExtendedMessage
                | Capability::EnhancedRouteRefresh
                | Capability::LinkLocalNextHop => {}
                Capability::ExtendedNextHop(list) => offer::put_next_hops(list, out),
                Capability::Role(role) => out.put_u8(role.octet()),
                Capability::GracefulRestart(restart) => offer::put_graceful_restart(restart, out),
                Capability::FourOctetAs(asn) => out.put_u32(asn.0),
                Capability::AddPath(list) => offer::put_add_paths(list, out),
                Capability::LongLivedGracefulRestart(list) => offer::put_long_lived(list, out),
                Capability::Fqdn { host, domain } => {
                    offer::put_text(host, out)?;
                    offer::put_text(domain, out)?;
                }
                Capability::SoftwareVersion(version) => offer::put_text(version, out)?,
                Capability::PathsLimit(list) => offer::put_paths_limits(list, out),
                Capability::Unknown { code: _, data } => out.put_slice(data),
            }
            Ok(())
        })
    }

    /// The capability code (RFC 5492 §4).
    pub fn code(&self) -> u8 {
        match self {
            Capability::Multiprotocol(_) => code::MULTIPROTOCOL,
            Capability::RouteRefresh => code::ROUTE_REFRESH,
            Capability::ExtendedNextHop(_) => code::EXTENDED_NEXT_HOP,
            Capability::ExtendedMessage => code::EXTENDED_MESSAGE,
            Capability::Role(_) => code::ROLE,
            Capability::GracefulRestart(_) => code::GRACEFUL_RESTART,
            Capability::FourOctetAs(_) => code::FOUR_OCTET_AS,
            Capability::AddPath(_) => code::ADD_PATH,
            Capability::EnhancedRouteRefresh => code::ENHANCED_ROUTE_REFRESH,
            Capability::LongLivedGracefulRestart(_) => code::LONG_LIVED_GRACEFUL_RESTART,
            Capability::Fqdn { .. } => code::FQDN,
            Capability::SoftwareVersion(_) => code::SOFTWARE_VERSION,
            Capability::PathsLimit(_) => code::PATHS_LIMIT,
            Capability::LinkLocalNextHop => code::LINK_LOCAL_NEXT_HOP,
            Capability::Unknown { code, data: _ } => *code,
        }
    }

    /// Unsupported Capability (2/7, RFC 5492 §5): what we require of a peer and did not get, as it should have sent it.
    ///
    /// # Errors
    /// [`EncodeError::FieldTooLong`] for a capability above 255 octets.
    pub fn required(missing: &[Capability]) -> Result<Notification, EncodeError> {
        let mut data = BytesMut::new();
        missing.iter().try_for_each(|capability| capability.encode(&mut data))?;
        Ok(Notification { code: 2, subcode: 7, data: data.freeze() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: Family = Family::IPV4_UNICAST;
    const V6: Family = Family::IPV6_UNICAST;

    fn decode(octets: &[u8]) -> Result<Capability, Error> {
        let mut reader = Reader::new(octets);
        let capability = Capability::decode(&mut reader)?;
        assert!(reader.is_empty());
        Ok(capability)
    }

    fn restart(restarted: bool, notification: bool, families: Vec<Forwarding>) -> Capability {
        Capability::GracefulRestart(GracefulRestart { restarted, notification, restart_time: 120, families })
    }

    #[test]
    fn golden_octets_both_ways() {
        let (kept, lost) = (Forwarding { family: V4, preserved: true }, Forwarding { family: V6, preserved: false });
        let long = |family, preserved, stale_time| LongLived { family, preserved, stale_time };
        let cases: Vec<(&[u8], Capability)> = vec![
            (&[1, 4, 0, 2, 0, 1], Capability::Multiprotocol(V6)),
            (&[2, 0], Capability::RouteRefresh),
            (
                &[5, 6, 0, 1, 0, 1, 0, 2],
                Capability::ExtendedNextHop(vec![NextHopEncoding { family: V4, next_hop_afi: 2 }]),
            ),
            (&[6, 0], Capability::ExtendedMessage),
            (&[9, 1, 3], Capability::Role(Role::Customer)),
            (&[9, 1, 77], Capability::Role(Role::Unassigned(77))),
            (&[64, 2, 0x40, 0x78], restart(false, true, vec![])),
            (&[64, 10, 0xc0, 0x78, 0, 1, 1, 0x80, 0, 2, 1, 0], restart(true, true, vec![kept, lost])),
            (&[65, 4, 0, 1, 0, 0], Capability::FourOctetAs(Asn(65_536))),
            (
                &[69, 8, 0, 1, 1, 1, 0, 2, 1, 3],
                Capability::AddPath(vec![
                    AddPath { family: V4, mode: AddPathMode::Receive },
                    AddPath { family: V6, mode: AddPathMode::Both },
                ]),
            ),
            (&[70, 0], Capability::EnhancedRouteRefresh),
            (
                &[71, 7, 0, 1, 1, 0x80, 0xff, 0xff, 0xff],
                Capability::LongLivedGracefulRestart(vec![long(V4, true, 0xff_ffff)]),
            ),
            (&[73, 5, 2, b'n', b'1', 1, b'd'], Capability::Fqdn { host: "n1".into(), domain: "d".into() }),
            (&[75, 3, 2, b'v', b'1'], Capability::SoftwareVersion("v1".into())),
            (&[76, 5, 0, 2, 1, 0, 9], Capability::PathsLimit(vec![PathsLimit { family: V6, limit: 9 }])),
            (&[77, 0], Capability::LinkLocalNextHop),
            (&[200, 2, 1, 2], Capability::Unknown { code: 200, data: Bytes::from_static(&[1, 2]) }),
        ];
        for (octets, capability) in cases {
            assert_eq!(decode(octets).as_ref(), Ok(&capability));
            let mut out = BytesMut::new();
            capability.encode(&mut out).unwrap();
            assert_eq!((&out[..], out[0]), (octets, capability.code()));
        }
    }

    #[test]
    fn reserved_bits_are_ignored() {
        assert_eq!(decode(&[1, 4, 0, 1, 9, 1]), Ok(Capability::Multiprotocol(V4)));
        let kept = Forwarding { family: V4, preserved: true };
        assert_eq!(decode(&[64, 6, 0x30, 0x78, 0, 1, 1, 0xff]), Ok(restart(false, false, vec![kept])));
    }

    #[test]
    fn times_that_are_too_long_are_written_as_the_longest() {
        let mut out = BytesMut::new();
        let restart_time = u16::MAX;
        Capability::GracefulRestart(GracefulRestart { restart_time, ..Default::default() }).encode(&mut out).unwrap();
        let long = LongLived { family: V4, preserved: false, stale_time: u32::MAX };
        Capability::LongLivedGracefulRestart(vec![long]).encode(&mut out).unwrap();
        assert_eq!(out[..], [64, 2, 0x0f, 0xff, 71, 7, 0, 1, 1, 0, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn one_that_the_session_rests_on_is_malformed_by_a_wrong_length() {
        for octets in [&[1, 3, 0, 1, 0][..], &[1, 5, 0, 1, 0, 1, 0], &[1, 0], &[2, 1, 0], &[65, 0], &[65, 3, 0, 0, 1]] {
            assert!(matches!(decode(octets), Err(Error::Open { offset: 0, .. })), "{octets:?}");
        }
    }

    #[test]
    fn a_malformed_offer_was_not_made_and_is_kept() {
        for octets in [
            &[5, 5, 0, 1, 0, 1, 0][..],
            &[5, 6, 0, 1, 1, 1, 0, 2],
            &[6, 1, 0],
            &[9, 0],
            &[9, 2, 1, 1],
            &[64, 0],
            &[64, 1, 0],
            &[64, 5, 0, 0, 0, 1, 1],
            &[69, 4, 0, 1, 1, 0],
            &[69, 4, 0, 1, 1, 4],
            &[69, 3, 0, 1, 1],
            &[70, 1, 0],
            &[71, 6, 0, 1, 1, 0, 0, 0],
            &[73, 0],
            &[73, 1, 9],
            &[73, 2, 1, b'h'],
            &[73, 4, 1, b'h', 0, 0],
            &[75, 0],
            &[75, 2, 9, b'v'],
            &[75, 2, 0, b'v'],
            &[76, 4, 0, 1, 1, 0],
            &[77, 1, 0],
        ] {
            let wanted = Capability::Unknown { code: octets[0], data: Bytes::copy_from_slice(&octets[2..]) };
            assert_eq!(decode(octets), Ok(wanted), "{octets:?}");
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

    #[test]
    fn a_text_longer_than_its_length_field_is_an_error() {
        let long = Text(Bytes::from(vec![b'a'; 256]));
        assert!(Capability::SoftwareVersion(long).encode(&mut BytesMut::new()).is_err());
    }

    #[test]
    fn what_was_required_is_told_as_it_should_have_come() {
        let told = Capability::required(&[Capability::RouteRefresh, Capability::FourOctetAs(Asn(1))]).unwrap();
        assert_eq!((told.code, told.subcode, &told.data[..]), (2, 7, &[2, 0, 65, 4, 0, 0, 0, 1][..]));
    }
}
