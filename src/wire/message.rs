//! The five messages (RFC 4271 §4, RFC 2918).

use super::error::EncodeError;
use super::header::{HEADER_LEN, Kind, check, enclose};
use super::parse::Reader;
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
        let (kind, len) = check(frame, context)?;
        let mut reader = Reader::new(frame);
        let header = reader.take(HEADER_LEN);
        if header.is_err() || len != frame.len() {
            return Err(Error::Length { len: u16::try_from(len).unwrap_or(u16::MAX), kind: kind as u8 });
        }
        match kind {
            Kind::Open => Open::decode(reader).map(Message::Open),
            Kind::Update => Update::decode(reader, context).map(Message::Update),
            Kind::Notification => Ok(Message::Notification(Notification::decode(reader.rest()))),
            Kind::Keepalive => Ok(Message::Keepalive),
            Kind::RouteRefresh => RouteRefresh::decode(frame, reader, context).map(Message::RouteRefresh),
        }
    }

    /// Appends the message with its header. A NOTIFICATION always fits, since its data is cut to the limit; so do KEEPALIVE
    /// and ROUTE-REFRESH.
    ///
    /// # Errors
    /// An OPEN above 4096 octets or an UPDATE above [`Context::max_len`]; `out` is then as it was.
    pub fn encode(&self, context: &Context, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Message::Open(open) => enclose(out, Kind::Open, context, |out| open.encode(out)),
            Message::Update(update) => enclose(out, Kind::Update, context, |out| update.encode(context, out)),
            Message::Notification(notification) => enclose(out, Kind::Notification, context, |out| {
                notification.encode(context.max_len.saturating_sub(HEADER_LEN), out);
                Ok(())
            }),
            Message::Keepalive => enclose(out, Kind::Keepalive, context, |_| Ok(())),
            Message::RouteRefresh(refresh) => enclose(out, Kind::RouteRefresh, context, |out| {
                refresh.encode(out);
                Ok(())
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Family;
    use bytes::Bytes;

    const MARKER: [u8; 16] = [0xff; 16];

    fn encode(message: &Message) -> Vec<u8> {
        let mut out = BytesMut::new();
        message.encode(&Context::before_open(), &mut out).unwrap();
        out.to_vec()
    }

    #[test]
    fn golden_octets_both_ways() {
        let cases: [(&[u8], Message); 3] = [
            (&[0, 19, 4], Message::Keepalive),
            (&[0, 21, 3, 4, 0], Message::Notification(Notification::HOLD_TIMER_EXPIRED)),
            (&[0, 23, 5, 0, 1, 0, 1], Message::RouteRefresh(RouteRefresh { family: Family::IPV4_UNICAST, subtype: 0 })),
        ];
        for (octets, message) in cases {
            let octets = [&MARKER[..], octets].concat();
            assert_eq!(encode(&message), octets);
            assert_eq!(Message::decode(&octets, &Context::before_open()), Ok(message));
        }
    }

    #[test]
    fn a_frame_of_another_length_than_it_says_is_refused() {
        let keepalive = encode(&Message::Keepalive);
        let notification = encode(&Message::Notification(Notification::bare(6, 2)));
        for frame in [&keepalive[..18], &keepalive[..3], &notification[..20], &[&keepalive[..], &[0]].concat()] {
            let error = Message::decode(frame, &Context::before_open()).unwrap_err();
            assert!(matches!(error, Error::Length { .. }), "{error}");
        }
    }

    #[test]
    fn a_notification_is_cut_rather_than_not_sent() {
        let long = Notification { code: 3, subcode: 9, data: Bytes::from(vec![1; 70_000]) };
        assert_eq!(encode(&Message::Notification(long)).len(), 4096);
    }

    #[test]
    fn an_open_with_too_many_capabilities_is_an_error() {
        let open = Open {
            my_as: 1,
            hold_time: 90,
            router_id: crate::wire::RouterId::new([1, 1, 1, 1].into()).unwrap(),
            capabilities: vec![crate::wire::Capability::RouteRefresh; 2100],
        };
        let mut out = BytesMut::new();
        let refused = Message::Open(open).encode(&Context { max_len: 65_535, ..Context::before_open() }, &mut out);
        assert!(matches!(refused, Err(EncodeError::MessageTooLong { max_len: 4096, .. })));
        assert!(out.is_empty());
    }
}
