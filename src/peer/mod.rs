//! One neighbour, pure: the machine of its connection, its Adj-RIB-Out, its status.
//!
//! The driver above the wall feeds [`Input`]s and does what [`Peer::poll_output`] says; it knows no protocol.
//! Deliberately absent: sockets, the clock, chance (time and a seed are arguments), and why a route is wanted.

mod export;
mod link;
pub mod machine;
mod next_hop;
pub mod seam;
pub mod settings;
pub mod status;

pub use machine::Peer;
pub use seam::{CloseHow, ConnId, Input, LocalEnd, Output, Plan, Stop};
pub use settings::{Identity, Neighbor, PeerName, Settings};
pub use status::{EndOfRib, Phase, Status};
