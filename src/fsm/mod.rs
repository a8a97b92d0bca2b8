//! One BGP session over one connection: the finite state machine of RFC 4271 §8.
//!
//! Promises: every event has an answer in every state, and `transition` is the one file that makes a state. Nothing is
//! sent after a connection was dropped, and a NOTIFICATION is never answered by one.
//! Deliberately absent: sockets, the clock and chance (time and a seed are arguments), routes, and a second connection of
//! the same peer: that has a session of its own, and which of two is kept is decided above.

pub mod damping;
pub mod event;
pub mod negotiate;
pub mod output;
pub mod restart;
pub mod session;
pub mod state;
pub mod timers;
mod transition;

pub use event::{Event, Violation};
pub use negotiate::{MessageSize, Negotiated, Opening, Refresh, Refusal, SendHoldTime, Terms};
pub use output::{Down, Output, Parting};
pub use session::Session;
pub use state::{Origin, State};
pub use timers::{Timer, Timers};
