//! What should be announced to a peer, what it holds, and the messages that lead from one to the other.
//!
//! Promises: the cost of a diff follows the size of the change; a withdrawal is never lost; no message exceeds the limit.
//! Deliberately absent: sessions, time, and why a route is wanted.

pub mod adj_out;
pub mod admission;
pub mod bounds;
pub mod egress;
pub mod pack;
pub mod route;

pub use adj_out::AdjRibOut;
pub use admission::{Admission, PrefixLimits};
pub use bounds::Bounds;
pub use egress::{Barred, Egress};
pub use pack::Delta;
pub use route::{Attributes, Change, NextHop, RouteSet};
