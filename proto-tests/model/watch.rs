//! What must never happen in one step, whatever the state.

use crate::pair::Pair;
use crate::setting::Setting;
use crate::wire::Wire;
use herald::fsm::State;
use herald::peer::status::FirstTable;
use herald::peer::{ConnId, Input, Peer};

/// A law that a step broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    TwoSessionsAtOnePeer,
    NotificationAnswered,
    UpdateWithoutPlan,
    EndOfRibWithoutPlan,
    /// A session fell, its line whole, by something that came on another connection.
    SessionFellForAnother,
    /// The session that a restarted peer replaces was told so.
    ReplacedWithNotification,
    /// A plan did something to a session.
    SessionFellForPlan,
    /// A connection that no session knows was left open.
    Orphan,
}

/// What the input was about, as far as laws ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    Plan,
    /// Octets, or the end, of a connection.
    Connection(ConnId),
    Else,
}

impl About {
    pub fn of(input: &Input<'_>) -> Self {
        match input {
            Input::Plan(_) => About::Plan,
            Input::Received(id, _)
            | Input::Closed(id, _)
            | Input::Located(id, _)
            | Input::Displaced(id, _)
            | Input::Crowded(id) => About::Connection(*id),
            Input::Start
            | Input::Stop(_)
            | Input::Timeout
            | Input::Connected(..)
            | Input::ConnectFailed(..)
            | Input::Acknowledged(_) => About::Else,
        }
    }
}

/// What is remembered of a side before an input.
pub struct Before {
    session: Option<ConnId>,
    notifications: u64,
    heard: u64,
}

fn session(peer: &Peer) -> Option<ConnId> {
    peer.connections().find(|(.., state)| matches!(state, State::Established(..))).map(|(_, id, _)| id)
}

fn count(peer: &Peer, of: &'static str) -> (u64, u64) {
    let status = peer.status();
    (status.sent.get(of).copied().unwrap_or(0), status.received.get(of).copied().unwrap_or(0))
}

pub fn before(pair: &Pair, side: usize) -> Before {
    let peer = &pair.peers[side];
    let (notifications, heard) = count(peer, "NOTIFICATION");
    Before { session: session(peer), notifications, heard }
}

pub fn after(pair: &mut Pair, setting: &Setting, side: usize, about: Option<About>, before: &Before) {
    pair.fault = pair.fault.or_else(|| judge(pair, setting, side, about, before));
}

fn judge(pair: &Pair, setting: &Setting, side: usize, about: Option<About>, before: &Before) -> Option<Fault> {
    let peer = &pair.peers[side];
    let established = peer.connections().filter(|(.., state)| matches!(state, State::Established(..))).count();
    if established > 1 {
        return Some(Fault::TwoSessionsAtOnePeer);
    }
    let (notifications, heard) = count(peer, "NOTIFICATION");
    let told = notifications > before.notifications;
    // Nothing is read on a connection behind a NOTIFICATION, so whatever is sent in the same step answers it.
    let new = (notifications - before.notifications + heard - before.heard) as usize;
    let words = &peer.status().notifications;
    let words = &words[words.len() - new.min(words.len())..];
    if words.iter().skip_while(|word| !word.starts_with("received")).any(|word| word.starts_with("sent")) {
        return Some(Fault::NotificationAnswered);
    }
    // The first message on a connection is an OPEN, so whatever was read of it begins at a message.
    let announces = |wire: &Wire| wire.open(side).is_some() && wire.carries_update(side);
    if !pair.planned[side] && pair.wires.iter().any(announces) {
        return Some(Fault::UpdateWithoutPlan);
    }
    if !pair.planned[side] && peer.status().first_table == FirstTable::Sent {
        return Some(Fault::EndOfRibWithoutPlan);
    }
    if pair.wires.iter().any(|wire| wire.id(side).is_some_and(|id| !peer.connections().any(|(_, of, _)| of == id))) {
        return Some(Fault::Orphan);
    }
    let fell = before.session.filter(|id| session(peer) != Some(*id));
    match (fell, about) {
        (Some(_), Some(About::Plan)) => Some(Fault::SessionFellForPlan),
        (Some(_), None) => Some(Fault::SessionFellForAnother),
        (Some(id), Some(About::Connection(on))) if on != id => {
            if !setting.offers(1 - side) {
                Some(Fault::SessionFellForAnother)
            } else {
                told.then_some(Fault::ReplacedWithNotification)
            }
        }
        (Some(_) | None, _) => None,
    }
}
