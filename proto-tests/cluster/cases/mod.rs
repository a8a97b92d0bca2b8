//! The cases, in the order in which they run.

mod bare;

use crate::bed::Bed;
use crate::rig::Outcome;

/// Name and body of each case.
pub const ALL: &[(&str, fn(&Bed) -> Outcome)] = &[("a0_the_cluster_serves_without_herald", bare::serves_without_herald)];
