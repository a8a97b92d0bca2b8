//! The message header (RFC 4271 §4.1) and the cutting of a byte stream into messages.

use super::{Context, Error};
use bytes::{Bytes, BytesMut};

/// Octets of the header: marker 16, length 2, type 1.
pub const HEADER_LEN: usize = 19;

/// Takes one whole message from the front of `stream`, header included, or `None` if more octets are needed.
///
/// # Errors
/// Marker, length and type as RFC 4271 §6.1 has them, checked as soon as the header is there.
pub fn frame(stream: &mut BytesMut, context: &Context) -> Result<Option<Bytes>, Error> {
    let _ = (stream, context);
    todo!()
}
