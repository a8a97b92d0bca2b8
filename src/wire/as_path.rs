//! AS_PATH (RFC 4271 §4.3, §5.1.2).
//!
//! ```text
//! | segment type | how many | numbers of 2 or 4 octets … | next segment …
//! ```

use super::error::EncodeError;
use super::fault::Reason;
use super::parse::Reader;
use super::{AsWidth, Asn};
use bytes::{BufMut, BytesMut};
use std::fmt;

/// A path as a list of segments. Ours are empty (iBGP) or one sequence (eBGP); whatever a peer sends is kept as it came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AsPath {
    /// In wire order.
    pub segments: Vec<Segment>,
}

/// One path segment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    /// Set or sequence, plain or confederation.
    pub kind: SegmentKind,
    /// 1 to 255 numbers.
    pub asns: Vec<Asn>,
}

/// Segment types (RFC 4271 §4.3, RFC 5065 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SegmentKind {
    /// AS_SET, 1: unordered. Never sent (RFC 9774 §3).
    Set,
    /// AS_SEQUENCE, 2.
    Sequence,
    /// AS_CONFED_SEQUENCE, 3.
    ConfedSequence,
    /// AS_CONFED_SET, 4.
    ConfedSet,
}

/// How many numbers a segment can count.
const SEGMENT_MAX: usize = 255;

impl SegmentKind {
    fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            1 => Some(SegmentKind::Set),
            2 => Some(SegmentKind::Sequence),
            3 => Some(SegmentKind::ConfedSequence),
            4 => Some(SegmentKind::ConfedSet),
            _ => None,
        }
    }

    fn octet(self) -> u8 {
        match self {
            SegmentKind::Set => 1,
            SegmentKind::Sequence => 2,
            SegmentKind::ConfedSequence => 3,
            SegmentKind::ConfedSet => 4,
        }
    }
}

impl Segment {
    fn length(&self) -> usize {
        match self.kind {
            SegmentKind::Sequence => self.asns.len(),
            SegmentKind::Set => 1,
            SegmentKind::ConfedSequence | SegmentKind::ConfedSet => 0,
        }
    }
}

impl AsPath {
    /// One AS_SEQUENCE of the given numbers, more where they are above 255; no segment at all for none.
    pub fn sequence(asns: impl IntoIterator<Item = Asn>) -> Self {
        let asns: Vec<_> = asns.into_iter().collect();
        let segment = |asns: &[Asn]| Segment { kind: SegmentKind::Sequence, asns: asns.to_vec() };
        Self { segments: asns.chunks(SEGMENT_MAX).map(segment).collect() }
    }

    /// All numbers in wire order, whatever segment they are in.
    pub fn asns(&self) -> impl Iterator<Item = Asn> {
        self.segments.iter().flat_map(|segment| segment.asns.iter().copied())
    }

    /// This path with `asn` in front `times` times (RFC 4271 §5.1.2); a first sequence is filled up to 255 numbers.
    pub fn prepended(&self, asn: Asn, times: usize) -> Self {
        let mut asns = vec![asn; times];
        let mut rest = &self.segments[..];
        if let Some((Segment { kind: SegmentKind::Sequence, asns: first }, others)) = rest.split_first() {
            asns.extend(first);
            rest = others;
        }
        let mut path = Self::sequence(asns);
        path.segments.extend_from_slice(rest);
        path
    }

    /// How many numbers it counts where paths are compared: a set is one (RFC 4271 §9.1.2.2), a confederation segment none
    /// (RFC 5065 §5.3).
    pub fn length(&self) -> usize {
        self.segments.iter().map(Segment::length).sum()
    }

    /// The whole path behind an AS_PATH of two-octet numbers and an AS4_PATH (RFC 6793 §4.2.3): as many numbers from the
    /// front of this one as `wide` lacks, and then `wide`; this one alone if it is the shorter.
    pub fn merged(&self, wide: &AsPath) -> Self {
        let Some(mut lacking) = self.length().checked_sub(wide.length()) else { return self.clone() };
        let mut segments = Vec::new();
        for segment in &self.segments {
            match segment.kind {
                // Reached only at the front or next to a segment that was taken whole.
                SegmentKind::ConfedSequence | SegmentKind::ConfedSet => {}
                SegmentKind::Sequence | SegmentKind::Set if lacking == 0 => break,
                SegmentKind::Sequence if segment.asns.len() > lacking => {
                    let asns = segment.asns[..lacking].to_vec();
                    segments.push(Segment { kind: SegmentKind::Sequence, asns });
                    break;
                }
                SegmentKind::Sequence | SegmentKind::Set => lacking -= segment.length(),
            }
            segments.push(segment.clone());
        }
        segments.extend_from_slice(&wide.segments);
        Self { segments }
    }

    /// This path without its confederation segments, which have no place in AS4_PATH (RFC 6793 §3).
    pub(super) fn unconfederated(&self) -> Self {
        let outside = |segment: &&Segment| match segment.kind {
            SegmentKind::Set | SegmentKind::Sequence => true,
            SegmentKind::ConfedSet | SegmentKind::ConfedSequence => false,
        };
        Self { segments: self.segments.iter().filter(outside).cloned().collect() }
    }

    /// The number that its first octets name: of the AS that sent it (RFC 4271 §6.3). None for an empty path, and where it
    /// does not begin with a sequence.
    pub fn first(&self) -> Option<Asn> {
        self.segments.first().filter(|segment| segment.kind == SegmentKind::Sequence)?.asns.first().copied()
    }

    /// What this path may not contain on any session of ours, if it does: AS 0 (RFC 7607 §2), sets (RFC 9774 §3),
    /// confederation segments (RFC 5065 §5).
    pub(super) fn objection(&self) -> Option<Reason> {
        if self.asns().any(|asn| asn == Asn(0)) {
            return Some(Reason::AsZero);
        }
        self.segments.iter().find_map(|segment| match segment.kind {
            SegmentKind::Sequence => None,
            SegmentKind::Set | SegmentKind::ConfedSet => Some(Reason::AsSet),
            SegmentKind::ConfedSequence => Some(Reason::ConfedSegment),
        })
    }

    /// Reads a path to the end of `reader`; what is malformed, RFC 7606 §7.2 lists.
    pub(super) fn decode(mut reader: Reader<'_>, width: AsWidth) -> Result<Self, Reason> {
        let cut = |_| Reason::SegmentLength;
        let mut segments = Vec::new();
        while !reader.is_empty() {
            let kind = SegmentKind::from_octet(reader.u8().map_err(cut)?).ok_or(Reason::SegmentType)?;
            let count = usize::from(reader.u8().map_err(cut)?);
            if count == 0 {
                return Err(Reason::SegmentEmpty);
            }
            let mut numbers = reader.sub(count * width.octets()).map_err(cut)?;
            let mut asns = Vec::with_capacity(count);
            while !numbers.is_empty() {
                asns.push(match width {
                    AsWidth::Two => Asn(numbers.u16().map_err(cut)?.into()),
                    AsWidth::Four => Asn(numbers.u32().map_err(cut)?),
                });
            }
            segments.push(Segment { kind, asns });
        }
        Ok(Self { segments })
    }

    /// Appends the path; in two octets AS_TRANS stands for what does not fit (RFC 6793 §4.2.2).
    pub(super) fn encode(&self, width: AsWidth, out: &mut BytesMut) -> Result<(), EncodeError> {
        for segment in &self.segments {
            let len = segment.asns.len();
            let count = u8::try_from(len).map_err(|_| EncodeError::FieldTooLong {
                field: "path segment",
                len,
                max: SEGMENT_MAX,
            })?;
            out.put_u8(segment.kind.octet());
            out.put_u8(count);
            for asn in &segment.asns {
                match width {
                    AsWidth::Two => out.put_u16(asn.two_octets()),
                    AsWidth::Four => out.put_u32(asn.0),
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for AsPath {
    /// Numbers separated by spaces; a set in braces, confederation segments in parentheses and brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.segments.iter().enumerate() {
            if at > 0 {
                f.write_str(" ")?;
            }
            let (open, separator, close) = match segment.kind {
                SegmentKind::Sequence => ("", " ", ""),
                SegmentKind::Set => ("{", ",", "}"),
                SegmentKind::ConfedSequence => ("(", " ", ")"),
                SegmentKind::ConfedSet => ("[", ",", "]"),
            };
            f.write_str(open)?;
            for (at, asn) in segment.asns.iter().enumerate() {
                write!(f, "{}{asn}", if at > 0 { separator } else { "" })?;
            }
            f.write_str(close)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(segments: &[(SegmentKind, &[u32])]) -> AsPath {
        let segment = |(kind, asns): &(SegmentKind, &[u32])| Segment {
            kind: *kind,
            asns: asns.iter().map(|number| Asn(*number)).collect(),
        };
        AsPath { segments: segments.iter().map(segment).collect() }
    }

    fn decode(octets: &[u8], width: AsWidth) -> Result<AsPath, Reason> {
        AsPath::decode(Reader::new(octets), width)
    }

    fn encode(path: &AsPath, width: AsWidth) -> Vec<u8> {
        let mut out = BytesMut::new();
        path.encode(width, &mut out).unwrap();
        out.to_vec()
    }

    #[test]
    fn golden_octets_both_ways() {
        let mixed = path(&[(SegmentKind::Sequence, &[64_512, 1]), (SegmentKind::Set, &[7])]);
        let two = [2, 2, 0xfc, 0, 0, 1, 1, 1, 0, 7];
        let four = [2, 2, 0, 0, 0xfc, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 7];
        assert_eq!((encode(&mixed, AsWidth::Two), encode(&mixed, AsWidth::Four)), (two.to_vec(), four.to_vec()));
        assert_eq!(decode(&two, AsWidth::Two).as_ref(), Ok(&mixed));
        assert_eq!(decode(&four, AsWidth::Four).as_ref(), Ok(&mixed));
        assert_eq!(decode(&[], AsWidth::Four), Ok(AsPath::default()));
    }

    #[test]
    fn a_number_too_large_for_two_octets_becomes_as_trans() {
        let large = AsPath::sequence([Asn(4_200_000_000)]);
        assert_eq!(encode(&large, AsWidth::Two), [2, 1, 0x5b, 0xa0]);
    }

    #[test]
    fn a_long_sequence_is_cut_into_segments() {
        let long = AsPath::sequence((1..=256).map(Asn));
        assert_eq!(long.segments.iter().map(|segment| segment.asns.len()).collect::<Vec<_>>(), [255, 1]);
        assert_eq!(decode(&encode(&long, AsWidth::Four), AsWidth::Four), Ok(long));
        assert_eq!(AsPath::sequence([]), AsPath::default());
    }

    #[test]
    fn a_segment_of_256_cannot_be_written() {
        let too_long = path(&[(SegmentKind::Sequence, &[1; 256])]);
        assert!(too_long.encode(AsWidth::Four, &mut BytesMut::new()).is_err());
    }

    #[test]
    fn malformed_segments_are_told_apart() {
        for (octets, reason) in [
            (&[5, 1, 0, 1][..], Reason::SegmentType),
            (&[0, 1, 0, 1], Reason::SegmentType),
            (&[2, 0], Reason::SegmentEmpty),
            (&[2, 2, 0, 1], Reason::SegmentLength),
            (&[2, 1, 0, 1, 2], Reason::SegmentLength),
            (&[2, 1, 0, 1, 0], Reason::SegmentType),
            (&[2, 1, 0], Reason::SegmentLength),
        ] {
            assert_eq!(decode(octets, AsWidth::Two), Err(reason), "{octets:?}");
        }
    }

    #[test]
    fn what_no_path_may_contain() {
        use SegmentKind::*;
        assert_eq!(path(&[(Sequence, &[1, 2])]).objection(), None);
        assert_eq!(path(&[(Sequence, &[1, 0])]).objection(), Some(Reason::AsZero));
        assert_eq!(path(&[(Sequence, &[1]), (Set, &[2])]).objection(), Some(Reason::AsSet));
        assert_eq!(path(&[(ConfedSet, &[2])]).objection(), Some(Reason::AsSet));
        assert_eq!(path(&[(ConfedSequence, &[2])]).objection(), Some(Reason::ConfedSegment));
    }

    #[test]
    fn paths_print_as_people_write_them() {
        use SegmentKind::*;
        assert_eq!(path(&[(Sequence, &[64_512, 1]), (Set, &[7, 8])]).to_string(), "64512 1 {7,8}");
        assert_eq!(path(&[(ConfedSequence, &[1, 2]), (ConfedSet, &[3])]).to_string(), "(1 2) [3]");
        assert_eq!(AsPath::default().to_string(), "");
    }

    #[test]
    fn prepending_fills_the_first_sequence() {
        let one = AsPath::sequence([Asn(7)]);
        assert_eq!(one.prepended(Asn(9), 2), AsPath::sequence([Asn(9), Asn(9), Asn(7)]));
        assert_eq!(AsPath::default().prepended(Asn(9), 1), AsPath::sequence([Asn(9)]));
        assert_eq!(one.prepended(Asn(9), 0), one);
        let long = AsPath::sequence(vec![Asn(7); 255]).prepended(Asn(9), 1);
        assert_eq!(long.segments.iter().map(|segment| segment.asns.len()).collect::<Vec<_>>(), [255, 1]);
        let set = path(&[(SegmentKind::Set, &[1, 2])]).prepended(Asn(9), 1);
        assert_eq!(set, path(&[(SegmentKind::Sequence, &[9]), (SegmentKind::Set, &[1, 2])]));
    }

    #[test]
    fn two_paths_become_one() {
        use SegmentKind::*;
        let wide = path(&[(Sequence, &[100_000, 3])]);
        let merged = |narrow: &[(SegmentKind, &[u32])]| path(narrow).merged(&wide);
        assert_eq!(merged(&[(Sequence, &[1, 2, 23_456, 3])]).to_string(), "1 2 100000 3");
        assert_eq!(merged(&[(Sequence, &[23_456, 3])]), wide);
        assert_eq!(merged(&[(Sequence, &[3])]), path(&[(Sequence, &[3])]), "a shorter AS_PATH stands alone");
        assert_eq!(merged(&[(Set, &[8, 9]), (Sequence, &[23_456, 3])]).to_string(), "{8,9} 100000 3");
        assert_eq!(merged(&[(Sequence, &[1]), (Sequence, &[2, 23_456, 3])]).to_string(), "1 2 100000 3");
        let leading = merged(&[(ConfedSequence, &[5]), (Sequence, &[23_456, 3])]);
        assert_eq!(leading.to_string(), "(5) 100000 3");
        let adjacent = merged(&[(Sequence, &[1]), (ConfedSet, &[5]), (Sequence, &[23_456, 3])]);
        assert_eq!(adjacent.to_string(), "1 [5] 100000 3");
        let behind = merged(&[(Sequence, &[1, 23_456, 3]), (ConfedSequence, &[5])]);
        assert_eq!(behind.to_string(), "1 100000 3", "it belongs to what AS4_PATH tells");
        assert_eq!(merged(&[(Sequence, &[1, 2, 3])]).length(), 3);
    }

    #[test]
    fn the_first_number() {
        use SegmentKind::*;
        assert_eq!(path(&[(Sequence, &[4, 5])]).first(), Some(Asn(4)));
        assert_eq!(path(&[(Set, &[4]), (Sequence, &[5])]).first(), None);
        assert_eq!(AsPath::default().first(), None);
    }
}
