//! From view and policy to routes.

use super::cluster::ClusterView;
use super::policy::Policy;
use crate::rib::RouteSet;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The routes of every peer of this node. A peer that this node has no session with is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// By peer name.
    pub routes: BTreeMap<Arc<str>, RouteSet>,
}

/// Remembers the last view and policy, so that the next plan costs what changed. Equal to a plan from scratch, always.
#[derive(Debug, Default)]
pub struct Planner {}

impl Planner {
    /// The plan of `node` for this view and policy.
    pub fn plan(&mut self, view: &ClusterView, policy: &Arc<Policy>, node: &str) -> Plan {
        let _ = (view, policy, node);
        todo!()
    }
}
