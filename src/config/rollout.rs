//! How a change that resets sessions walks over the peers of a node: one at a time, the next when the one before is Established
//! again and has its table. One that does not come back goes back to what it had, and the walk stops until somebody changes his
//! mind. Peers without a session take what is new at once, so that a mending edit always arrives.
//!
//! A process that ends in the middle of it leaves word ([`Pending`]): the next one begins with what peers had, and walks on, or stays
//! where the walk stopped.
//!
//! Between the nodes of a cluster it is one node's turn at a time, as far as anybody can say whose ([`Turn`]).

use super::diff::{Cause, Effect, restart_causes};
use crate::peer::{PeerName, Settings};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a walk waits for somebody to say whose turn it is; then it goes on without. A change must not hang on an API server.
pub const UNANSWERED: Duration = Duration::from_secs(30);

/// How long what a peer had before this process is remembered of one that nobody wants yet: the node is not known at once, and
/// routers of ranges dial when they please.
const UNWANTED: Duration = Duration::from_secs(300);

/// A peer that runs.
#[derive(Debug, Clone, Copy)]
pub struct Running<'a> {
    /// What it was begun with.
    pub settings: &'a Settings,
    /// Where its session stands.
    pub session: Session,
}

/// Where a session stands, as far as a walk asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// Not Established.
    Down,
    /// Established, the first table not sent yet.
    Sending,
    /// Established, and the router has its table.
    Complete,
}

/// Whose turn it is among the nodes of a cluster to end sessions for a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// There is nobody to ask.
    Alone,
    /// Nobody has said so far, or any more.
    Unknown,
    /// This node's.
    Ours {
        /// Until then, unless it is said again.
        until: Instant,
    },
    /// That of the node of this name.
    Theirs(Arc<str>),
    /// Nobody's with this configuration: sessions of the node of this name did not come back with it.
    Barred(Arc<str>),
}

/// What a walk asks of the other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: no session is to end.
    Nothing,
    /// Its turn, and to keep it.
    Turn,
    /// That they do not begin what failed here.
    Warning,
}

/// Where the walk stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Phase {
    /// Nothing is under way.
    #[default]
    Still,
    /// The first reset is near: not every node of a cluster begins in the same moment.
    Gathering { until: Instant },
    /// This peer was reset and is waited for.
    Resetting { peer: PeerName, before: Box<Settings>, wanted: Box<Settings>, since: Instant, patience: Duration },
    /// This peer did not come back: it has what it had, and nobody else is touched.
    Stopped { peer: PeerName, before: Box<Settings>, wanted: Box<Settings>, causes: Vec<Cause>, patience: Duration },
}

/// A walk that has not come to its end: what is written down for the next process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// What peers have that have not taken what is configured, or not shown yet that a router takes it.
    pub before: BTreeMap<PeerName, Settings>,
    /// Where the walk stopped.
    pub failed: Option<Failed>,
}

/// A peer that did not come back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    /// Which.
    pub peer: PeerName,
    /// With what.
    pub wanted: Settings,
    /// How long it was waited for.
    pub patience: Duration,
}

/// A peer that begins with what it had before this process.
#[derive(Debug)]
struct Resumed {
    before: Settings,
    /// Then it is down as any other, and takes what is new; not known before it is wanted.
    until: Option<Instant>,
}

/// The walk over one node's peers.
#[derive(Debug)]
pub struct Rollout {
    phase: Phase,
    /// Those that have not been Established with their table since this process began.
    resumed: BTreeMap<PeerName, Resumed>,
    /// When it was first asked.
    began: Option<Instant>,
    /// How long this node waits before its first reset.
    head_start: Duration,
    /// Since when a walk has been waiting for somebody to say whose turn it is.
    unanswered: Option<Instant>,
}

/// What should be so now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What each wanted peer is to have now: what it has, or what is new.
    pub settings: BTreeMap<PeerName, Settings>,
    /// Peers that keep what they have although something else is configured.
    pub behind: BTreeMap<PeerName, Behind>,
    /// When to ask again at the latest.
    pub deadline: Option<Instant>,
    /// What the next process is to know, should this one end now.
    pub pending: Pending,
}

/// Why a peer keeps what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behind {
    /// It takes this at its next session; no session is ended for it.
    NextSession(Vec<Cause>),
    /// The first reset is near.
    Soon(Vec<Cause>),
    /// It is asked first whose turn it is among the nodes.
    Asks(Vec<Cause>),
    /// It is the turn of the node of this name.
    Elsewhere(Arc<str>, Vec<Cause>),
    /// The configuration failed on the node of this name, and is not begun here.
    Barred(Arc<str>, Vec<Cause>),
    /// Its turn comes when this peer is back.
    Waits(PeerName, Vec<Cause>),
    /// The walk stopped at this peer.
    Stopped(PeerName, Vec<Cause>),
    /// The process before this one had not come to it: it begins with what it had.
    Resumes(Vec<Cause>),
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, causes) = match self {
            Behind::NextSession(causes) => ("the next session has it, this one goes on".to_owned(), causes),
            Behind::Soon(causes) => ("the session begins anew in a moment".to_owned(), causes),
            Behind::Asks(causes) => ("other nodes are asked first whose turn it is".to_owned(), causes),
            Behind::Elsewhere(node, causes) => (format!("its turn comes when the node {node} has it"), causes),
            Behind::Barred(node, causes) => (format!("not taken, since it failed on the node {node}"), causes),
            Behind::Waits(peer, causes) => (format!("its turn comes when {peer} is back"), causes),
            Behind::Resumes(causes) => {
                ("a restart came before its turn, so it begins with what it had".to_owned(), causes)
            }
            Behind::Stopped(peer, causes) => (format!("not taken, since {peer} did not come back with it"), causes),
        };
        write!(f, "the file has another {}: {what}", join(causes))
    }
}

/// Causes as people read them.
pub fn join(causes: &[Cause]) -> String {
    causes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Rollout {
    /// Goes on from where the process before this one was. Each walk begins `head_start` after it is first asked for: another one
    /// on each node.
    pub fn resume(head_start: Duration, pending: Pending) -> Self {
        let Pending { before, failed } = pending;
        let stopped = failed.and_then(|Failed { peer, wanted, patience }| {
            let before = Box::new(before.get(&peer)?.clone());
            let causes = restart_causes(&before, &wanted);
            Some(Phase::Stopped { peer, before, wanted: Box::new(wanted), causes, patience })
        });
        let resumed = before.into_iter().map(|(name, before)| (name, Resumed { before, until: None })).collect();
        Self { phase: stopped.unwrap_or_default(), resumed, began: None, head_start, unanswered: None }
    }

    /// What every wanted peer is to have now. `patience` says how long a peer may take to come back; `turn` what is known of other
    /// nodes.
    pub fn step(
        &mut self,
        running: &BTreeMap<PeerName, Running<'_>>,
        wanted: &BTreeMap<PeerName, Settings>,
        patience: impl Fn(&Settings) -> Duration,
        turn: &Turn,
        now: Instant,
    ) -> Step {
        self.note_resumed(running, wanted, &patience, now);
        self.judge(running, wanted, now);
        self.note_silence(turn, now);
        let mut step =
            Step { settings: BTreeMap::new(), behind: BTreeMap::new(), deadline: None, pending: Pending::default() };
        for (name, new) in wanted {
            let told = match running.get(name) {
                Some(running) => self.tell(name, running, new, &patience, (turn, now)),
                None => self.begin(name, new),
            };
            let (settings, behind) = told;
            step.settings.insert(name.clone(), settings);
            step.behind.extend(behind.map(|behind| (name.clone(), behind)));
        }
        let of_phase = match &self.phase {
            Phase::Gathering { until } if now < *until => Some(*until),
            Phase::Gathering { .. } => match turn {
                Turn::Unknown | Turn::Ours { .. } => self.unanswered.map(|since| since + UNANSWERED),
                Turn::Alone | Turn::Theirs(_) | Turn::Barred(_) => None,
            },
            Phase::Resetting { since, patience, .. } => Some(*since + *patience),
            Phase::Still | Phase::Stopped { .. } => None,
        };
        step.deadline = self.resumed.values().filter_map(|resumed| resumed.until).chain(of_phase).min();
        step.pending = self.pending(&step);
        step
    }

    /// What a peer has first that is not Established: what is wanted, but for one that a restart or a stopped walk has go back.
    pub fn begin(&self, name: &PeerName, new: &Settings) -> (Settings, Option<Behind>) {
        let resumed = self.resumed.get(name);
        let before = match &self.phase {
            Phase::Stopped { peer, before, .. } if peer == name => Some(&**before),
            Phase::Still | Phase::Gathering { .. } | Phase::Resetting { .. } | Phase::Stopped { .. } => {
                resumed.map(|resumed| &resumed.before)
            }
        };
        let Some(before) = before else { return (new.clone(), None) };
        let behind = resumed.map(|_| Behind::Resumes(restart_causes(before, new)));
        (keeping(before, new), behind)
    }

    /// Forgets what peers had before this process, of those that have come up with it, have waited in vain or need no reset.
    fn note_resumed(
        &mut self,
        running: &BTreeMap<PeerName, Running<'_>>,
        wanted: &BTreeMap<PeerName, Settings>,
        patience: impl Fn(&Settings) -> Duration,
        now: Instant,
    ) {
        let unwanted_until = *self.began.get_or_insert(now) + UNWANTED;
        self.resumed.retain(|name, resumed| {
            let is_back = running.get(name).is_some_and(|running| running.session == Session::Complete);
            let Some(new) = wanted.get(name) else { return now < unwanted_until };
            let until = *resumed.until.get_or_insert_with(|| now + patience(new));
            !is_back && now < until && is_reset(&keeping(&resumed.before, new), new)
        });
    }

    fn pending(&self, step: &Step) -> Pending {
        let kept = step.behind.iter().filter(|(_, behind)| !matches!(behind, Behind::NextSession(_)));
        let kept = kept.filter_map(|(name, _)| Some((name.clone(), step.settings.get(name)?.clone())));
        let resumed = self.resumed.iter().map(|(name, resumed)| (name.clone(), resumed.before.clone()));
        let mut before: BTreeMap<_, _> = resumed.chain(kept).collect();
        let mut failed = None;
        match &self.phase {
            Phase::Still | Phase::Gathering { .. } => {}
            Phase::Resetting { peer, before: had, .. } => drop(before.insert(peer.clone(), (**had).clone())),
            Phase::Stopped { peer, before: had, wanted, patience, .. } => {
                before.insert(peer.clone(), (**had).clone());
                failed = Some(Failed { peer: peer.clone(), wanted: (**wanted).clone(), patience: *patience });
            }
        }
        Pending { before, failed }
    }

    /// The peer at which the walk stopped, why it was reset, and how long it was waited for.
    pub fn stopped(&self) -> Option<(&PeerName, &[Cause], Duration)> {
        match &self.phase {
            Phase::Stopped { peer, causes, patience, .. } => Some((peer, causes, *patience)),
            Phase::Still | Phase::Gathering { .. } | Phase::Resetting { .. } => None,
        }
    }

    /// What is to be asked of other nodes now.
    pub fn need(&self) -> Need {
        match &self.phase {
            Phase::Still => Need::Nothing,
            Phase::Gathering { .. } | Phase::Resetting { .. } => Need::Turn,
            Phase::Stopped { .. } => Need::Warning,
        }
    }

    /// Notes since when nobody has said whose turn it is, while that is waited for.
    fn note_silence(&mut self, turn: &Turn, now: Instant) {
        let silent = match turn {
            Turn::Unknown => true,
            Turn::Ours { until } => now >= *until,
            Turn::Alone | Turn::Theirs(_) | Turn::Barred(_) => false,
        };
        self.unanswered = match self.need() {
            Need::Turn if silent => Some(self.unanswered.unwrap_or(now)),
            Need::Turn | Need::Nothing | Need::Warning => None,
        };
    }

    /// Whether a session may end now, as far as other nodes go.
    fn permission(&self, turn: &Turn, now: Instant) -> Permission {
        match turn {
            Turn::Alone => Permission::Given,
            Turn::Ours { until } if now < *until => Permission::Given,
            Turn::Unknown | Turn::Ours { .. } => match self.unanswered {
                Some(since) if now >= since + UNANSWERED => Permission::Given,
                Some(_) | None => Permission::Awaited(Behind::Asks),
            },
            Turn::Theirs(node) => Permission::Held(Behind::Elsewhere, Arc::clone(node)),
            Turn::Barred(node) => Permission::Held(Behind::Barred, Arc::clone(node)),
        }
    }

    /// The peer that is waited for.
    pub fn waits_for(&self) -> Option<&PeerName> {
        match &self.phase {
            Phase::Resetting { peer, .. } => Some(peer),
            Phase::Still | Phase::Gathering { .. } | Phase::Stopped { .. } => None,
        }
    }

    /// Whether the walk waits for this peer, or stopped at it: it must be remembered, whatever it does.
    pub fn concerns(&self, name: &PeerName) -> bool {
        match &self.phase {
            Phase::Resetting { peer, .. } | Phase::Stopped { peer, .. } => peer == name,
            Phase::Still | Phase::Gathering { .. } => false,
        }
    }

    /// Somebody wants it all the same: the walk goes on from where it stopped.
    pub fn confirm(&mut self, now: Instant) {
        if self.stopped().is_some() {
            self.phase = Phase::Gathering { until: now };
        }
    }

    /// What came of the peer that was reset last.
    fn judge(
        &mut self,
        running: &BTreeMap<PeerName, Running<'_>>,
        wanted: &BTreeMap<PeerName, Settings>,
        now: Instant,
    ) {
        // One that is not wanted yet may be, as long as this process has not had it.
        let still_wanted = |peer: &PeerName, then: &Settings| match wanted.get(peer) {
            Some(new) => restart_causes(then, new).is_empty(),
            None => self.resumed.contains_key(peer),
        };
        self.phase = match std::mem::take(&mut self.phase) {
            // Another edit: who has not come back yet is waited for with that one.
            Phase::Resetting { peer, wanted: then, before, patience, .. }
            | Phase::Stopped { peer, wanted: then, before, patience, .. }
                if !still_wanted(&peer, &then) =>
            {
                match (wanted.get(&peer), running.get(&peer).map(|running| running.session)) {
                    (Some(new), None | Some(Session::Down)) if !self.resumed.contains_key(&peer) => {
                        Phase::Resetting { peer, before, wanted: Box::new(new.clone()), since: now, patience }
                    }
                    (Some(_) | None, _) => Phase::Still,
                }
            }
            // Late is not too late.
            Phase::Resetting { peer, wanted: then, .. } | Phase::Stopped { peer, wanted: then, .. }
                if running.get(&peer).is_some_and(|running| {
                    running.session == Session::Complete && restart_causes(running.settings, &then).is_empty()
                }) =>
            {
                self.next(running, wanted, now)
            }
            Phase::Gathering { until } if now >= until => self.next(running, wanted, now),
            Phase::Resetting { peer, before, wanted, since, patience } if now >= since + patience => {
                let causes = restart_causes(&before, &wanted);
                Phase::Stopped { peer, before, wanted, causes, patience }
            }
            other => other,
        };
    }

    /// Between two resets, if there is one more; else nothing is under way.
    fn next(
        &self,
        running: &BTreeMap<PeerName, Running<'_>>,
        wanted: &BTreeMap<PeerName, Settings>,
        now: Instant,
    ) -> Phase {
        let resets = |(name, running): (&PeerName, &Running<'_>)| {
            running.session != Session::Down && wanted.get(name).is_some_and(|new| is_reset(running.settings, new))
        };
        if running.iter().any(resets) { Phase::Gathering { until: now } } else { Phase::Still }
    }

    /// What a running peer is to have, and why that is less than what is wanted, where it is.
    fn tell(
        &mut self,
        name: &PeerName,
        running: &Running<'_>,
        new: &Settings,
        patience: impl Fn(&Settings) -> Duration,
        (turn, now): (&Turn, Instant),
    ) -> (Settings, Option<Behind>) {
        if running.session == Session::Down {
            return self.begin(name, new);
        }
        let causes = restart_causes(running.settings, new);
        if causes.is_empty() {
            return (new.clone(), None);
        }
        let resets = causes.iter().any(|cause| cause.effect() == Effect::Reset);
        // Who has not been back since the process began is waited for before anybody is reset.
        let awaited = self.resumed.iter().find(|(_, resumed)| resumed.until.is_some()).map(|(name, _)| name);
        let behind = match &self.phase {
            _ if !resets => Behind::NextSession(causes),
            Phase::Stopped { peer, .. } => Behind::Stopped(peer.clone(), causes),
            Phase::Still | Phase::Gathering { .. } | Phase::Resetting { .. } if awaited == Some(name) => {
                Behind::Resumes(causes)
            }
            Phase::Still | Phase::Gathering { .. } if let Some(other) = awaited => Behind::Waits(other.clone(), causes),
            // What is known of others is of an earlier walk, since this one has not been asked for: not before the next look.
            Phase::Still if !self.head_start.is_zero() || *turn != Turn::Alone => {
                self.phase = Phase::Gathering { until: now + self.head_start.max(Duration::from_millis(1)) };
                Behind::Soon(causes)
            }
            Phase::Gathering { until } if now < *until => Behind::Soon(causes),
            Phase::Still | Phase::Gathering { .. } => match self.permission(turn, now) {
                Permission::Given => {
                    let (before, wanted) = (Box::new(running.settings.clone()), Box::new(new.clone()));
                    let patience = patience(new);
                    self.phase = Phase::Resetting { peer: name.clone(), before, wanted, since: now, patience };
                    return (new.clone(), None);
                }
                Permission::Awaited(behind) => behind(causes),
                Permission::Held(behind, node) => behind(node, causes),
            },
            Phase::Resetting { peer, .. } if peer == name => return (new.clone(), None),
            Phase::Resetting { peer, .. } => Behind::Waits(peer.clone(), causes),
        };
        (keeping(running.settings, new), Some(behind))
    }
}

/// Whether a session may end now, and what is waited for where it may not.
enum Permission {
    Given,
    Awaited(fn(Vec<Cause>) -> Behind),
    Held(fn(Arc<str>, Vec<Cause>) -> Behind, Arc<str>),
}

/// Whether a session with the settings `running` ends for what is new.
fn is_reset(running: &Settings, new: &Settings) -> bool {
    restart_causes(running, new).iter().any(|cause| cause.effect() == Effect::Reset)
}

/// What runs, and of what is new what a live session takes: another key.
fn keeping(running: &Settings, new: &Settings) -> Settings {
    let mut kept = running.clone();
    if kept.neighbor.password.is_some() && new.neighbor.password.is_some() {
        kept.neighbor.password.clone_from(&new.neighbor.password);
    }
    kept.restart_state = new.restart_state;
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::restart::RestartState;
    use crate::peer::{Identity, Neighbor};
    use crate::wire::{Asn, RouterId};
    use std::net::{IpAddr, Ipv4Addr};

    const PATIENCE: Duration = Duration::from_secs(60);

    fn settings(name: &str, source: Option<u8>, hold: u64) -> Settings {
        let address = Ipv4Addr::new(10, 0, 0, 1).into();
        let mut neighbor = Neighbor::new(name.into(), address, Asn(64500));
        neighbor.source_address = source.map(|octet| IpAddr::from([10, 0, 1, octet]));
        neighbor.hold_time = Duration::from_secs(hold);
        let identity = Identity { asn: Asn(64512), router_id: RouterId::new(Ipv4Addr::new(192, 0, 2, 1)).unwrap() };
        Settings { identity, neighbor, restart_state: RestartState::default() }
    }

    /// A node whose drivers obey at once, and whose routers take whom `comes_up` says.
    struct Node {
        rollout: Rollout,
        running: BTreeMap<PeerName, (Settings, Session)>,
        wanted: BTreeMap<PeerName, Settings>,
        turn: Turn,
        now: Instant,
        /// Resets so far, in order.
        resets: Vec<String>,
        /// What was last said for the next process.
        pending: Pending,
    }

    impl Node {
        fn new(peers: &[&str], hold: u64) -> Self {
            let of = |name: &&str| (PeerName::from(*name), settings(name, None, hold));
            let wanted: BTreeMap<_, _> = peers.iter().map(of).collect();
            let running = wanted.iter().map(|(name, of)| (name.clone(), (of.clone(), Session::Complete))).collect();
            #[expect(clippy::disallowed_methods, reason = "any beginning will do")]
            let now = Instant::now();
            Self {
                rollout: Rollout::resume(Duration::ZERO, Pending::default()),
                running,
                wanted,
                turn: Turn::Alone,
                now,
                resets: Vec::new(),
                pending: Pending::default(),
            }
        }

        fn want(&mut self, change: impl Fn(&mut Settings)) {
            self.wanted.values_mut().for_each(change);
        }

        /// Asks once and obeys: whose settings differ begins anew, without a session.
        fn step(&mut self) -> Step {
            let running = self.running.iter();
            let running =
                running.map(|(name, (settings, session))| (name.clone(), Running { settings, session: *session }));
            let step = self.rollout.step(&running.collect(), &self.wanted, |_| PATIENCE, &self.turn, self.now);
            self.pending.clone_from(&step.pending);
            for (name, new) in &step.settings {
                let (held, session) = self.running.entry(name.clone()).or_insert_with(|| (new.clone(), Session::Down));
                if !restart_causes(held, new).is_empty() {
                    if *session != Session::Down {
                        self.resets.push(name.to_string());
                    }
                    *session = Session::Down;
                }
                held.clone_from(new);
            }
            step
        }

        /// Another process begins with what the one before it wrote down.
        fn restart(&mut self) {
            let written = serde_json::to_string(&self.pending).unwrap();
            self.rollout = Rollout::resume(Duration::ZERO, serde_json::from_str(&written).unwrap());
            self.running.clear();
            self.now += Duration::from_secs(1);
        }

        fn all_come_up(&mut self) {
            self.running.values_mut().for_each(|(_, session)| *session = Session::Complete);
        }

        fn comes_up(&mut self, name: &str) {
            self.running.get_mut(&PeerName::from(name)).unwrap().1 = Session::Complete;
        }

        fn has_new(&self, name: &str) -> bool {
            let name = PeerName::from(name);
            restart_causes(&self.running[&name].0, &self.wanted[&name]).is_empty()
        }
    }

    fn sourced(settings: &mut Settings) {
        settings.neighbor.source_address = Some(IpAddr::from([10, 0, 1, 9]));
    }

    #[test]
    fn one_peer_at_a_time_and_the_next_when_the_one_before_has_its_table() {
        let mut node = Node::new(&["a", "b", "c"], 90);
        node.want(sourced);
        let step = node.step();
        assert_eq!(node.resets, ["a"]);
        assert!(matches!(&step.behind[&"b".into()], Behind::Waits(peer, causes)
            if *peer == "a".into() && *causes == [Cause::SourceAddress]));
        node.now += PATIENCE / 2;
        node.running.get_mut(&"a".into()).unwrap().1 = Session::Sending;
        node.step();
        assert_eq!(node.resets, ["a"], "it is up, and its table is on its way");
        node.comes_up("a");
        node.step();
        assert_eq!(node.resets, ["a", "b"]);
        node.comes_up("b");
        node.step();
        node.comes_up("c");
        assert_eq!(node.step().behind, BTreeMap::new());
        assert_eq!(node.resets, ["a", "b", "c"]);
    }

    #[test]
    fn one_that_does_not_come_back_goes_back_and_nobody_else_is_touched() {
        let mut node = Node::new(&["a", "b", "c"], 90);
        node.want(sourced);
        node.step();
        node.now += PATIENCE;
        let step = node.step();
        assert!(!node.has_new("a") && node.resets == ["a"]);
        assert_eq!(
            node.rollout.stopped().map(|(peer, causes, _)| (peer.to_string(), causes.to_vec())),
            Some(("a".to_owned(), vec![Cause::SourceAddress]))
        );
        assert!(matches!(step.behind[&"c".into()], Behind::Stopped(..)));
        node.comes_up("a");
        node.now += PATIENCE * 10;
        node.step();
        assert_eq!((node.resets.len(), node.has_new("a")), (1, false), "it stays as it is, however long");
        // A router that leaves of itself takes the new settings nowhere but here.
        node.running.get_mut(&"b".into()).unwrap().1 = Session::Down;
        node.step();
        assert!(node.has_new("b"), "who has no session has nothing to lose");
        // The mending edit walks again.
        node.comes_up("b");
        node.want(|settings| settings.neighbor.source_address = None);
        node.step();
        assert_eq!(node.rollout.stopped(), None);
        assert_eq!(node.resets, ["a", "b"]);
    }

    #[test]
    fn a_confirmed_change_walks_on_and_a_mending_edit_reaches_who_is_down() {
        let mut node = Node::new(&["a", "b"], 90);
        node.want(sourced);
        node.step();
        node.now += PATIENCE;
        node.step();
        node.comes_up("a");
        node.rollout.confirm(node.now);
        node.step();
        assert_eq!(node.resets, ["a", "a"]);
        // In the middle of it somebody sees his mistake.
        node.want(|settings| settings.neighbor.source_address = None);
        node.step();
        assert!(node.has_new("a") && node.has_new("b"));
        assert_eq!(node.resets, ["a", "a"]);
    }

    #[test]
    fn a_walk_waits_for_its_turn_and_not_for_ever_for_an_answer() {
        let mut node = Node::new(&["a", "b"], 90);
        node.turn = Turn::Ours { until: node.now + PATIENCE };
        node.want(sourced);
        node.step();
        assert_eq!((node.resets.len(), node.rollout.need()), (0, Need::Turn), "it was the turn of an earlier walk");
        for (turn, said) in [
            (Turn::Theirs("n2".into()), "its turn comes when the node n2 has it"),
            (Turn::Barred("n2".into()), "not taken, since it failed on the node n2"),
        ] {
            node.turn = turn;
            node.now += UNANSWERED * 100;
            let step = node.step();
            assert!(node.resets.is_empty() && step.deadline.is_none());
            assert!(step.behind[&"a".into()].to_string().ends_with(said), "{:?}", step.behind);
        }
        // Nobody answers any more: for so long, and no longer.
        node.turn = Turn::Unknown;
        let due = node.step().deadline.unwrap();
        assert_eq!(due, node.now + UNANSWERED);
        node.now = due - Duration::from_millis(1);
        assert!(matches!(node.step().behind[&"a".into()], Behind::Asks(_)));
        node.now = due;
        node.step();
        assert_eq!(node.resets, ["a"]);
        // It is said again that it is ours, and by the time that it matters that was too long ago.
        node.turn = Turn::Ours { until: node.now + Duration::from_secs(1) };
        node.step();
        node.comes_up("a");
        node.now += Duration::from_secs(1);
        node.step();
        assert_eq!(node.resets, ["a"]);
        node.turn = Turn::Ours { until: node.now + Duration::from_secs(1) };
        node.step();
        assert_eq!(node.resets, ["a", "b"]);
        node.comes_up("b");
        node.step();
        assert_eq!(node.rollout.need(), Need::Nothing);
    }

    #[test]
    fn who_is_down_takes_what_is_new_whosever_turn_it_is_and_a_failure_is_a_warning() {
        let mut node = Node::new(&["a", "b"], 90);
        node.running.get_mut(&"b".into()).unwrap().1 = Session::Down;
        node.turn = Turn::Theirs("n2".into());
        node.want(sourced);
        node.step();
        assert!(node.has_new("b") && !node.has_new("a"));
        node.turn = Turn::Ours { until: node.now + PATIENCE * 2 };
        node.now += Duration::from_secs(1);
        node.step();
        assert_eq!(node.resets, ["a"]);
        node.now += PATIENCE;
        node.step();
        assert_eq!(node.rollout.need(), Need::Warning);
        node.turn = Turn::Theirs("n2".into());
        node.want(|settings| settings.neighbor.source_address = None);
        node.step();
        assert!(node.has_new("a") && node.has_new("b"), "what mends waits for nobody");
        node.comes_up("a");
        node.step();
        assert_eq!((node.rollout.need(), node.resets.len()), (Need::Nothing, 1));
    }

    #[test]
    fn timers_wait_for_the_next_session_and_end_none() {
        let mut node = Node::new(&["a", "b"], 90);
        node.want(|settings| settings.neighbor.hold_time = Duration::from_secs(9));
        let step = node.step();
        assert_eq!(step.behind[&"a".into()], Behind::NextSession(vec![Cause::HoldTime]));
        assert_eq!(node.resets, [""; 0]);
        node.running.get_mut(&"a".into()).unwrap().1 = Session::Down;
        node.step();
        assert!(node.has_new("a") && !node.has_new("b"));
    }

    #[test]
    fn a_stopped_walk_outlives_the_process_and_every_peer_begins_with_what_it_had() {
        let mut node = Node::new(&["a", "b", "c"], 90);
        node.want(sourced);
        node.step();
        node.now += PATIENCE;
        node.step();
        for _ in 0..3 {
            node.restart();
            node.step();
            assert!(["a", "b", "c"].iter().all(|name| !node.has_new(name)));
            let told = node.rollout.stopped().map(|(peer, causes, patience)| (peer.clone(), causes.to_vec(), patience));
            assert_eq!(told, Some(("a".into(), vec![Cause::SourceAddress], PATIENCE)));
            assert_eq!(node.rollout.need(), Need::Warning);
        }
        node.all_come_up();
        node.now += PATIENCE * 10;
        let step = node.step();
        assert!(matches!(step.behind[&"c".into()], Behind::Stopped(..)));
        assert_eq!(node.resets, ["a"], "it is still as it was");
        // An operator wants it.
        node.rollout.confirm(node.now);
        node.step();
        assert_eq!(node.resets, ["a", "a"]);
        // Or the file is mended.
        node.now += PATIENCE;
        node.step();
        node.restart();
        node.want(|settings| settings.neighbor.source_address = None);
        let step = node.step();
        node.all_come_up();
        node.step();
        assert_eq!((node.rollout.stopped(), step.behind, node.pending.clone()), Default::default());
        assert_eq!(node.resets.len(), 2, "it is what they have");
    }

    #[test]
    fn an_edit_that_a_restart_finds_instead_of_what_failed_walks_as_any_other() {
        let mut node = Node::new(&["a", "b"], 90);
        node.want(sourced);
        node.step();
        node.now += PATIENCE;
        node.step();
        node.restart();
        node.want(|settings| settings.neighbor.source_address = Some([10, 0, 1, 8].into()));
        node.step();
        assert!(node.rollout.stopped().is_none() && !node.has_new("a") && !node.has_new("b"));
        // It is not waited for with that before it was begun with it.
        node.now += PATIENCE - Duration::from_secs(1);
        node.all_come_up();
        node.step();
        node.now += PATIENCE - Duration::from_secs(1);
        node.step();
        assert_eq!((node.resets.join(" "), node.rollout.stopped()), ("a a".to_owned(), None));
    }

    #[test]
    fn a_restart_in_the_middle_of_a_walk_begins_with_what_each_had_and_walks_on() {
        let mut node = Node::new(&["a", "b", "c"], 90);
        node.want(|settings| settings.neighbor.password = crate::peer::settings::Password::new(b"old"));
        node.all_come_up();
        node.running.values_mut().for_each(|(held, _)| {
            held.neighbor.password.clone_from(&node.wanted.values().next().unwrap().neighbor.password)
        });
        node.want(sourced);
        node.step();
        node.comes_up("a");
        node.step();
        assert_eq!(node.resets, ["a", "b"]);
        node.want(|settings| settings.neighbor.password = crate::peer::settings::Password::new(b"new"));
        node.restart();
        let step = node.step();
        assert_eq!(["a", "b", "c"].map(|name| node.has_new(name)), [true, false, false]);
        assert!(matches!(step.behind[&"b".into()], Behind::Resumes(_)));
        assert!(step.settings.values().all(|of| of.neighbor.password == node.wanted[&"a".into()].neighbor.password));
        for name in ["a", "b"] {
            node.comes_up(name);
            node.step();
            assert_eq!(node.resets.len(), 2, "c has not been back yet");
        }
        node.comes_up("c");
        node.step();
        assert_eq!(node.resets[2..], ["b"]);
        node.comes_up("b");
        node.step();
        node.comes_up("c");
        assert_eq!(node.step().pending, Pending::default());
        assert_eq!(node.resets[2..], ["b", "c"]);
    }

    #[test]
    fn who_does_not_come_back_after_a_restart_takes_what_is_new_and_one_that_is_not_known_yet_is_remembered() {
        let mut node = Node::new(&["a", "b"], 90);
        node.want(sourced);
        node.step();
        node.restart();
        // Which peers there are is not known in the first moment.
        let wanted = std::mem::take(&mut node.wanted);
        node.step();
        assert_eq!(node.pending.before.len(), 2);
        node.wanted = wanted;
        node.now += PATIENCE;
        let due = node.step().deadline.unwrap();
        assert_eq!(due, node.now + PATIENCE);
        assert!(!node.has_new("a") && !node.has_new("b"));
        node.comes_up("b");
        node.now = due;
        node.step();
        assert!(node.has_new("a") && node.resets == ["a", "b"], "{:?}", node.resets);
        // And not for ever.
        node.restart();
        node.wanted.clear();
        node.step();
        node.now += UNWANTED;
        assert_eq!(node.step().pending, Pending::default());
    }

    #[test]
    fn whatever_happens_a_restart_puts_no_peer_on_what_no_router_has_taken() {
        // Orders of edits, routers that come back or do not, time, and a restart at any point of them.
        for case in 0_u32..4000 {
            let mut node = Node::new(&["a", "b", "c"], 90);
            let mut proven: BTreeMap<PeerName, Settings> = node.wanted.clone();
            let mut seed = case;
            for turn in 0..10_u8 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                match seed >> 28 {
                    0..=2 => node.want(|settings| settings.neighbor.source_address = Some([10, 0, 1, turn + 1].into())),
                    3 => node.want(|settings| settings.neighbor.source_address = None),
                    4..=9 => {
                        let name = ["a", "b", "c"][usize::try_from(seed >> 8).unwrap() % 3];
                        node.comes_up(name);
                    }
                    10 | 11 => node.now += PATIENCE,
                    12 => node.rollout.confirm(node.now),
                    _ => {
                        // Those that have nothing to lose may have anything.
                        let waits = node.rollout.waits_for().or(node.rollout.stopped().map(|(peer, ..)| peer)).cloned();
                        let lose = |(name, (_, session)): (&PeerName, &(Settings, Session))| {
                            (*session == Session::Complete || waits.as_ref() == Some(name)).then(|| name.clone())
                        };
                        let lose: Vec<_> = node.running.iter().filter_map(lose).collect();
                        node.restart();
                        let step = node.step();
                        for name in lose {
                            let told = &step.settings[&name];
                            assert!(!is_reset(&proven[&name], told), "case {case}, turn {turn}: {name} has {told:?}");
                        }
                    }
                }
                node.step();
                let complete = node.running.iter().filter(|(_, (_, session))| *session == Session::Complete);
                proven.extend(complete.map(|(name, (settings, _))| (name.clone(), settings.clone())));
            }
        }
    }

    #[test]
    fn never_more_than_one_session_is_down_for_a_change() {
        // Every order in which routers come back or do not, over edits one after the other.
        for case in 0_u32..4096 {
            let mut node = Node::new(&["a", "b", "c"], 90);
            for turn in 0..6 {
                if turn % 3 == 0 {
                    let octet = u8::try_from(turn + 1).unwrap();
                    node.want(|settings| settings.neighbor.source_address = Some([10, 0, 1, octet].into()));
                }
                node.step();
                let down = node.running.values().filter(|(_, session)| *session != Session::Complete).count();
                assert!(down <= 1, "case {case:#x}, turn {turn}: {down} sessions are down");
                if case >> (turn * 2) & 1 == 1 {
                    let waiting = node.rollout.waits_for().cloned().or(node.rollout.stopped().map(|of| of.0.clone()));
                    if let Some(peer) = waiting {
                        node.comes_up(&peer.0);
                    }
                } else if case >> (turn * 2 + 1) & 1 == 1 {
                    node.now += PATIENCE;
                }
            }
        }
    }
}
