//! Writing with lengths that are checked: a length field is filled in after what it counts, and only if it fits.

use super::error::EncodeError;
use bytes::{BufMut, BytesMut};

/// Appends a one-octet length and whatever `body` writes.
///
/// # Errors
/// [`EncodeError::FieldTooLong`] above 255 octets, or what `body` says.
pub fn prefixed_u8(
    out: &mut BytesMut,
    field: &'static str,
    body: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let at = out.len();
    out.put_u8(0);
    body(out)?;
    let len = out.len() - at - 1;
    out[at] = u8::try_from(len).map_err(|_| EncodeError::FieldTooLong { field, len, max: usize::from(u8::MAX) })?;
    Ok(())
}

/// Appends a two-octet length and whatever `body` writes.
///
/// # Errors
/// [`EncodeError::FieldTooLong`] above 65,535 octets, or what `body` says.
pub fn prefixed_u16(
    out: &mut BytesMut,
    field: &'static str,
    body: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let at = out.len();
    out.put_u16(0);
    body(out)?;
    let len = out.len() - at - 2;
    let fitting =
        u16::try_from(len).map_err(|_| EncodeError::FieldTooLong { field, len, max: usize::from(u16::MAX) })?;
    out[at..at + 2].copy_from_slice(&fitting.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(count: usize) -> impl FnOnce(&mut BytesMut) -> Result<(), EncodeError> {
        move |out| {
            out.put_bytes(7, count);
            Ok(())
        }
    }

    #[test]
    fn lengths_count_what_follows_them() {
        let mut out = BytesMut::from(&[1][..]);
        prefixed_u8(&mut out, "inner", octets(2)).unwrap();
        prefixed_u16(&mut out, "outer", |out| prefixed_u8(out, "inner", octets(1))).unwrap();
        assert_eq!(out[..], [1, 2, 7, 7, 0, 2, 1, 7]);
    }

    #[test]
    fn what_does_not_fit_its_length_field_is_an_error() {
        let mut out = BytesMut::new();
        assert_eq!(prefixed_u8(&mut out, "text", octets(255)), Ok(()));
        assert_eq!(
            prefixed_u8(&mut out, "text", octets(256)),
            Err(EncodeError::FieldTooLong { field: "text", len: 256, max: 255 })
        );
        assert_eq!(prefixed_u16(&mut out, "list", octets(65_535)), Ok(()));
        assert!(prefixed_u16(&mut out, "list", octets(65_536)).is_err());
    }
}
