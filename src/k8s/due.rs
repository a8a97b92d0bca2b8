//! What is to be written, each thing once, one write of a thing at a time; what failed is tried again later and later.

use crate::ipam::Uid;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// The pause after the first failure; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);

/// A thing that is written. Allocations go before Services, which wait for them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The `Allocation` of an address.
    Address(IpAddr),
    /// The status of a Service.
    Service(Uid),
    /// What a Service that is none of ours any more still shows of us.
    Remains(Uid),
}

/// The queue.
#[derive(Debug, Default)]
pub struct Due {
    ready: BTreeSet<Key>,
    busy: BTreeSet<Key>,
    later: BTreeMap<Key, Instant>,
    by_time: BTreeSet<(Instant, Key)>,
    failures: BTreeMap<Key, u32>,
}

impl Due {
    /// Something may have to be written. What was put off stays put off.
    pub fn add(&mut self, key: Key) {
        if !self.later.contains_key(&key) {
            self.ready.insert(key);
        }
    }

    /// Something is news: also what failed before is worth a try now.
    pub fn add_now(&mut self, key: Key) {
        self.unpark(&key);
        self.ready.insert(key);
    }

    /// Not before then.
    pub fn put_off(&mut self, key: Key, until: Instant) {
        self.unpark(&key);
        self.ready.remove(&key);
        self.by_time.insert((until, key.clone()));
        self.later.insert(key, until);
    }

    /// Forgets it, but for a write on its way.
    pub fn forget(&mut self, key: &Key) {
        self.unpark(key);
        self.ready.remove(key);
        self.failures.remove(key);
    }

    /// The next one of which no write is on its way; it is on its way from now on.
    pub fn begin(&mut self) -> Option<Key> {
        let key = self.ready.iter().find(|key| !self.busy.contains(*key)).cloned()?;
        self.ready.remove(&key);
        self.busy.insert(key.clone());
        Some(key)
    }

    /// Whether a write of it is on its way.
    pub fn is_busy(&self, key: &Key) -> bool {
        self.busy.contains(key)
    }

    /// The write got through, or there was nothing to write.
    pub fn succeeded(&mut self, key: &Key) {
        self.busy.remove(key);
        self.failures.remove(key);
    }

    /// It was answered, but not done: the next step is due at once, and what failed before still counts.
    pub fn again(&mut self, key: Key) {
        self.busy.remove(&key);
        self.ready.insert(key);
    }

    /// It was overtaken by a write of somebody else: the next step is due at once, and where that comes to the same, later and later.
    pub fn overtaken(&mut self, key: Key, now: Instant) {
        if self.failures.contains_key(&key) {
            self.failed(key, now);
        } else {
            self.failures.insert(key.clone(), 0);
            self.again(key);
        }
    }

    /// The write failed. It is tried again.
    pub fn failed(&mut self, key: Key, now: Instant) {
        self.busy.remove(&key);
        let failures = self.failures.entry(key.clone()).or_default();
        let pause = FIRST.saturating_mul(1 << (*failures).min(10)).min(LONGEST);
        *failures += 1;
        if !self.ready.contains(&key) {
            self.put_off(key, now + pause);
        }
    }

    /// What was put off until now is ready.
    pub fn wake(&mut self, now: Instant) {
        while let Some((at, key)) = self.by_time.first().cloned().filter(|(at, _)| *at <= now) {
            self.by_time.remove(&(at, key.clone()));
            self.later.remove(&key);
            self.ready.insert(key);
        }
    }

    /// When [`Self::wake`] is due next.
    pub fn deadline(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// How many things wait, and how many are on their way.
    pub fn count(&self) -> usize {
        self.ready.len() + self.later.len() + self.busy.len()
    }

    fn unpark(&mut self, key: &Key) {
        if let Some(at) = self.later.remove(key) {
            self.by_time.remove(&(at, key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Key {
        Key::Address(IpAddr::from([198, 51, 100, last]))
    }

    #[tokio::test(start_paused = true)]
    async fn one_write_at_a_time_and_addresses_first() {
        let mut due = Due::default();
        due.add(Key::Service("u".into()));
        due.add(address(1));
        assert_eq!(due.begin(), Some(address(1)));
        // News during the write: again, but only after it.
        due.add(address(1));
        assert_eq!(due.begin(), Some(Key::Service("u".into())));
        assert_eq!(due.begin(), None);
        due.succeeded(&address(1));
        assert_eq!(due.begin(), Some(address(1)));
        due.succeeded(&address(1));
        due.succeeded(&Key::Service("u".into()));
        assert_eq!((due.begin(), due.count()), (None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_and_longer_and_news_does_not() {
        let mut due = Due::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        due.add(address(1));
        for _ in 0..12 {
            assert_eq!(due.begin(), Some(address(1)));
            due.failed(address(1), now);
            due.add(address(1));
            assert_eq!(due.begin(), None);
            let next = due.deadline().unwrap();
            pauses.push(next - now);
            now = next;
            due.wake(now);
        }
        assert_eq!((pauses[0], pauses[1], pauses[11]), (FIRST, FIRST * 2, LONGEST));
        assert_eq!(due.begin(), Some(address(1)));
        due.failed(address(1), now);
        due.add_now(address(1));
        assert_eq!(due.begin(), Some(address(1)));
        due.succeeded(&address(1));
        due.add(address(1));
        due.begin();
        due.failed(address(1), now);
        assert_eq!(due.deadline(), Some(now + FIRST));
    }
}
