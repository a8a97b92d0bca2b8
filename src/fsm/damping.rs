//! How long to wait before the next attempt, and chance from a seed (RFC 4271 §8.1.1 DampPeerOscillations, §10).

use crate::planted::{Bug, planted};
use std::time::Duration;

/// Delay after the first failure; each further one doubles it.
const FIRST: Duration = Duration::from_secs(1);
/// The longest delay.
const LONGEST: Duration = Duration::from_secs(120);
/// The longest delay while the peer cannot even be reached: it may come back any moment.
const LONGEST_UNREACHABLE: Duration = Duration::from_secs(30);
/// The shortest delay after a Cease for too many prefixes: nothing changes until somebody changes it.
const SHORTEST_PREFIX_LIMIT: Duration = Duration::from_secs(60);

/// What sort of failure is waited out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The dial failed.
    Unreachable,
    /// The session ended.
    Session,
    /// The peer sent Cease, maximum number of prefixes reached (6/1).
    PrefixLimit,
}

/// Counts failures and draws delays.
#[derive(Debug, Clone)]
pub struct Damping {
    /// ConnectRetryCounter: attempts that failed since the last session that lasted.
    counter: u32,
    chance: u64,
    /// What the newest delay waits out.
    waited_out: Failure,
}

impl Damping {
    /// No failures yet; `seed` decides every draw to come.
    pub fn new(seed: u64) -> Self {
        Self { counter: 0, chance: seed, waited_out: Failure::Session }
    }

    /// The ConnectRetryCounter of RFC 4271 §8.
    pub fn counter(&self) -> u32 {
        self.counter
    }

    /// What the newest delay waits out.
    pub fn waited_out(&self) -> Failure {
        self.waited_out
    }

    /// One more failure.
    pub fn count(&mut self) {
        self.counter = self.counter.saturating_add(1);
    }

    /// Forgets all failures.
    pub fn forget(&mut self) {
        self.counter = 0;
    }

    /// The delay that is due now: 1 s doubled with each failure counted, within the bounds of its sort, times 0.75 to 1.
    pub fn delay(&mut self, failure: Failure) -> Duration {
        self.waited_out = failure;
        let longest = match failure {
            Failure::Unreachable => LONGEST_UNREACHABLE,
            Failure::Session | Failure::PrefixLimit => LONGEST,
        };
        let doublings = if planted(Bug::NoBackOff) { 0 } else { self.counter.saturating_sub(1).min(16) };
        let delay = self.jitter(longest.min(FIRST * (1 << doublings)));
        match failure {
            Failure::Unreachable | Failure::Session => delay,
            Failure::PrefixLimit => delay.max(SHORTEST_PREFIX_LIMIT),
        }
    }

    /// `duration` times a factor drawn evenly from 0.75 to 1 (RFC 4271 §10).
    pub fn jitter(&mut self, duration: Duration) -> Duration {
        const QUARTERS: u32 = 1 << 16;
        let drawn = (self.draw() >> 48) as u32;
        duration - duration / 4 * drawn / QUARTERS
    }

    /// SplitMix64: all that jitter needs, and the same on every machine.
    fn draw(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.chance ^ (self.chance >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Delays of the first twelve failures, and the nominal values they must lie under by at most a quarter.
    fn delays(failure: Failure, seed: u64) -> Vec<Duration> {
        let mut damping = Damping::new(seed);
        (0..12)
            .map(|_| {
                damping.count();
                damping.delay(failure)
            })
            .collect()
    }

    #[test]
    fn delays_double_up_to_their_bound_and_jitter_stays_within_a_quarter() {
        for seed in 0..50 {
            for (failure, bound) in [(Failure::Session, 120), (Failure::Unreachable, 30)] {
                for (n, delay) in delays(failure, seed).into_iter().enumerate() {
                    let nominal = Duration::from_secs(bound.min(1 << n));
                    assert!(delay <= nominal && delay >= nominal * 3 / 4, "{failure:?} {n}: {delay:?}");
                }
            }
        }
    }

    #[test]
    fn seeds_draw_differently_and_the_same_seed_the_same() {
        assert_eq!(delays(Failure::Session, 7), delays(Failure::Session, 7));
        assert_ne!(delays(Failure::Session, 7), delays(Failure::Session, 8));
    }

    #[test]
    fn a_prefix_limit_is_waited_out_for_a_minute_at_least() {
        for seed in 0..50 {
            let delays = delays(Failure::PrefixLimit, seed);
            assert!(delays.iter().all(|delay| *delay >= Duration::from_secs(60)));
            assert!(delays[11] >= Duration::from_secs(90));
        }
    }

    #[test]
    fn a_very_long_row_of_failures_is_no_overflow() {
        let mut damping = Damping { counter: u32::MAX, chance: 1, waited_out: Failure::Session };
        damping.count();
        assert!(damping.delay(Failure::Session) <= LONGEST);
    }
}
