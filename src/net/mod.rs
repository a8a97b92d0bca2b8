//! Sockets and the driver of a peer: wait, feed, drain, publish. No protocol knowledge.
//!
//! Promises: one task a peer, so that a dead or stuck peer never delays another; what is buffered for a peer is bounded;
//! a NOTIFICATION that we send is not lost to a reset of the connection.
//! Deliberately absent: which peers exist and who may dial us (the speaker's business), BFD.

pub mod addresses;
pub mod beacon;
pub mod complaint;
pub mod connection;
pub mod descriptors;
pub mod driver;
pub mod journal;
mod links;
pub mod listener;
pub mod neighbours;
pub mod netlink;
pub mod socket;
mod syn;
pub mod unfinished;

pub use driver::{Driver, Lines, Readings};
pub use listener::Accepted;
