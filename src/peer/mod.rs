//! One neighbour, pure: its session with up to two connections, its Adj-RIB-Out, its status.
//!
//! The driver above the wall feeds [`Input`]s and does what [`Peer::poll_output`] says; it knows no protocol.
//! Deliberately absent: sockets, the clock, chance (time and a seed are arguments), and why a route is wanted.

pub mod collision;
mod export;
mod intake;
mod likeness;
mod link;
pub mod machine;
mod next_hop;
mod restart;
pub mod seam;
pub mod settings;
mod side;
pub mod status;
pub mod transport;

pub use machine::Peer;
pub use seam::{CloseHow, ConnId, Extent, Input, LocalEnd, Output, Plan, Stop};
pub use settings::{Identity, Neighbor, PeerName, Settings};
pub use side::Which;
pub use status::{EndOfRib, Limit, Phase, Room, Status};
