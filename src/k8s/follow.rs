//! One kind of object, followed: listed once, then watched, for ever.
//!
//! Written on the plain list and watch calls and not on kube's `watcher`, for five reasons met in practice: that one asks
//! for ever for a streaming list that a server refuses, asks for ever for a version that is gone when the refusal comes as
//! an HTTP status, opens watches in a tight loop when a server ends each at once, says nothing of bookmarks (so that a
//! quiet watch looks dead), and waits up to 30 s after a long outage.

use futures_util::{Stream, StreamExt};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::fmt;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Marks the bookmark that ends the first events of a streaming list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Objects a page where the server has no streaming lists: more pages, less memory.
const PAGE: u32 = 100;

/// A watch is renewed after this many seconds and up to [`WATCH_SPREAD_SECONDS`] more: below the idle limits of
/// balancers, and not all nodes at once.
const WATCH_SECONDS: u32 = 120;
const WATCH_SPREAD_SECONDS: u32 = 60;

/// The server ends a watch at its time; one that stays silent longer than that by this much is a dead connection.
const GRACE: Duration = Duration::from_secs(15);

/// A list that takes longer than this is given up.
const LIST_LIMIT: Duration = Duration::from_secs(60);

/// A watch that ends at most so long before its time has ended at its time.
const EARLY: Duration = Duration::from_secs(5);

/// A watch that ends sooner than this without a word counts as a failed attempt.
const TOO_SHORT: Duration = Duration::from_secs(1);

/// What a follower tells its owner.
#[derive(Debug)]
pub enum Told<T> {
    /// A complete list begins; what was listed before and not completed is void.
    Listing,
    /// An object of the list.
    Listed(T),
    /// The list is complete.
    Complete,
    /// An object is new or changed.
    Applied(T),
    /// An object is gone.
    Deleted(T),
    /// The server is there; nothing changed.
    Heard,
    /// The server has no such kind, and so no object of it. It is asked again, for the kind may be installed at any time.
    Absent,
    /// An attempt failed. It goes on by itself.
    Failed(String),
}

/// What to ask for.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// A field selector; empty for everything.
    pub fields: &'static str,
    /// A label selector; empty for everything.
    pub labels: &'static str,
    /// What is done after a watch broke.
    pub after_break: AfterBreak,
}

/// What is done after a watch broke: a server may come back in an older state (an etcd that was put back), and then the history
/// that we have seen is no longer its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterBreak {
    /// The watch goes on where it was, unless the server has not come as far as that: for those of whom there are many.
    Resume,
    /// Everything is listed anew: for those of whom there is one, and who decide by it.
    List,
}

/// How to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strategy {
    /// As the first events of a watch: the server holds no page in memory, and neither do we.
    Streaming,
    /// In pages, for servers without streaming lists.
    Pages,
}

/// Where we are in the history of the kind.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Position {
    /// Nowhere: a list is due.
    Unknown,
    /// Everything up to this resourceVersion was told.
    At(String),
    /// The same, and then the watch broke: the server may have been put back to an older state.
    Doubtful(String),
}

/// Why an attempt ended.
#[derive(Debug)]
enum End {
    /// The server ended the watch, as it does at its time.
    Renew,
    /// The server ended the watch before its time: it is stopped, or has just been started.
    Early,
    /// The server has no streaming lists.
    NoStreaming(String),
    /// The history that we need is gone: list again.
    Expired(String),
    /// The server has no such kind.
    NoSuchKind,
    /// Anything else.
    Broken(String),
    /// Nobody listens any more.
    Closed,
}

impl<T> From<mpsc::error::SendError<T>> for End {
    fn from(_: mpsc::error::SendError<T>) -> Self {
        Self::Closed
    }
}

/// Follows a kind until the receiver of `queue` is dropped. `wrap` makes a message of what is told.
pub async fn follow<K, M>(api: Api<K>, ask: Ask, queue: mpsc::Sender<M>, wrap: fn(Told<K>) -> M)
where
    K: Resource + Clone + DeserializeOwned + fmt::Debug,
{
    let mut follower = Follower { api, ask, queue, wrap, strategy: Strategy::Streaming, position: Position::Unknown };
    let mut backoff = Backoff::default();
    loop {
        let began = Instant::now();
        let end = follower.attempt(&mut backoff).await;
        let told = match end {
            End::Closed => return,
            End::Renew => continue,
            End::Early => {
                follower.doubt();
                if began.elapsed() >= TOO_SHORT {
                    continue;
                }
                Told::Failed("the server ended the watch too soon".to_owned())
            }
            End::NoStreaming(why) => {
                tracing::info!("no streaming lists here ({why}); listing in pages");
                follower.strategy = Strategy::Pages;
                continue;
            }
            End::Expired(why) => {
                follower.position = Position::Unknown;
                Told::Failed(why)
            }
            End::NoSuchKind => Told::Absent,
            End::Broken(why) => {
                follower.doubt();
                Told::Failed(why)
            }
        };
        if follower.tell(told).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next_delay()) => {}
            () = follower.queue.closed() => return,
        }
    }
}

struct Follower<K, M> {
    api: Api<K>,
    ask: Ask,
    queue: mpsc::Sender<M>,
    wrap: fn(Told<K>) -> M,
    strategy: Strategy,
    position: Position,
}

impl<K, M> Follower<K, M>
where
    K: Resource + Clone + DeserializeOwned + fmt::Debug,
{
    async fn tell(&self, told: Told<K>) -> Result<(), End> {
        Ok(self.queue.send((self.wrap)(told)).await?)
    }

    /// A watch broke.
    fn doubt(&mut self) {
        self.position = match (std::mem::replace(&mut self.position, Position::Unknown), self.ask.after_break) {
            (Position::At(version) | Position::Doubtful(version), AfterBreak::Resume) => Position::Doubtful(version),
            (Position::At(_) | Position::Doubtful(_), AfterBreak::List) | (Position::Unknown, _) => Position::Unknown,
        };
    }

    /// Lists where that is due, then watches; says why that ended.
    async fn attempt(&mut self, backoff: &mut Backoff) -> End {
        let ended = match (self.position.clone(), self.strategy) {
            (Position::At(version), _) => self.watch(&version, backoff).await,
            (Position::Doubtful(version), _) => match self.ascertain(&version).await {
                Ok(()) => self.watch(&version, backoff).await,
                Err(end) => return end,
            },
            (Position::Unknown, Strategy::Streaming) => self.list_streaming(backoff).await,
            (Position::Unknown, Strategy::Pages) => self.list_pages(backoff).await,
        };
        match ended {
            Ok(end) | Err(end) => end,
        }
    }

    /// Fails unless the server has come as far as we have: a watch from a version that lies ahead of it would wait in silence
    /// until that is reached, and tell nothing of what changes before.
    async fn ascertain(&mut self, version: &str) -> Result<(), End> {
        let params = ListParams::default().limit(1);
        let page = match tokio::time::timeout(LIST_LIMIT, self.api.list_metadata(&params)).await {
            Ok(page) => page.map_err(|error| End::Broken(explain(&error)))?,
            Err(_) => return Err(End::Broken(format!("no answer to a list within {} s", LIST_LIMIT.as_secs()))),
        };
        let there = page.metadata.resource_version.unwrap_or_default();
        match (there.parse::<u64>(), version.parse::<u64>()) {
            (Ok(there), Ok(seen)) if there < seen => {
                Err(End::Expired(format!("the server is at version {there}, and was at {seen}: listing anew")))
            }
            // Versions are opaque by the letter; what is no number cannot be compared.
            (Ok(_) | Err(_), _) => {
                self.position = Position::At(version.to_owned());
                Ok(())
            }
        }
    }

    fn watch_params(&self, seconds: u32) -> WatchParams {
        let mut params = WatchParams::default().timeout(seconds);
        params.field_selector = Some(self.ask.fields.to_owned()).filter(|selector| !selector.is_empty());
        params.label_selector = Some(self.ask.labels.to_owned()).filter(|selector| !selector.is_empty());
        params
    }

    /// A list as the first events of a watch, and the watch after it.
    async fn list_streaming(&mut self, backoff: &mut Backoff) -> Result<End, End> {
        let seconds = watch_seconds();
        let params = self.watch_params(seconds).initial_events();
        // The empty version asks for what is true now: a lagging server must not take us back in time.
        let stream = self.open(&params, "").await.map_err(|error| match refusal(&error) {
            Refusal::NotSo => End::NoStreaming(explain(&error)),
            Refusal::Unknown => End::NoSuchKind,
            Refusal::Gone | Refusal::Other => End::Broken(explain(&error)),
        })?;
        self.tell(Told::Listing).await?;
        let mut stream = pin!(stream);
        loop {
            let version = match next(&mut stream, limit(seconds)).await? {
                Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    self.tell(Told::Listed(object)).await?;
                    continue;
                }
                Some(WatchEvent::Bookmark(mark)) if mark.metadata.annotations.contains_key(INITIAL_EVENTS_END) => {
                    mark.metadata.resource_version
                }
                Some(WatchEvent::Bookmark(_)) => continue,
                Some(WatchEvent::Deleted(_)) => {
                    return Err(End::Broken("the server deleted an object within a list".to_owned()));
                }
                Some(WatchEvent::Error(status)) => return Err(in_band(&status)),
                None => return Err(End::Broken("the list broke off".to_owned())),
            };
            self.completed(version, backoff).await?;
            return self.follow_stream(stream, seconds, backoff).await;
        }
    }

    /// A list in pages, and the watch after it.
    async fn list_pages(&mut self, backoff: &mut Backoff) -> Result<End, End> {
        let mut params = ListParams::default().limit(PAGE);
        params.field_selector = Some(self.ask.fields.to_owned()).filter(|selector| !selector.is_empty());
        params.label_selector = Some(self.ask.labels.to_owned()).filter(|selector| !selector.is_empty());
        loop {
            let page = tokio::time::timeout(LIST_LIMIT, self.api.list(&params))
                .await
                .map_err(|_| End::Broken(format!("no answer to a list within {} s", LIST_LIMIT.as_secs())))?
                .map_err(|error| match refusal(&error) {
                    Refusal::Unknown => End::NoSuchKind,
                    Refusal::Gone | Refusal::NotSo | Refusal::Other => End::Broken(explain(&error)),
                })?;
            if params.continue_token.is_none() {
                self.tell(Told::Listing).await?; // not before the first answer: a server that is away lists nothing
            }
            for object in page.items {
                self.tell(Told::Listed(object)).await?;
            }
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                let version = page.metadata.resource_version.unwrap_or_default();
                self.completed(version.clone(), backoff).await?;
                return self.watch(&version, backoff).await;
            }
        }
    }

    async fn completed(&mut self, version: String, backoff: &mut Backoff) -> Result<(), End> {
        self.position = position(version)?;
        backoff.reset();
        self.tell(Told::Complete).await
    }

    /// Watches from a version on.
    async fn watch(&mut self, version: &str, backoff: &mut Backoff) -> Result<End, End> {
        let seconds = watch_seconds();
        let stream = self.open(&self.watch_params(seconds), version).await.map_err(|error| match refusal(&error) {
            // The API answers so within the stream, but a proxy in between may not. Refused for good is refused for
            // this version: a list helps there, too.
            Refusal::Gone | Refusal::NotSo | Refusal::Unknown => End::Expired(explain(&error)),
            Refusal::Other => End::Broken(explain(&error)),
        })?;
        self.tell(Told::Heard).await?;
        self.follow_stream(pin!(stream), seconds, backoff).await
    }

    async fn open(
        &self,
        params: &WatchParams,
        version: &str,
    ) -> kube::Result<impl Stream<Item = kube::Result<WatchEvent<K>>> + use<K, M>> {
        match tokio::time::timeout(LIST_LIMIT, self.api.watch(params, version)).await {
            Ok(opened) => opened,
            Err(_) => Err(kube::Error::ReadEvents(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                format!("no answer to a watch within {} s", LIST_LIMIT.as_secs()),
            ))),
        }
    }

    /// Tells what comes on a watch, until it ends.
    async fn follow_stream<S>(
        &mut self,
        mut stream: std::pin::Pin<&mut S>,
        seconds: u32,
        backoff: &mut Backoff,
    ) -> Result<End, End>
    where
        S: Stream<Item = kube::Result<WatchEvent<K>>>,
    {
        let end = Instant::now() + Duration::from_secs(u64::from(seconds)) - EARLY;
        loop {
            let (version, told) = match next(&mut stream, limit(seconds)).await? {
                Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    (object.resource_version().unwrap_or_default(), Told::Applied(object))
                }
                Some(WatchEvent::Deleted(object)) => {
                    (object.resource_version().unwrap_or_default(), Told::Deleted(object))
                }
                Some(WatchEvent::Bookmark(mark)) => (mark.metadata.resource_version, Told::Heard),
                Some(WatchEvent::Error(status)) => return Err(in_band(&status)),
                None if Instant::now() < end => return Ok(End::Early),
                None => return Ok(End::Renew),
            };
            self.tell(told).await?;
            self.position = position(version)?;
            backoff.reset();
        }
    }
}

/// The next event. An object that cannot be read is reported and skipped: what was last known of it stays.
async fn next<K, S>(stream: &mut std::pin::Pin<&mut S>, limit: Duration) -> Result<Option<WatchEvent<K>>, End>
where
    S: Stream<Item = kube::Result<WatchEvent<K>>>,
{
    loop {
        match tokio::time::timeout(limit, stream.next()).await {
            Err(_) => return Err(End::Broken(format!("nothing heard for {} s", limit.as_secs()))),
            Ok(None) => return Ok(None),
            Ok(Some(Ok(event))) => return Ok(Some(event)),
            Ok(Some(Err(kube::Error::SerdeError(error)))) => {
                tracing::warn!("an object cannot be read and stays as it was: {error}");
            }
            Ok(Some(Err(kube::Error::Api(status)))) => return Err(in_band(&status)),
            Ok(Some(Err(error))) => return Err(End::Broken(explain(&error))),
        }
    }
}

fn position(version: String) -> Result<Position, End> {
    if version.is_empty() {
        return Err(End::Expired("the server sent no resourceVersion".to_owned()));
    }
    Ok(Position::At(version))
}

fn watch_seconds() -> u32 {
    WATCH_SECONDS + fastrand::u32(0..WATCH_SPREAD_SECONDS)
}

fn limit(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds)) + GRACE
}

/// An error within a stream.
fn in_band(status: &kube::core::Status) -> End {
    match status.code {
        410 => End::Expired(status.message.clone()),
        _ => End::Broken(format!("{} ({})", status.message, status.code)),
    }
}

/// What a refused request means.
enum Refusal {
    /// 410: the version is gone.
    Gone,
    /// The request will never be granted in this form.
    NotSo,
    /// 404: there is no such kind.
    Unknown,
    /// Anything that may pass: no connection, an overloaded server, rights that are still to come.
    Other,
}

fn refusal(error: &kube::Error) -> Refusal {
    match error {
        kube::Error::Api(status) => match status.code {
            410 => Refusal::Gone,
            404 => Refusal::Unknown,
            401 | 403 | 408 | 429 => Refusal::Other,
            400..=499 => Refusal::NotSo,
            _ => Refusal::Other,
        },
        _ => Refusal::Other, // a foreign enum: nothing was refused
    }
}

/// An error for people, with what to do where that is known.
fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            format!("{}: allow list and watch in the ServiceAccount's ClusterRole", status.message)
        }
        kube::Error::Api(status) if status.code == 401 => {
            format!("{}: the token is not (or no longer) valid", status.message)
        }
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => {
            // The outer layers say little ("error trying to connect"); the cause is at the end of the chain.
            let mut text = other.to_string();
            let mut cause = std::error::Error::source(other);
            while let Some(inner) = cause {
                let inner_text = inner.to_string();
                if !text.contains(&inner_text) {
                    text = format!("{text}: {inner_text}");
                }
                cause = inner.source();
            }
            text
        }
    }
}

/// How long to wait after the failures so far: at once after the first, then 250 ms doubling to 10 s, × 0.75–1.0 at
/// random. The cap is what a node may lag behind an API server that comes back.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    fn reset(&mut self) {
        self.failures = 0;
    }

    fn next_delay(&mut self) -> Duration {
        let delay = match self.failures {
            0 => Duration::from_millis(50),
            n => Duration::from_millis(250 << (n - 1).min(6)).min(Duration::from_secs(10)),
        };
        self.failures += 1;
        delay.mul_f64(0.75 + 0.25 * fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_grows_to_its_cap_and_starts_again() {
        let mut backoff = Backoff::default();
        let delays: Vec<Duration> = (0..40).map(|_| backoff.next_delay()).collect();
        assert!(delays[0] <= Duration::from_millis(50));
        assert!(delays.iter().all(|delay| *delay <= Duration::from_secs(10)));
        assert!(delays[39] >= Duration::from_millis(7500), "{:?}", delays[39]);
        assert!(delays[2] >= Duration::from_millis(375) && delays[2] <= Duration::from_millis(500));
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(50));
    }
}
