//! Which routes, from this node, to whom, and why.
//!
//! Promises: a pure function of (view, policy, node); the cost of a new plan follows the size of the change.
//! `guard` judges a plan by what it would take away. Deliberately absent: Kubernetes types, sessions, a clock.

pub mod cluster;
pub mod guard;
pub mod plan;
pub mod policy;
pub mod remembered;
pub mod select;

pub use cluster::{
    ClusterView, Endpoint, Grant, Ingress, IpMode, Missing, Node, NodeName, Observation, Service, ServiceKey,
    TrafficPolicy,
};
pub use guard::{Cause, Guard, Holding, Inferred, Limits};
pub use plan::{Plan, Planner};
pub use policy::{Advertisement, NodeSelector, Policy, Pool};
pub use remembered::Remembered;
pub use select::{Decision, Place, Reason, decide, out_of_service};
