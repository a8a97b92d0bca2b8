//! Writes of Services' status: each is on its way until it is known that it cannot arrive any more.
//!
//! A write carries the resourceVersion that was read. It has arrived when it was answered so; it cannot arrive any more when it was
//! refused, or when the Service has another resourceVersion. Where no answer came, the Service is read, and if it is as it was, the
//! same is sent again. Until then the addresses that it shows are given to nobody else.

use super::{Desk, Moment, is_newer};
use crate::ipam::{ServiceName, Uid};
use crate::k8s::due::Key;
use crate::k8s::errand::{Errand, Outcome};
use crate::k8s::request::{ServiceForm, Sighting};
use crate::k8s::telling::Telling;
use std::net::IpAddr;
use tracing::debug;

/// A write that has begun and not ended.
#[derive(Debug)]
pub(super) struct Letter {
    service: ServiceName,
    /// The resourceVersion under which it is written.
    version: String,
    /// What the Service showed then.
    shown: Vec<IpAddr>,
    telling: Telling,
    fate: Fate,
}

/// What is known of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is on its way.
    Sent,
    /// It was refused, for the Service had been written: what it is now must be read.
    Overtaken,
    /// No answer came: the Service must be read.
    Unknown,
    /// No answer came, and it has not arrived so far: it is sent again.
    Undelivered,
}

/// Whether a write may still take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The Service has the resourceVersion under which it was sent.
    Possible,
    /// The Service has been written since.
    Barred,
}

impl Letter {
    pub(super) fn new(seen: &Sighting, telling: Telling) -> Self {
        let (service, version, shown) = (seen.service.clone(), seen.version.clone(), seen.shown.clone());
        Self { service, version, shown, telling, fate: Fate::Sent }
    }

    pub(super) fn errand(&self, uid: &Uid) -> Errand {
        Errand::Tell {
            uid: uid.clone(),
            service: self.service.clone(),
            version: self.version.clone(),
            shown: self.shown.clone(),
            telling: self.telling.clone(),
        }
    }

    pub(super) fn may_still_arrive(&self, seen: &Sighting) -> Arrival {
        if self.version == seen.version { Arrival::Possible } else { Arrival::Barred }
    }
}

impl Desk {
    /// The next step for a write that has not ended.
    pub(super) fn letter_again(&mut self, uid: &Uid) -> Option<Errand> {
        let letter = self.letters.get_mut(uid)?;
        match letter.fate {
            Fate::Overtaken | Fate::Unknown => Some(Errand::Read { uid: uid.clone(), service: letter.service.clone() }),
            Fate::Undelivered | Fate::Sent => {
                letter.fate = Fate::Sent;
                Some(letter.errand(uid))
            }
        }
    }

    /// What became of a write of a Service, or of reading it.
    pub(super) fn letter_done(&mut self, uid: &Uid, outcome: Outcome, now: Moment) {
        let key = Key::Service(uid.clone());
        match outcome {
            Outcome::Conflict => {
                debug!(?key, "written by somebody else in between");
                self.note_fate(uid, Fate::Overtaken);
                self.due.again(key);
            }
            Outcome::Failed(why) => {
                if self.is_sent(uid) {
                    self.note_fate(uid, Fate::Unknown);
                }
                self.releases.unclear(uid, &why);
                self.put_off(key, &why, now);
            }
            Outcome::Refused(why) => {
                if self.is_sent(uid) {
                    self.letters.remove(uid);
                    self.judge(uid, now);
                }
                self.releases.unclear(uid, &why);
                self.put_off(key, &why, now);
            }
            Outcome::Service { now: form, before } => {
                self.due.succeeded(&key);
                self.letters.remove(uid);
                if let Some(seen) = form.sighting() {
                    self.say_what_changed(&seen, &before);
                    self.end_letter(seen, now);
                }
            }
            Outcome::Read(None) => self.service_not_there(uid, now),
            Outcome::Read(Some(form)) => self.service_read(uid, form, now),
            Outcome::Allocation(_) | Outcome::NoAllocation(_) | Outcome::Found(_) | Outcome::Nothing => {
                self.due.succeeded(&key);
            }
        }
    }

    /// Whether the answer is one to a write: where the Service was only read, what was known of the write is known still.
    fn is_sent(&self, uid: &Uid) -> bool {
        self.letters.get(uid).is_some_and(|letter| letter.fate == Fate::Sent)
    }

    fn note_fate(&mut self, uid: &Uid, fate: Fate) {
        if let Some(letter) = self.letters.get_mut(uid) {
            letter.fate = fate;
        }
    }

    /// A Service is now so, after a write of it. The watch may have been quicker.
    fn end_letter(&mut self, seen: Sighting, now: Moment) {
        let uid = seen.uid.clone();
        match self.services.get(&uid) {
            Some(known) if is_newer(&known.version, &seen.version) => {
                self.judge(&uid, now);
                self.due.add(Key::Service(uid));
            }
            Some(_) => {
                self.listed_services.note_write(Key::Service(uid));
                self.see(seen, now);
            }
            // Gone meanwhile.
            None => {}
        }
    }

    /// The API server has no Service of that name, and nobody told that it was deleted. What was on its way to it does not arrive.
    fn service_not_there(&mut self, uid: &Uid, now: Moment) {
        self.due.succeeded(&Key::Service(uid.clone()));
        self.letters.remove(uid);
        let of_the_missing = self.releases.answer(uid).map(|(service, _)| service.clone());
        let name = of_the_missing.or_else(|| self.services.get(uid).map(|seen| seen.service.clone()));
        match name {
            Some(service) => self.releases.gone(uid, &service),
            None => self.gone(uid, now),
        }
    }

    /// A Service was read. One made anew under that name says for sure that this one is gone.
    fn service_read(&mut self, uid: &Uid, form: Box<ServiceForm>, now: Moment) {
        let key = Key::Service(uid.clone());
        let form = Some(form).filter(|form| form.uid().as_ref() == Some(uid));
        let is_load_balancer = form.as_ref().is_some_and(|form| form.is_load_balancer());
        let Some(seen) = form.and_then(|form| form.sighting()) else {
            self.due.succeeded(&key);
            return self.gone(uid, now);
        };
        if !is_load_balancer {
            self.due.succeeded(&key);
            self.services.insert(uid.clone(), seen);
            return self.gone(uid, now);
        }
        if let Some(letter) = self.letters.get_mut(uid)
            && letter.fate == Fate::Unknown
            && letter.may_still_arrive(&seen) == Arrival::Possible
        {
            letter.fate = Fate::Undelivered;
            self.releases.forget(uid);
            return self.due.again(key);
        }
        self.due.succeeded(&key);
        // Older than what the write went by: the API server was put back to an older state, and the watch will tell more of it.
        let put_back = self.letters.remove(uid).is_some_and(|letter| is_newer(&letter.version, &seen.version));
        if self.services.contains_key(uid) && !put_back && !self.releases.has(uid) {
            self.end_letter(seen, now);
        } else {
            self.listed_services.note_write(key);
            self.see(seen, now);
        }
    }
}
