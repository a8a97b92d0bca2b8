//! What can happen to a session: the events of RFC 4271 §8.1 and RFC 9687 §4.2, under their numbers.

use crate::wire::{self, Family, Notification, Open};

/// One event. Numbers 1 to 28 are RFC 4271's, 29 is RFC 9687's; ROUTE-REFRESH came later (RFC 2918) and has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// 1: the operator starts the session.
    ManualStart,
    /// 2: the operator stops it; carries the Cease that the peer is told (RFC 4486).
    ManualStop(Notification),
    /// 3: the system starts it.
    AutomaticStart,
    /// 4: as 1, waiting for the peer to dial.
    ManualStartPassive,
    /// 5: as 3, waiting for the peer to dial.
    AutomaticStartPassive,
    /// 6: as 3, with damping of oscillations.
    AutomaticStartDamped,
    /// 7: as 5, with damping of oscillations.
    AutomaticStartDampedPassive,
    /// 8: the system stops the session; carries the Cease that the peer is told.
    AutomaticStop(Notification),
    /// 9.
    ConnectRetryTimerExpires,
    /// 10.
    HoldTimerExpires,
    /// 11.
    KeepaliveTimerExpires,
    /// 12.
    DelayOpenTimerExpires,
    /// 13: the damping delay is over.
    IdleHoldTimerExpires,
    /// 14: a SYN of the peer came in.
    TcpConnectionValid,
    /// 15: a SYN came in that is not acceptable.
    TcpCrInvalid,
    /// 16: our own dial succeeded.
    TcpCrAcked,
    /// 17: a connection that the peer dialled is complete.
    TcpConnectionConfirmed,
    /// 18: the dial failed or the connection is gone; the error for people, or `None` for an orderly end.
    TcpConnectionFails(Option<String>),
    /// 19: an OPEN that could be read; whether its terms are acceptable is decided by the transition.
    BgpOpen(Open),
    /// 20: an OPEN while ours still waits.
    BgpOpenWithDelayOpenTimerRunning(Open),
    /// 21: the header of a message is wrong (RFC 4271 §6.1).
    BgpHeaderErr(Violation),
    /// 22: an OPEN is wrong (RFC 4271 §6.2).
    BgpOpenMsgErr(Violation),
    /// 23: this connection lost against another one of the same peer (RFC 4271 §6.8).
    OpenCollisionDump,
    /// 24: NOTIFICATION 2/1, unsupported version.
    NotifMsgVerErr(Notification),
    /// 25: any other NOTIFICATION.
    NotifMsg(Notification),
    /// 26.
    KeepAliveMsg,
    /// 27: an UPDATE, its lesser faults (RFC 7606) included.
    UpdateMsg,
    /// 28: an UPDATE that ends the session (RFC 4271 §6.3, RFC 7606 §3).
    UpdateMsgErr(Violation),
    /// 29: the peer has acknowledged nothing for the send hold time (RFC 9687).
    SendHoldTimerExpires,
    /// A ROUTE-REFRESH (RFC 2918 §3).
    RouteRefreshMsg(Family),
}

/// What a peer did wrong: the NOTIFICATION that it is due, and the words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What the peer is told.
    pub notification: Notification,
    /// What was wrong.
    pub reason: String,
}

impl From<wire::Error> for Violation {
    fn from(error: wire::Error) -> Self {
        Self { notification: error.notification(), reason: error.to_string() }
    }
}

impl Event {
    /// The event for octets that are no acceptable message: 22 for an OPEN, 28 for an UPDATE, 21 for all else.
    pub fn malformed(violation: Violation) -> Self {
        match violation.notification.code {
            2 => Event::BgpOpenMsgErr(violation),
            3 => Event::UpdateMsgErr(violation),
            _ => Event::BgpHeaderErr(violation),
        }
    }

    /// The event for a NOTIFICATION: 24 for an unsupported version, 25 for all else.
    pub fn notified(notification: Notification) -> Self {
        match (notification.code, notification.subcode) {
            (2, 1) => Event::NotifMsgVerErr(notification),
            _ => Event::NotifMsg(notification),
        }
    }

    /// The number in RFC 4271 §8.1 or RFC 9687 §4.2; `None` for ROUTE-REFRESH, which has none.
    pub fn number(&self) -> Option<u8> {
        Some(match self {
            Event::ManualStart => 1,
            Event::ManualStop(_) => 2,
            Event::AutomaticStart => 3,
            Event::ManualStartPassive => 4,
            Event::AutomaticStartPassive => 5,
            Event::AutomaticStartDamped => 6,
            Event::AutomaticStartDampedPassive => 7,
            Event::AutomaticStop(_) => 8,
            Event::ConnectRetryTimerExpires => 9,
            Event::HoldTimerExpires => 10,
            Event::KeepaliveTimerExpires => 11,
            Event::DelayOpenTimerExpires => 12,
            Event::IdleHoldTimerExpires => 13,
            Event::TcpConnectionValid => 14,
            Event::TcpCrInvalid => 15,
            Event::TcpCrAcked => 16,
            Event::TcpConnectionConfirmed => 17,
            Event::TcpConnectionFails(_) => 18,
            Event::BgpOpen(_) => 19,
            Event::BgpOpenWithDelayOpenTimerRunning(_) => 20,
            Event::BgpHeaderErr(_) => 21,
            Event::BgpOpenMsgErr(_) => 22,
            Event::OpenCollisionDump => 23,
            Event::NotifMsgVerErr(_) => 24,
            Event::NotifMsg(_) => 25,
            Event::KeepAliveMsg => 26,
            Event::UpdateMsg => 27,
            Event::UpdateMsgErr(_) => 28,
            Event::SendHoldTimerExpires => 29,
            Event::RouteRefreshMsg(_) => return None,
        })
    }

    /// The name in RFC 4271 §8.1.
    pub fn name(&self) -> &'static str {
        match self {
            Event::ManualStart => "ManualStart",
            Event::ManualStop(_) => "ManualStop",
            Event::AutomaticStart => "AutomaticStart",
            Event::ManualStartPassive => "ManualStart_with_PassiveTcpEstablishment",
            Event::AutomaticStartPassive => "AutomaticStart_with_PassiveTcpEstablishment",
            Event::AutomaticStartDamped => "AutomaticStart_with_DampPeerOscillations",
            Event::AutomaticStartDampedPassive => {
                "AutomaticStart_with_DampPeerOscillations_and_PassiveTcpEstablishment"
            }
            Event::AutomaticStop(_) => "AutomaticStop",
            Event::ConnectRetryTimerExpires => "ConnectRetryTimer_Expires",
            Event::HoldTimerExpires => "HoldTimer_Expires",
            Event::KeepaliveTimerExpires => "KeepaliveTimer_Expires",
            Event::DelayOpenTimerExpires => "DelayOpenTimer_Expires",
            Event::IdleHoldTimerExpires => "IdleHoldTimer_Expires",
            Event::TcpConnectionValid => "TcpConnection_Valid",
            Event::TcpCrInvalid => "Tcp_CR_Invalid",
            Event::TcpCrAcked => "Tcp_CR_Acked",
            Event::TcpConnectionConfirmed => "TcpConnectionConfirmed",
            Event::TcpConnectionFails(_) => "TcpConnectionFails",
            Event::BgpOpen(_) => "BGPOpen",
            Event::BgpOpenWithDelayOpenTimerRunning(_) => "BGPOpen with DelayOpenTimer running",
            Event::BgpHeaderErr(_) => "BGPHeaderErr",
            Event::BgpOpenMsgErr(_) => "BGPOpenMsgErr",
            Event::OpenCollisionDump => "OpenCollisionDump",
            Event::NotifMsgVerErr(_) => "NotifMsgVerErr",
            Event::NotifMsg(_) => "NotifMsg",
            Event::KeepAliveMsg => "KeepAliveMsg",
            Event::UpdateMsg => "UpdateMsg",
            Event::UpdateMsgErr(_) => "UpdateMsgErr",
            Event::SendHoldTimerExpires => "SendHoldTimer_Expires",
            Event::RouteRefreshMsg(_) => "RouteRefreshMsg",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_become_the_event_of_their_error_code() {
        let malformed = |code| {
            let violation = Violation { notification: Notification::bare(code, 1), reason: String::new() };
            Event::malformed(violation).number()
        };
        assert_eq!([malformed(1), malformed(2), malformed(3), malformed(7)], [Some(21), Some(22), Some(28), Some(21)]);
    }

    #[test]
    fn only_an_unsupported_version_is_event_24() {
        assert_eq!(Event::notified(Notification::bare(2, 1)).number(), Some(24));
        assert_eq!(Event::notified(Notification::bare(2, 2)).number(), Some(25));
        assert_eq!(Event::notified(Notification::bare(6, 1)).number(), Some(25));
    }
}
