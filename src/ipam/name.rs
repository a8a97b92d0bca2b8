//! Who somebody is: a Service's UID, its namespace and name, and its place in the queue.

use super::timestamp::Timestamp;
use std::fmt;
use std::sync::Arc;

/// `metadata.uid` of a Service. A Service made again under its old name has another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(pub Arc<str>);

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Namespace and name of a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Who is served first: the older Service; of two equally old ones the first by name. The same after every restart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// Its name.
    pub service: ServiceName,
    /// Its UID.
    pub uid: Uid,
}
