//! One kind of object, followed: listed once, then watched, for ever.
//!
//! Written on the plain list and watch calls and not on kube's `watcher`, for five reasons met in practice: that one asks
//! for ever for a streaming list that a server refuses, asks for ever for a version that is gone when the refusal comes as
//! an HTTP status, opens watches in a tight loop when a server ends each at once, says nothing of bookmarks (so that a
//! quiet watch looks dead), and waits up to 30 s after a long outage.

use super::reply::{self, Broken, Event, Events, Identity, Place, Unreadable};
use kube::api::{ListParams, WatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::fmt;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Objects a page where the server has no streaming lists: more pages, less memory.
const PAGE: u32 = 100;

/// A watch is renewed after this many seconds and up to [`WATCH_SPREAD_SECONDS`] more: below the idle limits of
/// balancers, and not all nodes at once.
const WATCH_SECONDS: u32 = 120;
const WATCH_SPREAD_SECONDS: u32 = 60;

/// The server ends a watch at its time; one that stays silent longer than that by this much is a dead connection.
const GRACE: Duration = Duration::from_secs(15);

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
    Deleted(Identity),
    /// An object, of the list or of the watch, cannot be read: what was last read of it stays.
    Unreadable(Unreadable),
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
    Broken(String, Setback),
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
    let (url, client) = (api.resource_url().to_owned(), api.into_client());
    let (strategy, position) = (Strategy::Streaming, Position::Unknown);
    let mut follower = Follower { client, url, ask, queue, wrap, strategy, position, seen: Seen::default() };
    let mut backoff = Backoff::default();
    loop {
        let began = Instant::now();
        let end = follower.attempt(&mut backoff).await;
        let (told, setback) = match end {
            End::Closed => return,
            End::Renew => continue,
            End::Early => {
                follower.doubt();
                if began.elapsed() >= TOO_SHORT {
                    continue;
                }
                (Told::Failed("the server ended the watch too soon".to_owned()), Setback::Unavailable)
            }
            End::NoStreaming(why) => {
                tracing::info!("no streaming lists here ({why}); listing in pages");
                follower.strategy = Strategy::Pages;
                continue;
            }
            End::Expired(why) => {
                follower.position = Position::Unknown;
                (Told::Failed(why), Setback::Expired)
            }
            End::NoSuchKind => (Told::Absent, Setback::Refused),
            End::Broken(why, setback) => {
                follower.doubt();
                (Told::Failed(why), setback)
            }
        };
        if follower.tell(told).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next_delay(setback, Instant::now())) => {}
            () = follower.queue.closed() => return,
        }
    }
}

/// The highest version at which a list was complete, and whether one with a lower version was put aside since.
#[derive(Debug, Default)]
struct Seen {
    highest: u64,
    doubted: Doubted,
}

/// Whether a list was put aside because its version is lower than one seen before.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Doubted {
    #[default]
    No,
    Once,
}

impl Seen {
    /// Whether a list of this version is believed. One that lies behind what was seen, as after an etcd was put back or from a
    /// server that lags, is believed only when it is read a second time.
    fn believes(&mut self, version: &str) -> bool {
        // Versions are opaque by the letter; what is no number cannot be compared.
        let Ok(version) = version.parse::<u64>() else { return true };
        if version < self.highest && self.doubted == Doubted::No {
            self.doubted = Doubted::Once;
            return false;
        }
        *self = Self { highest: version, doubted: Doubted::No };
        true
    }

    /// The watch has come as far as this.
    fn reach(&mut self, version: &str) {
        self.highest = version.parse().unwrap_or(0).max(self.highest);
    }
}

struct Follower<K, M> {
    client: Client,
    url: String,
    ask: Ask,
    queue: mpsc::Sender<M>,
    wrap: fn(Told<K>) -> M,
    strategy: Strategy,
    position: Position,
    seen: Seen,
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
        let there = reply::version(&self.client, &self.url).await.map_err(|error| broken(&error))?;
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
        let opened = reply::watch(&self.client, &self.url, &params, "").await;
        let mut events = opened.map_err(|error| match refusal(&error) {
            Refusal::NotSo => End::NoStreaming(explain(&error)),
            Refusal::Unknown => End::NoSuchKind,
            Refusal::Gone | Refusal::Other => broken(&error),
        })?;
        self.tell(Told::Listing).await?;
        loop {
            match next(&mut events, limit(seconds)).await? {
                Some(Event::Present(object)) => self.tell(listed(object)).await?,
                Some(Event::Bookmark(mark)) if mark.place == Place::EndOfList => {
                    self.completed(mark.version, backoff).await?;
                    return self.follow_events(events, seconds, backoff).await;
                }
                Some(Event::Bookmark(_)) => {}
                Some(Event::Deleted(_)) => {
                    let why = "the server deleted an object within a list".to_owned();
                    return Err(End::Broken(why, Setback::Unavailable));
                }
                Some(Event::Error(status)) => return Err(in_band(&status)),
                None => return Err(End::Broken("the list broke off".to_owned(), Setback::Unavailable)),
            }
        }
    }

    /// A list in pages, and the watch after it.
    async fn list_pages(&mut self, backoff: &mut Backoff) -> Result<End, End> {
        let mut params = ListParams::default().limit(PAGE);
        params.field_selector = Some(self.ask.fields.to_owned()).filter(|selector| !selector.is_empty());
        params.label_selector = Some(self.ask.labels.to_owned()).filter(|selector| !selector.is_empty());
        loop {
            let page = reply::list(&self.client, &self.url, &params).await.map_err(|error| match refusal(&error) {
                Refusal::Unknown => End::NoSuchKind,
                Refusal::Gone | Refusal::NotSo | Refusal::Other => broken(&error),
            })?;
            if params.continue_token.is_none() {
                self.tell(Told::Listing).await?; // not before the first answer: a server that is away lists nothing
            }
            for object in page.objects {
                self.tell(listed(object)).await?;
            }
            params.continue_token = page.next;
            if params.continue_token.is_none() {
                self.completed(page.version.clone(), backoff).await?;
                return self.watch(&page.version, backoff).await;
            }
        }
    }

    async fn completed(&mut self, version: String, backoff: &mut Backoff) -> Result<(), End> {
        if !self.seen.believes(&version) {
            let seen = self.seen.highest;
            return Err(End::Expired(format!("a list of version {version} after {seen}: it is read a second time")));
        }
        self.position = position(version)?;
        backoff.reset();
        self.tell(Told::Complete).await
    }

    /// Watches from a version on.
    async fn watch(&mut self, version: &str, backoff: &mut Backoff) -> Result<End, End> {
        let seconds = watch_seconds();
        let opened = reply::watch(&self.client, &self.url, &self.watch_params(seconds), version).await;
        let events = opened.map_err(|error| match refusal(&error) {
            // The API answers so within the stream, but a proxy in between may not. Refused for good is refused for
            // this version: a list helps there, too.
            Refusal::Gone | Refusal::NotSo | Refusal::Unknown => End::Expired(explain(&error)),
            Refusal::Other => broken(&error),
        })?;
        self.tell(Told::Heard).await?;
        self.follow_events(events, seconds, backoff).await
    }

    /// Tells what comes on a watch, until it ends.
    async fn follow_events(&mut self, mut events: Events<K>, seconds: u32, backoff: &mut Backoff) -> Result<End, End> {
        let end = Instant::now() + Duration::from_secs(u64::from(seconds)) - EARLY;
        loop {
            let (version, told) = match next(&mut events, limit(seconds)).await? {
                Some(Event::Present(Ok(object))) => {
                    (object.resource_version().unwrap_or_default(), Told::Applied(object))
                }
                Some(Event::Present(Err(bad))) => (bad.identity.version.clone(), Told::Unreadable(bad)),
                Some(Event::Deleted(identity)) => (identity.version.clone(), Told::Deleted(identity)),
                Some(Event::Bookmark(mark)) => (mark.version, Told::Heard),
                Some(Event::Error(status)) => return Err(in_band(&status)),
                None if Instant::now() < end => return Ok(End::Early),
                None => return Ok(End::Renew),
            };
            self.tell(told).await?;
            self.seen.reach(&version);
            self.position = position(version)?;
            backoff.reset();
        }
    }
}

fn listed<K>(object: Result<K, Unreadable>) -> Told<K> {
    match object {
        Ok(object) => Told::Listed(object),
        Err(bad) => Told::Unreadable(bad),
    }
}

/// The next event. A connection that breaks ends the watch as a server does that ends it early.
async fn next<K: DeserializeOwned>(events: &mut Events<K>, limit: Duration) -> Result<Option<Event<K>>, End> {
    match tokio::time::timeout(limit, events.next()).await {
        Err(_) => Err(End::Broken(format!("nothing heard for {} s", limit.as_secs()), Setback::Unreachable)),
        Ok(Ok(event)) => Ok(event),
        Ok(Err(Broken::Connection(error))) => {
            tracing::debug!("the connection of a watch broke: {error}");
            Ok(None)
        }
        Ok(Err(error @ (Broken::Endless | Broken::Nonsense(_)))) => {
            Err(End::Broken(error.to_string(), Setback::Unavailable))
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
    match (status.code, status.message.as_str()) {
        (410, why) => End::Expired(why.to_owned()),
        (0, "") => End::Broken("the server ended the watch and did not say why".to_owned(), Setback::Unavailable),
        (code, why) => End::Broken(format!("{why} ({code})"), Setback::of(code)),
    }
}

fn broken(error: &kube::Error) -> End {
    let setback = match error {
        kube::Error::Api(status) => Setback::of(status.code),
        _ => Setback::Unreachable, // a foreign enum: there was no answer
    };
    End::Broken(explain(error), setback)
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
pub(super) fn explain(error: &kube::Error) -> String {
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
            let text = text.replace("deadline has elapsed", "it takes longer than 5 s");
            match text.strip_prefix("ServiceError: client error (Connect)") {
                Some(why) => format!("the API server cannot be reached{why}"),
                None => text,
            }
        }
    }
}

/// What kind of failure an attempt met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setback {
    /// No answer.
    Unreachable,
    /// 401 or 403: rights are missing. Those of a server that has just started are not loaded yet.
    Refused,
    /// Any other answer that is not what was asked for.
    Unavailable,
    /// The history that we need is gone; a list helps.
    Expired,
}

impl Setback {
    fn of(code: u16) -> Self {
        match code {
            401 | 403 => Self::Refused,
            _ => Self::Unavailable,
        }
    }
}

/// How long to wait after the failures so far: at once after the first, then 250 ms doubling to a cap, × 0.75–1.0 at random.
/// The cap is what a node may lag behind an API server that comes back. Whoever answers after silence, or with another kind of
/// failure, is asked anew from the beginning.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
    last: Option<(Setback, Instant)>,
}

/// After silence a server may refuse for so long what it grants later: until then it is asked often.
const RIGHTS_LOAD: Duration = Duration::from_secs(20);

/// All nodes list within this time, at random, when a server has lost its history.
const LIST_SPREAD: Duration = Duration::from_secs(2);

impl Backoff {
    fn reset(&mut self) {
        *self = Self::default();
    }

    fn next_delay(&mut self, setback: Setback, now: Instant) -> Duration {
        let since = match self.last {
            Some((last, since)) if last == setback => since,
            Some(_) | None => {
                self.failures = 0;
                now
            }
        };
        self.last = Some((setback, since));
        let first = self.failures == 0;
        self.failures += 1;
        let cap = match setback {
            Setback::Expired if first => return LIST_SPREAD.mul_f64(fastrand::f64()),
            Setback::Refused if now - since < RIGHTS_LOAD => Duration::from_secs(2),
            Setback::Unreachable => Duration::from_secs(5),
            Setback::Refused | Setback::Unavailable | Setback::Expired => Duration::from_secs(10),
        };
        let delay = match self.failures - 1 {
            0 => Duration::from_millis(50),
            n => Duration::from_millis(250 << (n - 1).min(6)).min(cap),
        };
        delay.mul_f64(0.75 + 0.25 * fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(backoff: &mut Backoff, setback: Setback, count: usize) -> Vec<Duration> {
        let mut now = Instant::now();
        let mut next = |_| {
            let delay = backoff.next_delay(setback, now);
            now += delay;
            delay
        };
        (0..count).map(&mut next).collect()
    }

    #[test]
    fn the_backoff_grows_to_its_cap_and_starts_again() {
        for (setback, cap) in [(Setback::Unavailable, 10), (Setback::Refused, 10), (Setback::Unreachable, 5)] {
            let mut backoff = Backoff::default();
            let delays = delays(&mut backoff, setback, 40);
            assert!(delays[0] <= Duration::from_millis(50));
            assert!(delays.iter().all(|delay| *delay <= Duration::from_secs(cap)));
            assert!(delays[39] >= Duration::from_secs(cap).mul_f64(0.75), "{:?}", delays[39]);
            assert!(delays[2] >= Duration::from_millis(375) && delays[2] <= Duration::from_millis(500));
            backoff.reset();
            assert!(backoff.next_delay(setback, Instant::now()) <= Duration::from_millis(50));
        }
    }

    /// A server that was away for long comes back: first without the rights loaded, then without the history.
    #[test]
    fn a_server_that_comes_back_is_asked_often_and_listed_soon() {
        let mut backoff = Backoff::default();
        delays(&mut backoff, Setback::Unreachable, 40);
        let refused = delays(&mut backoff, Setback::Refused, 10);
        assert!(refused.iter().all(|delay| *delay <= Duration::from_secs(2)), "{refused:?}");
        let listed: Vec<Duration> = (0..100)
            .map(|_| {
                let mut backoff = Backoff { failures: 9, last: Some((Setback::Refused, Instant::now())) };
                backoff.next_delay(Setback::Expired, Instant::now())
            })
            .collect();
        assert!(listed.iter().all(|delay| *delay <= Duration::from_secs(2)));
        let spread = *listed.iter().max().unwrap() - *listed.iter().min().unwrap();
        assert!(spread > Duration::from_secs(1), "not all nodes at once: {spread:?}");
        // A server that answers every list so is not stormed.
        let expired = delays(&mut backoff, Setback::Expired, 20);
        assert!(expired[19] > Duration::from_secs(7), "{expired:?}");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_spoken_of_in_words() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = kube::Config::new(format!("http://{free}").parse().unwrap());
        let error = reply::version(&Client::try_from(config).unwrap(), "/api/v1/nodes").await.unwrap_err();
        let text = explain(&error);
        assert!(text.starts_with("the API server cannot be reached: ") && text.contains("refused"), "{text}");
    }

    #[test]
    fn a_list_of_a_lower_version_is_believed_when_it_is_read_a_second_time() {
        let mut seen = Seen::default();
        assert!(seen.believes("40") && seen.believes("42"));
        seen.reach("50");
        assert!(!seen.believes("45"));
        assert!(seen.believes("45") && seen.believes("46"));
        assert!(!seen.believes("3"));
        // It caught up meanwhile: nothing was believed that was older.
        assert!(seen.believes("60") && !seen.believes("59"));
        assert!(seen.believes("opaque"));
    }
}
