//! The border to Kubernetes: its types end here.
//!
//! Promises: a cluster ([`mod@watch`]) or a folder of manifests ([`manifests`]) feeds one index, which publishes a
//! [`crate::advertise::ClusterView`] through `watch<Option<Arc<ClusterView>>>`: `None` until everything was read once. A
//! change is published at once, what comes meanwhile is taken together, and its cost follows its size. While the source is
//! away or an object makes no sense, the last good state stays; [`WatchHealth`] says so.
//!
//! Deliberately absent: which node, peer or pool is concerned, and any decision about what is announced.

pub mod allocation;
pub mod allocator;
mod bell;
pub mod client;
pub mod convert;
pub mod desk;
pub mod documents;
pub mod due;
pub mod errand;
pub mod folder;
pub mod follow;
pub mod health;
pub mod index;
pub mod lease;
pub mod manifests;
pub mod object;
pub mod releases;
pub mod renumber;
pub mod reply;
pub mod request;
pub mod telling;
pub mod turn;
pub mod watch;

pub use health::{Contact, Listing, Source, SourceHealth, WatchHealth};
pub use index::Index;
pub use object::{Key, Kind, Object, Reading, Slice, SliceKey};
