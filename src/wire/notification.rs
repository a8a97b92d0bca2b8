//! NOTIFICATION (RFC 4271 §4.5, §6).

use bytes::Bytes;

/// A NOTIFICATION: why a session ends. `Display` spells code and subcode out, and a shutdown text (RFC 9003) if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode, 0 where the code has none.
    pub subcode: u8,
    /// What the code's rule wants here.
    pub data: Bytes,
}

impl Notification {
    /// Hold Timer Expired (RFC 4271 §6.5).
    pub const HOLD_TIMER_EXPIRED: Notification = Notification { code: 4, subcode: 0, data: Bytes::new() };

    /// A code and subcode without data.
    pub const fn bare(code: u8, subcode: u8) -> Self {
        Self { code, subcode, data: Bytes::new() }
    }

    /// Cease (code 6, RFC 4486) with a shutdown communication of at most 255 octets (RFC 9003 §2), cut at a character.
    pub fn cease(subcode: CeaseSubcode, text: &str) -> Self {
        let _ = (subcode, text);
        todo!()
    }
}

/// Cease subcodes (RFC 4486 §3 and later).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum CeaseSubcode {
    /// Maximum Number of Prefixes Reached.
    MaximumPrefixes = 1,
    /// Administrative Shutdown: carries a text.
    AdministrativeShutdown = 2,
    /// Peer De-configured.
    PeerDeconfigured = 3,
    /// Administrative Reset: carries a text.
    AdministrativeReset = 4,
    /// Connection Rejected.
    ConnectionRejected = 5,
    /// Other Configuration Change.
    OtherConfigurationChange = 6,
    /// Connection Collision Resolution.
    ConnectionCollision = 7,
    /// Out of Resources.
    OutOfResources = 8,
    /// Hard Reset (RFC 8538 §3).
    HardReset = 9,
    /// BFD Down (RFC 9384 §3).
    BfdDown = 10,
}
