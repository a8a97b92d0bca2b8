//! Services that a list no longer has: each is asked for by name, and gives back what it holds when [`Releases`] says so.

use super::{Desk, Moment};
use crate::condition::Conditions;
use crate::ipam::{Allocator, Record, ServiceName, Tenure, Uid};
use crate::k8s::due::Key;
use crate::k8s::errand::Errand;
use crate::k8s::releases::{Answer, Holdings, Releases};
use std::time::Duration;
use tracing::warn;

impl Desk {
    /// Lets those go that have this number, by an operator's word.
    pub fn consent(&mut self, number: &str, now: Moment) {
        self.releases.confirm(number);
        self.release(now);
        self.gather();
    }

    /// Says what stays held although a list no longer has it. `socket` is where that is confirmed.
    pub fn tell(&self, conditions: &mut Conditions, socket: &str) {
        self.releases.tell(conditions, &self.rules.guard, socket);
    }

    /// A list has no such Service: that alone takes nothing from it.
    pub(super) fn miss(&mut self, uid: &Uid, service: &ServiceName) {
        self.releases.miss(uid, service);
        self.due.add_now(Key::Service(uid.clone()));
    }

    /// What is to be written or asked for of one who is missing.
    pub(super) fn errand_for_the_missing(&self, uid: &Uid) -> Option<Errand> {
        let (service, answer) = self.releases.answer(uid)?;
        match answer {
            Answer::Asked | Answer::Unclear(_) => Some(Errand::Read { uid: uid.clone(), service: service.clone() }),
            Answer::Gone => None,
        }
    }

    /// Releases those whose turn it is.
    pub(super) fn release(&mut self, now: Moment) {
        let Some(allocator) = &self.allocator else { return };
        if self.releases.is_empty() {
            return;
        }
        let holdings = holdings(allocator, &self.releases);
        let going = self.releases.judge(&holdings, &self.rules.guard, now.clock);
        if !going.is_empty() {
            warn!(
                services = going.len(),
                "missing without having been deleted, and not there: they give their addresses back"
            );
        }
        going.iter().for_each(|uid| self.gone(uid, now));
    }

    /// A Service is no more, or serves nobody from outside any more.
    pub(super) fn gone(&mut self, uid: &Uid, now: Moment) {
        self.lose(uid, now);
        if let Some(allocator) = &mut self.allocator {
            allocator.remove(uid, now.civil);
        }
    }
}

fn holdings(allocator: &Allocator, releases: &Releases) -> Holdings {
    let mut holdings = Holdings::default();
    for (_, holders) in allocator.held() {
        holdings.all += 1;
        holdings.staying += usize::from(holders.iter().any(|holder| !releases.has(&holder.uid)));
        for holder in holders.iter().filter(|holder| releases.has(&holder.uid)) {
            *holdings.of_missing.entry(holder.uid.clone()).or_default() += 1;
        }
    }
    holdings
}

/// Releases that go on from those that cool down, whoever led then and whatever they were for.
pub(super) fn releases_after(records: &[Record], hold: Duration, now: Moment) -> Releases {
    let released = records.iter().filter_map(|record| match &record.tenure {
        Tenure::Released { at, .. } => {
            let ago = Duration::from_millis(now.civil.unix_millis().saturating_sub(at.unix_millis()));
            now.clock.checked_sub(ago).filter(|_| ago < hold)
        }
        Tenure::Held(_) => None,
    });
    Releases::after(released)
}
