//! Communities (RFC 1997) and large communities (RFC 8092).

use std::fmt;
use std::str::FromStr;

/// A standard community: 32 bits, by convention AS:value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

/// A large community: three 32-bit numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity {
    /// Global administrator, an AS number.
    pub global: u32,
    /// First operator-defined part.
    pub local1: u32,
    /// Second operator-defined part.
    pub local2: u32,
}

/// Why a text is no community.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a community: {expected}")]
pub struct CommunityError {
    pub(super) given: String,
    pub(super) expected: &'static str,
}

/// Well-known names (RFC 1997, RFC 3765, RFC 7611 §4, RFC 7999 §5, RFC 8326 §4.1, RFC 9494 §3.2 and §3.3).
const WELL_KNOWN: &[(&str, u32)] = &[
    ("graceful-shutdown", 0xFFFF_0000),
    ("accept-own", 0xFFFF_0001),
    ("llgr-stale", 0xFFFF_0006),
    ("no-llgr", 0xFFFF_0007),
    ("blackhole", 0xFFFF_029A),
    ("no-export", 0xFFFF_FF01),
    ("no-advertise", 0xFFFF_FF02),
    ("no-export-subconfed", 0xFFFF_FF03),
    ("no-peer", 0xFFFF_FF04),
];

impl Community {
    /// The well-known names, in ascending order of value.
    pub fn names() -> impl Iterator<Item = &'static str> {
        WELL_KNOWN.iter().map(|(name, _)| *name)
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match WELL_KNOWN.iter().find(|(_, value)| *value == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}:{}", self.0 >> 16, self.0 & 0xFFFF),
        }
    }
}

impl FromStr for Community {
    type Err = CommunityError;
    fn from_str(text: &str) -> Result<Self, CommunityError> {
        if let Some((_, value)) = WELL_KNOWN.iter().find(|(name, _)| *name == text) {
            return Ok(Self(*value));
        }
        text.split_once(':')
            .and_then(|(high, low)| {
                Some(u32::from(high.parse::<u16>().ok()?) << 16 | u32::from(low.parse::<u16>().ok()?))
            })
            .map(Self)
            .ok_or(CommunityError {
                given: text.to_owned(),
                expected: "write AS:VALUE with both parts at most 65535, or a name such as no-export",
            })
    }
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local1, self.local2)
    }
}

impl FromStr for LargeCommunity {
    type Err = CommunityError;
    fn from_str(text: &str) -> Result<Self, CommunityError> {
        let parts: Vec<u32> = text.split(':').map_while(|part| part.parse().ok()).collect();
        match (<[u32; 3]>::try_from(parts), text.matches(':').count()) {
            (Ok([global, local1, local2]), 2) => Ok(Self { global, local1, local2 }),
            _ => Err(CommunityError { given: text.to_owned(), expected: "write three numbers, GLOBAL:LOCAL1:LOCAL2" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        for text in ["64512:100", "0:0", "no-export", "graceful-shutdown", "llgr-stale", "no-llgr", "65535:2"] {
            assert_eq!(text.parse::<Community>().unwrap().to_string(), text);
        }
        assert_eq!("4200000000:1:2".parse::<LargeCommunity>().unwrap().to_string(), "4200000000:1:2");
    }

    #[test]
    fn nonsense_is_refused_with_a_hint() {
        for text in ["64512", "70000:1", "1:2:3", "no-such-name", ""] {
            assert!(text.parse::<Community>().unwrap_err().to_string().contains("AS:VALUE"));
        }
        for text in ["1:2", "1:2:3:4", "a:b:c", "1:2:"] {
            assert!(text.parse::<LargeCommunity>().is_err(), "{text}");
        }
    }
}
