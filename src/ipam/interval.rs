//! A set of numbers as the spans it is made of: taking, giving back and finding the lowest cost O(log spans), however many
//! numbers a span holds.

use std::collections::BTreeMap;

/// Disjoint inclusive spans that do not touch each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IntervalSet {
    spans: BTreeMap<u128, u128>,
    /// How many numbers; wraps to 0 for the set of all 2^128.
    count: u128,
}

impl IntervalSet {
    /// The lowest number.
    pub fn first(&self) -> Option<u128> {
        self.spans.first_key_value().map(|(first, _)| *first)
    }

    /// How many numbers are in the set.
    pub fn len(&self) -> u128 {
        self.count
    }

    /// Whether no number is.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Whether `number` is in the set.
    pub fn contains(&self, number: u128) -> bool {
        self.spans.range(..=number).next_back().is_some_and(|(_, last)| *last >= number)
    }

    /// The spans, ascending.
    pub fn spans(&self) -> impl Iterator<Item = (u128, u128)> + '_ {
        self.spans.iter().map(|(first, last)| (*first, *last))
    }

    /// Adds `first..=last`; nothing where the span ends before it begins.
    pub fn insert(&mut self, first: u128, last: u128) {
        if last < first {
            return;
        }
        let (mut low, mut high) = (first, last);
        if let Some((&before, &end)) = self.spans.range(..first).next_back()
            && end >= first - 1
        {
            self.take_span(before, end);
            low = before;
            high = high.max(end);
        }
        while let Some((&next, &end)) = self.spans.range(first..).next()
            && next <= last.saturating_add(1)
        {
            self.take_span(next, end);
            high = high.max(end);
        }
        self.put_span(low, high);
    }

    /// Takes away `first..=last`; nothing where the span ends before it begins.
    pub fn remove(&mut self, first: u128, last: u128) {
        if last < first {
            return;
        }
        if let Some((&before, &end)) = self.spans.range(..first).next_back()
            && end >= first
        {
            self.take_span(before, end);
            self.put_span(before, first - 1);
            if end > last {
                self.put_span(last + 1, end);
            }
        }
        while let Some((&next, &end)) = self.spans.range(first..=last).next() {
            self.take_span(next, end);
            if end > last {
                self.put_span(last + 1, end);
            }
        }
    }

    fn take_span(&mut self, first: u128, last: u128) {
        self.spans.remove(&first);
        self.count = self.count.wrapping_sub((last - first).wrapping_add(1));
    }

    fn put_span(&mut self, first: u128, last: u128) {
        self.spans.insert(first, last);
        self.count = self.count.wrapping_add((last - first).wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_ends_of_the_number_line_are_numbers_too() {
        let mut set = IntervalSet::default();
        set.insert(u128::MAX, u128::MAX);
        set.insert(0, 0);
        assert_eq!(set.len(), 2);
        set.insert(1, u128::MAX - 1);
        assert_eq!(set.spans().collect::<Vec<_>>(), [(0, u128::MAX)]);
        set.remove(0, 0);
        set.remove(u128::MAX, u128::MAX);
        assert_eq!(set.spans().collect::<Vec<_>>(), [(1, u128::MAX - 1)]);
        assert_eq!(set.len(), u128::MAX - 1);
        set.remove(0, u128::MAX);
        assert!(set.is_empty());
        assert_eq!((set.len(), set.first()), (0, None));
        set.insert(5, 4);
        assert!(set.is_empty());
    }

    proptest! {
        #[test]
        fn it_is_the_set_it_says(steps in prop::collection::vec((any::<bool>(), 0u8..40, 0u8..40), 0..40)) {
            let (mut set, mut model) = (IntervalSet::default(), BTreeSet::new());
            for (insert, first, last) in steps {
                let (low, high) = (u128::from(first), u128::from(last));
                if insert {
                    set.insert(low, high);
                    model.extend(low..=high);
                } else {
                    set.remove(low, high);
                    model.retain(|n| *n < low || *n > high);
                }
                let spans: Vec<_> = set.spans().collect();
                prop_assert!(spans.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "spans touch: {spans:?}");
                prop_assert_eq!(spans.iter().flat_map(|(a, b)| *a..=*b).collect::<BTreeSet<_>>(), model.clone());
                prop_assert_eq!(set.len(), model.len() as u128);
                prop_assert_eq!(set.first(), model.first().copied());
                prop_assert!((0..40).all(|n| set.contains(n) == model.contains(&n)));
            }
        }
    }
}
