//! Graceful restart as two OPENs agree on it (RFC 4724, RFC 8538). We announce and keep nothing of the peer's, so ours is the
//! restarting half.

use crate::wire::capability::{Forwarding, GracefulRestart};
use crate::wire::{Capability, Family, Open};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// What we offer: the peer may keep our routes while we are away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// How long the peer may wait for us, at most 4095 s.
    pub restart_time: Duration,
}

/// How this process stands towards the peer: what the R and the F bit say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RestartState {
    /// It has not sent End-of-RIB to this peer yet, so it has just (re)started as far as the peer is concerned.
    #[default]
    Restarting,
    /// The same, and what packets needed to be forwarded is gone: this boot of the node is new.
    RestartingAfterBoot,
    /// The peer has had all routes from this process.
    Running,
}

/// Whether the peer announced that it can restart gracefully (RFC 4724 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Restart {
    /// It sent no such capability.
    Unannounced,
    /// It did.
    Announced,
}

/// What both sides sent: whether the peer keeps our routes when the session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Graceful {
    /// Not both sent the capability: routes go with the session.
    No,
    /// They stay when TCP is closed or lost, and go with a NOTIFICATION (RFC 4724 §4.2).
    WithoutNotification,
    /// Both set the N bit: they stay, unless the NOTIFICATION is a Hard Reset (RFC 8538 §4).
    WithNotification,
}

impl Offer {
    /// Our capability.
    pub(super) fn capability(self, restart_state: RestartState, families: &BTreeSet<Family>) -> Capability {
        let preserved = match restart_state {
            RestartState::Restarting | RestartState::Running => true,
            RestartState::RestartingAfterBoot => false,
        };
        Capability::GracefulRestart(GracefulRestart {
            restarted: match restart_state {
                RestartState::Restarting | RestartState::RestartingAfterBoot => true,
                RestartState::Running => false,
            },
            notification: true,
            restart_time: u16::try_from(self.restart_time.as_secs()).unwrap_or(u16::MAX),
            families: families.iter().map(|family| Forwarding { family: *family, preserved }).collect(),
        })
    }
}

impl Restart {
    /// As the peer's OPEN says. A second capability replaces the first (RFC 5492 §4).
    pub(super) fn of(theirs: &Open) -> (Self, Graceful) {
        let last = theirs.capabilities.iter().rev().find_map(|capability| match capability {
            Capability::GracefulRestart(restart) => Some(restart.notification),
            _ => None,
        });
        match last {
            None => (Restart::Unannounced, Graceful::No),
            Some(true) => (Restart::Announced, Graceful::WithNotification),
            Some(false) => (Restart::Announced, Graceful::WithoutNotification),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(restart_state: RestartState) -> GracefulRestart {
        let offer = Offer { restart_time: Duration::from_secs(120) };
        match offer.capability(restart_state, &[Family::IPV4_UNICAST, Family::IPV6_UNICAST].into()) {
            Capability::GracefulRestart(restart) => restart,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_bits_say_how_we_stand() {
        for (restart_state, restarted, preserved) in [
            (RestartState::Restarting, true, true),
            (RestartState::RestartingAfterBoot, true, false),
            (RestartState::Running, false, true),
        ] {
            let said = ours(restart_state);
            assert_eq!(
                (said.restarted, said.notification, said.restart_time),
                (restarted, true, 120),
                "{restart_state:?}"
            );
            assert!(said.families.iter().all(|family| family.preserved == preserved), "{restart_state:?}");
            assert_eq!(said.families.len(), 2);
        }
    }
}
