//! AS_PATH (RFC 4271 §4.3, §5.1.2).

use super::Asn;

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

impl AsPath {
    /// One AS_SEQUENCE of the given numbers; no segment at all for none.
    pub fn sequence(asns: impl IntoIterator<Item = Asn>) -> Self {
        let asns: Vec<_> = asns.into_iter().collect();
        let segments = if asns.is_empty() { Vec::new() } else { vec![Segment { kind: SegmentKind::Sequence, asns }] };
        Self { segments }
    }
}
