//! Who waits for what. When something frees up, only those are tried again whom it can serve, the oldest first.

use super::family::Family;
use super::name::Rank;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

/// What somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// Other pools, nodes or quotas. Everybody stands here.
    Everyone,
    /// Another choice, because one that had not been written was taken back.
    Evicted,
    /// A free address of a pool.
    Pool(Arc<str>, Family),
    /// This address.
    Address(IpAddr),
    /// An address that services of this sharing key may join.
    Sharing(Arc<str>),
    /// Room in a namespace's quota.
    Quota(Arc<str>),
}

/// How far a queue has been tried.
#[derive(Debug, Clone)]
enum Cursor {
    Start,
    After(Rank),
}

/// The queues, and which of them have been stirred.
#[derive(Debug, Clone, Default)]
pub struct Waiting {
    queues: BTreeMap<Wait, BTreeSet<Rank>>,
    stirred: BTreeMap<Wait, Cursor>,
}

impl Waiting {
    /// Puts somebody into a queue.
    pub fn join(&mut self, wait: Wait, rank: Rank) {
        self.queues.entry(wait).or_default().insert(rank);
    }

    /// Takes somebody out of a queue.
    pub fn leave(&mut self, wait: &Wait, rank: &Rank) {
        if let Some(queue) = self.queues.get_mut(wait) {
            queue.remove(rank);
            if queue.is_empty() {
                self.queues.remove(wait);
            }
        }
    }

    /// Says that what they wait for may be there: the queue is tried from its start.
    pub fn stir(&mut self, wait: Wait) {
        self.stirred.insert(wait, Cursor::Start);
    }

    /// The oldest of all who are to be tried and have not been; queues that are not worth it (any more) are left alone.
    pub fn next(&mut self, worth: impl Fn(&Wait) -> bool) -> Option<Rank> {
        let mut oldest: Option<Rank> = None;
        let queues = &self.queues;
        self.stirred.retain(|wait, cursor| {
            let head = queues.get(wait).and_then(|queue| match cursor {
                Cursor::Start => queue.first(),
                Cursor::After(rank) => queue.range((Bound::Excluded(&*rank), Bound::Unbounded)).next(),
            });
            let Some(head) = head.filter(|_| worth(wait)) else { return false };
            if oldest.as_ref().is_none_or(|oldest| head < oldest) {
                oldest = Some(head.clone());
            }
            true
        });
        let oldest = oldest?;
        for (wait, cursor) in &mut self.stirred {
            let passed = match cursor {
                Cursor::Start => false,
                Cursor::After(rank) => *rank >= oldest,
            };
            if !passed && queues.get(wait).is_some_and(|queue| queue.contains(&oldest)) {
                *cursor = Cursor::After(oldest.clone());
            }
        }
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use super::super::name::ServiceName;
    use super::super::timestamp::Timestamp;

    fn rank(age: u64) -> Rank {
        let service = ServiceName { namespace: "n".into(), name: "a".into() };
        Rank { created: Timestamp::from_unix_millis(age), service, uid: age.to_string().as_str().into() }
    }

    #[test]
    fn queues_are_merged_by_age_and_nobody_is_tried_twice() {
        let mut waiting = Waiting::default();
        let (edge, lab) = (Wait::Pool("edge".into(), Family::V4), Wait::Pool("lab".into(), Family::V4));
        [1, 3, 5].into_iter().for_each(|age| waiting.join(edge.clone(), rank(age)));
        [2, 3, 4].into_iter().for_each(|age| waiting.join(lab.clone(), rank(age)));
        waiting.stir(edge.clone());
        waiting.stir(lab.clone());
        waiting.stir(Wait::Quota("nobody".into()));
        let order: Vec<Rank> = std::iter::from_fn(|| waiting.next(|_| true)).collect();
        assert_eq!(order, [1, 2, 3, 4, 5].map(rank));
        waiting.stir(edge.clone());
        assert_eq!(waiting.next(|_| true), Some(rank(1)));
        // Stirred again in between: from the start.
        waiting.stir(edge.clone());
        assert_eq!(waiting.next(|_| true), Some(rank(1)));
        assert_eq!(waiting.next(|wait| *wait != edge), None);
        assert_eq!(waiting.next(|_| true), None);
        waiting.leave(&edge, &rank(1));
        waiting.stir(edge);
        assert_eq!(waiting.next(|_| true), Some(rank(3)));
    }
}
