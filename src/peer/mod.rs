//! One neighbour, pure: the machine of its connection, its Adj-RIB-Out, its status.
//!
//! The driver above the wall feeds [`Input`]s and does what [`Peer::poll_output`] says; it knows no protocol.
//! Deliberately absent: sockets, the clock, chance (time and a seed are arguments), and why a route is wanted.

pub mod machine;
pub mod settings;
pub mod status;

pub use machine::{CloseHow, ConnId, Input, LocalEnd, Output, Peer, Plan, Stop};
pub use settings::{Identity, Neighbor, PeerName, Settings};
pub use status::{Phase, Status};
