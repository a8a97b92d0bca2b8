//! NOTIFICATION (RFC 4271 §4.5, §6).
//!
//! ```text
//! 19     20        21
//! | code | subcode | data …
//! ```

use super::text::Text;
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

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

/// The longest shutdown communication in octets (RFC 9003 §2).
const MAX_TEXT: usize = 255;

/// How much of the data `Display` shows.
const SHOWN_OCTETS: usize = 32;

impl Notification {
    /// Hold Timer Expired (RFC 4271 §6.5).
    pub const HOLD_TIMER_EXPIRED: Notification = Notification { code: 4, subcode: 0, data: Bytes::new() };

    /// Send Hold Timer Expired (RFC 9687 §6).
    pub const SEND_HOLD_TIMER_EXPIRED: Notification = Notification { code: 8, subcode: 0, data: Bytes::new() };

    /// Role Mismatch (RFC 9234 §4.2).
    pub const ROLE_MISMATCH: Notification = Notification { code: 2, subcode: 11, data: Bytes::new() };

    /// A code and subcode without data.
    pub const fn bare(code: u8, subcode: u8) -> Self {
        Self { code, subcode, data: Bytes::new() }
    }

    /// Cease (code 6, RFC 4486) with a shutdown communication of at most 255 octets (RFC 9003 §2), cut at a character.
    ///
    /// Only Administrative Shutdown and Administrative Reset carry the text; for the others it is left out, since their
    /// data field has another meaning or none. An empty text is no text.
    pub fn cease(subcode: CeaseSubcode, text: &str) -> Self {
        let bare = Self::bare(6, subcode as u8);
        if text.is_empty() || !carries_text(bare.code, bare.subcode) {
            return bare;
        }
        let mut len = text.len().min(MAX_TEXT);
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        let mut data = BytesMut::with_capacity(1 + len);
        data.put_u8(u8::try_from(len).expect("cut to 255 octets above"));
        data.put_slice(&text.as_bytes()[..len]);
        Self { data: data.freeze(), ..bare }
    }

    /// This one inside a Hard Reset (RFC 8538 §3.1): the peer keeps none of our routes. A Hard Reset is not wrapped again.
    pub fn hard_reset(self) -> Self {
        if self.is_hard_reset() {
            return self;
        }
        let mut data = BytesMut::with_capacity(2 + self.data.len());
        data.put_slice(&[self.code, self.subcode]);
        data.put_slice(&self.data);
        Self { data: data.freeze(), ..Self::bare(6, CeaseSubcode::HardReset as u8) }
    }

    /// Whether it ends graceful restart (RFC 8538 §3.1), whatever it wraps.
    pub fn is_hard_reset(&self) -> bool {
        (self.code, self.subcode) == (6, CeaseSubcode::HardReset as u8)
    }

    /// The shutdown communication of a Cease, safe to print: invalid UTF-8 replaced, control characters escaped (RFC 9003
    /// §3). `None` where there is none, or where its length field promises more than came. That of a Cease inside a Hard
    /// Reset is [`Notification::wrapped`]'s.
    pub fn shutdown_text(&self) -> Option<String> {
        if !carries_text(self.code, self.subcode) {
            return None;
        }
        let (&len, rest) = self.data.split_first()?;
        let text = rest.get(..usize::from(len)).filter(|text| !text.is_empty())?;
        Some(Text(self.data.slice_ref(text)).to_string())
    }

    /// What a Hard Reset wraps (RFC 8538 §3.1), if this is one that does.
    pub fn wrapped(&self) -> Option<Notification> {
        match (self.code, self.subcode, &self.data[..]) {
            (6, 9, [code, subcode, ..]) => {
                Some(Notification { code: *code, subcode: *subcode, data: self.data.slice(2..) })
            }
            _ => None,
        }
    }

    /// Reads the body; the header has seen to it that code and subcode are there.
    pub(super) fn decode(body: &[u8]) -> Self {
        let octet = |at: usize| body.get(at).copied().unwrap_or(0);
        Self { code: octet(0), subcode: octet(1), data: Bytes::copy_from_slice(body.get(2..).unwrap_or_default()) }
    }

    /// Appends the body in at most `room` octets; the data is cut where it is longer, since a NOTIFICATION that tells most
    /// of the story is better than none.
    pub(super) fn encode(&self, room: usize, out: &mut BytesMut) {
        out.put_u8(self.code);
        out.put_u8(self.subcode);
        out.put_slice(&self.data[..self.data.len().min(room.saturating_sub(2))]);
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

/// Whether the data of this Cease is a shutdown communication (RFC 9003 §2).
fn carries_text(code: u8, subcode: u8) -> bool {
    code == 6
        && (subcode == CeaseSubcode::AdministrativeShutdown as u8 || subcode == CeaseSubcode::AdministrativeReset as u8)
}

/// The name of a code, and of a subcode under it; RFC 4271 §4.5 unless said otherwise.
fn names(code: u8, subcode: u8) -> (Option<&'static str>, Option<&'static str>) {
    let (name, subcodes): (&str, &[(u8, &str)]) = match code {
        1 => (
            "Message Header Error",
            &[(1, "Connection Not Synchronized"), (2, "Bad Message Length"), (3, "Bad Message Type")],
        ),
        2 => (
            "OPEN Message Error",
            &[
                (1, "Unsupported Version Number"),
                (2, "Bad Peer AS"),
                (3, "Bad BGP Identifier"),
                (4, "Unsupported Optional Parameter"),
                (5, "Authentication Failure"),
                (6, "Unacceptable Hold Time"),
                (7, "Unsupported Capability"), // RFC 5492 §5
                (11, "Role Mismatch"),         // RFC 9234 §4.2
            ],
        ),
        3 => (
            "UPDATE Message Error",
            &[
                (1, "Malformed Attribute List"),
                (2, "Unrecognized Well-known Attribute"),
                (3, "Missing Well-known Attribute"),
                (4, "Attribute Flags Error"),
                (5, "Attribute Length Error"),
                (6, "Invalid ORIGIN Attribute"),
                (7, "AS Routing Loop"),
                (8, "Invalid NEXT_HOP Attribute"),
                (9, "Optional Attribute Error"),
                (10, "Invalid Network Field"),
                (11, "Malformed AS_PATH"),
            ],
        ),
        4 => ("Hold Timer Expired", &[]),
        // RFC 6608 §3
        5 => (
            "Finite State Machine Error",
            &[
                (1, "Unexpected Message in OpenSent State"),
                (2, "Unexpected Message in OpenConfirm State"),
                (3, "Unexpected Message in Established State"),
            ],
        ),
        6 => (
            "Cease",
            &[
                (1, "Maximum Number of Prefixes Reached"),
                (2, "Administrative Shutdown"),
                (3, "Peer De-configured"),
                (4, "Administrative Reset"),
                (5, "Connection Rejected"),
                (6, "Other Configuration Change"),
                (7, "Connection Collision Resolution"),
                (8, "Out of Resources"),
                (9, "Hard Reset"), // RFC 8538 §3
                (10, "BFD Down"),  // RFC 9384 §3
            ],
        ),
        7 => ("ROUTE-REFRESH Message Error", &[(1, "Invalid Message Length")]), // RFC 7313 §5
        8 => ("Send Hold Timer Expired", &[]),                                  // RFC 9687 §4
        _ => return (None, None),
    };
    (Some(name), subcodes.iter().find(|(number, _)| *number == subcode).map(|(_, name)| *name))
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.wrapped() {
            Some(inner) => {
                self.show_name(f)?;
                f.write_str(" because of ")?;
                // One level: a peer could nest them thousands deep.
                inner.show(f)
            }
            None => self.show(f),
        }
    }
}

impl Notification {
    /// Code, subcode, and the data as far as it can be shown without unwrapping.
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show_name(f)?;
        match self.shutdown_text() {
            Some(text) => write!(f, ": \"{text}\""),
            None => show_data(f, &self.data),
        }
    }

    fn show_name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, subcode) = (self.code, self.subcode);
        match names(code, subcode) {
            (Some(name), Some(sub)) => write!(f, "{name}, {sub} ({code}/{subcode})"),
            (Some(name), None) if subcode == 0 => write!(f, "{name} ({code}/{subcode})"),
            (Some(name), None) => write!(f, "{name}, unknown subcode ({code}/{subcode})"),
            (None, _) => write!(f, "unknown error code ({code}/{subcode})"),
        }
    }
}

fn show_data(f: &mut fmt::Formatter<'_>, data: &[u8]) -> fmt::Result {
    if data.is_empty() {
        return Ok(());
    }
    f.write_str(", data ")?;
    for octet in data.iter().take(SHOWN_OCTETS) {
        write!(f, "{octet:02x}")?;
    }
    if data.len() > SHOWN_OCTETS { write!(f, "… ({} octets)", data.len()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_data(code: u8, subcode: u8, data: &[u8]) -> Notification {
        Notification { code, subcode, data: Bytes::copy_from_slice(data) }
    }

    #[test]
    fn golden_octets_both_ways() {
        let notification = Notification::cease(CeaseSubcode::AdministrativeShutdown, "bye");
        let mut out = BytesMut::new();
        notification.encode(100, &mut out);
        assert_eq!(out[..], [6, 2, 3, b'b', b'y', b'e']);
        assert_eq!(Notification::decode(&out), notification);
    }

    #[test]
    fn a_text_is_cut_at_a_character() {
        let long = "ä".repeat(200);
        let cease = Notification::cease(CeaseSubcode::AdministrativeReset, &long);
        assert_eq!((cease.data.len(), cease.data[0]), (255, 254));
        assert_eq!(cease.shutdown_text().unwrap(), "ä".repeat(127));
    }

    #[test]
    fn only_shutdown_and_reset_carry_a_text() {
        assert_eq!(Notification::cease(CeaseSubcode::PeerDeconfigured, "text"), Notification::bare(6, 3));
        assert_eq!(Notification::cease(CeaseSubcode::AdministrativeShutdown, ""), Notification::bare(6, 2));
        assert_eq!(with_data(6, 3, b"\x03abc").shutdown_text(), None);
    }

    #[test]
    fn a_hostile_text_cannot_forge_a_log_line() {
        let text = with_data(6, 2, b"\x0fa\nb\x1b[31m\xff\"c\xe2\x80\xaed").shutdown_text().unwrap();
        assert_eq!(text, "a\\nb\\u{1b}[31m\u{fffd}\\\"c\\u{202e}d");
    }

    #[test]
    fn a_text_longer_than_its_message_is_shown_as_octets() {
        let notification = with_data(6, 2, b"\x04abc");
        assert_eq!(notification.shutdown_text(), None);
        assert_eq!(notification.to_string(), "Cease, Administrative Shutdown (6/2), data 04616263");
    }

    #[test]
    fn codes_are_spelled_out() {
        for (code, subcode, text) in [
            (1, 1, "Message Header Error, Connection Not Synchronized (1/1)"),
            (2, 0, "OPEN Message Error (2/0)"),
            (2, 2, "OPEN Message Error, Bad Peer AS (2/2)"),
            (3, 11, "UPDATE Message Error, Malformed AS_PATH (3/11)"),
            (4, 0, "Hold Timer Expired (4/0)"),
            (5, 2, "Finite State Machine Error, Unexpected Message in OpenConfirm State (5/2)"),
            (6, 7, "Cease, Connection Collision Resolution (6/7)"),
            (6, 10, "Cease, BFD Down (6/10)"),
            (6, 99, "Cease, unknown subcode (6/99)"),
            (8, 0, "Send Hold Timer Expired (8/0)"),
            (77, 1, "unknown error code (77/1)"),
        ] {
            assert_eq!(Notification::bare(code, subcode).to_string(), text);
        }
    }

    #[test]
    fn a_hard_reset_shows_what_it_wraps() {
        let text = with_data(6, 9, b"\x06\x02\x03bye").to_string();
        assert_eq!(text, "Cease, Hard Reset (6/9) because of Cease, Administrative Shutdown (6/2): \"bye\"");
        assert_eq!(with_data(6, 9, &[6]).to_string(), "Cease, Hard Reset (6/9), data 06");
    }

    #[test]
    fn a_hard_reset_golden() {
        let encode = |notification: &Notification| {
            let mut out = BytesMut::new();
            notification.encode(100, &mut out);
            out.to_vec()
        };
        let drain = Notification::cease(CeaseSubcode::AdministrativeShutdown, "drain").hard_reset();
        assert_eq!(encode(&drain), [6, 9, 6, 2, 5, b'd', b'r', b'a', b'i', b'n']);
        assert_eq!(drain.wrapped().unwrap().shutdown_text().unwrap(), "drain");
        let bfd = Notification::cease(CeaseSubcode::BfdDown, "").hard_reset();
        assert_eq!(encode(&bfd), [6, 9, 6, 10]);
        assert_eq!(bfd.clone().hard_reset(), bfd);
        assert!(bfd.is_hard_reset() && !Notification::SEND_HOLD_TIMER_EXPIRED.is_hard_reset());
    }

    #[test]
    fn hard_resets_nested_thousands_deep_are_one_short_line() {
        let nested = with_data(6, 9, &[6, 9].repeat(32_000));
        let text = nested.to_string();
        assert!(text.starts_with("Cease, Hard Reset (6/9) because of Cease, Hard Reset (6/9), data 0609"), "{text}");
        assert!(text.len() < 200);
    }

    #[test]
    fn data_is_cut_to_the_room_and_to_the_eye() {
        let mut out = BytesMut::new();
        with_data(3, 9, &[1; 5000]).encode(4077, &mut out);
        assert_eq!(out.len(), 4077);
        let text = with_data(3, 9, &[0xab; 5000]).to_string();
        assert!(text.ends_with("ab… (5000 octets)") && text.len() < 160, "{text}");
    }
}
