//! One condition of a task: it holds until the task says otherwise, or is no more.

use crate::condition::{Conditions, Reason};
use std::convert::Infallible;
use std::io;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// What a task may say is not as it should be, of one kind and about one thing.
#[derive(Debug)]
pub struct Complaint {
    reason: Reason,
    subject: String,
    to: watch::Sender<Conditions>,
}

impl Complaint {
    /// Nothing is wrong yet.
    pub fn new(reason: Reason, subject: impl Into<String>, to: watch::Sender<Conditions>) -> Self {
        Self { reason, subject: subject.into(), to }
    }

    /// It is so, in these words.
    pub fn set(&self, message: impl Into<String>) {
        self.to.send_modify(|all| all.set(self.reason, &self.subject, message));
    }

    /// It is no longer so.
    pub fn clear(&self) {
        self.to.send_if_modified(|all| {
            let was_so = all.contains(self.reason, &self.subject);
            all.clear(self.reason, &self.subject);
            was_so
        });
    }

    /// Tries for ever what only ever ends by an error, `pause` after each; it is so, in the words of `explain`, from an error on
    /// until an attempt clears it.
    pub async fn follow<F>(
        &self,
        pause: Duration,
        explain: impl Fn(&io::Error) -> String,
        mut attempt: impl FnMut() -> F,
    ) where
        F: Future<Output = io::Result<Infallible>>,
    {
        loop {
            let Err(error) = attempt().await;
            self.set(explain(&error));
            sleep(pause).await;
        }
    }

    /// What it is about.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

impl Drop for Complaint {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_said_until_an_attempt_goes_well_or_nobody_tries_any_more() {
        let (conditions, said) = watch::channel(Conditions::default());
        let complaint = Complaint::new(Reason::KernelUnreadable, "addresses", conditions);
        let (attempts, start) = (Cell::new(0), tokio::time::Instant::now());
        let attempt = || async {
            attempts.set(attempts.get() + 1);
            if attempts.get() == 3 {
                complaint.clear();
                sleep(Duration::from_secs(100)).await;
            }
            Err(io::Error::from_raw_os_error(libc::EMFILE))
        };
        let following = complaint.follow(Duration::from_secs(5), |error| format!("cannot: {error}"), attempt);
        let watching = async {
            for (until, so) in [(1, true), (9, true), (11, false), (109, false), (111, true)] {
                tokio::time::sleep_until(start + Duration::from_secs(until)).await;
                let lines = said.borrow().lines().concat();
                assert_eq!(lines.contains("cannot: Too many open files"), so, "after {until} s: {lines}");
            }
        };
        tokio::select! {
            () = following => {}
            () = watching => {}
        }
        drop(complaint);
        assert_eq!(*said.borrow(), Conditions::default());
    }
}
