//! The states of RFC 4271 §8.2.2, each with what exists only in it.

use super::negotiate::Negotiated;
use std::time::Instant;

/// Where a session stands. Made in `transition` and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum State {
    /// No connection; waiting out a delay, or stopped.
    #[default]
    Idle,
    /// Our dial is under way.
    Connect,
    /// No connection and no dial; the next one comes with the ConnectRetryTimer.
    Active,
    /// A connection is there and our OPEN waits for the peer's: RFC 4271's Connect (dialled) or Active (accepted) with the
    /// DelayOpenTimer running.
    OpenDelayed(Origin),
    /// Our OPEN is out.
    OpenSent,
    /// Both OPENs are in, and our first KEEPALIVE is out.
    OpenConfirm(Negotiated),
    /// Routes flow, since this moment.
    Established(Negotiated, Instant),
}

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// We did.
    Dialled,
    /// The peer did.
    Accepted,
}

impl State {
    /// The name in RFC 4271 §8.2.2; `OpenDelayed` is ours.
    pub fn name(&self) -> &'static str {
        match self {
            State::Idle => "Idle",
            State::Connect => "Connect",
            State::Active => "Active",
            State::OpenDelayed(_) => "OpenDelayed",
            State::OpenSent => "OpenSent",
            State::OpenConfirm(_) => "OpenConfirm",
            State::Established(..) => "Established",
        }
    }
}
