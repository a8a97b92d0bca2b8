//! Whether the threads of this process go on: what `/healthz` says.
//!
//! Each of them counts; the thread that answers looks, by its own ticks and not by a clock, whether the count has moved. When the
//! whole process or machine is held still and let go, no tick has passed at which anybody stood.

use crate::condition::{Conditions, Reason};
use axum::http::StatusCode;
use jiff::{Timestamp, Unit};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Between two beats of a thread.
const BEAT: Duration = Duration::from_millis(500);

/// Between two looks.
const TICK: Duration = Duration::from_millis(500);

/// Counts for as long as a thread goes on; a clone counts into the same number.
#[derive(Debug, Clone, Default)]
pub struct Heart(Arc<AtomicU64>);

impl Heart {
    /// Counts for ever, as a task of the thread that is watched.
    pub async fn run(self) {
        loop {
            self.0.fetch_add(1, Ordering::Relaxed);
            sleep(BEAT).await;
        }
    }
}

/// A thread that is watched.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Its name.
    pub thread: &'static str,
    /// What it counts.
    pub heart: Heart,
    /// What its standing still costs, for people.
    pub cost: &'static str,
    /// It is said from here on.
    pub said_after: Duration,
    /// `/healthz` fails from here on.
    pub fails_after: Duration,
}

/// What `/healthz` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Liveness {
    /// All threads go on, or stand no longer than they may.
    #[default]
    Alive,
    /// A thread stands, in words: the process should be begun anew.
    Standing(String),
}

impl Liveness {
    /// The answer to a probe.
    pub fn answer(&self) -> (StatusCode, String) {
        match self {
            Self::Alive => (StatusCode::OK, "ok\n".to_owned()),
            Self::Standing(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        }
    }
}

/// What the watched threads do, tick by tick.
#[derive(Debug)]
struct Watch(Vec<(Watched, Seen)>);

/// What was seen of one thread.
#[derive(Debug)]
struct Seen {
    beats: u64,
    /// When it was last seen to have moved, for people.
    moved: Timestamp,
    /// Looks since then.
    ticks: u32,
}

impl Watch {
    fn new(watched: Vec<Watched>, now: Timestamp) -> Self {
        let seen = || Seen { beats: 0, moved: now, ticks: 0 };
        Self(watched.into_iter().map(|watched| (watched, seen())).collect())
    }

    /// One look: what `/healthz` says now, and what is not as it should be.
    fn look(&mut self, now: Timestamp) -> (Liveness, Conditions) {
        let (mut standing, mut conditions) = (Vec::new(), Conditions::default());
        for (watched, seen) in &mut self.0 {
            let beats = watched.heart.0.load(Ordering::Relaxed);
            *seen = match seen.beats == beats {
                true => Seen { ticks: seen.ticks.saturating_add(1), ..*seen },
                false => Seen { beats, moved: now, ticks: 0 },
            };
            let time = TICK * seen.ticks;
            let (thread, cost, since) = (watched.thread, watched.cost, seconds(seen.moved));
            let so_far = format!("the thread '{thread}' has stood still since {since}: {cost}");
            if time >= watched.fails_after {
                let why = format!(
                    "{so_far}; /healthz fails until it goes on, for whoever asks it to begin this process anew"
                );
                conditions.set(Reason::ThreadStands, thread, &*why);
                standing.push(why);
            } else if time >= watched.said_after {
                let limit = watched.fails_after.as_secs();
                conditions.set(Reason::ThreadStands, thread, format!("{so_far}; after {limit} s /healthz fails"));
            }
        }
        let liveness = match standing.is_empty() {
            true => Liveness::Alive,
            false => Liveness::Standing(standing.join("\n")),
        };
        (liveness, conditions)
    }
}

/// Looks for ever.
pub async fn watch(watched: Vec<Watched>, liveness: watch::Sender<Liveness>, said: watch::Sender<Conditions>) {
    let mut ticks = interval(TICK);
    // Those that were missed while everything was held still are no looks.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = Watch::new(watched, Timestamp::now());
    loop {
        ticks.tick().await;
        let (alive, conditions) = watch.look(Timestamp::now());
        publish(&liveness, alive);
        publish(&said, conditions);
    }
}

fn publish<T: PartialEq>(to: &watch::Sender<T>, now: T) {
    to.send_if_modified(|before| {
        let changed = *before != now;
        *before = now;
        changed
    });
}

fn seconds(moment: Timestamp) -> Timestamp {
    moment.round(Unit::Second).unwrap_or(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u32 = 2;

    fn watched(thread: &'static str, said_after: u64, fails_after: u64) -> (Heart, Watched) {
        let heart = Heart::default();
        let (said_after, fails_after) = (Duration::from_secs(said_after), Duration::from_secs(fails_after));
        (heart.clone(), Watched { thread, heart, cost: "nothing moves", said_after, fails_after })
    }

    fn beat(heart: &Heart) {
        heart.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The answer after so many looks, of which `beats` says before which each heart beats.
    fn looks(watch: &mut Watch, ticks: u32, beats: impl Fn(u32)) -> (Liveness, Vec<String>) {
        let mut last = (Liveness::Alive, Conditions::default());
        for tick in 0..ticks {
            beats(tick);
            last = watch.look(Timestamp::UNIX_EPOCH);
        }
        (last.0, last.1.lines())
    }

    #[test]
    fn sessions_may_stand_five_seconds_and_control_ten_minutes_but_not_unheard() {
        let (sessions, first) = watched("sessions", 5, 5);
        let (control, second) = watched("control", 10, 600);
        let mut watch = Watch::new(vec![first, second], Timestamp::UNIX_EPOCH);
        let both = |_| [&sessions, &control].into_iter().for_each(beat);
        assert_eq!(looks(&mut watch, 10_000, both), (Liveness::Alive, vec![]));
        // Sessions alone.
        let of_control = |_| beat(&control);
        assert_eq!(looks(&mut watch, 5 * SECOND - 1, of_control), (Liveness::Alive, vec![]));
        let (liveness, said) = looks(&mut watch, 1, of_control);
        let words = "the thread 'sessions' has stood still since 1970-01-01T00:00:00Z: nothing moves; /healthz fails until it goes \
                     on, for whoever asks it to begin this process anew";
        assert_eq!(liveness.answer(), (StatusCode::SERVICE_UNAVAILABLE, format!("{words}\n")));
        assert_eq!(said, [format!("ThreadStands sessions: {words}")]);
        assert_eq!(looks(&mut watch, 1, both), (Liveness::Alive, vec![]), "one beat is enough");
        // Control alone.
        let of_sessions = |_| beat(&sessions);
        assert_eq!(looks(&mut watch, 10 * SECOND - 1, of_sessions), (Liveness::Alive, vec![]));
        let (liveness, said) = looks(&mut watch, 1, of_sessions);
        assert_eq!(liveness.answer(), (StatusCode::OK, "ok\n".to_owned()));
        assert!(said[0].starts_with("ThreadStands control: ") && said[0].ends_with("after 600 s /healthz fails"));
        assert_eq!(looks(&mut watch, 590 * SECOND - 1, of_sessions).0, Liveness::Alive);
        let (liveness, said) = looks(&mut watch, 1, of_sessions);
        assert!(matches!(liveness, Liveness::Standing(why) if why.contains("'control'")), "{said:?}");
        assert_eq!(looks(&mut watch, 1, both), (Liveness::Alive, vec![]));
    }

    #[test]
    fn a_thread_that_moves_now_and_then_does_not_stand() {
        let (sessions, watched) = watched("sessions", 5, 5);
        let mut watch = Watch::new(vec![watched], Timestamp::UNIX_EPOCH);
        let seldom = |tick: u32| {
            if tick.is_multiple_of(9) {
                beat(&sessions)
            }
        };
        for _ in 0..1000 {
            assert_eq!(looks(&mut watch, 9, seldom), (Liveness::Alive, vec![]));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_heart_beats_and_a_minute_at_which_nobody_looked_is_no_standstill() {
        let (heart, first) = watched("sessions", 5, 5);
        let (liveness, mut read) = watch::channel(Liveness::Alive);
        let (said, conditions) = watch::channel(Conditions::default());
        let looking = tokio::spawn(super::watch(vec![first], liveness, said));
        let beating = tokio::spawn(heart.clone().run());
        sleep(Duration::from_secs(30)).await;
        assert!((50..=61).contains(&heart.0.load(Ordering::Relaxed)));
        // All are held still together; the one who looks is the first to go on.
        beating.abort();
        tokio::time::advance(Duration::from_secs(60)).await;
        tokio::task::yield_now().await;
        assert_eq!(*read.borrow_and_update(), Liveness::Alive);
        let let_go = tokio::time::Instant::now();
        read.changed().await.unwrap();
        assert!((4..=6).contains(&let_go.elapsed().as_secs()), "{:?}", let_go.elapsed());
        assert!(conditions.borrow().contains(Reason::ThreadStands, "sessions"));
        looking.abort();
    }
}
