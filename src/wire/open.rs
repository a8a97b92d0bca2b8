//! OPEN (RFC 4271 §4.2), with both encodings of its optional parameters (RFC 9072).
//!
//! ```text
//! 19        20      22          24               28
//! | version | my AS | hold time | BGP identifier | parameters' length | type | length | value … |
//!                                                | 255 | 255 | length (2) | type | length (2) | value … |
//! ```

use super::capability::GracefulRestart;
use super::emit::{prefixed_u8, prefixed_u16};
use super::error::EncodeError;
use super::parse::{Misread, Reader};
use super::{Asn, Capability, Error, Family, RouterId};
use bytes::{BufMut, BytesMut};

/// An OPEN message. The version is 4: any other is an error of decoding (RFC 4271 §6.2, subcode 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The two-octet "My Autonomous System" field: AS_TRANS where the real number needs four.
    pub my_as: u16,
    /// Proposed hold time in seconds: 0 or at least 3 (1 and 2 are refused, RFC 4271 §4.2).
    pub hold_time: u16,
    /// BGP Identifier.
    pub router_id: RouterId,
    /// All capabilities in wire order, of however many parameters they came in.
    pub capabilities: Vec<Capability>,
}

const VERSION: u8 = 4;
/// Optional parameter type Capabilities (RFC 5492 §4).
const CAPABILITIES: u8 = 2;
/// Where a parameter type would stand: the extended encoding follows (RFC 9072 §2).
const EXTENDED: u8 = 255;

/// How long the length field of a parameter is.
#[derive(Clone, Copy)]
enum LengthWidth {
    One,
    Two,
}

impl Open {
    /// The sender's AS number: capability 65 if present, else the two-octet field.
    pub fn asn(&self) -> Asn {
        self.capabilities
            .iter()
            .find_map(|c| if let Capability::FourOctetAs(asn) = c { Some(*asn) } else { None })
            .unwrap_or(Asn(self.my_as.into()))
    }

    /// The families offered; IPv4 unicast alone where no capability 1 came (RFC 4760 §8).
    pub fn families(&self) -> Vec<Family> {
        let offered: Vec<_> = self
            .capabilities
            .iter()
            .filter_map(|c| if let Capability::Multiprotocol(family) = c { Some(*family) } else { None })
            .collect();
        if offered.is_empty() { vec![Family::IPV4_UNICAST] } else { offered }
    }

    /// The graceful restart offered, if it is: of several the last counts (RFC 4724 §3).
    pub fn graceful_restart(&self) -> Option<&GracefulRestart> {
        self.capabilities.iter().rev().find_map(|capability| match capability {
            Capability::GracefulRestart(restart) => Some(restart),
            _ => None,
        })
    }

    /// Reads the body.
    pub(super) fn decode(mut reader: Reader<'_>) -> Result<Self, Error> {
        let short = |misread: Misread| Error::Open { offset: misread.offset, what: "the fixed part is cut off" };
        let version = reader.u8().map_err(short)?;
        if version != VERSION {
            return Err(Error::Version { version });
        }
        let offset = reader.offset();
        let my_as = reader.u16().map_err(short)?;
        if my_as == 0 {
            return Err(Error::AsZero { offset });
        }
        let hold_time = reader.u16().map_err(short)?;
        if hold_time == 1 || hold_time == 2 {
            return Err(Error::HoldTime { seconds: hold_time });
        }
        let router_id = RouterId::new(reader.array::<4>().map_err(short)?.into()).ok_or(Error::RouterIdZero)?;
        Ok(Self { my_as, hold_time, router_id, capabilities: decode_parameters(reader)? })
    }

    /// Appends the body: all capabilities in one parameter, in the extended encoding only where it is needed.
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u8(VERSION);
        out.put_u16(self.my_as);
        out.put_u16(self.hold_time);
        out.put_slice(&self.router_id.octets());
        let mut capabilities = BytesMut::new();
        for capability in &self.capabilities {
            capability.encode(&mut capabilities)?;
        }
        if capabilities.is_empty() {
            out.put_u8(0);
            return Ok(());
        }
        let value = |out: &mut BytesMut| {
            out.put_slice(&capabilities);
            Ok(())
        };
        if capabilities.len() + 2 <= usize::from(u8::MAX) {
            prefixed_u8(out, "optional parameters", |out| {
                out.put_u8(CAPABILITIES);
                prefixed_u8(out, "capabilities", value)
            })
        } else {
            out.put_u8(u8::MAX);
            out.put_u8(EXTENDED);
            prefixed_u16(out, "optional parameters", |out| {
                out.put_u8(CAPABILITIES);
                prefixed_u16(out, "capabilities", value)
            })
        }
    }
}

/// Reads everything from the parameters' length on. Which encoding it is, the first parameter's type tells; the one-octet
/// length is then without meaning, but not zero (RFC 9072 §2).
fn decode_parameters(mut reader: Reader<'_>) -> Result<Vec<Capability>, Error> {
    let lengths = |misread: Misread| Error::Open {
        offset: misread.offset,
        what: "the optional parameters end where the message ends",
    };
    let offset = reader.offset();
    let mut len = usize::from(reader.u8().map_err(lengths)?);
    let mut width = LengthWidth::One;
    if len != 0 && reader.rest().first() == Some(&EXTENDED) {
        reader.u8().map_err(lengths)?;
        len = reader.u16().map_err(lengths)?.into();
        width = LengthWidth::Two;
    }
    if len != reader.left() {
        return Err(Error::Open { offset, what: "the optional parameters end where the message ends" });
    }
    let mut capabilities = Vec::new();
    while !reader.is_empty() {
        let offset = reader.offset();
        let code = reader.u8().map_err(lengths)?;
        if code != CAPABILITIES {
            return Err(Error::OptionalParameter { offset, code });
        }
        let len = match width {
            LengthWidth::One => reader.u8().map(usize::from),
            LengthWidth::Two => reader.u16().map(usize::from),
        };
        let mut value = reader.sub(len.map_err(lengths)?).map_err(lengths)?;
        while !value.is_empty() {
            capabilities.push(Capability::decode(&mut value)?);
        }
    }
    Ok(capabilities)
}

#[cfg(test)]
mod tests {
    use super::*;
    /// Version 4, AS 65001, hold time 90, id 10.0.0.1; parameters follow.
    const FIXED: [u8; 9] = [4, 0xfd, 0xe9, 0, 90, 10, 0, 0, 1];

    fn decode(parameters: &[u8]) -> Result<Open, Error> {
        let mut octets = FIXED.to_vec();
        octets.extend(parameters);
        Open::decode(Reader::new(&octets))
    }

    fn changed(at: usize, to: &[u8]) -> Result<Open, Error> {
        let mut octets = FIXED.to_vec();
        octets.push(0);
        octets[at..at + to.len()].copy_from_slice(to);
        Open::decode(Reader::new(&octets))
    }

    fn open(capabilities: Vec<Capability>) -> Open {
        Open { my_as: 65_001, hold_time: 90, router_id: RouterId::new([10, 0, 0, 1].into()).unwrap(), capabilities }
    }

    fn encode(open: &Open) -> Vec<u8> {
        let mut out = BytesMut::new();
        open.encode(&mut out).unwrap();
        out.to_vec()
    }

    #[test]
    fn golden_octets_both_ways() {
        let wanted = open(vec![Capability::Multiprotocol(Family::IPV4_UNICAST), Capability::FourOctetAs(Asn(65_001))]);
        let parameters = [14, 2, 12, 1, 4, 0, 1, 0, 1, 65, 4, 0, 0, 0xfd, 0xe9];
        assert_eq!(decode(&parameters).as_ref(), Ok(&wanted));
        assert_eq!(encode(&wanted), [&FIXED[..], &parameters].concat());
        assert_eq!(decode(&[0]), Ok(open(vec![])));
        assert_eq!(encode(&open(vec![])), [&FIXED[..], &[0]].concat());
    }

    #[test]
    fn capabilities_may_come_in_many_parameters() {
        let parameters = [8, 2, 2, 2, 0, 2, 2, 70, 0];
        assert_eq!(decode(&parameters), Ok(open(vec![Capability::RouteRefresh, Capability::EnhancedRouteRefresh])));
        assert_eq!(decode(&[2, 2, 0]), Ok(open(vec![])), "an empty parameter is none the worse");
    }

    #[test]
    fn the_extended_encoding_is_read_for_short_lists_too() {
        for one_octet_length in [1, 7, 255] {
            let parameters = [one_octet_length, 255, 0, 5, 2, 0, 2, 2, 0];
            assert_eq!(decode(&parameters), Ok(open(vec![Capability::RouteRefresh])));
        }
        assert_eq!(decode(&[255, 255, 0, 0]), Ok(open(vec![])));
    }

    #[test]
    fn the_extended_encoding_is_written_only_when_needed() {
        let with = |len: usize| open(vec![Capability::Unknown { code: 99, data: vec![1; len].into() }]);
        assert_eq!(encode(&with(251))[9..12], [255, 2, 253]);
        assert_eq!(encode(&with(252))[9..16], [255, 255, 1, 1, 2, 0, 254]);
        for len in [251, 252, 255] {
            assert_eq!(Open::decode(Reader::new(&encode(&with(len)))), Ok(with(len)));
        }
    }

    #[test]
    fn version_3_is_refused() {
        assert_eq!(changed(0, &[3]), Err(Error::Version { version: 3 }));
    }

    #[test]
    fn as_zero_is_refused() {
        assert_eq!(changed(1, &[0, 0]), Err(Error::AsZero { offset: 1 }));
    }

    #[test]
    fn hold_times_of_one_and_two_are_refused() {
        for seconds in [1, 2] {
            assert_eq!(changed(3, &[0, seconds]), Err(Error::HoldTime { seconds: seconds.into() }));
        }
        assert_eq!(changed(3, &[0, 0]).unwrap().hold_time, 0);
        assert_eq!(changed(3, &[0, 3]).unwrap().hold_time, 3);
    }

    #[test]
    fn identifier_zero_is_refused() {
        assert_eq!(changed(5, &[0, 0, 0, 0]), Err(Error::RouterIdZero));
        assert!(changed(5, &[0, 0, 0, 1]).is_ok(), "RFC 6286: not only unicast addresses");
    }

    #[test]
    fn unknown_parameters_are_refused() {
        assert_eq!(decode(&[2, 1, 0]), Err(Error::OptionalParameter { offset: 10, code: 1 }));
        let second = decode(&[4, 2, 0, 255, 0]);
        assert_eq!(second, Err(Error::OptionalParameter { offset: 12, code: 255 }), "255 means nothing elsewhere");
        let inside = decode(&[255, 255, 0, 3, 255, 0, 0]);
        assert_eq!(inside, Err(Error::OptionalParameter { offset: 13, code: 255 }));
    }

    #[test]
    fn lengths_that_contradict_each_other_are_malformed() {
        for parameters in [
            &[][..],
            &[1],
            &[1, 2],
            &[0, 2, 0],
            &[3, 2, 0],
            &[2, 2, 1],
            &[3, 2, 1, 2],
            &[5, 2, 2, 2, 1, 0],
            &[255, 255],
            &[255, 255, 0],
            &[255, 255, 0, 1],
            &[255, 255, 0, 2, 2, 0],
            &[255, 255, 0, 3, 2, 0, 1],
            &[0, 255, 0, 0],
        ] {
            assert!(matches!(decode(parameters), Err(Error::Open { .. })), "{parameters:?}: {:?}", decode(parameters));
        }
    }

    #[test]
    fn what_the_sender_is() {
        let old = open(vec![]);
        assert_eq!((old.asn(), old.families()), (Asn(65_001), vec![Family::IPV4_UNICAST]));
        let new =
            open(vec![Capability::FourOctetAs(Asn(4_200_000_000)), Capability::Multiprotocol(Family::IPV6_UNICAST)]);
        assert_eq!((new.asn(), new.families()), (Asn(4_200_000_000), vec![Family::IPV6_UNICAST]));
        let restart = |restart_time| GracefulRestart { restart_time, ..GracefulRestart::default() };
        let twice = open([1, 2].map(restart).map(Capability::GracefulRestart).into());
        assert_eq!((old.graceful_restart(), twice.graceful_restart()), (None, Some(&restart(2))));
    }
}
