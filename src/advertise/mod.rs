//! Which routes, from this node, to whom, and why.
//!
//! Promises: a pure function of (view, policy, node); the cost of a new plan follows the size of the change.
//! Deliberately absent: Kubernetes types, sessions, time.

pub mod cluster;
pub mod plan;
pub mod policy;
pub mod select;

pub use cluster::{ClusterView, Endpoint, Grant, Ingress, IpMode, Node, NodeName, Service, ServiceKey, TrafficPolicy};
pub use plan::{Plan, Planner};
pub use policy::{Advertisement, NodeSelector, Policy, Pool};
pub use select::{Decision, Place, Reason, decide};
