//! What a peer and its driver say to each other.

use super::settings::NextHopOverrides;
use crate::rib::{Bounds, PrefixLimits, RouteSet};
use bytes::BytesMut;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

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
    /// Addresses of the interface that `local` is on; next hops of the other family come from here.
    pub interface: Vec<IpAddr>,
    /// Those of them that are a next hop only where the Node names them: passing ones, and such as move between nodes.
    pub unfit: Vec<IpAddr>,
}

/// What should be announced to this peer. No plan at all is no input: see decisions on "no plan is not an empty plan".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The routes wanted.
    pub routes: RouteSet,
    /// The node's InternalIPs: next hops of the family that the session's interface lacks.
    pub node_addresses: Vec<IpAddr>,
    /// Those of them that the kernel is known to have nowhere: what is sent there would be lost.
    pub absent: BTreeSet<IpAddr>,
    /// Next hops that go before any address of ours.
    pub next_hops: NextHopOverrides,
    /// The addresses outside of which nothing leaves, whatever `routes` say.
    pub bounds: Bounds,
    /// How many routes the peer accepts, where that is known.
    pub prefix_limits: PrefixLimits,
    /// Whether End-of-RIB may follow them.
    pub extent: Extent,
}

/// How far a plan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Extent {
    /// It is the whole table: End-of-RIB follows it (RFC 4724 §2).
    #[default]
    Whole,
    /// Much of what a process before this one announced is missing: its routes go out, and End-of-RIB waits, so that a router that
    /// kept the others as stale keeps them (RFC 4724 §4.2).
    Doubtful,
}

/// Why a peer is stopped (the stopping table).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The process ends, and another one takes over soon: Cease 6/2 with a text, or silence where the peer then keeps our
    /// routes (RFC 4724).
    Shutdown(String),
    /// The node goes: Cease 6/2 with a text, as a Hard Reset where the peer would keep our routes (RFC 8538).
    Leave(String),
    /// The peer left the configuration: withdraw everything, then Cease 6/3, as a Hard Reset where the peer would keep
    /// our routes.
    Deconfigured,
    /// There is no room for this peer beside others of its range: as [`Stop::Deconfigured`], with Cease 6/8.
    OutOfResources,
    /// Its settings changed so that the session must begin anew: Cease 6/6, or silence where the peer then keeps our routes.
    ConfigurationChange,
}

/// Something happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// Begin (RFC 4271 event 3, AutomaticStart).
    Start,
    /// End for good; the peer is finished when [`super::Peer::is_finished`].
    Stop(Stop),
    /// A deadline of [`super::Peer::poll_timeout`] has come.
    Timeout,
    /// Our dial succeeded.
    Connected(ConnId, LocalEnd),
    /// The addresses around our end of an open connection changed.
    Located(ConnId, LocalEnd),
    /// Our dial failed, with the error for people.
    ConnectFailed(ConnId, String),
    /// Octets came. What is not a whole message yet is left in the buffer.
    Received(ConnId, &'a mut BytesMut),
    /// The connection is gone; the error for people, or `None` for an orderly end.
    Closed(ConnId, Option<String>),
    /// The address that an open connection was made from is no longer ours, in words for people: the connection is given up, and the
    /// next attempt, from another address, need not wait.
    Displaced(ConnId, String),
    /// The peer acknowledged octets that it had not acknowledged before. Say so at the latest a second after it did.
    Acknowledged(ConnId),
    /// There is no more room for what this connection leaves unfinished: it ends with Cease 6/8 (RFC 4486 §4).
    Crowded(ConnId),
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
    /// Write what [`super::Peer::transmit`] still holds, shut down writing, read to the end for at most 1 s: a NOTIFICATION must not be lost to a RST.
    AfterFlush,
    /// At once, without a word.
    Now,
}
