//! The five messages (RFC 4271 §4, RFC 2918).

use super::{Context, Error, Notification, Open, RouteRefresh, Update};
use bytes::BytesMut;

/// A message as read from the wire. What we send as UPDATE is written by [`super::update`] straight into the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Type 1.
    Open(Open),
    /// Type 2.
    Update(Update),
    /// Type 3.
    Notification(Notification),
    /// Type 4.
    Keepalive,
    /// Type 5.
    RouteRefresh(RouteRefresh),
}

impl Message {
    /// Reads one whole message, header included, as [`super::frame`] cut it.
    ///
    /// # Errors
    /// Only what ends a session; lesser faults are in [`Update::faults`].
    pub fn decode(frame: &[u8], context: &Context) -> Result<Self, Error> {
        let _ = (frame, context);
        todo!()
    }

    /// Appends the message with its header.
    pub fn encode(&self, context: &Context, out: &mut BytesMut) {
        let _ = (context, out);
        todo!()
    }
}
