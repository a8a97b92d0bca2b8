//! Bounded reading. This is the only file that names nom.
//!
//! A [`Reader`] walks one slice and knows where it stands in the whole message, so that every complaint can say at which
//! octet it arose. A child reader ([`Reader::sub`]) ends where its parent's length field said: it cannot overrun its frame.
//! Only nom's `complete` parsers are used: a message is whole before it is read, so "need more" is never an answer.

use nom::error::{ErrorKind, ParseError};
use nom::{IResult, Offset};

/// A read that the octets do not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misread {
    /// Where, in octets from the start of the message.
    pub offset: usize,
    /// What is the matter there.
    pub cause: Cause,
}

/// What a [`Misread`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The field needs more octets than are left.
    Short,
    /// The field ended and octets are left over.
    Trailing,
}

/// What nom hands back: the place where it stopped.
struct At<'a>(&'a [u8]);

impl<'a> ParseError<&'a [u8]> for At<'a> {
    fn from_error_kind(input: &'a [u8], _kind: ErrorKind) -> Self {
        Self(input)
    }

    fn append(_input: &'a [u8], _kind: ErrorKind, innermost: Self) -> Self {
        innermost
    }
}

/// A cursor over a part of one message.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    /// The whole message: what offsets are counted from.
    message: &'a [u8],
    /// What may still be read; always a part of `message`.
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of a whole message.
    pub fn new(message: &'a [u8]) -> Self {
        Self { message, rest: message }
    }

    /// Where the next octet stands in the message.
    pub fn offset(&self) -> usize {
        self.message.offset(self.rest)
    }

    /// How many octets are left.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// Whether everything is read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left, without reading it.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// One octet.
    pub fn u8(&mut self) -> Result<u8, Misread> {
        self.read(nom::number::complete::be_u8)
    }

    /// Two octets in network order.
    pub fn u16(&mut self) -> Result<u16, Misread> {
        self.read(nom::number::complete::be_u16)
    }

    /// Four octets in network order.
    pub fn u32(&mut self) -> Result<u32, Misread> {
        self.read(nom::number::complete::be_u32)
    }

    /// The next `count` octets.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Misread> {
        self.read(nom::bytes::complete::take(count))
    }

    /// The next `N` octets.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Misread> {
        self.take(N).map(|octets| octets.try_into().expect("take gave exactly N octets"))
    }

    /// A reader of the next `count` octets, which this one skips.
    pub fn sub(&mut self, count: usize) -> Result<Reader<'a>, Misread> {
        let rest = self.take(count)?;
        Ok(Reader { message: self.message, rest })
    }

    /// Confirms that nothing is left unread.
    pub fn finish(&self) -> Result<(), Misread> {
        if self.is_empty() { Ok(()) } else { Err(Misread { offset: self.offset(), cause: Cause::Trailing }) }
    }

    fn read<T>(&mut self, mut parser: impl FnMut(&'a [u8]) -> IResult<&'a [u8], T, At<'a>>) -> Result<T, Misread> {
        let stopped = match parser(self.rest) {
            Ok((rest, value)) => {
                self.rest = rest;
                return Ok(value);
            }
            Err(nom::Err::Error(at) | nom::Err::Failure(at)) => at.0,
            Err(nom::Err::Incomplete(_)) => self.rest,
        };
        Err(Misread { offset: self.message.offset(stopped), cause: Cause::Short })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_network_order() {
        let mut reader = Reader::new(&[1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u16(), Ok(0x0203));
        assert_eq!(reader.u32(), Ok(0x0405_0607));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn a_short_read_names_its_place_and_reads_nothing() {
        let mut reader = Reader::new(&[1, 2, 3]);
        reader.u16().unwrap();
        assert_eq!(reader.u16(), Err(Misread { offset: 2, cause: Cause::Short }));
        assert_eq!(reader.u8(), Ok(3));
        assert_eq!(reader.u8(), Err(Misread { offset: 3, cause: Cause::Short }));
    }

    #[test]
    fn a_child_ends_where_its_length_says() {
        let mut reader = Reader::new(&[9, 1, 2, 8]);
        reader.u8().unwrap();
        let mut child = reader.sub(2).unwrap();
        assert_eq!(child.u32(), Err(Misread { offset: 1, cause: Cause::Short }));
        assert_eq!(child.array::<2>(), Ok([1, 2]));
        assert_eq!(child.u8(), Err(Misread { offset: 3, cause: Cause::Short }));
        assert_eq!(reader.u8(), Ok(8));
        assert!(reader.sub(1).is_err());
    }

    #[test]
    fn what_is_left_unread_is_noticed() {
        let mut reader = Reader::new(&[1, 2]);
        reader.u8().unwrap();
        assert_eq!(reader.finish(), Err(Misread { offset: 1, cause: Cause::Trailing }));
        assert_eq!((reader.left(), reader.rest()), (1, &[2][..]));
    }
}
