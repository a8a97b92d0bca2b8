//! One of the two connections that a peer may have, with its session.

use super::collision::{Opener, Rival};
use super::link::Link;
use crate::fsm::{Session, State};

/// A session and its connection.
#[derive(Debug, Clone)]
pub(super) struct Side {
    pub(super) session: Session,
    pub(super) link: Link,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Which {
    /// The lasting one: it dials, waits out failures, and is the one that is Established.
    Home,
    /// A connection that the peer opened, until it is Established and becomes the lasting one, or falls.
    Guest,
}

impl Which {
    pub(super) fn other(self) -> Self {
        match self {
            Which::Home => Which::Guest,
            Which::Guest => Which::Home,
        }
    }

    /// Who opened a connection that is not Established.
    pub(super) fn opener(self) -> Opener {
        match self {
            Which::Home => Opener::Us,
            Which::Guest => Opener::Them,
        }
    }
}

impl Side {
    /// What this one is to an OPEN on the other one.
    pub(super) fn as_rival(&self, which: Which) -> Rival {
        match self.session.state() {
            State::Idle | State::Connect | State::Active | State::OpenDelayed(_) | State::OpenSent => Rival::Early,
            State::OpenConfirm(_) => Rival::OpenConfirm(which.opener()),
            State::Established(negotiated, _) => {
                Rival::Established { router_id: negotiated.router_id, restart: negotiated.restart }
            }
        }
    }

    /// How far it has come; of two, people are shown the one that is further.
    pub(super) fn progress(&self) -> u8 {
        match self.session.state() {
            State::Idle => 0,
            State::Active => 1,
            State::Connect => 2,
            State::OpenDelayed(_) => 3,
            State::OpenSent => 4,
            State::OpenConfirm(_) => 5,
            State::Established(..) => 6,
        }
    }
}
