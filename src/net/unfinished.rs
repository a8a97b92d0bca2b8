//! Octets of messages that are not whole yet, over all connections that nobody vouches for: each may leave one unfinished, and
//! together they must not fill the memory.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::{oneshot, watch};

/// Octets in all: with what the allocator cannot use between buffers of any length, a tenth by measurement, they come to less
/// than 32 MiB of memory. A connection has at most one message unfinished, of 4096 octets or, where that was agreed, of 65,535.
const LIMIT: usize = 28 * 1024 * 1024;

/// A flood of fewer octets is not worth the search for what it left.
const FLOOD: usize = 4 * 1024 * 1024;

/// What all of them hold together. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Unfinished {
    limit: usize,
    held: watch::Sender<Held>,
}

#[derive(Debug, Default)]
struct Held {
    octets: usize,
    /// Octets of messages that are to go.
    leaving: usize,
    /// The most that it was since [`Unfinished::has_ebbed`] was last true.
    most: usize,
    next: u64,
    /// By the order in which the messages began.
    messages: BTreeMap<u64, Part>,
}

#[derive(Debug)]
struct Part {
    octets: usize,
    evict: oneshot::Sender<()>,
}

/// One unfinished message; dropped with it.
#[derive(Debug)]
pub struct Claim {
    of: Unfinished,
    number: u64,
    octets: usize,
    evicted: oneshot::Receiver<()>,
}

impl Default for Unfinished {
    fn default() -> Self {
        Self::up_to(LIMIT)
    }
}

impl Unfinished {
    fn up_to(limit: usize) -> Self {
        Self { limit, held: watch::channel(Held::default()).0 }
    }

    /// Counts the beginning of a message. Where that is too much, those go that have been unfinished longest.
    pub fn begin(&self, octets: usize) -> Claim {
        let (evict, evicted) = oneshot::channel();
        let mut number = 0;
        self.change(|held| {
            number = held.next;
            held.next += 1;
            held.octets += octets;
            held.messages.insert(number, Part { octets, evict });
        });
        Claim { of: self.clone(), number, octets, evicted }
    }

    /// Whether some are to go and have not gone yet: until then nobody whom this bounds reads on.
    pub fn is_crowded(&self) -> bool {
        self.held.borrow().leaving > 0
    }

    /// Whether there was very much, and most of it is gone; once for each time.
    pub fn has_ebbed(&self) -> bool {
        let mut ebbed = false;
        self.change(|held| {
            ebbed = held.most >= FLOOD && held.octets < held.most / 2;
            if ebbed {
                held.most = held.octets;
            }
        });
        ebbed
    }

    /// Nobody waits for what is held: only who is evicted hears of it.
    fn change(&self, change: impl FnOnce(&mut Held)) {
        self.held.send_if_modified(|held| {
            change(held);
            while held.octets > self.limit
                && let Some((_, longest)) = held.messages.pop_first()
            {
                held.octets -= longest.octets;
                held.leaving += longest.octets;
                let _gone_already = longest.evict.send(());
            }
            held.most = held.most.max(held.octets);
            false
        });
    }
}

impl Claim {
    /// The message has grown, and is still not whole.
    pub fn grow(&mut self, octets: usize) {
        let (number, before) = (self.number, self.octets);
        self.octets = octets;
        self.of.change(|held| match held.messages.get_mut(&number) {
            Some(part) => {
                held.octets = held.octets - before + octets;
                part.octets = octets;
            }
            None => held.leaving = held.leaving - before + octets,
        });
    }

    /// Ready when this one must go.
    pub fn poll_evicted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.evicted).poll(cx).map(|_| ())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Else the end of the other half would wake our own task, which then takes the turns of others: it has yielded.
        self.evicted.close();
        self.of.change(|held| match held.messages.remove(&self.number) {
            Some(part) => held.octets -= part.octets,
            None => held.leaving -= self.octets,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_there_is_too_much_the_longest_unfinished_goes_and_nothing_stays_counted() {
        let all = Unfinished::up_to(100);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut claims = vec![all.begin(40), all.begin(30), all.begin(20)];
        let mut gone = |claims: &mut [Claim]| -> Vec<bool> {
            claims.iter_mut().map(|claim| claim.poll_evicted(&mut cx).is_ready()).collect()
        };
        assert_eq!(gone(&mut claims), [false, false, false]);
        claims[2].grow(60);
        assert_eq!(gone(&mut claims), [true, false, false], "the first began first, however little the others grew");
        assert_eq!(all.held.borrow().octets, 90);
        assert!(all.is_crowded());
        drop(claims.remove(0));
        assert!(!all.is_crowded(), "who was to go has gone");
        drop(claims.remove(0));
        assert_eq!(all.held.borrow().octets, 60);
        assert!(!all.has_ebbed(), "so little is not worth it");
        claims.clear();
        assert_eq!((all.held.borrow().octets, all.held.borrow().messages.len()), (0, 0));
        let all = Unfinished::default();
        let flood = [all.begin(FLOOD), all.begin(FLOOD)];
        assert!(!all.has_ebbed());
        drop(flood);
        assert_eq!([all.has_ebbed(), all.has_ebbed()], [true, false]);
    }

    /// Whoever says much would be woken by each message that it ends, before those whose turn it is.
    #[test]
    fn the_end_of_a_message_wakes_nobody() {
        struct Count(std::sync::atomic::AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let count = std::sync::Arc::new(Count(0.into()));
        let waker = std::sync::Arc::clone(&count).into();
        let all = Unfinished::up_to(100);
        let mut claim = all.begin(40);
        assert!(claim.poll_evicted(&mut Context::from_waker(&waker)).is_pending());
        drop(claim);
        assert_eq!(count.0.load(std::sync::atomic::Ordering::Relaxed), 0);
        let mut evicted = all.begin(101);
        assert!(evicted.poll_evicted(&mut Context::from_waker(&waker)).is_ready());
    }
}
