//! Why octets are no message, and what the peer is told: one total map from cause to NOTIFICATION.

use super::Notification;

/// An error that ends the session. `Display` is for people, with the offset in the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Placeholder of the skeleton.
    #[error("not written yet")]
    Unwritten,
}

impl Error {
    /// What the peer is told (RFC 4271 §6.1–§6.3).
    pub fn notification(&self) -> Notification {
        todo!()
    }
}
