//! Plans as they are handed out: judged by the guard against the rules and the cluster that were last agreed with.

use crate::admin::Speakers;
use crate::advertise::guard::{Held, Step, Until};
use crate::advertise::remembered::{Lack, Remembered};
use crate::advertise::{
    Cause, ClusterView, Guard, Holding, Inferred, Limits, Missing, NodeName, Observation, Plan, Planner,
};
use crate::condition::{Conditions, Reason};
use crate::config::Config;
use crate::peer::Phase;
use crate::rib::RouteSet;
use crate::wire::Prefix;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// The planner behind its guard.
pub struct Guarded {
    node: NodeName,
    guard: Guard,
    remembered: Remembered,
    planner: Planner,
    /// What is left of the rules and the cluster of before, while something is held.
    old: Option<Planner>,
    agreed: Agreed,
    /// What was said last of what is held: the time that is left need not be said anew every second.
    told: Option<(Held, String)>,
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
    /// Whether anything is held or doubted, so that time changes the plan.
    pub holds: bool,
    /// What was announced before this process, while much of it is missing.
    pub doubted: Arc<BTreeSet<Prefix>>,
    /// What sessions are kept by: while something is held, the cluster as it was before.
    pub basis: ClusterView,
}

impl Guarded {
    /// One that goes on from what is announced.
    pub fn new(
        node: NodeName,
        (announced, remembered): (Option<&BTreeMap<Arc<str>, RouteSet>>, Remembered),
        speakers: watch::Receiver<Arc<Speakers>>,
        conditions: watch::Sender<Conditions>,
    ) -> (Self, watch::Receiver<u64>) {
        let (accepted, read) = watch::channel(0);
        let agreed = if announced.is_some() { Agreed::Unknown } else { Agreed::Nothing };
        let guard = Guard::after(announced.cloned().unwrap_or_default());
        let (planner, old) = (Planner::default(), None);
        (Self { node, guard, remembered, planner, old, agreed, told: None, accepted, speakers, conditions }, read)
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
        let plan = Plan { routes: outcome.routes, retained: wanted.retained };
        let lack = self.remembered.judge(&plan, &config.guard, confirmed, now);
        let doubted = Arc::new(self.remembered.prefixes().clone());
        self.tell(&outcome.holding, &cause, &config.guard, now);
        self.tell_of_the_start(lack.as_ref(), &config.guard);
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
                    holds: lack.is_some(),
                    basis: seen.view.clone(),
                    doubted,
                }
            }
            Holding::Routes(held) => {
                let kept = self.with_peers_of_before(config, &held);
                let keeps_peers = kept.is_some();
                let config = kept.unwrap_or_else(|| Arc::clone(config));
                let basis = self.doubted(seen).map_or(&seen.view, |(kept, _)| kept).clone();
                Judged { plan, beyond: held.addresses, config, keeps_peers, holds: true, basis, doubted }
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
        // Gone, or for other nodes than before.
        let gone = |name: &Arc<str>| {
            let now = config.peers.get(name);
            agreed.peers.get(name).is_some_and(|before| now.is_none_or(|now| now.nodes != before.nodes))
        };
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

    fn tell(&mut self, holding: &Holding, cause: &Cause, limits: &Limits, now: Instant) {
        let held = match holding {
            Holding::Nothing => None,
            Holding::Routes(held) => Some((held.clone(), cause.hash())),
        };
        if self.told == held {
            return;
        }
        self.conditions.send_modify(|conditions| match &held {
            Some((held, _)) => conditions.set(Reason::GuardHolds, "", words(held, cause, limits, now)),
            None => conditions.clear(Reason::GuardHolds, ""),
        });
        self.told = held;
    }

    fn tell_of_the_start(&self, lack: Option<&Lack>, limits: &Limits) {
        let said = lack.map(|lack| lacking(lack, limits));
        self.conditions.send_if_modified(|conditions| {
            let before = conditions.clone();
            conditions.clear_all(Reason::EndOfRibWaits);
            if let Some(said) = said {
                conditions.set(Reason::EndOfRibWaits, "", said);
            }
            *conditions != before
        });
    }
}

fn lacking(lack: &Lack, limits: &Limits) -> String {
    let Lack { missing, before, until, number } = lack;
    let until = match until {
        Until::Confirmed => {
            "nothing is announced now, so this stays until it is confirmed or some of it is back".to_owned()
        }
        Until::Time(_) => format!("after 'guard.hold' ({} s) it is believed", limits.hold.as_secs()),
    };
    format!(
        "{missing} of the {before} prefixes that the process before this one announced are missing: what is there is announced, and \
         routers with graceful restart keep the others, for they are not told that this is all; {until}; to end this now: 'herald \
         confirm {number}' on this node"
    )
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
