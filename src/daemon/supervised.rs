//! Tasks that run for ever: one that panics is begun anew after a rest, and that is said.

use super::thread::words;
use crate::condition::{Conditions, Reason};
use crate::net::complaint::Complaint;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::error;

/// How long a task rests that panicked, times the number of its panics so far.
pub const AFTER_PANIC: Duration = Duration::from_secs(5);

/// A panic that long ago no longer counts.
pub const PANIC_COUNTS: Duration = Duration::from_secs(600);

/// The longest rest: what a task watches goes on changing meanwhile.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// A task that is kept running until this value is dropped.
#[derive(Debug)]
pub struct Supervised {
    _task: AbortOnDropHandle<()>,
}

impl Supervised {
    /// Runs what `begin` gives, and again whenever it panics, or ends, which it never should; `said` then has a condition with
    /// `name` as its subject until the task has run for [`PANIC_COUNTS`].
    pub fn spawn<F>(
        name: impl Into<String>,
        said: watch::Sender<Conditions>,
        begin: impl FnMut() -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let said = Complaint::new(Reason::TaskPanicked, name, said);
        Self { _task: AbortOnDropHandle::new(tokio::spawn(keep(said, begin))) }
    }
}

async fn keep<F: Future<Output = ()>>(said: Complaint, mut begin: impl FnMut() -> F) {
    let mut failures = 0_u32;
    loop {
        let mut task = pin!(AssertUnwindSafe(begin()).catch_unwind());
        let ended = match timeout(PANIC_COUNTS, &mut task).await {
            Ok(ended) => ended,
            Err(_) => {
                failures = 0;
                said.clear();
                task.await
            }
        };
        let why = match ended {
            Ok(()) => "it ended".to_owned(),
            Err(panic) => words(&*panic),
        };
        failures = failures.saturating_add(1);
        let rest = (AFTER_PANIC * failures.min(100)).min(LONGEST_REST);
        error!(task = said.subject(), failures, "the task failed ({why}): this is a bug, please report it");
        said.set(message(failures, &why, rest));
        sleep(rest).await;
    }
}

fn message(failures: u32, why: &str, rest: Duration) -> String {
    format!(
        "it failed {failures} times ({why}), a bug to report; it is begun anew after {} s, and what it told last stays in use till \
         then",
        rest.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::addresses::{self, Addresses};
    use std::future::pending;

    #[tokio::test(start_paused = true)]
    async fn a_watcher_that_panics_is_begun_anew_and_goes_on_telling() {
        let (addresses, mut seen) = watch::channel(Addresses::default());
        let (conditions, mut said) = watch::channel(Conditions::default());
        let (to, mut begun) = (conditions.clone(), 0);
        let watcher = Supervised::spawn("addresses", conditions, move || {
            begun += 1;
            let (broken, run) = (begun <= 2, addresses::run(addresses.clone(), to.clone()));
            async move {
                assert!(!broken, "on purpose");
                run.await;
            }
        });
        said.wait_for(|said| said.lines().concat().contains("failed 2 times (on purpose)")).await.unwrap();
        assert!(seen.borrow().is_empty());
        seen.wait_for(|all| !all.is_empty()).await.unwrap();
        assert!(said.borrow().contains(Reason::TaskPanicked, "addresses"), "it still counts");
        said.wait_for(|said| *said == Conditions::default()).await.unwrap();
        drop(watcher);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_ends_is_told_too_until_nobody_wants_it() {
        let (conditions, mut said) = watch::channel(Conditions::default());
        let first = Supervised::spawn("beacon", conditions.clone(), || async {});
        let other = Supervised::spawn("other", conditions, pending::<()>);
        said.wait_for(|said| said.contains(Reason::TaskPanicked, "beacon")).await.unwrap();
        drop(first);
        said.wait_for(|said| *said == Conditions::default()).await.unwrap();
        drop(other);
    }

    #[tokio::test(start_paused = true)]
    async fn rests_grow_to_a_minute_and_no_longer() {
        let (begun, mut each) = watch::channel(tokio::time::Instant::now());
        let start = tokio::time::Instant::now();
        let _kept = Supervised::spawn("broken", watch::channel(Conditions::default()).0, move || {
            begun.send_replace(tokio::time::Instant::now());
            async { panic!("on purpose") }
        });
        let mut rests = Vec::new();
        let mut last = start;
        for _ in 0..15 {
            each.changed().await.unwrap();
            let now = *each.borrow_and_update();
            rests.push((now - last).as_secs());
            last = now;
        }
        assert_eq!(rests, [0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 60, 60]);
    }
}
