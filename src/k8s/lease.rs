//! Leader election over a `Lease`: of several allocators one acts.
//!
//! Nobody's clock is compared with another's: a candidate takes a Lease over when its own clock says that the object has not
//! changed for the Lease's duration. A leader stops acting after two thirds of it without a renewal. That is a courtesy and no
//! guarantee (no write can be made conditional on a Lease): two leaders for a moment are safe because of how grants are written.

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The pause of a candidate between two looks, at most.
const LOOK: Duration = Duration::from_secs(2);

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leadership {
    /// Somebody else, or nobody is known to.
    Following(Option<String>),
    /// We do, and may act until then.
    Leading {
        /// When that ends unless the Lease is renewed.
        until: Instant,
    },
}

impl Leadership {
    /// Whether we may act.
    pub fn is_ours(&self, now: Instant) -> bool {
        match self {
            Self::Following(_) => false,
            Self::Leading { until } => now < *until,
        }
    }
}

/// One that may hold a Lease, and what it has seen of others that do. It asks nobody: answers and moments are arguments.
#[derive(Debug)]
pub(super) struct Candidate {
    identity: String,
    term: Duration,
    seen: Option<Seen>,
}

/// Who holds a Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holder {
    /// Nobody, or one whose time is over.
    Nobody,
    /// This candidate.
    Us,
    /// Another.
    Other(String),
}

/// When a Lease was asked for, and when the answer was there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) at: Instant,
    pub(super) answered: Instant,
}

/// A candidate that wants to lead.
pub struct Election {
    api: Api<Lease>,
    name: String,
    candidate: Candidate,
}

/// The Lease of another as it was when it last changed, by our clock.
#[derive(Debug)]
struct Seen {
    version: Option<String>,
    since: Instant,
}

impl Election {
    /// A candidate for the Lease `name`, which holds for `term` (at least 3 s). `identity` is nobody else's.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str, term: Duration) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, name: name.to_owned(), candidate: Candidate::new(identity, term.max(Duration::from_secs(3))) }
    }

    /// Publishes who leads until `stop`; then gives the Lease up if it is ours, so that the next need not wait.
    pub async fn run(mut self, out: watch::Sender<Leadership>, stop: CancellationToken) {
        loop {
            let now = match self.attempt_in_time(&out).await {
                Ok(leadership) => leadership,
                Err(error) => {
                    warn!("the lease {} cannot be read or written: {error}", self.name);
                    out.borrow().clone()
                }
            };
            let pause = match &now {
                Leadership::Leading { until } if *until <= Instant::now() => {
                    publish(&out, Leadership::Following(None));
                    LOOK
                }
                Leadership::Leading { until } => {
                    // A third of the term after this attempt began: one that takes as long again still ends in time.
                    let pause = (*until - self.candidate.term / 3).saturating_duration_since(Instant::now());
                    publish(&out, now);
                    pause
                }
                Leadership::Following(_) => {
                    publish(&out, now);
                    LOOK.min(self.candidate.term / 3)
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        let leads = matches!(*out.borrow(), Leadership::Leading { .. });
        if leads {
            self.give_up().await;
        }
    }

    /// An attempt. A leader whose time runs out stops acting first, before the attempt or within it, and reads what became of it
    /// then: it may have been frozen.
    async fn attempt_in_time(&mut self, out: &watch::Sender<Leadership>) -> Result<Leadership, String> {
        let held = out.borrow().clone();
        let until = match held {
            Leadership::Leading { until } => until,
            Leadership::Following(_) => return self.attempt(Instant::now()).await,
        };
        if until > Instant::now() {
            let attempt = self.attempt(Instant::now());
            if let Ok(ended) = tokio::time::timeout_at(until, attempt).await {
                return ended;
            }
        }
        publish(out, Leadership::Following(None));
        self.attempt(Instant::now()).await
    }

    /// Looks at the Lease, and renews, takes or waits for it. Gives up after a third of the term.
    async fn attempt(&mut self, began: Instant) -> Result<Leadership, String> {
        match tokio::time::timeout(self.candidate.term / 3, self.look(began)).await {
            Ok(Ok(leadership)) => Ok(leadership),
            // Somebody else was quicker; the next look shows who.
            Ok(Err(kube::Error::Api(status))) if status.is_conflict() || status.is_already_exists() => {
                Ok(Leadership::Following(None))
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {:.1} s", (self.candidate.term / 3).as_secs_f32())),
        }
    }

    async fn look(&mut self, began: Instant) -> kube::Result<Leadership> {
        let ours = Leadership::Leading { until: self.candidate.until(began) };
        let Some(lease) = self.api.get_opt(&self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.candidate.spec(None)) };
            self.api.create(&PostParams::default(), &lease).await?;
            return Ok(ours);
        };
        if let Holder::Other(holder) = self.candidate.holder(&lease, Asked { at: began, answered: Instant::now() }) {
            return Ok(Leadership::Following(Some(holder)));
        }
        let lease = Lease { spec: Some(self.candidate.spec(lease.spec)), ..lease };
        self.api.replace(&self.name, &PostParams::default(), &lease).await?;
        self.candidate.seen = None;
        Ok(ours)
    }

    /// Ends our term now. What goes wrong costs the next leader some seconds, nothing else.
    async fn give_up(&self) {
        let give_up = async {
            let mut lease = self.api.get(&self.name).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(&self.candidate.identity) {
                spec.holder_identity = None;
                self.api.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<(), kube::Error>(())
        };
        match tokio::time::timeout(Duration::from_millis(800), give_up).await {
            Ok(Ok(())) => info!("the lease is given up"),
            Ok(Err(error)) => warn!("the lease {} could not be given up: {error}", self.name),
            Err(_) => warn!("the lease {} could not be given up in time", self.name),
        }
    }
}

impl Candidate {
    /// One of this name, which is nobody else's, for a Lease that holds for `term`.
    pub(super) fn new(identity: &str, term: Duration) -> Self {
        Self { identity: identity.to_owned(), term, seen: None }
    }

    /// Until when a Lease that is taken or renewed by an attempt that began at `began` may be acted by.
    pub(super) fn until(&self, began: Instant) -> Instant {
        began + self.term * 2 / 3
    }

    /// Who holds a Lease, by the clock of this process alone.
    pub(super) fn holder(&mut self, lease: &Lease, asked: Asked) -> Holder {
        let spec = lease.spec.clone().unwrap_or_default();
        match spec.holder_identity.clone().filter(|holder| !holder.is_empty()) {
            None => Holder::Nobody,
            Some(holder) if holder == self.identity => Holder::Us,
            Some(_) if self.is_over(lease, &spec, asked) => Holder::Nobody,
            Some(holder) => Holder::Other(holder),
        }
    }

    /// Whether the Lease of another has not changed for as long as it holds. Judged is what the answer shows, by when it was asked
    /// for: that may have waited while we were frozen.
    fn is_over(&mut self, lease: &Lease, spec: &LeaseSpec, asked: Asked) -> bool {
        let version = &lease.metadata.resource_version;
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let term = seconds.map_or(self.term, Duration::from_secs);
        match &self.seen {
            Some(seen) if seen.version == *version => asked.at.saturating_duration_since(seen.since) >= term,
            Some(_) | None => {
                self.seen = Some(Seen { version: version.clone(), since: asked.answered });
                false
            }
        }
    }

    /// The Lease as ours, taken over or renewed from what it was.
    pub(super) fn spec(&self, before: Option<LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(jiff::Timestamp::now());
        let before = before.unwrap_or_default();
        let is_ours = before.holder_identity.as_deref() == Some(&self.identity);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(self.term.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: before.acquire_time.filter(|_| is_ours).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            // At its end it stays: a count that wraps is refused by the API server, and then nobody leads.
            lease_transitions: Some(before.lease_transitions.unwrap_or(0).saturating_add(i32::from(!is_ours))),
            ..LeaseSpec::default()
        }
    }
}

/// Publishes what is news, and says so when the leader changes.
fn publish(out: &watch::Sender<Leadership>, now: Leadership) {
    out.send_if_modified(|held| {
        match (&*held, &now) {
            (Leadership::Following(_), Leadership::Leading { .. }) => info!("this allocator leads"),
            (Leadership::Leading { .. }, Leadership::Following(_)) => warn!("this allocator leads no longer"),
            (Leadership::Following(before), Leadership::Following(Some(leader))) if before.as_ref() != Some(leader) => {
                info!(leader, "another allocator leads; waiting");
            }
            (Leadership::Following(_), Leadership::Following(_)) => {}
            (Leadership::Leading { .. }, Leadership::Leading { .. }) => {}
        }
        let changed = *held != now;
        *held = now;
        changed
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;

    /// A candidate before a server that answers every request with the Lease that `answer` gives.
    fn candidate(answer: impl Fn() -> Lease + Clone + Send + 'static) -> Election {
        let service = tower::service_fn(move |_: Request<Body>| {
            let lease = serde_json::to_vec(&answer()).unwrap();
            async { Ok::<_, std::convert::Infallible>(Response::new(Body::from(lease))) }
        });
        Election::new(Client::new(service, "default"), "default", "lease", "us", Duration::from_secs(15))
    }

    fn lease(holder: &str, version: &str, transitions: i32) -> Lease {
        let metadata = ObjectMeta { resource_version: Some(version.to_owned()), ..ObjectMeta::default() };
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }

    #[tokio::test]
    async fn the_count_of_transitions_stays_at_its_end() {
        let election = candidate(Lease::default);
        let taken = |transitions| election.candidate.spec(lease("them", "1", transitions).spec).lease_transitions;
        assert_eq!((taken(7), taken(i32::MAX - 1), taken(i32::MAX)), (Some(8), Some(i32::MAX), Some(i32::MAX)));
    }

    /// Frozen between the answer and its judgement, for longer than the Lease holds: the answer is of before.
    #[tokio::test(start_paused = true)]
    async fn an_answer_is_judged_by_when_it_was_asked_for() {
        let mut election = candidate(Lease::default);
        let theirs = lease("them", "1", 0);
        let mut over = |at| {
            let asked = Asked { at, answered: Instant::now() };
            election.candidate.is_over(&theirs, theirs.spec.as_ref().unwrap(), asked)
        };
        assert!(!over(Instant::now()), "seen for the first time");
        tokio::time::advance(Duration::from_secs(2)).await;
        let asked = Instant::now();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!over(asked), "it has been renewed many times since, for all that is known");
        assert!(over(Instant::now()), "asked again, it is what it was");
    }

    /// A server that takes its time: an attempt asks twice, and the next one begins early enough to end before the term does.
    #[tokio::test(start_paused = true)]
    async fn a_leader_whose_server_is_slow_stays_one() {
        let service = tower::service_fn(move |_: Request<Body>| async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            let answer = serde_json::to_vec(&lease("us", "1", 0)).unwrap();
            Ok::<_, std::convert::Infallible>(Response::new(Body::from(answer)))
        });
        let client = Client::new(service, "default");
        let election = Election::new(client, "default", "lease", "us", Duration::from_secs(24));
        let out = watch::Sender::new(Leadership::Following(None));
        let mut seen = out.subscribe();
        tokio::spawn(election.run(out, CancellationToken::new()));
        seen.wait_for(|now| now.is_ours(Instant::now())).await.unwrap();
        for _ in 0..20 {
            seen.changed().await.unwrap();
            assert!(seen.borrow().is_ours(Instant::now()), "its term ended while it was renewing it");
        }
    }

    /// Thawed after its time: whoever writes must see that it is over before anything is asked.
    #[tokio::test(start_paused = true)]
    async fn a_leader_past_its_time_stops_before_it_asks() {
        let out = watch::Sender::new(Leadership::Following(None));
        let seen = out.subscribe();
        let (asked, mut said) = tokio::sync::mpsc::channel(64);
        let election = candidate(move || {
            asked.try_send(seen.borrow().clone()).unwrap();
            lease("us", "1", 0)
        });
        let stop = CancellationToken::new();
        tokio::spawn(election.run(out.clone(), stop.clone()));
        out.subscribe().wait_for(|now| now.is_ours(Instant::now())).await.unwrap();
        while said.try_recv().is_ok() {}
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(said.recv().await, Some(Leadership::Following(None)));
        stop.cancel();
    }
}
