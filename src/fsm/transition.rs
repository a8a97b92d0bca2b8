//! The machine: one function a state, one arm an event (RFC 4271 §8.2.2). The only file that makes a state.
//!
//! Where the RFC leaves a choice, or every implementation leaves the RFC, the arm says so:
//! * DampPeerOscillations is on: every failure is waited out in Idle, also those of a dial (events 18 and 9).
//! * A passive start (4, 5, 7) leads to Active without ConnectRetryTimer, whose end would be a dial.
//! * Our OPEN is followed by a wait of 240 s where we dialled and of 30 s on a connection of the peer.
//! * DelayOpen has a state of its own, so that Connect and Active never have a connection. A fault of the peer is answered
//!   there with its NOTIFICATION although our OPEN is not out (SendNOTIFICATIONwithoutOPEN, §8.1.1).
//! * A wrong header or OPEN has its own NOTIFICATION in every state that has a connection (§6.1, §6.2), also where
//!   §8.2.2 asks for an FSM Error. A NOTIFICATION ends the session and is never answered (§6.4), also in OpenSent.

use super::damping::{Damping, Failure};
use super::event::{Event, Violation};
use super::negotiate::{Negotiated, Opening, Terms};
use super::output::{Down, Output, Parting};
use super::restart::RestartState;
use super::state::{Origin, State};
use super::timers::{Timer, Timers};
use crate::wire::notification::CeaseSubcode;
use crate::wire::{Message, Notification, Open};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a dial may take before another one is begun. The driver gives up long before; this is the last resort.
const CONNECT_RETRY_TIME: Duration = Duration::from_secs(30);
/// How long we wait for the peer's OPEN where we dialled: the "large value" of §8.2.2.
const OPEN_HOLD_TIME: Duration = Duration::from_secs(240);
/// The same on a connection that the peer opened: it has no reason to keep us waiting, and others have to hang on.
const OPEN_HOLD_TIME_ACCEPTED: Duration = Duration::from_secs(30);
/// KEEPALIVEs are this far apart at least (§4.4): with the shortest hold time jitter would bring them closer.
const KEEPALIVE_TIME_MIN: Duration = Duration::from_secs(1);
/// A session that lasted this long wipes the slate clean.
const STEADY: Duration = Duration::from_secs(30);
/// Type octets of messages (RFC 4271 §4.1, RFC 2918 §3).
const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const KEEPALIVE: u8 = 4;
const ROUTE_REFRESH: u8 = 5;

/// What a transition may touch beside the state.
pub(super) struct Effects<'a> {
    pub(super) terms: &'a Terms,
    pub(super) restart_state: RestartState,
    pub(super) timers: &'a mut Timers,
    pub(super) damping: &'a mut Damping,
    pub(super) outputs: &'a mut VecDeque<Output>,
    pub(super) now: Instant,
}

/// Takes one event.
pub(super) fn step(state: State, event: Event, fx: &mut Effects<'_>) -> State {
    match state {
        State::Idle => idle(event, fx),
        State::Connect => connect(event, fx),
        State::Active => active(event, fx),
        State::OpenDelayed(origin) => open_delayed(origin, event, fx),
        State::OpenSent => open_sent(event, fx),
        State::OpenConfirm(negotiated) => open_confirm(negotiated, event, fx),
        State::Established(negotiated, since) => established(negotiated, since, event, fx),
    }
}

fn idle(event: Event, fx: &mut Effects<'_>) -> State {
    match event {
        Event::ManualStart | Event::AutomaticStart => {
            fx.damping.forget();
            fx.dial()
        }
        // The delay is the damping: a damped start does not cut it short (§8.1.2 event 6).
        Event::AutomaticStartDamped => match fx.timers.deadline(Timer::IdleHold) {
            Some(_) => State::Idle,
            None => fx.dial(),
        },
        Event::IdleHoldTimerExpires => fx.rise(),
        Event::ManualStartPassive | Event::AutomaticStartPassive => {
            fx.damping.forget();
            fx.listen()
        }
        Event::AutomaticStartDampedPassive => match fx.timers.deadline(Timer::IdleHold) {
            Some(_) => State::Idle,
            None => fx.listen(),
        },
        // The RFC ignores it here; ours must also end the delay, or the session would rise again.
        Event::ManualStop(_) => {
            fx.timers.stop_all();
            fx.damping.forget();
            State::Idle
        }
        Event::AutomaticStop(_)
        | Event::ConnectRetryTimerExpires
        | Event::HoldTimerExpires
        | Event::KeepaliveTimerExpires
        | Event::DelayOpenTimerExpires
        | Event::TcpConnectionValid
        | Event::TcpCrInvalid
        | Event::TcpCrAcked
        | Event::TcpConnectionConfirmed
        | Event::TcpConnectionFails(_)
        | Event::BgpOpen(_)
        | Event::BgpOpenWithDelayOpenTimerRunning(_)
        | Event::BgpHeaderErr(_)
        | Event::BgpOpenMsgErr(_)
        | Event::OpenCollisionDump
        | Event::NotifMsgVerErr(_)
        | Event::NotifMsg(_)
        | Event::KeepAliveMsg
        | Event::UpdateMsg
        | Event::UpdateMsgErr(_)
        | Event::SendHoldTimerExpires
        | Event::RouteRefreshMsg(_) => State::Idle,
    }
}

fn connect(event: Event, fx: &mut Effects<'_>) -> State {
    match event {
        Event::ManualStop(cease) => {
            fx.drop_now();
            fx.stop(cease)
        }
        Event::ConnectRetryTimerExpires => {
            fx.drop_now();
            fx.dial()
        }
        Event::TcpCrAcked => fx.connected(Origin::Dialled),
        Event::TcpConnectionConfirmed => fx.connected(Origin::Accepted),
        Event::TcpConnectionFails(error) => fx.fail(Down::ConnectFailed(error), Failure::Unreachable),
        Event::ManualStart
        | Event::AutomaticStart
        | Event::ManualStartPassive
        | Event::AutomaticStartPassive
        | Event::AutomaticStartDamped
        | Event::AutomaticStartDampedPassive
        | Event::DelayOpenTimerExpires
        | Event::TcpConnectionValid
        | Event::TcpCrInvalid => State::Connect,
        // "Any other event": nothing can be sent, for there is no connection yet.
        Event::AutomaticStop(_)
        | Event::HoldTimerExpires
        | Event::KeepaliveTimerExpires
        | Event::IdleHoldTimerExpires
        | Event::BgpOpen(_)
        | Event::BgpOpenWithDelayOpenTimerRunning(_)
        | Event::BgpHeaderErr(_)
        | Event::BgpOpenMsgErr(_)
        | Event::OpenCollisionDump
        | Event::NotifMsgVerErr(_)
        | Event::NotifMsg(_)
        | Event::KeepAliveMsg
        | Event::UpdateMsg
        | Event::UpdateMsgErr(_)
        | Event::SendHoldTimerExpires
        | Event::RouteRefreshMsg(_) => {
            fx.drop_now();
            fx.fail(Down::Unexpected { event: event.name(), state: "Connect" }, Failure::Session)
        }
    }
}

fn active(event: Event, fx: &mut Effects<'_>) -> State {
    match event {
        Event::ManualStop(cease) => fx.stop(cease),
        Event::ConnectRetryTimerExpires => fx.dial(),
        Event::TcpCrAcked => fx.connected(Origin::Dialled),
        Event::TcpConnectionConfirmed => fx.connected(Origin::Accepted),
        Event::TcpConnectionFails(error) => fx.fail(Down::ConnectFailed(error), Failure::Unreachable),
        Event::ManualStart
        | Event::AutomaticStart
        | Event::ManualStartPassive
        | Event::AutomaticStartPassive
        | Event::AutomaticStartDamped
        | Event::AutomaticStartDampedPassive
        | Event::DelayOpenTimerExpires
        | Event::TcpConnectionValid
        | Event::TcpCrInvalid => State::Active,
        // "Any other event"; there is no connection to send on or to drop.
        Event::AutomaticStop(_)
        | Event::HoldTimerExpires
        | Event::KeepaliveTimerExpires
        | Event::IdleHoldTimerExpires
        | Event::BgpOpen(_)
        | Event::BgpOpenWithDelayOpenTimerRunning(_)
        | Event::BgpHeaderErr(_)
        | Event::BgpOpenMsgErr(_)
        | Event::OpenCollisionDump
        | Event::NotifMsgVerErr(_)
        | Event::NotifMsg(_)
        | Event::KeepAliveMsg
        | Event::UpdateMsg
        | Event::UpdateMsgErr(_)
        | Event::SendHoldTimerExpires
        | Event::RouteRefreshMsg(_) => {
            fx.fail(Down::Unexpected { event: event.name(), state: "Active" }, Failure::Session)
        }
    }
}

fn open_sent(event: Event, fx: &mut Effects<'_>) -> State {
    let name = event.name();
    match event {
        Event::ManualStart
        | Event::AutomaticStart
        | Event::ManualStartPassive
        | Event::AutomaticStartPassive
        | Event::AutomaticStartDamped
        | Event::AutomaticStartDampedPassive
        | Event::TcpConnectionValid
        | Event::TcpCrInvalid
        | Event::TcpCrAcked
        | Event::TcpConnectionConfirmed => State::OpenSent,
        Event::ManualStop(cease) => fx.cease_and_stop(cease),
        Event::AutomaticStop(cease) => fx.refuse(cease.clone(), Down::Stopped(cease)),
        Event::HoldTimerExpires => fx.refuse(Notification::HOLD_TIMER_EXPIRED, Down::NoOpen),
        Event::TcpConnectionFails(error) => fx.lost_before_open(error),
        Event::BgpOpen(open) => open_received(&open, fx),
        Event::BgpHeaderErr(violation) | Event::BgpOpenMsgErr(violation) => fx.malformed(violation),
        Event::OpenCollisionDump => fx.collision(),
        Event::NotifMsgVerErr(notification) => fx.notified_uncounted(notification),
        Event::NotifMsg(notification) => fx.notified(notification),
        // "Any other event" (RFC 4271), with RFC 6608's subcode for messages.
        Event::ConnectRetryTimerExpires
        | Event::KeepaliveTimerExpires
        | Event::DelayOpenTimerExpires
        | Event::IdleHoldTimerExpires
        | Event::SendHoldTimerExpires => fx.refuse(FSM_ERROR, Down::Unexpected { event: name, state: "OpenSent" }),
        Event::BgpOpenWithDelayOpenTimerRunning(_) => fx.unexpected_message(Place::OpenSent, OPEN, name),
        Event::KeepAliveMsg => fx.unexpected_message(Place::OpenSent, KEEPALIVE, name),
        Event::UpdateMsg | Event::UpdateMsgErr(_) => fx.unexpected_message(Place::OpenSent, UPDATE, name),
        Event::RouteRefreshMsg(_) => fx.unexpected_message(Place::OpenSent, ROUTE_REFRESH, name),
    }
}

/// Our OPEN waits. Octets are exchanged already, so faults are answered; everything else is as in Connect and Active.
fn open_delayed(origin: Origin, event: Event, fx: &mut Effects<'_>) -> State {
    let name = event.name();
    match event {
        Event::ManualStart
        | Event::AutomaticStart
        | Event::ManualStartPassive
        | Event::AutomaticStartPassive
        | Event::AutomaticStartDamped
        | Event::AutomaticStartDampedPassive
        | Event::TcpConnectionValid
        | Event::TcpCrInvalid
        | Event::TcpCrAcked
        | Event::TcpConnectionConfirmed => State::OpenDelayed(origin),
        Event::ManualStop(cease) => {
            fx.drop_now();
            fx.stop(cease)
        }
        Event::DelayOpenTimerExpires => fx.send_open(origin),
        Event::BgpOpenWithDelayOpenTimerRunning(open) => match fx.terms.negotiate(&open) {
            Ok(_) => {
                fx.send_open(origin);
                open_received(&open, fx)
            }
            Err(refusal) => fx.refuse(refusal.notification(), Down::Refused(refusal)),
        },
        Event::TcpConnectionFails(error) => fx.lost_before_open(error),
        Event::BgpHeaderErr(violation) | Event::BgpOpenMsgErr(violation) => fx.malformed(violation),
        Event::OpenCollisionDump => fx.collision(),
        Event::NotifMsgVerErr(notification) => fx.notified_uncounted(notification),
        Event::NotifMsg(notification) => fx.notified(notification),
        Event::AutomaticStop(cease) => {
            fx.drop_now();
            fx.fail(Down::Stopped(cease), Failure::Session)
        }
        Event::ConnectRetryTimerExpires
        | Event::HoldTimerExpires
        | Event::KeepaliveTimerExpires
        | Event::IdleHoldTimerExpires
        | Event::BgpOpen(_)
        | Event::KeepAliveMsg
        | Event::UpdateMsg
        | Event::UpdateMsgErr(_)
        | Event::SendHoldTimerExpires
        | Event::RouteRefreshMsg(_) => {
            fx.drop_now();
            fx.fail(Down::Unexpected { event: name, state: "OpenDelayed" }, Failure::Session)
        }
    }
}

/// Event 19 in OpenSent: the terms decide whether it stays one or turns into event 22.
fn open_received(open: &Open, fx: &mut Effects<'_>) -> State {
    match fx.terms.negotiate(open) {
        Ok(negotiated) => {
            fx.timers.stop_all();
            fx.send(Message::Keepalive);
            fx.start_keepalive(&negotiated);
            fx.restart_hold(&negotiated);
            State::OpenConfirm(negotiated)
        }
        Err(refusal) => fx.refuse(refusal.notification(), Down::Refused(refusal)),
    }
}

fn open_confirm(negotiated: Negotiated, event: Event, fx: &mut Effects<'_>) -> State {
    let name = event.name();
    match event {
        Event::ManualStart
        | Event::AutomaticStart
        | Event::ManualStartPassive
        | Event::AutomaticStartPassive
        | Event::AutomaticStartDamped
        | Event::AutomaticStartDampedPassive
        | Event::TcpConnectionValid
        | Event::TcpCrInvalid
        | Event::TcpCrAcked
        | Event::TcpConnectionConfirmed => State::OpenConfirm(negotiated),
        Event::ManualStop(cease) => fx.cease_and_stop(cease),
        Event::AutomaticStop(cease) => fx.refuse(cease.clone(), Down::Stopped(cease)),
        Event::HoldTimerExpires => fx.hold_expired(negotiated.hold_time),
        Event::KeepaliveTimerExpires => {
            fx.send(Message::Keepalive);
            fx.start_keepalive(&negotiated);
            State::OpenConfirm(negotiated)
        }
        Event::KeepAliveMsg => {
            fx.restart_hold(&negotiated);
            fx.restart_send_hold(&negotiated);
            State::Established(negotiated, fx.now)
        }
        Event::TcpConnectionFails(error) => fx.fail(Down::ConnectionLost(error), Failure::Session),
        Event::BgpHeaderErr(violation) | Event::BgpOpenMsgErr(violation) => fx.malformed(violation),
        Event::OpenCollisionDump => fx.collision(),
        Event::NotifMsgVerErr(notification) => fx.notified_uncounted(notification),
        Event::NotifMsg(notification) => fx.notified(notification),
        // A second OPEN on one connection collides with nothing: it is a message out of place (RFC 6608 §4).
        Event::BgpOpen(_) | Event::BgpOpenWithDelayOpenTimerRunning(_) => {
            fx.unexpected_message(Place::OpenConfirm, OPEN, name)
        }
        Event::ConnectRetryTimerExpires
        | Event::DelayOpenTimerExpires
        | Event::IdleHoldTimerExpires
        | Event::SendHoldTimerExpires => fx.refuse(FSM_ERROR, Down::Unexpected { event: name, state: "OpenConfirm" }),
        Event::UpdateMsg | Event::UpdateMsgErr(_) => fx.unexpected_message(Place::OpenConfirm, UPDATE, name),
        Event::RouteRefreshMsg(_) => fx.unexpected_message(Place::OpenConfirm, ROUTE_REFRESH, name),
    }
}

fn established(negotiated: Negotiated, since: Instant, event: Event, fx: &mut Effects<'_>) -> State {
    if fx.now.saturating_duration_since(since) >= STEADY {
        fx.damping.forget();
    }
    let name = event.name();
    match event {
        Event::ManualStart
        | Event::AutomaticStart
        | Event::ManualStartPassive
        | Event::AutomaticStartPassive
        | Event::AutomaticStartDamped
        | Event::AutomaticStartDampedPassive
        | Event::TcpConnectionValid
        | Event::TcpCrInvalid
        | Event::TcpCrAcked
        | Event::TcpConnectionConfirmed
        // A refresh is an order to the Adj-RIB-Out; as a sign of life the RFC does not count it.
        | Event::RouteRefreshMsg(_) => State::Established(negotiated, since),
        Event::ManualStop(cease) => fx.cease_and_stop(cease),
        Event::AutomaticStop(cease) => fx.refuse(cease.clone(), Down::Stopped(cease)),
        Event::HoldTimerExpires => fx.hold_expired(negotiated.hold_time),
        Event::SendHoldTimerExpires => fx.refuse(
            Notification::bare(8, 0),
            Down::SendHoldTimerExpired(negotiated.send_hold_time),
        ),
        Event::KeepaliveTimerExpires => {
            fx.send(Message::Keepalive);
            fx.start_keepalive(&negotiated);
            State::Established(negotiated, since)
        }
        Event::KeepAliveMsg | Event::UpdateMsg => {
            fx.restart_hold(&negotiated);
            State::Established(negotiated, since)
        }
        Event::TcpConnectionFails(error) => fx.fail(Down::ConnectionLost(error), Failure::Session),
        Event::NotifMsgVerErr(notification) | Event::NotifMsg(notification) => fx.notified(notification),
        Event::BgpHeaderErr(violation) | Event::BgpOpenMsgErr(violation) | Event::UpdateMsgErr(violation) => {
            fx.malformed(violation)
        }
        Event::OpenCollisionDump => fx.collision(),
        Event::BgpOpen(_) | Event::BgpOpenWithDelayOpenTimerRunning(_) => {
            fx.unexpected_message(Place::Established, OPEN, name)
        }
        Event::ConnectRetryTimerExpires | Event::DelayOpenTimerExpires | Event::IdleHoldTimerExpires => {
            fx.refuse(FSM_ERROR, Down::Unexpected { event: name, state: "Established" })
        }
    }
}

/// FSM Error for what is no message (RFC 6608 §3, subcode 0).
const FSM_ERROR: Notification = Notification::bare(5, 0);

/// A state in which a message can be out of place; its value is the FSM Error subcode of RFC 6608 §3.
#[derive(Debug, Clone, Copy)]
enum Place {
    OpenSent = 1,
    OpenConfirm = 2,
    Established = 3,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Place::OpenSent => "OpenSent",
            Place::OpenConfirm => "OpenConfirm",
            Place::Established => "Established",
        }
    }
}

impl Effects<'_> {
    // === on the way up ===

    fn dial(&mut self) -> State {
        self.timers.stop_all();
        self.timers.set(Timer::ConnectRetry, self.now + CONNECT_RETRY_TIME);
        self.outputs.push_back(Output::Dial);
        State::Connect
    }

    /// Waits for the peer to dial.
    fn listen(&mut self) -> State {
        self.timers.stop_all();
        State::Active
    }

    /// What comes after a delay in Idle.
    fn rise(&mut self) -> State {
        match self.terms.opening {
            Opening::Active => self.dial(),
            Opening::Passive => self.listen(),
        }
    }

    fn connected(&mut self, origin: Origin) -> State {
        if self.terms.delay_open.is_zero() {
            return self.send_open(origin);
        }
        self.timers.stop_all();
        self.timers.set(Timer::DelayOpen, self.now + self.terms.delay_open);
        State::OpenDelayed(origin)
    }

    fn send_open(&mut self, origin: Origin) -> State {
        self.timers.stop_all();
        let patience = match origin {
            Origin::Dialled => OPEN_HOLD_TIME,
            Origin::Accepted => OPEN_HOLD_TIME_ACCEPTED,
        };
        self.timers.set(Timer::Hold, self.now + patience);
        self.send(Message::Open(self.terms.open(self.restart_state)));
        State::OpenSent
    }

    fn send(&mut self, message: Message) {
        self.outputs.push_back(Output::Send(message));
    }

    /// Hold time zero arms nothing (RFC 4271 §4.2).
    fn restart_hold(&mut self, negotiated: &Negotiated) {
        if !negotiated.hold_time.is_zero() {
            self.timers.set(Timer::Hold, self.now + negotiated.hold_time);
        }
    }

    /// See [`super::Session::acknowledged`]. The zero time arms nothing.
    pub(super) fn restart_send_hold(&mut self, negotiated: &Negotiated) {
        if !negotiated.send_hold_time.is_zero() {
            self.timers.set(Timer::SendHold, self.now + negotiated.send_hold_time);
        }
    }

    /// See [`super::Session::sent_update`]: whatever we send restarts it.
    pub(super) fn start_keepalive(&mut self, negotiated: &Negotiated) {
        if !negotiated.hold_time.is_zero() {
            let interval = self.damping.jitter(negotiated.hold_time / 3).max(KEEPALIVE_TIME_MIN);
            self.timers.set(Timer::Keepalive, self.now + interval);
        }
    }

    // === on the way down ===

    /// To Idle, to stay there.
    fn stop(&mut self, cease: Notification) -> State {
        self.timers.stop_all();
        self.damping.forget();
        self.outputs.push_back(Output::Down(Down::Stopped(cease)));
        State::Idle
    }

    fn cease_and_stop(&mut self, cease: Notification) -> State {
        self.part_with(cease.clone());
        self.stop(cease)
    }

    /// Counts a failure and waits it out in Idle.
    fn fail(&mut self, down: Down, failure: Failure) -> State {
        self.damping.count();
        self.wait_out(down, failure)
    }

    fn wait_out(&mut self, down: Down, failure: Failure) -> State {
        self.timers.stop_all();
        self.timers.set(Timer::IdleHold, self.now + self.damping.delay(failure));
        self.outputs.push_back(Output::Down(down));
        State::Idle
    }

    /// Tells the peer, and fails.
    fn refuse(&mut self, notification: Notification, down: Down) -> State {
        self.part_with(notification);
        self.fail(down, Failure::Session)
    }

    fn unexpected_message(&mut self, place: Place, message_type: u8, event: &'static str) -> State {
        let data = Bytes::copy_from_slice(&[message_type]);
        let notification = Notification { code: 5, subcode: place as u8, data };
        self.refuse(notification, Down::Unexpected { event, state: place.name() })
    }

    fn malformed(&mut self, Violation { notification, reason }: Violation) -> State {
        self.refuse(notification.clone(), Down::Malformed { reason, notification })
    }

    fn hold_expired(&mut self, hold_time: Duration) -> State {
        self.refuse(Notification::HOLD_TIMER_EXPIRED, Down::HoldTimerExpired(hold_time))
    }

    fn collision(&mut self) -> State {
        self.refuse(Notification::bare(6, CeaseSubcode::ConnectionCollision as u8), Down::Collision)
    }

    /// A NOTIFICATION came: close, answer nothing (§6.4).
    fn notified(&mut self, notification: Notification) -> State {
        self.drop_now();
        let limit = notification.code == 6 && notification.subcode == CeaseSubcode::MaximumPrefixes as u8;
        let failure = if limit { Failure::PrefixLimit } else { Failure::Session };
        self.fail(Down::Received(notification), failure)
    }

    /// As [`Self::notified`], where the RFC leaves ConnectRetryCounter alone (event 24 before Established).
    fn notified_uncounted(&mut self, notification: Notification) -> State {
        self.drop_now();
        self.wait_out(Down::Received(notification), Failure::Session)
    }

    /// Event 18 in OpenSent leads to Active. The RFC counts no failure here; we do, and the ConnectRetryTimer carries
    /// the delay, so that a peer which closes at once is not dialled every second.
    fn lost_before_open(&mut self, error: Option<String>) -> State {
        self.timers.stop_all();
        self.damping.count();
        // Where the peer dials, its pace is its own.
        if self.terms.opening == Opening::Active {
            self.timers.set(Timer::ConnectRetry, self.now + self.damping.delay(Failure::Session));
        }
        self.outputs.push_back(Output::Down(Down::ConnectionLost(error)));
        State::Active
    }

    fn part_with(&mut self, notification: Notification) {
        self.send(Message::Notification(notification));
        self.outputs.push_back(Output::Drop(Parting::AfterFlush));
    }

    fn drop_now(&mut self) {
        self.outputs.push_back(Output::Drop(Parting::Now));
    }
}
