//! Whose turn it is among the nodes of a cluster to end sessions for a change: a `Lease` that `deploy/` creates, held by the node
//! whose walk is under way. A configuration with which a walk stopped is noted on it, for the others not to begin it.
//!
//! One node at a time is what holds while the API server answers and no process is frozen; a Lease can promise no more.

use super::follow::explain;
use super::lease::{Asked, Candidate, Holder};
use crate::condition::{Conditions, Reason};
use crate::config::rollout::{Need, Turn, UNANSWERED};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::info;

/// The name of the Lease.
pub const LEASE: &str = "herald-rollout";

/// How long it holds after it was last renewed. A node that died in its turn holds the others up for so long.
const TERM: Duration = Duration::from_secs(30);

/// The pause of one who waits, and at most as much again by chance: many nodes ask.
const LOOK: Duration = Duration::from_secs(2);

/// That of one who waits for an operator.
const RARE_LOOK: Duration = Duration::from_secs(10);

/// The pause after a conflict, at most.
const AGAIN_MS: u64 = 500;

/// Annotations of the Lease: what failed, and on which node.
const FAILED: &str = "herald.bgp/failed-configuration";
const FAILED_ON: &str = "herald.bgp/failed-on";

/// What the sessions of this node ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Counts walks: an answer is to one of them.
    pub walk: u64,
    /// What is asked.
    pub need: Need,
    /// What tells the configuration from others, the same on all nodes.
    pub configuration: Arc<str>,
    /// Whether it counts that the configuration failed elsewhere.
    pub heed: Heed,
}

/// Whether it counts that a configuration failed on another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heed {
    /// It does.
    Heeded,
    /// An operator wants it all the same.
    Overruled,
}

/// What is known, and of which walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The walk that was asked for.
    pub walk: u64,
    /// Whose turn it is.
    pub turn: Turn,
}

/// A node among those that share the Lease. It asks nobody: answers and moments are arguments.
#[derive(Debug)]
pub struct Sharer {
    node: Arc<str>,
    candidate: Candidate,
}

/// What follows from a look at the Lease.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// How it is to be written, by the version that was seen.
    pub write: Option<Lease>,
    /// Whose turn it is, once that is written.
    pub turn: Turn,
}

impl Sharer {
    /// The node of this name, which has nothing.
    pub fn new(node: &str) -> Self {
        Self { node: node.into(), candidate: Candidate::new(node, TERM) }
    }

    /// What a Lease that was asked for at `at`, and read when it was `answered`, means for what is asked.
    pub fn judge(&mut self, lease: Lease, request: &Request, at: Instant, answered: Instant) -> Verdict {
        let holder = self.candidate.holder(&lease, Asked { at, answered });
        match request.need {
            Need::Turn => self.turn(lease, &holder, request, at),
            Need::Nothing => {
                let mut after = released(lease.clone(), &holder);
                // It did come through here, where it failed before.
                if note(&after).is_some_and(|(what, on)| *what == *request.configuration && *on == *self.node) {
                    annotations(&mut after).retain(|key, _| key != FAILED && key != FAILED_ON);
                }
                Verdict { write: (holder == Holder::Us).then_some(after), turn: Turn::Unknown }
            }
            Need::Warning => {
                let mut after = released(lease.clone(), &holder);
                let annotations = annotations(&mut after);
                annotations.insert(FAILED.to_owned(), request.configuration.to_string());
                annotations.insert(FAILED_ON.to_owned(), self.node.to_string());
                Verdict { write: (after != lease).then_some(after), turn: Turn::Unknown }
            }
        }
    }

    fn turn(&self, lease: Lease, holder: &Holder, request: &Request, asked: Instant) -> Verdict {
        let barred = note(&lease).filter(|(what, on)| {
            let elsewhere = **on != *self.node && request.heed == Heed::Heeded;
            **what == *request.configuration && elsewhere
        });
        if let Some((_, on)) = barred {
            let turn = Turn::Barred(on.as_str().into());
            return Verdict { write: (*holder == Holder::Us).then(|| released(lease, holder)), turn };
        }
        match holder {
            Holder::Other(other) => Verdict { write: None, turn: Turn::Theirs(other.as_str().into()) },
            Holder::Us | Holder::Nobody => {
                let until = self.candidate.until(asked).into_std();
                let spec = Some(self.candidate.spec(lease.spec));
                Verdict { write: Some(Lease { spec, metadata: lease.metadata }), turn: Turn::Ours { until } }
            }
        }
    }
}

/// What failed, and where.
fn note(lease: &Lease) -> Option<(&String, &String)> {
    let annotations = lease.metadata.annotations.as_ref()?;
    annotations.get(FAILED).zip(annotations.get(FAILED_ON))
}

fn annotations(lease: &mut Lease) -> &mut BTreeMap<String, String> {
    lease.metadata.annotations.get_or_insert_default()
}

/// The Lease as it is when we do not hold it.
fn released(mut lease: Lease, holder: &Holder) -> Lease {
    if let (Holder::Us, Some(spec)) = (holder, &mut lease.spec) {
        spec.holder_identity = None;
    }
    lease
}

/// Where the Lease is, and where questions come from and answers go.
pub struct Lines {
    /// What is asked.
    pub requests: watch::Receiver<Request>,
    /// What is known.
    pub answers: watch::Sender<Answer>,
    /// What is not as it should be.
    pub conditions: watch::Sender<Conditions>,
}

/// Why nothing came of an attempt.
enum Failure {
    /// Somebody else was quicker.
    Conflict,
    /// Nobody can say; why, and what to do.
    Unavailable(String),
}

/// Asks for `node` what its sessions want to know, for ever. While they want nothing, nobody is asked.
pub async fn run(client: Client, node: Arc<str>, mut lines: Lines) {
    let api: Api<Lease> = Api::default_namespaced(client);
    let mut sharer = Sharer::new(&node);
    // Until then the Lease may be held by us, for all that others know.
    let mut held_until: Option<Instant> = None;
    loop {
        let request = lines.requests.borrow_and_update().clone();
        let began = Instant::now();
        if request.need != Need::Turn {
            // First of all here: whoever reads it ends no session by it any more.
            lines.publish(&request, Turn::Unknown);
            lines.say(None);
        }
        let pause = match request.need {
            Need::Nothing if held_until.is_none_or(|until| began >= until) => None,
            need => match attempt(&api, &mut sharer, &request, began).await {
                Ok(turn) => {
                    held_until = matches!(turn, Turn::Ours { .. }).then(|| began + TERM);
                    lines.say(None);
                    lines.publish(&request, turn.clone());
                    pause_of(need, &turn)
                }
                Err(Failure::Conflict) => Some(Duration::from_millis(fastrand::u64(..AGAIN_MS))),
                Err(Failure::Unavailable(why)) => {
                    if need == Need::Turn {
                        // It may have been written all the same.
                        held_until = Some(began + TERM);
                        lines.unanswered(&request, &api, &why);
                    }
                    Some(LOOK)
                }
            },
        };
        tokio::select! {
            changed = lines.requests.changed() => if changed.is_err() { return },
            () = sleep(pause) => {}
        }
    }
}

/// When to ask again; `None`: when something else is asked.
fn pause_of(need: Need, turn: &Turn) -> Option<Duration> {
    match (need, turn) {
        // The next attempt may take as long as the Lease still holds then.
        (Need::Turn, Turn::Ours { .. }) => Some(TERM / 3),
        (Need::Turn, Turn::Barred(_)) => {
            Some(RARE_LOOK + Duration::from_millis(fastrand::u64(..LOOK.as_secs() * 1000)))
        }
        (Need::Turn, _) => Some(LOOK + Duration::from_millis(fastrand::u64(..LOOK.as_secs() * 1000))),
        (Need::Nothing | Need::Warning, _) => None,
    }
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// Looks at the Lease, and writes what follows. Gives up after a third of the term.
async fn attempt(api: &Api<Lease>, sharer: &mut Sharer, request: &Request, began: Instant) -> Result<Turn, Failure> {
    let look = async {
        let lease = api.get(LEASE).await?;
        let Verdict { write, turn } = sharer.judge(lease, request, began, Instant::now());
        if let Some(lease) = write {
            api.replace(LEASE, &PostParams::default(), &lease).await?;
        }
        Ok(turn)
    };
    match tokio::time::timeout(TERM / 3, look).await {
        Ok(Ok(turn)) => Ok(turn),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(Failure::Conflict),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => {
            Err(Failure::Unavailable("it does not exist: apply deploy/base once more".to_owned()))
        }
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
            let message = format!("{}: allow get and update of it in a Role of the ServiceAccount", status.message);
            Err(Failure::Unavailable(message))
        }
        Ok(Err(error)) => Err(Failure::Unavailable(explain(&error))),
        Err(_) => Err(Failure::Unavailable(format!("no answer within {} s", (TERM / 3).as_secs()))),
    }
}

impl Lines {
    fn publish(&self, request: &Request, turn: Turn) {
        let answer = Answer { walk: request.walk, turn };
        self.answers.send_if_modified(|held| {
            let changed = *held != answer;
            match (&held.turn, &answer.turn) {
                (Turn::Ours { .. }, Turn::Ours { .. }) => {}
                (_, Turn::Ours { .. }) => info!("it is this node's turn to take a change that ends sessions"),
                (before, Turn::Theirs(node)) if *before != answer.turn => {
                    info!(%node, "a change that ends sessions waits for this node, whose turn it is");
                }
                (_, Turn::Alone | Turn::Unknown | Turn::Theirs(_) | Turn::Barred(_)) => {}
            }
            *held = answer;
            changed
        });
    }

    /// Nobody could be asked. A turn that was ours stays so for as long as it was said.
    fn unanswered(&self, request: &Request, api: &Api<Lease>, why: &str) {
        let still_ours = match &*self.answers.borrow() {
            Answer { walk, turn: Turn::Ours { until } } => *walk == request.walk && Instant::now().into_std() < *until,
            Answer { .. } => false,
        };
        if !still_ours {
            self.publish(request, Turn::Unknown);
        }
        let place = api.resource_url();
        self.say(Some(format!(
            "it cannot be asked whose turn it is to end sessions ({place}/{LEASE}: {why}); after {} s without an answer this node goes \
             on without knowing what others do",
            UNANSWERED.as_secs()
        )));
    }

    fn say(&self, trouble: Option<String>) {
        self.conditions.send_if_modified(|mine| {
            let before = mine.clone();
            match trouble {
                Some(message) => mine.set(Reason::LeaseUnavailable, "", message),
                None => mine.clear(Reason::LeaseUnavailable, ""),
            }
            *mine != before
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    fn request(need: Need, configuration: &str) -> Request {
        Request { walk: 1, need, configuration: configuration.into(), heed: Heed::Heeded }
    }

    fn fresh() -> Lease {
        Lease { metadata: ObjectMeta { resource_version: Some("0".to_owned()), ..ObjectMeta::default() }, spec: None }
    }

    fn holder(lease: &Lease) -> Option<&str> {
        lease.spec.as_ref()?.holder_identity.as_deref()
    }

    #[test]
    fn a_failure_bars_the_others_until_it_came_through_where_it_failed() {
        let now = Instant::now();
        let (mut one, mut two) = (Sharer::new("n1"), Sharer::new("n2"));
        let taken = one.judge(fresh(), &request(Need::Turn, "x"), now, now).write.unwrap();
        assert_eq!(holder(&taken), Some("n1"));
        let failed = one.judge(taken.clone(), &request(Need::Warning, "x"), now, now).write.unwrap();
        assert_eq!(holder(&failed), None);
        assert_eq!(one.judge(failed.clone(), &request(Need::Warning, "x"), now, now).write, None, "it is there");
        // Nobody begins it, whatever else there is to begin; who insists does, and who had it may try again.
        let barred = Verdict { write: None, turn: Turn::Barred("n1".into()) };
        assert_eq!(two.judge(failed.clone(), &request(Need::Turn, "x"), now, now), barred);
        let ours = |verdict: Verdict| matches!(verdict.turn, Turn::Ours { .. }) && verdict.write.is_some();
        assert!(ours(two.judge(failed.clone(), &request(Need::Turn, "y"), now, now)));
        let insists = Request { heed: Heed::Overruled, ..request(Need::Turn, "x") };
        assert!(ours(two.judge(failed.clone(), &insists, now, now)));
        let again = one.judge(failed, &request(Need::Turn, "x"), now, now).write.unwrap();
        assert!(note(&again).is_some());
        // Another configuration that needed nothing says nothing about this one.
        let other = one.judge(again.clone(), &request(Need::Nothing, "y"), now, now).write.unwrap();
        assert!(note(&other).is_some() && holder(&other).is_none());
        let through = one.judge(again, &request(Need::Nothing, "x"), now, now).write.unwrap();
        assert_eq!((note(&through), holder(&through)), (None, None));
        assert!(ours(two.judge(through, &request(Need::Turn, "x"), now, now)));
    }

    #[test]
    fn a_failure_is_noted_also_while_it_is_the_turn_of_another() {
        let now = Instant::now();
        let (mut one, mut two) = (Sharer::new("n1"), Sharer::new("n2"));
        let theirs = two.judge(fresh(), &request(Need::Turn, "y"), now, now).write.unwrap();
        let noted = one.judge(theirs, &request(Need::Warning, "x"), now, now).write.unwrap();
        assert_eq!((holder(&noted), note(&noted).unwrap().1.as_str()), (Some("n2"), "n1"));
    }

    /// A server that keeps what is written by version, and nodes that die, are deaf for a while, or lose the answer to what was
    /// written: whoever believes that it is his turn is alone in that, and a dead holder holds nobody up for ever.
    struct World {
        lease: Lease,
        nodes: Vec<Node>,
        now: Instant,
    }

    struct Node {
        sharer: Sharer,
        request: Request,
        /// What the answer to its last attempt will say, and whether it will come.
        pending: Option<(Instant, Verdict)>,
        turn: Turn,
        dead: bool,
        turns: usize,
    }

    impl World {
        fn new(nodes: usize) -> Self {
            let node = |n| Node {
                sharer: Sharer::new(&format!("n{n}")),
                request: request(Need::Turn, "x"),
                pending: None,
                turn: Turn::Unknown,
                dead: false,
                turns: 0,
            };
            Self { lease: fresh(), nodes: (0..nodes).map(node).collect(), now: Instant::now() }
        }

        /// A node reads the Lease; what follows is written some time later.
        fn reads(&mut self, n: usize, began: Instant) {
            let (lease, now) = (self.lease.clone(), self.now);
            let node = &mut self.nodes[n];
            let verdict = node.sharer.judge(lease, &node.request, began, now);
            node.pending = Some((began, verdict));
        }

        fn writes(&mut self, n: usize, answer_is_lost: bool) {
            let Some((began, verdict)) = self.nodes[n].pending.take() else { return };
            let late = self.now - began > TERM / 3;
            let accepted = verdict.write.is_none_or(|mut written| {
                let same = written.metadata.resource_version == self.lease.metadata.resource_version;
                if same {
                    let version: u64 = self.lease.metadata.resource_version.as_ref().unwrap().parse().unwrap();
                    written.metadata.resource_version = Some((version + 1).to_string());
                    self.lease = written;
                }
                same
            });
            let node = &mut self.nodes[n];
            if accepted && !answer_is_lost && !late && !node.dead {
                if matches!(verdict.turn, Turn::Ours { .. }) && node.request.need == Need::Turn {
                    node.turns += 1;
                }
                node.turn = verdict.turn;
            }
        }

        /// Those that would end a session now.
        fn walking(&self) -> Vec<usize> {
            let now = self.now.into_std();
            let walks = |node: &Node| matches!(node.turn, Turn::Ours { until } if now < until) && !node.dead;
            (0..self.nodes.len()).filter(|n| walks(&self.nodes[*n])).collect()
        }
    }

    #[test]
    fn never_two_at_once_and_a_dead_one_is_succeeded() {
        for seed in 0..400 {
            let mut chance = fastrand::Rng::with_seed(seed);
            let mut world = World::new(3);
            for step in 0..400 {
                world.now += Duration::from_millis(chance.u64(..3000));
                let n = chance.usize(..3);
                match chance.u8(..10) {
                    0..4 => {
                        let began = world.now - Duration::from_millis(chance.u64(..2000));
                        world.reads(n, began);
                    }
                    4..8 => world.writes(n, chance.u8(..8) == 0),
                    // Its walk is over, or another one begins; what it held is no longer its turn before anybody hears of it.
                    8 => {
                        let node = &mut world.nodes[n];
                        node.turn = Turn::Unknown;
                        node.pending = None;
                        node.request.need = if chance.bool() { Need::Nothing } else { Need::Turn };
                    }
                    _ if step % 100 == 99 => {
                        // It dies, and one of that name begins anew with nothing.
                        let node = &mut world.nodes[n];
                        (node.sharer, node.turn) = (Sharer::new(&format!("n{n}")), Turn::Unknown);
                    }
                    _ => {}
                }
                let walking = world.walking();
                assert!(walking.len() <= 1, "seed {seed}, step {step}: {walking:?} walk at once");
            }
            // One holds it and is gone for good; the next comes after its term, not before and not never.
            for node in &mut world.nodes {
                (node.turn, node.pending, node.request) = (Turn::Unknown, None, request(Need::Turn, "x"));
            }
            world.now += TERM;
            let spec = LeaseSpec {
                holder_identity: Some("n0".to_owned()),
                lease_duration_seconds: Some(30),
                ..LeaseSpec::default()
            };
            world.lease.spec = Some(spec);
            world.lease.metadata.resource_version = Some("1000000".to_owned());
            world.nodes[0].dead = true;
            let died = world.now;
            while world.walking().is_empty() {
                world.now += Duration::from_millis(500);
                let now = world.now;
                assert!(now - died < TERM + Duration::from_secs(2), "nobody came after it");
                for n in [1, 2] {
                    world.reads(n, now);
                    world.writes(n, false);
                }
            }
            assert!(world.now - died >= TERM, "seed {seed}: it was not given its time");
        }
    }
}
