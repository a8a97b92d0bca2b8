//! How many addresses a namespace may hold.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A namespace's limit. An address shared by several of its Services counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quota {
    /// No limit.
    #[default]
    Unlimited,
    /// So many addresses, both families together.
    Addresses(u32),
}

/// The limits of all namespaces. One that is lowered takes nothing away; it only stops new grants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quotas {
    /// For namespaces that are not named.
    pub default: Quota,
    /// By namespace.
    pub namespaces: BTreeMap<Arc<str>, Quota>,
}

impl Quotas {
    /// The limit of a namespace.
    pub fn of(&self, namespace: &str) -> Quota {
        self.namespaces.get(namespace).copied().unwrap_or(self.default)
    }
}
