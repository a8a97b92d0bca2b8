//! What is to be written, and what became of it.

use super::letters::Letter;
use super::{Desk, Known, Moment};
use crate::ipam::{Record, Refusal, Status, Tenure, Timestamp, Uid, Write};
use crate::k8s::due::Key;
use crate::k8s::errand::{Errand, Outcome};
use crate::k8s::request::Sighting;
use crate::k8s::telling::{Notice, Tone, finalizer, reason, refusals, telling};
use std::net::IpAddr;
use tracing::{debug, info, warn};

impl Desk {
    /// The next write, if there is one.
    pub fn next_errand(&mut self) -> Option<Errand> {
        loop {
            let key = self.due.begin()?;
            let errand = match &key {
                Key::Address(address) => self.errand_about(*address),
                Key::Service(uid) => self.errand_for(uid),
                Key::Remains(uid) => {
                    self.remains.get(uid).map(|service| Errand::Tidy { uid: uid.clone(), service: service.clone() })
                }
            };
            match errand {
                Some(errand) => return Some(errand),
                None => self.due.succeeded(&key),
            }
        }
    }

    fn errand_about(&mut self, address: IpAddr) -> Option<Errand> {
        if self.uncertain.contains(&address) {
            return Some(Errand::Look { address });
        }
        if self.left_alone.contains(&address) {
            return None;
        }
        let version = self.known.get(&address).and_then(|known| match known {
            Known::At(version) => Some(version.clone()),
            Known::Deleted(_) => None,
        });
        match (self.allocator.as_mut()?.begin_write(address), version) {
            (Write::Nothing, _) => None,
            (Write::Put(record), version) => Some(Errand::Put { until: self.until(&record), record, version }),
            (Write::Delete, Some(version)) => Some(Errand::Delete { address, version }),
            // There is something to delete that we have not seen.
            (Write::Delete, None) => {
                self.uncertain.insert(address);
                Some(Errand::Look { address })
            }
        }
    }

    /// When a cool-down ends, by the pools of today.
    fn until(&self, record: &Record) -> Option<Timestamp> {
        let pool = self.rules.allocation.pools.iter().find(|pool| pool.name == record.pool);
        match &record.tenure {
            Tenure::Released { at, .. } => pool.map(|pool| at.after(pool.cool_down)),
            Tenure::Held(_) => None,
        }
    }

    fn errand_for(&mut self, uid: &Uid) -> Option<Errand> {
        if let Some(errand) = self.letter_again(uid) {
            return Some(errand);
        }
        if self.releases.has(uid) {
            return self.errand_for_the_missing(uid);
        }
        let allocator = self.allocator.as_mut()?;
        let status = allocator.status(uid)?;
        let seen = self.services.get(uid)?;
        let mut telling = telling(seen, &status, allocator.begin_status(uid));
        telling.finalizer = finalizer(seen, &status, self.rules.cleanup);
        let errand = (!telling.is_empty()).then(|| {
            let letter = Letter::new(seen, telling);
            let errand = letter.errand(uid);
            self.letters.insert(uid.clone(), letter);
            errand
        });
        if let Some(notice) = refusal(seen, &status) {
            self.refuse(notice, &status);
        }
        if status.refusals.is_empty() {
            self.refused.remove(uid);
        }
        errand
    }

    /// An event for a refusal, once for each reason.
    fn refuse(&mut self, notice: Notice, status: &Status) {
        let reasons: Vec<&str> = status.refusals.iter().map(reason).collect();
        let reasons = reasons.join(",");
        let known = self.refused.insert(notice.uid.clone(), reasons.clone());
        // A former leader has said so, and it is written on the Service.
        let written = self.services.get(&notice.uid).and_then(|seen| seen.condition.as_ref());
        let told_before = known.is_none() && written.is_some_and(|condition| condition.reason == notice.reason);
        if known.as_ref() != Some(&reasons) && !told_before {
            info!(service = %notice.service, "no address: {}", notice.note);
            self.notify(notice);
        }
    }

    /// What became of a write.
    pub fn done(&mut self, key: Key, outcome: Outcome, now: Moment) {
        match &key {
            Key::Service(uid) => self.letter_done(&uid.clone(), outcome, now),
            Key::Address(address) => self.address_done(*address, outcome, now),
            Key::Remains(uid) => match failure(&outcome) {
                Some(why) => self.put_off(key, &why, now),
                None => {
                    self.remains.remove(uid);
                    self.due.succeeded(&key);
                }
            },
        }
        self.release(now);
        self.gather();
    }

    fn address_done(&mut self, address: IpAddr, outcome: Outcome, now: Moment) {
        let key = Key::Address(address);
        match outcome {
            Outcome::Conflict => {
                debug!(?key, "written by somebody else in between");
                self.uncertain.insert(address);
                self.due.overtaken(key, now.clock);
            }
            // What failed before still counts: a list that hides an object finds nothing of it, again and again.
            Outcome::Found(object) => {
                self.due.again(key);
                self.found(address, object.as_deref(), now);
            }
            Outcome::Refused(why) | Outcome::Failed(why) => {
                self.uncertain.insert(address);
                self.put_off(key, &why, now);
            }
            outcome => {
                self.due.succeeded(&key);
                match outcome {
                    Outcome::Allocation(object) => self.written(address, &object, now),
                    Outcome::NoAllocation(version) => self.deleted(address, version, now),
                    _ => {}
                }
            }
        }
    }

    pub(super) fn put_off(&mut self, key: Key, why: &str, now: Moment) {
        warn!(?key, "a write failed, and is tried again: {why}");
        self.due.failed(key, now.clock);
    }

    pub(super) fn say_what_changed(&mut self, seen: &Sighting, before: &[IpAddr]) {
        let assigned = self.status(&seen.uid).assigned;
        let with_pool = |address: &IpAddr| {
            let assigned = assigned.iter().find(|assigned| assigned.address == *address);
            assigned.map_or_else(|| address.to_string(), ToString::to_string)
        };
        let new = seen.shown.iter().filter(|address| !before.contains(address)).map(with_pool).collect::<Vec<_>>();
        let left = before.iter().filter(|address| !seen.shown.contains(address)).map(ToString::to_string).collect();
        for (reason, notes) in [("AddressAllocated", new), ("AddressReleased", left)] {
            if !notes.is_empty() {
                let (uid, service, note) = (seen.uid.clone(), seen.service.clone(), notes.join(", "));
                info!(service = %service, "{reason}: {note}");
                self.notify(Notice { uid, service, tone: Tone::Normal, reason, note });
            }
        }
    }
}

/// Why a write has to be tried again, if it has to.
fn failure(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Conflict => Some("written by somebody else in between".to_owned()),
        Outcome::Refused(why) | Outcome::Failed(why) => Some(why.clone()),
        Outcome::Allocation(_)
        | Outcome::NoAllocation(_)
        | Outcome::Found(_)
        | Outcome::Service { .. }
        | Outcome::Read(_)
        | Outcome::Nothing => None,
    }
}

/// The event of what a Service did not get.
fn refusal(seen: &Sighting, status: &Status) -> Option<Notice> {
    let first: &Refusal = status.refusals.first()?;
    Some(Notice {
        uid: seen.uid.clone(),
        service: seen.service.clone(),
        tone: Tone::Warning,
        reason: reason(first),
        note: refusals(status),
    })
}
