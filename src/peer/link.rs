//! The connection of a peer, as far as the machine knows it.

use super::export::Export;
use super::seam::{ConnId, LocalEnd};
use crate::wire::{Context, Message};
use bytes::{Buf, BytesMut};
use std::collections::{BTreeMap, VecDeque};

/// Where the one connection of a peer stands.
#[derive(Debug, Clone)]
pub(super) enum Link {
    /// There is none.
    Absent,
    /// Our dial is under way.
    Dialing(ConnId),
    /// Open; OPENs are being exchanged.
    Opening(Connection),
    /// Established.
    Up(Connection, Box<Export>),
}

/// An open connection.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) id: ConnId,
    pub(super) end: LocalEnd,
    pub(super) queue: Queue,
}

/// Messages of the machine that wait for room, oldest first. A handful: one OPEN, one KEEPALIVE, one NOTIFICATION, and
/// the withdrawals of a peer that leaves the configuration.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue(VecDeque<Queued>);

#[derive(Debug, Clone)]
struct Queued {
    name: &'static str,
    messages: u64,
    octets: BytesMut,
}

/// Message names, as the status counts them.
pub(super) fn name(message: &Message) -> &'static str {
    match message {
        Message::Open(_) => "OPEN",
        Message::Update(_) => UPDATE,
        Message::Notification(_) => "NOTIFICATION",
        Message::Keepalive => KEEPALIVE,
        Message::RouteRefresh(_) => ROUTE_REFRESH,
    }
}

/// See [`name`].
pub(super) const UPDATE: &str = "UPDATE";
/// See [`name`].
pub(super) const ROUTE_REFRESH: &str = "ROUTE-REFRESH";
const KEEPALIVE: &str = "KEEPALIVE";

impl Link {
    /// The connection or dial that is current.
    pub(super) fn id(&self) -> Option<ConnId> {
        match self {
            Link::Absent => None,
            Link::Dialing(id) => Some(*id),
            Link::Opening(connection) | Link::Up(connection, _) => Some(connection.id),
        }
    }

    /// Whether this very connection is open and ours.
    pub(super) fn is_open(&self, conn: ConnId) -> bool {
        match self {
            Link::Absent | Link::Dialing(_) => false,
            Link::Opening(connection) | Link::Up(connection, _) => connection.id == conn,
        }
    }
}

impl Queue {
    /// Appends a message. A KEEPALIVE behind a KEEPALIVE that has not left says nothing new and is not kept.
    pub(super) fn push(&mut self, message: &Message, context: &Context) {
        let name = name(message);
        if name == KEEPALIVE && self.0.back().is_some_and(|last| last.name == KEEPALIVE) {
            return;
        }
        let mut octets = BytesMut::new();
        message.encode(context, &mut octets).expect("messages of the machine are short");
        self.0.push_back(Queued { name, messages: 1, octets });
    }

    /// Appends UPDATEs that are written already.
    pub(super) fn push_updates(&mut self, messages: u64, octets: BytesMut) {
        if messages > 0 {
            self.0.push_back(Queued { name: UPDATE, messages, octets });
        }
    }

    /// Moves octets to `out` until it holds `limit`, and counts the messages that began to leave.
    pub(super) fn write(&mut self, out: &mut BytesMut, limit: usize, sent: &mut BTreeMap<&'static str, u64>) {
        while let Some(first) = self.0.front_mut() {
            let room = limit.saturating_sub(out.len());
            if room == 0 {
                return;
            }
            let taken = first.octets.split_to(room.min(first.octets.len()));
            out.extend_from_slice(&taken);
            *sent.entry(first.name).or_default() += std::mem::take(&mut first.messages);
            if first.octets.has_remaining() {
                return;
            }
            self.0.pop_front();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
