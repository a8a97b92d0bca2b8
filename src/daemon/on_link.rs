//! What goes on on links: looking for routers, and being heard by those that wait for it.

use super::supervised::Supervised;
use super::wanted::Links;
use crate::condition::Conditions;
use crate::net::beacon::{self, Silent};
use crate::net::neighbours::{self, Found};
use crate::peer::settings::InterfaceName;
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::watch;

/// The tasks on links; they follow what is asked.
pub struct OnLink {
    look: watch::Sender<BTreeSet<InterfaceName>>,
    found: (watch::Sender<Found>, watch::Receiver<Found>),
    silent: (watch::Sender<Silent>, watch::Receiver<Silent>),
    /// Runs while there is something to look for.
    watcher: Option<Supervised>,
    beacons: BTreeMap<InterfaceName, Supervised>,
    said: watch::Sender<Conditions>,
}

impl OnLink {
    /// Nothing is asked yet; what goes wrong beside what is found is `said`.
    pub fn idle(said: watch::Sender<Conditions>) -> Self {
        Self {
            look: watch::channel(BTreeSet::new()).0,
            found: watch::channel(Found::new()),
            silent: watch::channel(Silent::new()),
            watcher: None,
            beacons: BTreeMap::new(),
            said,
        }
    }

    /// Looks and advertises on these interfaces, and on no others.
    pub fn follow(&mut self, links: &Links) {
        self.look.send_if_modified(|held| {
            let changed = *held != links.look;
            held.clone_from(&links.look);
            changed
        });
        if links.look.is_empty() {
            self.watcher = None;
        } else {
            let start = || {
                let (look, found, said) = (self.look.subscribe(), self.found.0.clone(), self.said.clone());
                let watch = move || neighbours::run(look.clone(), found.clone(), said.clone());
                Supervised::spawn("neighbours", self.said.clone(), watch)
            };
            self.watcher.get_or_insert_with(start);
        }
        self.beacons.retain(|interface, _| links.advertise.contains(interface));
        for interface in &links.advertise {
            let start = || {
                let (on, silent) = (interface.clone(), self.silent.0.clone());
                let send = move || beacon::run(on.clone(), silent.clone());
                Supervised::spawn(format!("router advertisements on {interface}"), self.said.clone(), send)
            };
            self.beacons.entry(interface.clone()).or_insert_with(start);
        }
    }

    /// The routers found so far.
    pub fn found(&self) -> Found {
        self.found.1.borrow().clone()
    }

    /// Where we cannot be heard.
    pub fn silent(&self) -> Silent {
        self.silent.1.borrow().clone()
    }

    /// Waits for something new. May be dropped and called again.
    pub async fn changed(&mut self) {
        // The senders are ours: neither can end.
        tokio::select! {
            _ = self.found.1.changed() => {}
            _ = self.silent.1.changed() => {}
        }
    }
}
