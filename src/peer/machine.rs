//! The peer as one object: inputs in, outputs out.

use super::{Settings, Status};
use crate::rib::RouteSet;
use bytes::BytesMut;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// One connection attempt of a peer; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Our end of a connection, as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalEnd {
    /// Address and port.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// All addresses of the interface that `local` is on; next hops of the other family come from here.
    pub interface: Vec<IpAddr>,
}

/// What should be announced to this peer. No plan at all is no input: see decisions on "no plan is not an empty plan".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The routes wanted.
    pub routes: RouteSet,
    /// The node's InternalIPs: next hops of the family that the session's interface lacks.
    pub node_addresses: Vec<IpAddr>,
}

/// Why a peer is stopped (the stopping table).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The process ends: Cease 6/2 with a text.
    Shutdown(String),
    /// The peer left the configuration: withdraw everything, then Cease 6/3.
    Deconfigured,
    /// Its settings changed so that the session must begin anew: Cease 6/6.
    ConfigurationChange,
}

/// Something happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// Begin (RFC 4271 event 3, AutomaticStart).
    Start,
    /// End for good; the peer is finished when [`Peer::is_finished`].
    Stop(Stop),
    /// A deadline of [`Peer::poll_timeout`] has come.
    Timeout,
    /// Our dial succeeded.
    Connected(ConnId, LocalEnd),
    /// Our dial failed, with the error for people.
    ConnectFailed(ConnId, String),
    /// Octets came. What is not a whole message yet is left in the buffer.
    Received(ConnId, &'a mut BytesMut),
    /// The connection is gone; the error for people, or `None` for an orderly end.
    Closed(ConnId, Option<String>),
    /// The newest plan.
    Plan(Plan),
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Dial; give up after 5 s. Answer with `Connected` or `ConnectFailed`.
    Connect(ConnId),
    /// Give up a dial or close a connection; nothing more will be asked of it.
    Close(ConnId, CloseHow),
}

/// How to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseHow {
    /// Write what [`Peer::transmit`] still holds, shut down writing, read to the end for at most 1 s: a NOTIFICATION must not be lost to a RST.
    AfterFlush,
    /// At once, without a word.
    Now,
}

/// One neighbour.
#[derive(Debug)]
pub struct Peer {
    status: Status,
}

impl Peer {
    /// A peer at rest. `seed` decides the jitter of its timers.
    pub fn new(settings: Settings, seed: u64, now: Instant) -> Self {
        let _ = (settings, seed, now);
        todo!()
    }

    /// Takes one input.
    pub fn handle(&mut self, input: Input<'_>, now: Instant) {
        let _ = (input, now);
        todo!()
    }

    /// The next thing to do; call until `None` after every input.
    pub fn poll_output(&mut self) -> Option<Output> {
        todo!()
    }

    /// Appends octets to send on `conn` until `out` holds `limit` octets or nothing is left: messages of the machine first,
    /// then UPDATEs, whose diff is taken here, when there is room, and not before. Call after every input and whenever `out` has drained.
    pub fn transmit(&mut self, conn: ConnId, out: &mut BytesMut, limit: usize, now: Instant) {
        let _ = (conn, out, limit, now);
        todo!()
    }

    /// When to call again with [`Input::Timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// Whether a stopped peer has nothing left to do.
    pub fn is_finished(&self) -> bool {
        todo!()
    }

    /// What is known; cheap to compare, published by the driver when it changed.
    pub fn status(&self) -> &Status {
        &self.status
    }
}
