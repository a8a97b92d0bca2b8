//! The deadlines of a session: a table by name (RFC 4271 §8.1.3, §10; RFC 9687 §4.1).

use std::time::Instant;

/// The timers of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Another dial is due.
    ConnectRetry,
    /// The peer has been silent for too long.
    Hold,
    /// Our next KEEPALIVE is due.
    Keepalive,
    /// The damping delay in Idle.
    IdleHold,
    /// Our OPEN waits for the peer's.
    DelayOpen,
    /// The peer has taken nothing for too long (RFC 9687).
    SendHold,
}

impl Timer {
    /// All of them.
    pub const ALL: [Timer; 6] =
        [Timer::ConnectRetry, Timer::Hold, Timer::Keepalive, Timer::IdleHold, Timer::DelayOpen, Timer::SendHold];
}

/// When each timer expires; one that is not set does not run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Timers([Option<Instant>; 6]);

impl Timers {
    /// Starts or restarts a timer.
    pub fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    /// Stops a timer.
    pub fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    /// Stops them all.
    pub fn stop_all(&mut self) {
        self.0 = [None; 6];
    }

    /// When a timer expires.
    pub fn deadline(&self, timer: Timer) -> Option<Instant> {
        self.0[timer as usize]
    }

    /// The next one to expire. Of two at the same moment the hold timer is the one with the last word, so it goes first.
    pub fn next(&self) -> Option<(Instant, Timer)> {
        Timer::ALL.iter().filter_map(|timer| Some((self.deadline(*timer)?, *timer))).min()
    }

    /// Takes a timer that has expired by `now`; it no longer runs.
    pub fn take_expired(&mut self, now: Instant) -> Option<Timer> {
        let (_, timer) = self.next().filter(|(at, _)| *at <= now)?;
        self.stop(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn expired_timers_come_in_order_and_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timers = Timers::default();
        timers.set(Timer::Keepalive, at(2));
        timers.set(Timer::Hold, at(2));
        timers.set(Timer::IdleHold, at(1));
        assert_eq!(timers.next(), Some((at(1), Timer::IdleHold)));
        assert_eq!(timers.take_expired(at(0)), None);
        let taken: Vec<_> = std::iter::from_fn(|| timers.take_expired(at(3))).collect();
        assert_eq!(taken, [Timer::IdleHold, Timer::Hold, Timer::Keepalive]);
        assert_eq!(timers.next(), None);
    }
}
