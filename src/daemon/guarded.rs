//! Plans as they are handed out: judged by the guard against the rules and the cluster that were last agreed with.

use crate::admin::Speakers;
use crate::advertise::guard::{Held, Step, Until};
use crate::advertise::{
    Cause, ClusterView, Guard, Holding, Inferred, Limits, Missing, NodeName, Observation, Plan, Planner,
};
use crate::condition::{Conditions, Reason};
use crate::config::Config;
use crate::peer::Phase;
use crate::rib::RouteSet;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// The planner behind its guard.
pub struct Guarded {
    node: NodeName,
    guard: Guard,
    planner: Planner,
    /// What is left of the rules and the cluster of before, while something is held.
    old: Option<Planner>,
    agreed: Agreed,
    accepted: watch::Sender<u64>,
    speakers: watch::Receiver<Arc<Speakers>>,
    conditions: watch::Sender<Conditions>,
}

/// The rules that were in use when nothing was held.
enum Agreed {
    /// None yet: nothing was announced.
    Nothing,
    /// Unknown: another process or thread announced it.
    Unknown,
    /// These.
    Config(Arc<Config>),
}

/// What is to be announced, and by which configuration and cluster sessions are kept meanwhile.
pub struct Judged {
    /// The routes.
    pub plan: Plan,
    /// What of them is held, and no pool of today need have.
    pub beyond: BTreeSet<std::net::IpAddr>,
    /// For the sessions: the newest, with the peers of before where they hold routes.
    pub config: Arc<Config>,
    /// Whether the configuration is not the newest as it is.
    pub keeps_peers: bool,
    /// Whether anything is held.
    pub holds: bool,
    /// What sessions are kept by: while something is held, the cluster as it was before.
    pub basis: ClusterView,
}

impl Guarded {
    /// One that goes on from what is announced.
    pub fn new(
        node: NodeName,
        announced: Option<&BTreeMap<Arc<str>, RouteSet>>,
        speakers: watch::Receiver<Arc<Speakers>>,
        conditions: watch::Sender<Conditions>,
    ) -> (Self, watch::Receiver<u64>) {
        let (accepted, read) = watch::channel(0);
        let agreed = if announced.is_some() { Agreed::Unknown } else { Agreed::Nothing };
        let guard = Guard::after(announced.cloned().unwrap_or_default());
        let (planner, old) = (Planner::default(), None);
        (Self { node, guard, planner, old, agreed, accepted, speakers, conditions }, read)
    }

    /// The plan for what is seen now, by these rules. `confirmed` is what an operator confirmed last.
    pub fn plan(&mut self, config: &Arc<Config>, seen: &Observation, confirmed: Option<&str>, now: Instant) -> Judged {
        let cause = self.cause(config, seen);
        let mut limits = config.guard.clone();
        if let Some(number) = confirmed.filter(|number| **number == *cause.hash()) {
            limits.confirmed = Some(number.into());
        }
        let kept = self.kept(config, seen);
        let wanted = self.planner.plan(&seen.view, &config.policy, &self.node);
        let inferred = match (&self.agreed, &kept) {
            (Agreed::Unknown, _) => Inferred::Anything,
            (_, Some(kept)) => Inferred::BeyondWanted(kept),
            (_, None) => Inferred::Nothing,
        };
        let established = match inferred {
            Inferred::Nothing => BTreeSet::new(),
            Inferred::BeyondWanted(_) | Inferred::Anything => self.established(),
        };
        let step = Step { wanted: &wanted, inferred, cause: &cause, established: &established };
        let outcome = self.guard.judge(&step, &limits, now);
        self.tell(&outcome.holding, &cause, &config.guard, now);
        let plan = Plan { routes: outcome.routes, retained: wanted.retained };
        match outcome.holding {
            Holding::Nothing => {
                self.agreed = Agreed::Config(Arc::clone(config));
                self.old = None;
                if let Missing::Objects { step, .. } = seen.missing {
                    self.accepted.send_replace(step);
                }
                Judged {
                    plan,
                    beyond: BTreeSet::new(),
                    config: Arc::clone(config),
                    keeps_peers: false,
                    holds: false,
                    basis: seen.view.clone(),
                }
            }
            Holding::Routes(held) => {
                let kept = self.with_peers_of_before(config, &held);
                let keeps_peers = kept.is_some();
                let config = kept.unwrap_or_else(|| Arc::clone(config));
                let basis = self.doubted(seen).map_or(&seen.view, |(kept, _)| kept).clone();
                Judged { plan, beyond: held.addresses, config, keeps_peers, holds: true, basis }
            }
        }
    }

    /// The cluster with what is missing by inference and was not accepted yet, and the names of that.
    fn doubted<'a>(&self, seen: &'a Observation) -> Option<(&'a ClusterView, &'a Arc<[String]>)> {
        match &seen.missing {
            Missing::Objects { kept, names, step } if *step > *self.accepted.borrow() => Some((kept, names)),
            Missing::Objects { .. } | Missing::Nothing => None,
        }
    }

    fn cause(&self, config: &Config, seen: &Observation) -> Cause {
        let same = matches!(&self.agreed, Agreed::Config(agreed) if agreed.policy == config.policy);
        let missing = self.doubted(seen).map(|(_, names)| Arc::clone(names)).unwrap_or_default();
        Cause { configuration: (!same).then(|| config.fingerprint().into()), missing }
    }

    /// The plan by the rules of before and with what is missing only by inference, where that can differ.
    fn kept(&mut self, config: &Config, seen: &Observation) -> Option<Plan> {
        let Agreed::Config(agreed) = &self.agreed else { return None };
        let view = match self.doubted(seen) {
            Some((kept, _)) => kept,
            None if agreed.policy == config.policy => return None,
            None => &seen.view,
        };
        let planner = self.old.get_or_insert_with(|| self.planner.clone());
        Some(planner.plan(view, &agreed.policy, &self.node))
    }

    /// Entries with a session; a router of a range or on a link stands for its entry.
    fn established(&self) -> BTreeSet<Arc<str>> {
        let speakers = self.speakers.borrow().clone();
        let up = speakers.peers.iter().filter(|(_, peer)| {
            let status = peer.status.borrow();
            matches!(status.phase, Phase::Established { .. })
        });
        let entry = |name: &Arc<str>| match name.rsplit_once('/') {
            Some((range, _)) => vec![Arc::clone(name), range.into()],
            None => vec![Arc::clone(name)],
        };
        up.flat_map(|(name, _)| entry(&name.0)).collect()
    }

    /// The configuration of before, where peers that hold routes are in it and not in this one, with the peers that are new.
    fn with_peers_of_before(&self, config: &Config, held: &Held) -> Option<Arc<Config>> {
        let Agreed::Config(agreed) = &self.agreed else { return None };
        let gone = |name: &Arc<str>| !config.peers.contains_key(name) && agreed.peers.contains_key(name);
        if !held.peers.iter().any(gone) {
            return None;
        }
        let mut kept = Config::clone(agreed);
        let taken: BTreeSet<_> = agreed.peers.values().map(|peer| peer.neighbor.whereabouts()).collect();
        let new = config
            .peers
            .iter()
            .filter(|(name, peer)| !agreed.peers.contains_key(*name) && !taken.contains(&peer.neighbor.whereabouts()));
        kept.peers.extend(new.map(|(name, peer)| (Arc::clone(name), peer.clone())));
        kept.policy = Arc::clone(&config.policy);
        kept.guard = config.guard.clone();
        Some(Arc::new(kept))
    }

    fn tell(&self, holding: &Holding, cause: &Cause, limits: &Limits, now: Instant) {
        let mut conditions = Conditions::default();
        if let Holding::Routes(held) = holding {
            conditions.set(Reason::GuardHolds, "", words(held, cause, limits, now));
        }
        self.conditions.send_if_modified(|held| {
            let changed = held.count(Reason::GuardHolds) != conditions.count(Reason::GuardHolds)
                || (!matches!(holding, Holding::Routes(Held { until: Until::Time(_), .. })) && *held != conditions)
                || !same_cause(held, cause);
            if changed {
                *held = conditions;
            }
            changed
        });
    }
}

/// Whether what was said names this cause: the time that is left need not be said anew every second.
fn same_cause(said: &Conditions, cause: &Cause) -> bool {
    let hash = cause.hash();
    said.iter().all(|(_, _, words)| words.contains(&hash))
}

fn words(held: &Held, cause: &Cause, limits: &Limits, now: Instant) -> String {
    let some = |names: Vec<&str>| match names.len() {
        0..=3 => names.join(", "),
        more => format!("{} and {} more", names[..3].join(", "), more - 3),
    };
    let mut why = Vec::new();
    if cause.configuration.is_some() {
        why.push("the new configuration no longer has them".to_owned());
    }
    if !cause.missing.is_empty() {
        let names = some(cause.missing.iter().map(String::as_str).collect());
        why.push(format!("{names}: missing without having been deleted"));
    }
    let peers = some(held.peers.iter().map(AsRef::as_ref).collect());
    let hash = cause.hash();
    let until = match held.until {
        Until::Confirmed => {
            "nothing would be left, so they stay until that is confirmed or what is missing is back".to_owned()
        }
        Until::Time(at) => {
            let left = at.saturating_duration_since(now).as_secs_f64().ceil();
            format!(
                "they are withdrawn in {left:.0} s ('guard.hold' is {} s) unless what is missing is back",
                limits.hold.as_secs()
            )
        }
    };
    format!(
        "{} routes of {} addresses to {peers} stay announced though {}; {until}; to withdraw them now: 'herald confirm {hash}' on this \
         node, or 'guard: {{confirm: \"{hash}\"}}' in the configuration for all",
        held.routes,
        held.addresses.len(),
        why.join(", and ")
    )
}
