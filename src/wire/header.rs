//! The message header (RFC 4271 §4.1) and the cutting of a byte stream into messages.
//!
//! ```text
//! 0                16        18     19
//! | marker: 16 × ff | length | type | body …
//! ```

use super::error::EncodeError;
use super::{Context, Error};
use bytes::{BufMut, Bytes, BytesMut};

/// Octets of the header: marker 16, length 2, type 1.
pub const HEADER_LEN: usize = 19;

/// The largest message without RFC 8654, and the largest OPEN and KEEPALIVE with it, in octets.
pub const BASE_MAX_LEN: usize = 4096;

/// The type octet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Open = 1,
    Update = 2,
    Notification = 3,
    Keepalive = 4,
    RouteRefresh = 5,
}

impl Kind {
    fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            1 => Some(Kind::Open),
            2 => Some(Kind::Update),
            3 => Some(Kind::Notification),
            4 => Some(Kind::Keepalive),
            5 => Some(Kind::RouteRefresh),
            _ => None,
        }
    }

    /// The shortest and the longest message of this type, header included. RFC 8654 §4 leaves OPEN and KEEPALIVE as they
    /// were.
    fn lengths(self, context: &Context) -> (usize, usize) {
        match self {
            Kind::Open => (29, BASE_MAX_LEN),
            Kind::Update => (23, context.max_len),
            Kind::Notification => (21, context.max_len),
            Kind::Keepalive => (HEADER_LEN, HEADER_LEN),
            Kind::RouteRefresh => (23, context.max_len),
        }
    }
}

/// Takes one whole message from the front of `stream`, header included, or `None` if more octets are needed.
///
/// # Errors
/// Marker, length and type as RFC 4271 §6.1 has them, checked as soon as the header is there; a wrong marker as soon as its
/// first wrong octet is there.
pub fn frame(stream: &mut BytesMut, context: &Context) -> Result<Option<Bytes>, Error> {
    check_marker(stream)?;
    if stream.len() < HEADER_LEN {
        return Ok(None);
    }
    let (_, len) = check(stream, context)?;
    Ok((stream.len() >= len).then(|| stream.split_to(len).freeze()))
}

/// The type of the message that begins with `octets`, and its length. `octets` holds at least the marker.
pub(super) fn check(octets: &[u8], context: &Context) -> Result<(Kind, usize), Error> {
    check_marker(octets)?;
    let Some(&[high, low, octet]) = octets.get(16..HEADER_LEN) else {
        return Err(Error::Length { len: u16::try_from(octets.len()).unwrap_or(0), kind: 0 });
    };
    let len = u16::from_be_bytes([high, low]);
    let refused = Err(Error::Length { len, kind: octet });
    if usize::from(len) < HEADER_LEN || usize::from(len) > context.max_len.max(BASE_MAX_LEN) {
        return refused;
    }
    let kind = Kind::from_octet(octet).ok_or(Error::Type { kind: octet })?;
    let (shortest, longest) = kind.lengths(context);
    if usize::from(len) < shortest || usize::from(len) > longest {
        return refused;
    }
    Ok((kind, usize::from(len)))
}

fn check_marker(octets: &[u8]) -> Result<(), Error> {
    match octets.iter().take(16).position(|octet| *octet != 0xff) {
        Some(offset) => Err(Error::Marker { offset }),
        None => Ok(()),
    }
}

/// Appends a message: header, whatever `body` writes, and the length filled in. On any error `out` is as it was.
pub(super) fn enclose(
    out: &mut BytesMut,
    kind: Kind,
    context: &Context,
    body: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.put_bytes(0xff, 16);
    out.put_u16(0);
    out.put_u8(kind as u8);
    let written = body(out).and_then(|()| {
        let len = out.len() - start;
        let (_, max_len) = kind.lengths(context);
        u16::try_from(len)
            .ok()
            .filter(|len| usize::from(*len) <= max_len)
            .ok_or(EncodeError::MessageTooLong { len, max_len })
    });
    match written {
        Ok(len) => {
            out[start + 16..start + 18].copy_from_slice(&len.to_be_bytes());
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(len: u16, kind: u8) -> BytesMut {
        let mut octets = BytesMut::from(&[0xff; 16][..]);
        octets.put_u16(len);
        octets.put_u8(kind);
        octets
    }

    fn extended() -> Context {
        Context { max_len: 65_535, ..Context::before_open() }
    }

    #[test]
    fn a_message_is_cut_only_when_it_is_whole() {
        let mut stream = BytesMut::new();
        let mut whole = header(23, 2);
        whole.put_u32(0);
        for octet in &whole[..22] {
            stream.put_u8(*octet);
            assert_eq!(frame(&mut stream, &Context::before_open()), Ok(None));
        }
        stream.put_slice(&[0, 0xff]);
        assert_eq!(frame(&mut stream, &Context::before_open()), Ok(Some(whole.freeze())));
        assert_eq!(stream[..], [0xff], "what follows stays");
    }

    #[test]
    fn a_wrong_marker_is_refused_at_its_first_wrong_octet() {
        let mut stream = BytesMut::from(&b"\xff\xffGET"[..]);
        assert_eq!(frame(&mut stream, &Context::before_open()), Err(Error::Marker { offset: 2 }));
    }

    #[test]
    fn the_marker_is_judged_before_length_and_type() {
        let mut octets = header(0, 0);
        octets[15] = 0;
        assert_eq!(frame(&mut octets, &Context::before_open()), Err(Error::Marker { offset: 15 }));
        assert_eq!(frame(&mut header(18, 9), &Context::before_open()), Err(Error::Length { len: 18, kind: 9 }));
        assert_eq!(frame(&mut header(19, 9), &Context::before_open()), Err(Error::Type { kind: 9 }));
        assert_eq!(frame(&mut header(19, 0), &Context::before_open()), Err(Error::Type { kind: 0 }));
    }

    #[test]
    fn each_type_has_its_lengths_judged_before_the_body_arrives() {
        let base = Context::before_open();
        for (len, kind) in [(28, 1), (4097, 1), (22, 2), (4097, 2), (20, 3), (20, 4), (18, 4), (22, 5), (65_535, 2)] {
            assert_eq!(frame(&mut header(len, kind), &base), Err(Error::Length { len, kind }));
        }
        for (len, kind) in [(29, 1), (4096, 1), (23, 2), (4096, 2), (21, 3), (23, 5)] {
            assert_eq!(frame(&mut header(len, kind), &base), Ok(None));
        }
    }

    #[test]
    fn extended_messages_do_not_extend_open_and_keepalive() {
        assert_eq!(frame(&mut header(65_535, 2), &extended()), Ok(None));
        assert_eq!(frame(&mut header(4097, 3), &extended()), Ok(None));
        assert_eq!(frame(&mut header(4097, 1), &extended()), Err(Error::Length { len: 4097, kind: 1 }));
        assert_eq!(frame(&mut header(4097, 4), &extended()), Err(Error::Length { len: 4097, kind: 4 }));
    }

    #[test]
    fn a_message_that_grew_too_long_leaves_nothing_behind() {
        let mut out = BytesMut::from(&[1, 2][..]);
        let result = enclose(&mut out, Kind::Update, &Context::before_open(), |out| {
            out.put_bytes(0, 4078);
            Ok(())
        });
        assert_eq!(result, Err(EncodeError::MessageTooLong { len: 4097, max_len: 4096 }));
        assert_eq!(out[..], [1, 2]);
    }
}
