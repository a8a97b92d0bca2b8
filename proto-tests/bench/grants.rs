//! The allocator alone: 100,000 grants, and a new allocator that takes 100,000 over.

use super::Effort;
use super::price::measure;
use crate::rig::net::Namespace;
use crate::rig::{Outcome, Rig};
use std::time::Duration;

/// How long all the grants may take, and taking them over.
const LIMITS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(1));

/// Measures, prints, and (at full effort) compares with the limits.
///
/// # Errors
/// It takes too long.
pub fn run(_: &Rig, _: &Namespace, effort: Effort) -> Outcome {
    let figures = match effort {
        Effort::Smoke => measure(2_000),
        Effort::Full => measure(100_000),
    };
    println!("grants: {figures}");
    match effort {
        Effort::Full if figures.grants > LIMITS.0 || figures.adoption > LIMITS.1 => {
            Err(format!("grants may take {:?} and adoption {:?}", LIMITS.0, LIMITS.1))
        }
        Effort::Smoke | Effort::Full => Ok(()),
    }
}
