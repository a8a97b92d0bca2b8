//! What can be seen from outside: health, metrics, peers, routes.
//!
//! Promises: reads only; costs nothing while nobody asks; label sets go with the peer they tell of.
//! Deliberately absent: any state of its own. It holds [`Handles`] on what others publish.

pub mod allocator;
pub mod connections;
pub mod glass;
pub mod handles;
pub mod heartbeat;
pub mod metrics;
pub mod pieces;
pub mod readiness;
pub mod running;
pub mod server;
pub mod shelf;

pub use handles::{Before, Handles, Listing, PeerHandles, Readiness, Speakers, Standing, WatchState};
pub use heartbeat::{Heart, Liveness, Watched};
pub use metrics::{Freshness, Metrics, Reloads};
