//! What the sessions of this node ask of other nodes before one of them ends for a change, and what is known of the answer.

use super::spec::Spec;
use crate::advertise::guard::fingerprint;
use crate::config::Config;
use crate::config::rollout::{Need, Turn};
use crate::k8s::turn::{Answer, Heed, Request};
use std::sync::Arc;
use tokio::sync::watch;

/// The speaker's end.
#[derive(Debug)]
pub struct Turns {
    requests: watch::Sender<Request>,
    answers: watch::Receiver<Answer>,
    /// The configuration that was asked about last, and its fingerprint.
    about: Option<(Arc<Config>, Arc<str>)>,
    /// The configuration that an operator wants although it failed on another node.
    wanted_all_the_same: Option<Arc<str>>,
}

/// The end of who asks the others. A clone is for the next one, should this one panic.
#[derive(Debug, Clone)]
pub struct Asking {
    /// What is asked.
    pub requests: watch::Receiver<Request>,
    /// What is known.
    pub answers: watch::Sender<Answer>,
}

impl Turns {
    /// Both ends. Until somebody knows more it is `turn`: [`Turn::Alone`] where there is nobody to ask.
    pub fn new(turn: Turn) -> (Self, Asking) {
        let nothing = Request { walk: 0, need: Need::Nothing, configuration: "".into(), heed: Heed::Heeded };
        let (requests, requests_read) = watch::channel(nothing);
        let (answers, answers_read) = watch::channel(Answer { walk: 0, turn });
        let turns = Self { requests, answers: answers_read, about: None, wanted_all_the_same: None };
        (turns, Asking { requests: requests_read, answers })
    }

    /// Waits for news; for ever where nobody is asked.
    pub async fn changed(&mut self) {
        if self.answers.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whose turn it is, as far as that was said to the walk that is asked for now, with this configuration.
    pub fn known(&mut self, spec: &Spec) -> Turn {
        let answer = self.answers.borrow_and_update().clone();
        let request = self.requests.borrow().clone();
        let asked = request.need == Need::Turn && answer.walk == request.walk;
        match answer.turn {
            Turn::Alone => Turn::Alone,
            turn if asked && self.fingerprint(&spec.config) == request.configuration => turn,
            Turn::Unknown | Turn::Ours { .. } | Turn::Theirs(_) | Turn::Barred(_) => Turn::Unknown,
        }
    }

    /// Asks, where something else is needed than before.
    pub fn ask(&mut self, need: Need, spec: &Spec) {
        let before = self.requests.borrow().clone();
        let idle = need == Need::Nothing && before.need == Need::Nothing;
        if idle || self.answers.borrow().turn == Turn::Alone {
            return;
        }
        let configuration = self.fingerprint(&spec.config);
        let begins = need == Need::Turn && (before.need != Need::Turn || before.configuration != configuration);
        let heed = match self.wanted_all_the_same.as_ref() == Some(&configuration) {
            true => Heed::Overruled,
            false => Heed::Heeded,
        };
        let request = Request { walk: before.walk + u64::from(begins), need, configuration, heed };
        self.requests.send_if_modified(|held| {
            let changed = *held != request;
            *held = request;
            changed
        });
    }

    /// By which it is confirmed that a configuration is wanted although it failed on `node`.
    pub fn number(&mut self, node: &str, spec: &Spec) -> String {
        fingerprint([node, &self.fingerprint(&spec.config)])
    }

    /// It is wanted all the same.
    pub fn overrule(&mut self, spec: &Spec) {
        self.wanted_all_the_same = Some(self.fingerprint(&spec.config));
    }

    fn fingerprint(&mut self, config: &Arc<Config>) -> Arc<str> {
        match &self.about {
            Some((about, known)) if Arc::ptr_eq(about, config) => Arc::clone(known),
            Some(_) | None => {
                let known: Arc<str> = config.fingerprint().into();
                self.about = Some((Arc::clone(config), Arc::clone(&known)));
                known
            }
        }
    }
}
