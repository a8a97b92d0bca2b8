//! ROUTE-REFRESH (RFC 2918 §3).

use super::Family;

/// A request to send one family again. The reserved octet is kept (RFC 7313 gives it meaning).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRefresh {
    /// The family wanted.
    pub family: Family,
    /// 0 for a plain request; RFC 7313 §3.2 defines 1 and 2.
    pub subtype: u8,
}
