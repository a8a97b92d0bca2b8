//! Which of two connections to one peer is kept (RFC 4271 §6.8, RFC 6286 §2.3, RFC 4724 §4.2).

use crate::fsm::restart::Restart;
use crate::planted::{Bug, planted};
use crate::wire::{Asn, RouterId};

/// One end of a session, as far as a collision is about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct End {
    /// Its BGP Identifier.
    pub router_id: RouterId,
    /// Its AS.
    pub asn: Asn,
}

/// Where the other connection stands when an acceptable OPEN comes on this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rival {
    /// The peer's OPEN has not come on it: nothing is known about it yet, and its own OPEN will decide.
    Early,
    /// In OpenConfirm, opened by us or by the peer.
    OpenConfirm(Opener),
    /// Established before this one was accepted.
    Established {
        /// The peer's identifier on it.
        router_id: RouterId,
        /// What the peer's OPEN on it said.
        restart: Restart,
    },
}

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opener {
    /// We did.
    Us,
    /// The peer did.
    Them,
}

/// What becomes of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Both go on.
    KeepBoth,
    /// The one on which the OPEN came is closed with Cease 6/7.
    CloseThis,
    /// The other one is closed with Cease 6/7.
    CloseRival,
    /// The other one is closed without a word: the peer has restarted, and a NOTIFICATION would tell it to forget.
    ReplaceRival,
}

/// Decides when `theirs` comes as an acceptable OPEN on one connection while `rival` is the other.
///
/// Of two in OpenConfirm the one survives that the end with the higher identifier opened; between equal identifiers (eBGP
/// only) the larger AS number decides. Established wins, unless the peer can restart gracefully and it is the same peer.
pub fn judge(ours: End, theirs: End, rival: Rival) -> Verdict {
    match rival {
        Rival::Early => Verdict::KeepBoth,
        Rival::OpenConfirm(_) | Rival::Established { .. } if planted(Bug::CollisionUndetected) => Verdict::KeepBoth,
        Rival::OpenConfirm(_) if planted(Bug::CollisionClosesBoth) => Verdict::CloseThis,
        Rival::Established { .. } if planted(Bug::NewcomerWins) => Verdict::ReplaceRival,
        Rival::OpenConfirm(opener) => {
            let winner =
                if (ours.router_id, ours.asn) > (theirs.router_id, theirs.asn) { Opener::Us } else { Opener::Them };
            if winner == opener { Verdict::CloseThis } else { Verdict::CloseRival }
        }
        Rival::Established { router_id, restart: Restart::Announced } if router_id == theirs.router_id => {
            Verdict::ReplaceRival
        }
        Rival::Established { .. } => Verdict::CloseThis,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(last: u8, asn: u32) -> End {
        End { router_id: RouterId::new([10, 0, 0, last].into()).unwrap(), asn: Asn(asn) }
    }

    #[test]
    fn the_connection_of_the_higher_identifier_is_kept_and_both_ends_agree() {
        // Identifiers compare as numbers (RFC 4271 §6.8): 10.0.0.9 is below 10.0.0.10.
        for (low, high) in [(end(9, 64999), end(10, 64500)), (end(7, 64500), end(7, 64501))] {
            assert_eq!(judge(high, low, Rival::OpenConfirm(Opener::Us)), Verdict::CloseThis);
            assert_eq!(judge(high, low, Rival::OpenConfirm(Opener::Them)), Verdict::CloseRival);
            // The same two connections, seen from the other end.
            assert_eq!(judge(low, high, Rival::OpenConfirm(Opener::Them)), Verdict::CloseThis);
            assert_eq!(judge(low, high, Rival::OpenConfirm(Opener::Us)), Verdict::CloseRival);
        }
    }

    #[test]
    fn an_open_not_yet_seen_decides_nothing() {
        assert_eq!(judge(end(1, 1), end(2, 2), Rival::Early), Verdict::KeepBoth);
    }

    #[test]
    fn established_wins_unless_the_same_peer_restarts_gracefully() {
        let established = |last, restart| Rival::Established { router_id: end(last, 2).router_id, restart };
        let judged = |rival| judge(end(1, 1), end(9, 2), rival);
        assert_eq!(judged(established(9, Restart::Unannounced)), Verdict::CloseThis);
        assert_eq!(judged(established(9, Restart::Announced)), Verdict::ReplaceRival);
        assert_eq!(judged(established(8, Restart::Announced)), Verdict::CloseThis, "a stranger replaces nobody");
    }
}
