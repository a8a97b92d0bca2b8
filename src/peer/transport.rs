//! What the kernel says about the connection of a session, for people.

use super::settings::InterfaceName;
use std::net::SocketAddr;
use std::time::Duration;

/// The options of a live socket, as they were read from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transport {
    /// Our end.
    pub local: SocketAddr,
    /// The router's end.
    pub remote: SocketAddr,
    /// The interface that the socket is bound to (SO_BINDTODEVICE).
    pub interface: Option<InterfaceName>,
    /// TTL or hop limit sent.
    pub ttl: u8,
    /// The least that is accepted (RFC 5082); 0: any.
    pub least_ttl: u8,
    /// The octet of DSCP and ECN: TOS or traffic class.
    pub traffic_class: u8,
    /// How long the kernel waits for an acknowledgement; none: as long as it does by itself.
    pub user_timeout: Option<Duration>,
    /// Octets of data that a segment carries.
    pub segment_size: u16,
    /// Whether segments are signed.
    pub signed: Signed,
}

/// Whether segments are signed (TCP-MD5), and how that is known: Linux lets nobody read a key back who may not administer
/// the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    /// No key was set on this socket.
    No,
    /// The kernel took the key for this socket, and has since sent nothing unsigned and taken nothing unsigned.
    KeyInstalled,
}
