//! A thread with a runtime of its own, so that what stands still on it holds up nobody else.

use crate::admin::Heart;
use anyhow::{Context, anyhow};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// What may still go on when the work of a runtime is done: a name lookup that hangs must not hold the process.
pub const REST_LIMIT: Duration = Duration::from_millis(100);

/// Tasks by name; none of them ends before it is told to.
pub type Tasks = JoinSet<(&'static str, anyhow::Result<()>)>;

/// The work panicked; with its words.
#[derive(Debug, thiserror::Error)]
#[error("the thread '{thread}' panicked: {words}; this is a bug, please report it")]
pub struct Panicked {
    thread: &'static str,
    words: String,
}

/// Runs `work` on this thread.
///
/// # Errors
/// There is no runtime to be had.
pub fn on_a_runtime<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    // One thread: the work is small, and peers share no memory with another.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let ended = runtime.block_on(work);
    runtime.shutdown_timeout(REST_LIMIT);
    Ok(ended)
}

/// Runs `work` on a thread called `name`. Who no longer waits leaves it running.
///
/// # Errors
/// The work failed or panicked ([`Panicked`]), or there is no thread to be had.
pub async fn run<F>(name: &'static str, work: impl FnOnce() -> F + Send + 'static) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let (done, ended) = oneshot::channel();
    let body = move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| on_a_runtime(work())));
        let outcome = match outcome {
            Ok(ended) => ended.and_then(|ended| ended),
            Err(payload) => Err(Panicked { thread: name, words: words(&*payload) }.into()),
        };
        // Nobody may wait any more.
        let _unheard = done.send(outcome);
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .with_context(|| format!("cannot start the thread '{name}'"))?;
    ended.await.unwrap_or_else(|_| unreachable!("the thread answers also when its work panics"))
}

/// Counts that this thread goes on.
pub fn beat(tasks: &mut Tasks, heart: Heart) {
    tasks.spawn(async {
        heart.run().await;
        ("heartbeat", Ok(()))
    });
}

/// What it means that a task ended.
pub fn untimely(ended: Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok((name, Ok(()))) => anyhow!("the task '{name}' ended, which it never should: this is a bug"),
        Ok((name, Err(error))) => error.context(format!("the task '{name}' failed")),
        Err(panicked) => anyhow!(panicked).context("a task panicked: this is a bug, please report the lines above"),
    }
}

/// What a panic said.
pub fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no words".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_stands_holds_up_nobody_and_one_that_panics_is_told() {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let standing = tokio::spawn(run("standing", move || async move {
            wait.recv().unwrap();
            Ok(())
        }));
        let panicked = run("broken", || async { panic!("on purpose {}", 7) }).await.unwrap_err();
        assert_eq!(panicked.to_string(), "the thread 'broken' panicked: on purpose 7; this is a bug, please report it");
        assert!(panicked.is::<Panicked>());
        go.send(()).unwrap();
        standing.await.unwrap().unwrap();
        let failed = run("failing", || async { Err(anyhow::anyhow!("no")) }).await.unwrap_err();
        assert!(!failed.is::<Panicked>());
    }
}
