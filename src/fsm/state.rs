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
    /// Our OPEN is out.
    OpenSent,
    /// Both OPENs are in, and our first KEEPALIVE is out.
    OpenConfirm(Negotiated),
    /// Routes flow, since this moment.
    Established(Negotiated, Instant),
}

impl State {
    /// The name in RFC 4271 §8.2.2.
    pub fn name(&self) -> &'static str {
        match self {
            State::Idle => "Idle",
            State::Connect => "Connect",
            State::Active => "Active",
            State::OpenSent => "OpenSent",
            State::OpenConfirm(_) => "OpenConfirm",
            State::Established(..) => "Established",
        }
    }
}
