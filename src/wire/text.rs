//! Text that a peer sent: octets that should be UTF-8 and may be anything.

use bytes::Bytes;
use std::fmt;

/// Octets meant as text. They are kept as they came; `Display` is safe in a log line: what is no UTF-8 is replaced, control
/// characters and quotes are escaped (RFC 9003 §3 asks for as much).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(pub Bytes);

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).escape_debug().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_text_cannot_forge_a_log_line() {
        let text = Text(Bytes::from_static(b"a\nb\x1b[31m\xff\"c\xe2\x80\xaed"));
        assert_eq!(text.to_string(), "a\\nb\\u{1b}[31m\u{fffd}\\\"c\\u{202e}d");
        assert_eq!(Text::from("FRRouting/10.3").to_string(), "FRRouting/10.3");
    }
}
