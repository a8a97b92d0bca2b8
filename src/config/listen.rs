//! Where connections of routers are taken.

use super::error::{Finding, Place};
use super::raw;
use super::values::{number, session_address};
use std::net::IpAddr;

/// Where we listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// TCP port, 179 where nothing is said.
    pub port: u16,
    /// Own addresses; empty: all of both families.
    pub addresses: Vec<IpAddr>,
}

/// `None`: we do not listen.
pub fn resolve(raw: Option<&raw::Listen>, out: &mut Vec<Finding>) -> Option<Listen> {
    let raw = raw?;
    let port = raw.port.as_ref().map_or(Some(179), |port| number("port", port, 1..=65535, out));
    let mut addresses = Vec::new();
    for value in raw.addresses.iter().flatten() {
        let Some(address) = session_address("addresses", value, out) else { continue };
        if addresses.contains(&address) {
            let help = "remove one of the two";
            out.push(Finding::error(Place::of(value), format!("{address} is given twice")).help(help));
        }
        addresses.push(address);
    }
    Some(Listen { port: port?, addresses })
}
