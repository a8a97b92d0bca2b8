//! Why octets are no message, and what the peer is told: one total map from cause to NOTIFICATION. And why a value cannot
//! be written as octets.

use super::fault::{Named, Reason};
use super::{Family, Notification, Prefix};
use bytes::Bytes;
use std::net::IpAddr;

/// An error that ends the session. `Display` is for people, with the offset in the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first sixteen octets are not all ones (RFC 4271 §6.1).
    #[error("octet {offset} of the header is not 0xff: the stream is out of step or this is not BGP")]
    Marker {
        /// The first wrong octet.
        offset: usize,
    },
    /// The length field is impossible, in general or for the type of message.
    #[error("octet 16: a message of type {kind} cannot be {len} octets long here")]
    Length {
        /// The length field.
        len: u16,
        /// The type octet.
        kind: u8,
    },
    /// No type that we know.
    #[error("octet 18: unknown message type {kind}")]
    Type {
        /// The type octet.
        kind: u8,
    },
    /// Not version 4.
    #[error("octet 19: the peer speaks BGP version {version}, only 4 is spoken here")]
    Version {
        /// What the peer offered.
        version: u8,
    },
    /// AS number 0, in the OPEN itself or in capability 65 (RFC 7607 §2).
    #[error("octet {offset}: the peer calls itself AS 0")]
    AsZero {
        /// Where the number stands.
        offset: usize,
    },
    /// A hold time of one or two seconds.
    #[error("octet 22: a hold time of {seconds} s is forbidden: it must be 0 or at least 3")]
    HoldTime {
        /// What the peer proposed.
        seconds: u16,
    },
    /// BGP Identifier 0.0.0.0 (RFC 6286 §2.1).
    #[error("octet 24: the BGP Identifier is 0.0.0.0")]
    RouterIdZero,
    /// An optional parameter other than Capabilities.
    #[error("octet {offset}: unknown optional parameter {code} in OPEN")]
    OptionalParameter {
        /// Where it begins.
        offset: usize,
        /// Its type.
        code: u8,
    },
    /// An OPEN whose lengths contradict each other.
    #[error("octet {offset}: malformed OPEN: {what}")]
    Open {
        /// Where it stops making sense.
        offset: usize,
        /// What was expected.
        what: &'static str,
    },
    /// The two lengths in an UPDATE exceed the message.
    #[error("octet {offset}: {field} exceeds the UPDATE")]
    UpdateLengths {
        /// Where the length field stands.
        offset: usize,
        /// Which of the two.
        field: &'static str,
    },
    /// A prefix in the body that is too long or cut off (RFC 7606 §5.3).
    #[error("octet {offset}: {what} in {field}")]
    Network {
        /// Where the prefix begins.
        offset: usize,
        /// What is wrong.
        what: &'static str,
        /// Withdrawn Routes or NLRI.
        field: &'static str,
    },
    /// MP_REACH_NLRI or MP_UNREACH_NLRI from which no prefixes can be read with certainty (RFC 7606 §5.3, §7.11).
    #[error("octet {offset}: malformed {}: {what}", Named(*code))]
    Multiprotocol {
        /// Where it stops making sense.
        offset: usize,
        /// 14 or 15.
        code: u8,
        /// What is wrong.
        what: &'static str,
        /// The attribute as it came.
        octets: Bytes,
    },
    /// MP_REACH_NLRI or MP_UNREACH_NLRI twice (RFC 7606 §3 g).
    #[error("octet {offset}: a second {} in one UPDATE", Named(*code))]
    MultiprotocolRepeated {
        /// Where the second begins.
        offset: usize,
        /// 14 or 15.
        code: u8,
    },
    /// A fault that would withdraw routes in a message that names no route (RFC 7606 §5.2).
    #[error("octet {offset}: malformed {}: {reason}; the UPDATE announces no route that could be withdrawn instead", Named(*code))]
    NothingToWithdraw {
        /// Where the attribute begins.
        offset: usize,
        /// Its type code.
        code: u8,
        /// What is wrong with it.
        reason: Reason,
        /// The attribute as it came.
        octets: Bytes,
    },
    /// A ROUTE-REFRESH marker of RFC 7313 that is not 23 octets long.
    #[error("octet 16: a ROUTE-REFRESH of subtype {subtype} is {} octets long instead of 23", message.len())]
    RefreshLength {
        /// 1 or 2.
        subtype: u8,
        /// The whole message.
        message: Bytes,
    },
}

impl Error {
    /// A short name for counting; of a fault that resets for lack of a route, the fault's own.
    pub fn cause(&self) -> &'static str {
        match self {
            Error::Marker { .. } => "header-marker",
            Error::Length { .. } => "header-length",
            Error::Type { .. } => "header-type",
            Error::Version { .. } => "open-version",
            Error::AsZero { .. } => "open-as-zero",
            Error::HoldTime { .. } => "open-hold-time",
            Error::RouterIdZero => "open-router-id",
            Error::OptionalParameter { .. } => "open-optional-parameter",
            Error::Open { .. } => "open-lengths",
            Error::UpdateLengths { .. } => "update-lengths",
            Error::Network { .. } => "update-prefix",
            Error::Multiprotocol { .. } => "multiprotocol",
            Error::MultiprotocolRepeated { .. } => "multiprotocol-repeated",
            Error::NothingToWithdraw { reason, .. } => reason.cause(),
            Error::RefreshLength { .. } => "refresh-length",
        }
    }

    /// What the peer is told (RFC 4271 §6.1–§6.3).
    pub fn notification(&self) -> Notification {
        let (code, subcode, data): (u8, u8, Bytes) = match self {
            Error::Marker { .. } => (1, 1, Bytes::new()),
            Error::Length { len, .. } => (1, 2, copied(&len.to_be_bytes())),
            Error::Type { kind } => (1, 3, copied(&[*kind])),
            Error::Version { .. } => (2, 1, copied(&[0, 4])),
            Error::AsZero { .. } => (2, 2, Bytes::new()),
            Error::RouterIdZero => (2, 3, Bytes::new()),
            Error::OptionalParameter { .. } => (2, 4, Bytes::new()),
            Error::HoldTime { .. } => (2, 6, Bytes::new()),
            Error::Open { .. } => (2, 0, Bytes::new()),
            Error::UpdateLengths { .. } | Error::MultiprotocolRepeated { .. } => (3, 1, Bytes::new()),
            Error::Network { .. } => (3, 10, Bytes::new()),
            Error::Multiprotocol { octets, .. } => (3, 9, octets.clone()),
            Error::NothingToWithdraw { reason, octets, code, .. } => {
                (3, reason.subcode(), told(*reason, *code, octets))
            }
            Error::RefreshLength { message, .. } => (7, 1, message.clone()),
        };
        Notification { code, subcode, data }
    }
}

/// The data that RFC 4271 §6.3 wants for a faulty attribute: nothing for a broken list, the type of a missing one, else
/// the attribute itself.
fn told(reason: Reason, code: u8, octets: &Bytes) -> Bytes {
    match reason {
        Reason::ListBroken
        | Reason::Repeated
        | Reason::SegmentType
        | Reason::SegmentEmpty
        | Reason::SegmentLength
        | Reason::AsZero
        | Reason::AsSet
        | Reason::ConfedSegment
        | Reason::FirstAs => Bytes::new(),
        Reason::Missing => copied(&[code]),
        Reason::Flags
        | Reason::Length
        | Reason::UnrecognizedWellKnown
        | Reason::OriginUndefined
        | Reason::NotFromExternal
        | Reason::NotFromFourOctetSpeaker => octets.clone(),
    }
}

fn copied(octets: &[u8]) -> Bytes {
    Bytes::copy_from_slice(octets)
}

/// Why a value cannot be written as octets. Nothing of it is left in the buffer then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Longer than the session allows.
    #[error("the message would be {len} octets long, the session allows {max_len}")]
    MessageTooLong {
        /// Octets with the header.
        len: usize,
        /// The limit.
        max_len: usize,
    },
    /// Longer than its length field can say.
    #[error("{field} would be {len} octets long, its length field allows {max}")]
    FieldTooLong {
        /// Which field.
        field: &'static str,
        /// Octets it would take.
        len: usize,
        /// The most that can be said.
        max: usize,
    },
    /// The attributes fill the message: not one prefix fits beside them.
    #[error(
        "attributes of {attributes} octets leave no room for {prefix} in a message of {max_len}; send fewer communities"
    )]
    NoRoom {
        /// Octets of the attributes.
        attributes: usize,
        /// The prefix that did not fit.
        prefix: Prefix,
        /// The limit.
        max_len: usize,
    },
    /// The session does not carry this family.
    #[error("{0} is not negotiated on this session")]
    FamilyNotNegotiated(Family),
    /// A prefix of one family in a list of another.
    #[error("{prefix} is not of family {family}")]
    FamilyMismatch {
        /// The stranger.
        prefix: Prefix,
        /// The family of the list.
        family: Family,
    },
    /// IPv6 prefixes cannot have an IPv4 next hop.
    #[error("{next_hop} cannot be the next hop of {family} prefixes")]
    NextHop {
        /// The family of the prefixes.
        family: Family,
        /// What was given.
        next_hop: IpAddr,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told_as(error: &Error) -> (u8, u8, Vec<u8>) {
        let Notification { code, subcode, data } = error.notification();
        (code, subcode, data.to_vec())
    }

    #[test]
    fn header_errors_carry_the_field_that_was_wrong() {
        assert_eq!(told_as(&Error::Marker { offset: 3 }), (1, 1, vec![]));
        assert_eq!(told_as(&Error::Length { len: 4097, kind: 2 }), (1, 2, vec![0x10, 0x01]));
        assert_eq!(told_as(&Error::Type { kind: 6 }), (1, 3, vec![6]));
    }

    #[test]
    fn open_errors() {
        assert_eq!(told_as(&Error::Version { version: 3 }), (2, 1, vec![0, 4]));
        assert_eq!(told_as(&Error::AsZero { offset: 20 }), (2, 2, vec![]));
        assert_eq!(told_as(&Error::RouterIdZero), (2, 3, vec![]));
        assert_eq!(told_as(&Error::OptionalParameter { offset: 29, code: 1 }), (2, 4, vec![]));
        assert_eq!(told_as(&Error::HoldTime { seconds: 2 }), (2, 6, vec![]));
        assert_eq!(told_as(&Error::Open { offset: 29, what: "" }), (2, 0, vec![]));
    }

    #[test]
    fn a_reset_for_lack_of_routes_names_the_original_fault() {
        let error = |reason| Error::NothingToWithdraw {
            offset: 23,
            code: 1,
            reason,
            octets: Bytes::from_static(&[0x40, 1, 1, 9]),
        };
        assert_eq!(told_as(&error(Reason::OriginUndefined)), (3, 6, vec![0x40, 1, 1, 9]));
        assert_eq!(told_as(&error(Reason::Missing)), (3, 3, vec![1]));
        assert_eq!(told_as(&error(Reason::ListBroken)), (3, 1, vec![]));
        assert_eq!(told_as(&error(Reason::AsZero)), (3, 11, vec![]));
        assert!(error(Reason::Flags).to_string().starts_with("octet 23: malformed ORIGIN: "));
    }

    #[test]
    fn a_refresh_error_returns_the_whole_message() {
        let message = Bytes::from_static(&[0xff; 24]);
        assert_eq!(told_as(&Error::RefreshLength { subtype: 1, message }), (7, 1, vec![0xff; 24]));
    }
}
