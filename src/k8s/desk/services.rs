//! News about Services: whose each is, what it asks for, and whether somebody else is at work on it.

use super::letters::Arrival;
use super::{Contest, Desk, Kind, Moment, Verdict, is_newer};
use crate::advertise::policy::Classless;
use crate::ipam::{Claim, Foreign, ServiceName, Status, Uid};
use crate::k8s::due::Key;
use crate::k8s::follow::Told;
use crate::k8s::request::{Class, Life, ServiceForm, Sighting, Writer};
use crate::k8s::telling::{Notice, Tone};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// A status that somebody takes away so often within [`CONTEST_MEMORY`] is written at growing intervals.
const CONTESTED: u32 = 3;
const CONTEST_MEMORY: Duration = Duration::from_secs(600);
const LONGEST_CONTEST_PAUSE: Duration = Duration::from_secs(300);

impl Desk {
    pub(super) fn take_service(&mut self, told: Told<ServiceForm>, now: Moment) {
        match told {
            Told::Listing => self.listed_services.begin(),
            Told::Listed(form) => self.listed_services.items.extend(form.sighting()),
            Told::Complete => self.services_listed(now),
            Told::Applied(form) => {
                let Some(seen) = form.sighting() else { return };
                let stale = |known: &Sighting| is_newer(&known.version, &seen.version);
                // One who was missing is there: a server that was put back counts from lower again.
                if self.releases.has(&seen.uid) || !self.services.get(&seen.uid).is_some_and(stale) {
                    self.see(seen, now);
                }
            }
            Told::Deleted(identity) => self.gone(&identity.uid.as_str().into(), now),
            Told::Unreadable(bad) => self.listed_services.note_unreadable(bad.identity.uid),
            Told::Heard | Told::Absent | Told::Failed(_) => {}
        }
    }

    fn services_listed(&mut self, now: Moment) {
        let list = self.listed_services.end();
        let listed: BTreeSet<&Uid> = list.items.iter().map(|seen| &seen.uid).collect();
        let names: BTreeSet<&ServiceName> = list.items.iter().map(|seen| &seen.service).collect();
        let known = self.services.iter();
        let missing = known.filter(|(uid, _)| !listed.contains(uid) && !list.unreadable.contains(&*uid.to_string()));
        let missing: Vec<(Uid, ServiceName)> = missing.map(|(uid, seen)| (uid.clone(), seen.service.clone())).collect();
        for (uid, service) in missing {
            // One made anew under that name says for sure that this one is gone.
            match self.has_begun() && !names.contains(&service) {
                true => self.miss(&uid, &service),
                false => self.gone(&uid, now),
            }
        }
        for seen in list.items {
            if !list.written.contains(&Key::Service(seen.uid.clone())) {
                self.see(seen, now);
            }
        }
        self.complete(Kind::Services, now);
    }

    /// A Service is now so.
    pub(super) fn see(&mut self, mut seen: Sighting, now: Moment) {
        let uid = seen.uid.clone();
        self.releases.forget(&uid);
        if let Some(before) = self.releases.namesake(&seen.service) {
            self.gone(&before, now);
        }
        match &seen.request {
            Ok(_) => drop(self.unclear.remove(&uid)),
            Err(why) => {
                let notice = notice(&seen, "InvalidRequest", why.clone());
                if self.unclear.insert(uid.clone(), why.clone()).as_ref() != Some(why) {
                    self.notify(notice);
                }
                // What it asked for before it was spoilt still stands.
                let former = self.services.get(&uid).and_then(|before| before.request.clone().ok());
                if let Some(former) = former {
                    seen.request = Ok(Claim { shown: seen.shown.clone(), ..former });
                }
            }
        }
        if let Some(before) = self.services.get(&uid) {
            self.note_contest(&before.shown.clone(), &seen, now);
        }
        self.services.insert(uid.clone(), seen);
        if self.has_begun() {
            self.judge(&uid, now);
            self.due.add(Key::Service(uid));
        }
    }

    /// Somebody took away what we gave: once is a mistake, often is another controller at work.
    fn note_contest(&mut self, before: &[IpAddr], seen: &Sighting, now: Moment) {
        let taken = before.iter().any(|address| !seen.shown.contains(address) && self.holds(&seen.uid, *address));
        if !taken || seen.writer == Writer::Us {
            return;
        }
        let contest = self.contests.entry(seen.uid.clone()).or_insert(Contest { losses: 0, last: now.clock });
        if now.clock - contest.last > CONTEST_MEMORY {
            contest.losses = 0;
        }
        contest.losses += 1;
        contest.last = now.clock;
        if contest.losses >= CONTESTED {
            let pause = Duration::from_secs(1 << contest.losses.min(10)).min(LONGEST_CONTEST_PAUSE);
            self.due.put_off(Key::Service(seen.uid.clone()), now.clock + pause);
            let note = "somebody keeps removing its address from its status; give the service a loadBalancerClass";
            self.notify(notice(seen, "StatusContested", note.to_owned()));
        }
    }

    /// A Service is gone, or no longer of type LoadBalancer.
    pub(super) fn lose(&mut self, uid: &Uid, now: Moment) {
        self.releases.forget(uid);
        let Some(seen) = self.services.remove(uid) else { return };
        self.refused.remove(uid);
        self.unclear.remove(uid);
        self.contests.remove(uid);
        // Its resourceVersion has moved on, or it is gone: what is on its way does not arrive any more.
        self.letters.remove(uid);
        self.due.forget(&Key::Service(uid.clone()));
        if seen.given_from.is_some() || seen.condition.is_some() {
            self.due.add(Key::Remains(uid.clone()));
            self.remains.insert(uid.clone(), seen.service);
        }
        if let Some(allocator) = &mut self.allocator {
            allocator.remove(uid, now.civil);
        }
    }

    /// Whose a Service is, and what that means.
    pub(super) fn judge(&mut self, uid: &Uid, now: Moment) {
        let Some(seen) = self.services.get(uid) else { return };
        let verdict = self.verdict(seen, |address| self.holds(uid, address));
        let displaced = self.is_displaced(seen);
        let letter = self.letters.get(uid).map(|letter| letter.may_still_arrive(seen));
        let Some(allocator) = &mut self.allocator else { return };
        match verdict {
            Verdict::Serve(claim) => {
                if displaced {
                    // Somebody else gave it another address, and that one counts.
                    allocator.remove(uid, now.civil);
                }
                match letter {
                    None => allocator.end_status(*claim, now.civil),
                    Some(_) => allocator.apply(*claim, now.civil),
                }
            }
            // What is on its way may show an address of ours at any moment: it is judged again when that has ended.
            Verdict::Leave(_) if letter == Some(Arrival::Possible) => {}
            Verdict::Leave(foreign) => allocator.foreign(foreign, now.civil),
        }
    }

    pub(super) fn verdict(&self, seen: &Sighting, holds: impl Fn(IpAddr) -> bool) -> Verdict {
        let ours = match (seen.class, self.rules.classless) {
            (Class::Ours, _) | (Class::Unnamed, Classless::Announce) => true,
            (Class::Other, _) | (Class::Unnamed, Classless::Ignore) => false,
        };
        let strange = |address: &IpAddr| !holds(*address) && !self.is_in_a_pool(*address);
        let of_others = seen.writer == Writer::Other && (seen.hostnames > 0 || seen.shown.iter().any(strange));
        let ending = seen.life == Life::Ending && !seen.shown.iter().any(|address| holds(*address));
        match &seen.request {
            Ok(claim) if ours && !of_others && !ending => {
                let labels = self.labels.get(&seen.service.namespace).cloned().unwrap_or_default();
                Verdict::Serve(Box::new(Claim { namespace_labels: labels, ..claim.clone() }))
            }
            Ok(_) | Err(_) => Verdict::Leave(Foreign {
                uid: seen.uid.clone(),
                service: seen.service.clone(),
                addresses: seen.shown.iter().copied().collect(),
            }),
        }
    }

    /// Whether somebody else replaced what we gave by something else.
    fn is_displaced(&self, seen: &Sighting) -> bool {
        let holdings = self.status(&seen.uid).assigned;
        let shows_ours = holdings.iter().any(|assigned| seen.shown.contains(&assigned.address));
        seen.writer == Writer::Other && !seen.shown.is_empty() && !holdings.is_empty() && !shows_ours
    }

    fn is_in_a_pool(&self, address: IpAddr) -> bool {
        let mut ranges = self.rules.allocation.pools.iter().flat_map(|pool| &pool.ranges);
        ranges.any(|(first, last)| first.is_ipv4() == address.is_ipv4() && *first <= address && address <= *last)
    }

    pub(super) fn status(&self, uid: &Uid) -> Status {
        self.allocator.as_ref().and_then(|allocator| allocator.status(uid)).unwrap_or_default()
    }

    fn holds(&self, uid: &Uid, address: IpAddr) -> bool {
        self.status(uid).assigned.iter().any(|assigned| assigned.address == address)
    }
}

fn notice(seen: &Sighting, reason: &'static str, note: String) -> Notice {
    Notice { uid: seen.uid.clone(), service: seen.service.clone(), tone: Tone::Warning, reason, note }
}
