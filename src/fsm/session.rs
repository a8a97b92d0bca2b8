//! One session: the state with its timers, counter and outputs around it.

use super::damping::{Damping, Failure};
use super::event::Event;
use super::negotiate::{Negotiated, Terms};
use super::output::Output;
use super::restart::RestartState;
use super::state::State;
use super::timers::{Timer, Timers};
use super::transition::{Effects, step};
use crate::planted::{Bug, planted};
use crate::wire::{Context, Open};
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::time::Instant;

/// A session. Feed it with [`Session::handle`] and [`Session::handle_timeout`], then call [`Session::poll_output`] until `None`.
#[derive(Debug, Clone)]
pub struct Session {
    terms: Terms,
    restart_state: RestartState,
    state: State,
    timers: Timers,
    damping: Damping,
    outputs: VecDeque<Output>,
    before_open: Context,
}

impl Session {
    /// A session in Idle. `seed` decides the jitter of its timers.
    pub fn new(terms: Terms, seed: u64) -> Self {
        Self {
            terms,
            restart_state: RestartState::default(),
            state: State::default(),
            timers: Timers::default(),
            damping: Damping::new(seed),
            outputs: VecDeque::new(),
            before_open: Context::before_open(),
        }
    }

    /// Takes one event.
    pub fn handle(&mut self, event: Event, now: Instant) {
        let (state, mut effects) = self.split(now);
        *state = step(std::mem::take(state), event, &mut effects);
    }

    /// Takes the events of all timers that have expired.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.take_expired(now) {
            let event = match timer {
                Timer::ConnectRetry => Event::ConnectRetryTimerExpires,
                Timer::Hold => Event::HoldTimerExpires,
                Timer::Keepalive => Event::KeepaliveTimerExpires,
                Timer::IdleHold => Event::IdleHoldTimerExpires,
                Timer::DelayOpen => Event::DelayOpenTimerExpires,
                Timer::SendHold => Event::SendHoldTimerExpires,
            };
            self.handle(event, now);
        }
    }

    /// An UPDATE was sent: the next KEEPALIVE is due later (RFC 4271 §8.2.2, Established).
    pub fn sent_update(&mut self, now: Instant) {
        let (state, mut effects) = self.split(now);
        if let State::Established(negotiated, _) = state {
            effects.start_keepalive(negotiated);
        }
    }

    /// An OPEN that could be read: event 19, or 20 while ours waits.
    pub fn handle_open(&mut self, open: Open, now: Instant) {
        let event = match self.state {
            State::OpenDelayed(_) => Event::BgpOpenWithDelayOpenTimerRunning(open),
            State::Idle
            | State::Connect
            | State::Active
            | State::OpenSent
            | State::OpenConfirm(_)
            | State::Established(..) => Event::BgpOpen(open),
        };
        self.handle(event, now);
    }

    /// Whether an OPEN would take this session to OpenConfirm: it is awaited, and its terms are acceptable.
    pub fn would_accept(&self, open: &Open) -> bool {
        matches!(self.state, State::OpenSent | State::OpenDelayed(_)) && self.terms.negotiate(open).is_ok()
    }

    /// The peer acknowledged octets that it had not acknowledged before (RFC 9687 §4.3).
    pub fn acknowledged(&mut self, now: Instant) {
        let (state, mut effects) = self.split(now);
        if let State::Established(negotiated, _) = state {
            effects.restart_send_hold(negotiated);
        }
    }

    /// Whether a connection of the peer is welcome. At rest, and while the end of a session is waited out, none is
    /// (RFC 4271 §8.2.2, Idle). A peer that could not be reached may well reach us.
    pub fn is_open_to_peer(&self) -> bool {
        match self.state {
            State::Idle => {
                self.timers.deadline(Timer::IdleHold).is_some() && self.damping.waited_out() == Failure::Unreachable
            }
            State::Active if planted(Bug::PassiveRefuses) => false,
            State::Connect
            | State::Active
            | State::OpenDelayed(_)
            | State::OpenSent
            | State::OpenConfirm(_)
            | State::Established(..) => true,
        }
    }

    /// How we stand towards the peer; the next OPEN says so.
    pub fn set_restart_state(&mut self, restart_state: RestartState) {
        self.restart_state = restart_state;
    }

    /// Goes on with the failures that another session of the same peer has counted.
    pub fn inherit(&mut self, other: &Session) {
        self.damping = other.damping.clone();
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The next timer to expire, and when.
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        self.timers.next()
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The timers, for people and tests.
    pub fn timers(&self) -> &Timers {
        &self.timers
    }

    /// ConnectRetryCounter (RFC 4271 §8).
    pub fn connect_retry_counter(&self) -> u32 {
        self.damping.counter()
    }

    /// What both sides agreed on, once both OPENs are in.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        match &self.state {
            State::OpenConfirm(negotiated) | State::Established(negotiated, _) => Some(negotiated),
            State::Idle | State::Connect | State::Active | State::OpenDelayed(_) | State::OpenSent => None,
        }
    }

    /// What the codec must know now to write.
    pub fn context(&self) -> &Context {
        self.negotiated().map_or(&self.before_open, |negotiated| &negotiated.context)
    }

    /// Feeds what decides how this session goes on, but not when: its state, which timers run, how it stands towards the
    /// peer. What both sides agreed on counts as far as OPENs of one configuration can differ. For model checkers.
    pub fn likeness(&self, hasher: &mut impl Hasher) {
        std::mem::discriminant(&self.state).hash(hasher);
        match &self.state {
            State::OpenDelayed(origin) => origin.hash(hasher),
            State::OpenConfirm(negotiated) | State::Established(negotiated, _) => {
                (negotiated.restart, negotiated.graceful, negotiated.hold_time).hash(hasher);
            }
            State::Idle | State::Connect | State::Active | State::OpenSent => {}
        }
        Timer::ALL.map(|timer| self.timers.deadline(timer).is_some()).hash(hasher);
        (self.is_open_to_peer(), self.restart_state).hash(hasher);
    }

    /// Makes a timer that runs expire by `now`; in model checkers any time may pass.
    pub fn hasten(&mut self, timer: Timer, now: Instant) {
        if self.timers.deadline(timer).is_some() {
            self.timers.set(timer, now);
        }
    }

    /// What is waited out before the next attempt need not be: nothing is wrong with the peer.
    pub fn hurry(&mut self, now: Instant) {
        for timer in [Timer::IdleHold, Timer::ConnectRetry] {
            self.hasten(timer, now);
        }
    }

    /// What it must know now to read.
    pub fn reading(&self) -> &Context {
        self.negotiated().map_or(&self.before_open, |negotiated| &negotiated.reading)
    }

    fn split(&mut self, now: Instant) -> (&mut State, Effects<'_>) {
        let Self { terms, restart_state, state, timers, damping, outputs, before_open: _ } = self;
        (state, Effects { terms, restart_state: *restart_state, timers, damping, outputs, now })
    }
}
