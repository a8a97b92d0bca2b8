//! What changed between two statuses of a peer, as log lines: sessions up and down with their reason, NOTIFICATIONs spelled out.

use crate::peer::status::{EndOfRib, Incident, NO_COMMON_FAMILY};
use crate::peer::{Limit, Phase, Room, Status};
use crate::wire::Family;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tracing::{debug, info, warn};

/// How much may be said of a peer.
#[derive(Debug, Clone)]
pub enum Voice {
    /// One that the configuration names: everything but what it can repeat without end, of which the budget is its own.
    Named(Arc<Budget>),
    /// One of a range, where anybody may come from any number of addresses: as long as the range's budget lasts.
    OfRange(Arc<Budget>),
}

impl Voice {
    /// How much may be said.
    pub fn budget(&self) -> &Budget {
        match self {
            Self::Named(budget) | Self::OfRange(budget) => budget,
        }
    }

    /// That of a peer that the configuration names.
    pub fn named(peer: &str, now: Instant) -> Self {
        Self::Named(Arc::new(Budget::new(peer, Rate::OF_NAMED, now)))
    }
}

/// How much may be said: some at once, then one each interval.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    burst: u64,
    /// Milliseconds that one costs.
    price: u64,
}

impl Rate {
    /// Of all routers of a range together.
    pub const OF_RANGE: Self = Self { burst: 64, price: 1000 };
    /// Malformed messages of a named peer, of up to some thousand octets a line: a few megabytes a day at most.
    pub const OF_NAMED: Self = Self { burst: 8, price: 60_000 };
}

/// What may be said of somebody, and how much was left out since something was last said of it.
#[derive(Debug)]
pub struct Budget {
    of: Arc<str>,
    rate: Rate,
    since: Instant,
    /// Milliseconds after `since` at which everything said so far is paid for.
    paid_at: AtomicU64,
    left_out: AtomicU64,
}

impl Budget {
    /// All of it.
    pub fn new(of: &str, rate: Rate, now: Instant) -> Self {
        Self { of: of.into(), rate, since: now, paid_at: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// Whether one more thing may be said now; it is paid for then. Otherwise it is left out, and the first of those is told.
    pub fn spend(&self, now: Instant) -> bool {
        let affordable = self.pay(now);
        if affordable {
            self.settle();
        } else if self.left_out.fetch_add(1, Ordering::Relaxed) == 0 {
            warn!(of = %self.of, "more happens than is logged; from here on it is counted: 'herald peers' shows all");
        }
        affordable
    }

    /// Says how much was left out, once there is room again for a line. Of what is over nobody else would speak.
    pub fn catch_up(&self, now: Instant) {
        if self.left_out.load(Ordering::Relaxed) > 0 && self.pay(now) {
            self.settle();
        }
    }

    fn settle(&self) {
        let lines = self.left_out.swap(0, Ordering::Relaxed);
        if lines > 0 {
            warn!(of = %self.of, lines, "{lines} lines were left out of the log");
        }
    }

    fn pay(&self, now: Instant) -> bool {
        let Rate { burst, price } = self.rate;
        let now = u64::try_from(now.saturating_duration_since(self.since).as_millis()).unwrap_or(u64::MAX);
        let pay = |paid_at: u64| {
            let next = paid_at.max(now) + price;
            (next <= now.saturating_add(burst * price)).then_some(next)
        };
        self.paid_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay).is_ok()
    }

    /// Things left out since something was last said.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }
}

/// Logs what is new. A failure that repeats itself is logged once; its repetitions are for `debug`.
pub fn report(before: &Status, after: &Status, voice: &Voice, now: Instant) {
    match voice {
        Voice::OfRange(budget) if is_news(before, after) && !budget.spend(now) => {
            debug!(peer = %after.name, state = after.phase.name(), "more happens in the ranges than is told here");
        }
        Voice::OfRange(budget) => {
            budget.catch_up(now);
            incidents(before, after, |_| true);
            tell(before, after);
        }
        Voice::Named(budget) => {
            budget.catch_up(now);
            incidents(before, after, |_| budget.spend(now));
            tell(before, after);
        }
    }
}

/// Whether there is more to tell than states on the way.
fn is_news(before: &Status, after: &Status) -> bool {
    before.last_down != after.last_down
        || before.established_count != after.established_count
        || before.notifications != after.notifications
        || before.barred != after.barred
        || before.incidents != after.incidents
        || before.limits != after.limits
        || has_first_table(before) != has_first_table(after)
}

fn has_first_table(status: &Status) -> bool {
    matches!(status.phase, Phase::Established { end_of_rib: EndOfRib::Sent(_), .. })
}

fn tell(before: &Status, after: &Status) {
    for notification in news(&before.notifications, &after.notifications) {
        warn!(peer = %after.name, address = %after.address, "NOTIFICATION {notification}");
    }
    for barred in after.barred.iter().filter(|barred| !before.barred.contains(barred)) {
        warn!(peer = %after.name, "this route never leaves: {barred}");
    }
    let was_up = matches!(before.phase, Phase::Established { .. });
    if before.last_down != after.last_down
        && let Some((_, reason)) = &after.last_down
    {
        let repeated = before.last_down.as_ref().is_some_and(|(_, before)| before == reason);
        if was_up {
            warn!(peer = %after.name, address = %after.address, reason, "session down");
        } else if repeated {
            debug!(peer = %after.name, address = %after.address, reason, "no session, again");
        } else {
            warn!(peer = %after.name, address = %after.address, reason, "no session");
        }
    }
    phase(before, after);
    for (family, limit) in &after.limits {
        let before = before.limits.get(family).map_or(Room::Ample, |before| before.room);
        if limit.room != before {
            room(after, *family, limit);
        }
    }
}

/// A peer's limit came nearer, or went further away.
fn room(status: &Status, family: Family, Limit { accepts, most, held_back, room }: &Limit) {
    let (peer, announced) = (&status.name, status.advertised.get(&family).copied().unwrap_or(0));
    match room {
        Room::Ample => {
            info!(%peer, %family, announced, accepts, "less than 75 % of what the peer accepts is announced")
        }
        Room::Scarce => warn!(%peer, %family, announced, accepts, most,
            "75 % of what the peer accepts is announced, and at 90 % nothing more is: raise the limit on the router and \
             'prefixLimit' here"),
        Room::Full => {
            let first = held_back.get_min().map(ToString::to_string).unwrap_or_default();
            warn!(%peer, %family, announced, accepts, most, held_back = held_back.len(), first,
                "routes are held back: the peer would end the session at its prefix limit; raise it on the router and \
                 'prefixLimit' here");
        }
    }
}

/// What was malformed, as far as it may be said. Where there was too much of it to spell out, the next line says how much was
/// only counted.
fn incidents(before: &Status, after: &Status, may_say: impl Fn(&Incident) -> bool) {
    let mut told = before.incidents.last().map_or(0, |incident| incident.number);
    for incident in &after.incidents {
        if incident.number <= told {
            continue;
        }
        let Incident { number, consequence, what, nlri, octets } = incident;
        let only_counted = number - told - 1;
        if !may_say(incident) {
            continue;
        }
        warn!(peer = %after.name, address = %after.address, consequence = consequence.name(), nlri, octets, only_counted,
            "the peer sent something malformed: {what}");
        told = *number;
    }
}

fn phase(before: &Status, after: &Status) {
    let Phase::Established { local, router_id, hold_time, families, .. } = &after.phase else {
        if before.phase.name() != after.phase.name() {
            debug!(peer = %after.name, from = before.phase.name(), to = after.phase.name(), "state");
        }
        return;
    };
    if after.established_count != before.established_count {
        let families: Vec<_> = families.iter().map(ToString::to_string).collect();
        info!(peer = %after.name, address = %after.address, asn = %after.asn, %local, %router_id,
            hold_time = hold_time.as_secs(), families = families.join(","), "session up");
        if families.is_empty() {
            warn!(peer = %after.name, "{NO_COMMON_FAMILY}");
        }
        for (family, why) in &after.unannounced {
            // Most clusters have one family; who wants the other reads this, and the status says it all the time.
            info!(peer = %after.name, %family, "nothing of this family can be announced: {why}");
        }
    }
    if has_first_table(after) && !has_first_table(before) {
        info!(peer = %after.name, routes = after.advertised.values().sum::<usize>(), "first table sent, End-of-RIB");
    }
}

/// The entries of `after` that `before` did not have; both keep only the newest few, newest last.
fn news<'a>(before: &[String], after: &'a [String]) -> &'a [String] {
    let overlap = (0..=before.len().min(after.len()))
        .rev()
        .find(|kept| before[before.len() - kept..] == after[..*kept])
        .expect("an overlap of nothing always matches");
    &after[overlap..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_said_of_ranges_is_bounded_and_comes_back() {
        let began = Instant::now();
        let budget = Budget::new("leaves", Rate::OF_RANGE, began);
        let other = Budget::new("others", Rate::OF_RANGE, began);
        let said = |at: Duration| (0..1000).filter(|_| budget.spend(began + at)).count();
        assert_eq!(said(Duration::ZERO), 64);
        assert_eq!(budget.left_out(), 1000 - 64);
        assert!(other.spend(began), "a flood in one range does not silence another");
        assert_eq!(said(Duration::from_secs(10)), 10);
        assert_eq!(budget.left_out(), 990, "what was left out before has been told");
        budget.catch_up(began + Duration::from_millis(10_500));
        assert_eq!(budget.left_out(), 990, "there is no room for a line yet");
        budget.catch_up(began + Duration::from_secs(11));
        assert_eq!(budget.left_out(), 0, "and it is told although nothing more happens");
        assert_eq!(said(Duration::from_secs(3600)), 64);
    }

    #[test]
    fn a_named_peer_that_repeats_a_malformed_message_fills_no_disk() {
        let began = Instant::now();
        let budget = Budget::new("r1", Rate::OF_NAMED, began);
        let day = (0..86_400).filter(|second| budget.spend(began + Duration::from_secs(*second))).count();
        assert!((1440..1460).contains(&day), "{day} lines in a day");
    }

    fn texts(of: &[&str]) -> Vec<String> {
        of.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_new_notifications_are_told_also_when_old_ones_were_dropped() {
        assert_eq!(news(&texts(&[]), &texts(&["a"])), texts(&["a"]));
        assert_eq!(news(&texts(&["a"]), &texts(&["a"])), texts(&[]));
        assert_eq!(news(&texts(&["a", "b"]), &texts(&["b", "c"])), texts(&["c"]));
        assert_eq!(news(&texts(&["a", "b"]), &texts(&["x", "y"])), texts(&["x", "y"]));
    }
}
