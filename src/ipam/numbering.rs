//! How the addresses that a pool gives are counted through.
//!
//! A pool that keeps `.0` and `.255` out has holes at every 256th address. Cutting a range at each of them would make as many
//! spans as there are /24s, so such a pool counts through its addresses with the holes left out: the order stays, and a
//! range of any size stays one span.

/// A way to count through addresses: addresses in order become numbers in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numbering {
    /// Every address counts.
    #[default]
    All,
    /// Addresses whose last octet is 0 or 255 do not count.
    WithoutEdges,
}

impl Numbering {
    /// The place of an address, given as a number; none if it is not counted.
    pub fn place(self, number: u128) -> Option<u128> {
        match (self, number & 0xff) {
            (Self::All, _) => Some(number),
            (Self::WithoutEdges, 0 | 255) => None,
            (Self::WithoutEdges, last) => Some((number >> 8) * 254 + last - 1),
        }
    }

    /// The address at a place.
    pub fn number(self, place: u128) -> u128 {
        match self {
            Self::All => place,
            Self::WithoutEdges => ((place / 254) << 8) + place % 254 + 1,
        }
    }

    /// The places of `first..=last`; none if no address in it counts.
    pub fn span(self, first: u128, last: u128) -> Option<(u128, u128)> {
        let up = match (self, first & 0xff) {
            (Self::WithoutEdges, 0) => first.checked_add(1)?,
            (Self::WithoutEdges, 255) => first.checked_add(2)?,
            (Self::All | Self::WithoutEdges, _) => first,
        };
        let down = match (self, last & 0xff) {
            (Self::WithoutEdges, 0) => last.checked_sub(2)?,
            (Self::WithoutEdges, 255) => last - 1,
            (Self::All | Self::WithoutEdges, _) => last,
        };
        (up <= down).then_some((self.place(up)?, self.place(down)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_keep_the_order_and_leave_the_edges_out() {
        let counted: Vec<u128> = (0..=1024).filter(|n| !matches!(n & 0xff, 0 | 255)).collect();
        let places: Vec<u128> = (0..=1024).filter_map(|n| Numbering::WithoutEdges.place(n)).collect();
        assert_eq!(places, (0..counted.len() as u128).collect::<Vec<_>>());
        assert!(
            counted
                .iter()
                .all(|n| Numbering::WithoutEdges.place(*n).map(|p| Numbering::WithoutEdges.number(p)) == Some(*n))
        );
    }

    #[test]
    fn a_span_holds_the_counted_addresses_of_its_range() {
        for first in 250..520u128 {
            for last in first..520 {
                let counted = (first..=last).filter(|n| !matches!(n & 0xff, 0 | 255)).count() as u128;
                let span = Numbering::WithoutEdges.span(first, last);
                assert_eq!(span.map_or(0, |(low, high)| high - low + 1), counted, "{first}..={last}");
                assert_eq!(Numbering::All.span(first, last), Some((first, last)));
            }
        }
        assert_eq!(Numbering::WithoutEdges.span(0, 0), None);
        assert_eq!(Numbering::WithoutEdges.span(u128::MAX, u128::MAX), None);
    }
}
