//! What a session asks for.

use super::negotiate::Refusal;
use crate::wire::{Message, Notification};
use std::fmt;
use std::time::Duration;

/// Something to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Open a TCP connection to the peer.
    Dial,
    /// Send a message on the connection.
    Send(Message),
    /// Give up the dial or the connection.
    Drop(Parting),
    /// The attempt or the session is over.
    Down(Down),
}

/// How a connection is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// What was sent before, a NOTIFICATION at its end, must still reach the peer.
    AfterFlush,
    /// Without a word.
    Now,
}

/// Why a session or an attempt ended. `Display` is for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Down {
    /// We were told to stop; the Cease says why.
    Stopped(Notification),
    /// The dial failed.
    ConnectFailed(Option<String>),
    /// The connection is gone.
    ConnectionLost(Option<String>),
    /// The peer sent a NOTIFICATION.
    Received(Notification),
    /// The peer's OPEN never came.
    NoOpen,
    /// Nothing was heard for this long.
    HoldTimerExpired(Duration),
    /// The peer took nothing for this long.
    SendHoldTimerExpired(Duration),
    /// The peer sent what is no acceptable message.
    Malformed {
        /// What was wrong.
        reason: String,
        /// What the peer was told.
        notification: Notification,
    },
    /// The peer's OPEN does not fit.
    Refused(Refusal),
    /// Something happened that has no place in the state, a message of the wrong type as a rule.
    Unexpected {
        /// The event's name.
        event: &'static str,
        /// The state's name.
        state: &'static str,
    },
    /// Another connection of the same peer was kept (RFC 4271 §6.8).
    Collision,
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Down::Stopped(notification) => write!(f, "stopped by us: {notification}"),
            Down::ConnectFailed(Some(error)) => write!(f, "could not connect: {error}"),
            Down::ConnectFailed(None) => f.write_str("could not connect"),
            Down::ConnectionLost(Some(error)) => write!(f, "connection lost: {error}"),
            Down::ConnectionLost(None) => f.write_str("the peer closed the connection without a NOTIFICATION"),
            Down::Received(notification) => write!(f, "the peer sent NOTIFICATION {notification}"),
            Down::NoOpen => f.write_str("the peer never sent its OPEN"),
            Down::HoldTimerExpired(hold) => {
                write!(f, "hold timer expired: nothing heard from the peer for {} s", hold.as_secs())
            }
            Down::SendHoldTimerExpired(hold) => {
                write!(f, "send hold timer expired: the peer acknowledged nothing for {} s", hold.as_secs())
            }
            Down::Malformed { reason, notification } => {
                write!(f, "the peer sent a malformed message: {reason}; answered with NOTIFICATION {notification}")
            }
            Down::Refused(refusal) => write!(f, "refused the peer's OPEN: {refusal}"),
            Down::Unexpected { event, state } => write!(f, "unexpected {event} in state {state}"),
            Down::Collision => f.write_str("another connection of the same peer was kept"),
        }
    }
}
