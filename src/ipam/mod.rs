//! Addresses for services of type LoadBalancer: who gets which, and why not. Pure: time is an argument, nothing is read and
//! nothing is written.
//!
//! # What it promises
//!
//! - One holder an address, or several who share it by the rules of [`terms`].
//! - Nobody loses an address that its status shows, but by its own wish: neither by an edit of a pool or a neighbour, nor by a
//!   request that cannot be served. A changed request secures the new address before it lets the old one go.
//! - The same input gives the same addresses: pools by priority, then by name; the lowest free address; the older Service
//!   first. What is written down is enough to begin again.
//! - A grant costs O(log n), however large the pool.
//!
//! # How a shell goes about it
//!
//! When every watch has synced, [`Allocator::adopt`] takes all there is. From then on each event is an
//! [`apply`](Allocator::apply), [`remove`](Allocator::remove), [`foreign`](Allocator::foreign) or
//! [`observe`](Allocator::observe), and after each, [`take_changes`](Allocator::take_changes) says what may have to be written:
//!
//! 1. For each address, [`begin_write`](Allocator::begin_write) says what to write to its `Allocation`, under the
//!    resourceVersion that was read. It got through: [`confirm`](Allocator::confirm). Conflict or AlreadyExists: read the object,
//!    and [`observe`](Allocator::observe) what is there; that rolls back what is not to be.
//! 2. For each Service, [`begin_status`](Allocator::begin_status) says what its status is to show, under the resourceVersion that
//!    was last applied. It got through, or met a conflict and the Service was read: [`end_status`](Allocator::end_status) with
//!    what it is now. Only then is given back what it has left.
//!
//! A write that was begun is under way until it has ended, and no other of the same object is begun. Where no answer comes, the
//! same write is sent again until one does: what was sent may still arrive, and only an answer tells that it no longer can.
//!
//! Beside that, [`tick`](Allocator::tick) is due at [`next_deadline`](Allocator::next_deadline), and a Service of each of
//! [`unknown_holders`](Allocator::unknown_holders) is to be read.
//!
//! An older state of an `Allocation` than the last one written must not be observed: after a write, a shell ignores what the
//! watch says about it until the version that it wrote has come by.
//!
//! Deliberately absent: leases, finalizers, conditions, events. A grant that was written by a leader who died over it is no
//! harm: the next one finds it in the `Allocation`, and the Service holds it.

mod allocator;
mod book;
mod claim;
mod family;
mod grant;
mod interval;
mod keep;
mod labels;
mod name;
mod neighbours;
mod numbering;
mod observe;
mod pick;
mod pool;
mod quota;
mod record;
mod refusal;
mod settle;
mod state;
mod status;
mod stock;
mod subject;
pub mod terms;
mod timestamp;
mod waiting;

pub use allocator::{Allocator, Changes, Overshoot, Start, Write, allocate};
pub use claim::{Claim, PoolChoice, Renumber};
pub use family::{Families, Family};
pub use keep::Standing;
pub use labels::{Labels, Requirement, Selector};
pub use name::{ServiceName, Uid};
pub use neighbours::Foreign;
pub use pool::{Admission, AutoAssign, Edges, Intake, Pool, Unfit};
pub use quota::{Quota, Quotas};
pub use record::{Holder, Record, Tenure};
pub use refusal::{Extent, Fullness, PoolFault, PoolRefusal, Refusal};
pub use status::{Assigned, Status};
pub use stock::Usage;
pub use subject::Phase;
pub use terms::{Backend, Clash, Port, Protocol, Sharing, SharingScope, Terms};
pub use timestamp::Timestamp;
