//! What a model checker asks of a peer: whether two behave alike, and any deadline at any moment.

use super::link::Link;
use super::machine::Peer;
use super::seam::ConnId;
use super::side::{Side, Which};
use super::status::EndOfRib;
use crate::fsm::{State, Timer};
use std::hash::{Hash, Hasher};
use std::time::Instant;

impl Peer {
    /// Feeds what decides how this peer goes on, but not when: numbers of connections, moments, delays and counters are
    /// left out. Two peers of the same settings that feed the same answer every input alike, if their plans are the same.
    pub fn likeness(&self, hasher: &mut impl Hasher) {
        (self.life, self.restart_state, self.plan.is_some()).hash(hasher);
        (self.outputs.len(), self.last_words.len(), self.guest.is_some()).hash(hasher);
        for (_, side) in self.sides() {
            side.session.likeness(hasher);
            std::mem::discriminant(&side.link).hash(hasher);
            match &side.link {
                Link::Absent | Link::Dialing(_) => {}
                Link::Opening(connection) => connection.queue.is_empty().hash(hasher),
                Link::Up(connection, export) => {
                    let is_told = matches!(export.end_of_rib(), EndOfRib::Sent(_));
                    (connection.queue.is_empty(), is_told, export.advertised()).hash(hasher);
                }
            }
        }
    }

    /// The connections and dials it has now, each with the state of its session.
    pub fn connections(&self) -> impl Iterator<Item = (Which, ConnId, &State)> {
        self.sides().filter_map(|(which, side)| Some((which, side.link.id()?, side.session.state())))
    }

    /// The timers that run.
    pub fn running(&self) -> impl Iterator<Item = (Which, Timer)> {
        self.sides().flat_map(|(which, side)| {
            let timers = side.session.timers();
            Timer::ALL.into_iter().filter(|timer| timers.deadline(*timer).is_some()).map(move |timer| (which, timer))
        })
    }

    /// Makes a timer that runs expire by `now`; [`super::Input::Timeout`] then finds it, and those that had expired anyhow.
    pub fn hasten(&mut self, which: Which, timer: Timer, now: Instant) {
        let side = match which {
            Which::Home => Some(&mut self.home),
            Which::Guest => self.guest.as_mut(),
        };
        if let Some(side) = side {
            side.session.hasten(timer, now);
        }
    }

    fn sides(&self) -> impl Iterator<Item = (Which, &Side)> {
        std::iter::once((Which::Home, &self.home)).chain(self.guest.as_ref().map(|guest| (Which::Guest, guest)))
    }
}
