//! What becomes of a route with a bad attribute, as RFC 7606 §7 and the RFCs of later attributes have it. Written by hand from
//! them; nothing of the codec is used here, so that it cannot agree with itself.

/// What must happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expected {
    /// Nothing: the attribute is good, or not known and optional.
    Good,
    /// Attribute discard.
    Discard,
    /// Treat-as-withdraw.
    Withdraw,
    /// Session reset.
    Reset,
}

/// Which session the message comes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// eBGP with four-octet AS numbers.
    External,
    /// iBGP with four-octet AS numbers.
    Internal,
    /// eBGP with an old speaker of two-octet AS numbers.
    Old,
    /// iBGP with one.
    OldInternal,
}

use Expected::{Discard, Good, Reset, Withdraw};
use Session::{External, Internal, Old, OldInternal};

/// Optional and Transitive.
const OPTIONAL: u8 = 0x80;
const OPTIONAL_TRANSITIVE: u8 = 0xc0;
const WELL_KNOWN: u8 = 0x40;

/// A row: type, its two flag bits, a value that is right, and what a wrong length and wrong flags lead to.
pub struct Row {
    pub code: u8,
    pub flags: u8,
    pub right: &'static [u8],
    wrong_length: Expected,
    wrong_flags: Expected,
}

const fn row(code: u8, flags: u8, right: &'static [u8], wrong_length: Expected, wrong_flags: Expected) -> Row {
    Row { code, flags, right, wrong_length, wrong_flags }
}

const COMMON: [Row; 14] = [
    row(1, WELL_KNOWN, &[0], Withdraw, Withdraw),
    row(3, WELL_KNOWN, &[192, 0, 2, 1], Withdraw, Withdraw),
    row(4, OPTIONAL, &[0, 0, 0, 1], Withdraw, Withdraw),
    row(6, WELL_KNOWN, &[], Discard, Withdraw),
    row(8, OPTIONAL_TRANSITIVE, &[0, 1, 0, 2], Withdraw, Withdraw),
    row(14, OPTIONAL, &[0, 1, 1, 4, 192, 0, 2, 1, 0, 8, 11], Reset, Reset),
    row(15, OPTIONAL, &[0, 1, 1, 8, 12], Reset, Reset),
    row(16, OPTIONAL_TRANSITIVE, &[0, 2, 0, 1, 0, 0, 0, 2], Withdraw, Withdraw),
    row(25, OPTIONAL_TRANSITIVE, &[1; 20], Withdraw, Withdraw),
    row(32, OPTIONAL_TRANSITIVE, &[1; 12], Withdraw, Withdraw),
    row(35, OPTIONAL_TRANSITIVE, &[0, 0, 0xfd, 0xe8], Withdraw, Withdraw),
    // Recognised nowhere here, so their RFCs' rules do not bind: like any unknown optional attribute.
    row(26, OPTIONAL, &[1, 0, 11, 0, 0, 0, 0, 0, 0, 0, 1], Good, Good),
    row(40, OPTIONAL_TRANSITIVE, &[1, 0, 7, 0, 0, 0, 0, 0, 0, 1], Good, Good),
    row(128, OPTIONAL_TRANSITIVE, &[0, 0, 0xfd, 0xe8], Good, Good),
];
/// Four-octet AS numbers in AS_PATH and AGGREGATOR.
const WIDE: [Row; 4] = [
    row(2, WELL_KNOWN, &[2, 1, 0, 0, 0xfd, 0xe8], Withdraw, Withdraw),
    row(7, OPTIONAL_TRANSITIVE, &[0, 0, 0xfd, 0xe8, 1, 2, 3, 4], Discard, Withdraw),
    row(17, OPTIONAL_TRANSITIVE, &[2, 1, 0, 0, 0xfd, 0xe8], Discard, Discard),
    row(18, OPTIONAL_TRANSITIVE, &[0, 0, 0xfd, 0xe8, 1, 2, 3, 4], Discard, Discard),
];
const NARROW: [Row; 4] = [
    row(2, WELL_KNOWN, &[2, 1, 0xfd, 0xe8], Withdraw, Withdraw),
    row(7, OPTIONAL_TRANSITIVE, &[0xfd, 0xe8, 1, 2, 3, 4], Discard, Withdraw),
    row(17, OPTIONAL_TRANSITIVE, &[2, 1, 0, 0, 0xfd, 0xe8], Discard, Discard),
    row(18, OPTIONAL_TRANSITIVE, &[0, 0, 0xfd, 0xe8, 1, 2, 3, 4], Discard, Discard),
];
/// What only iBGP peers may send.
const INSIDE: [Row; 3] = [
    row(5, WELL_KNOWN, &[0, 0, 0, 100], Withdraw, Withdraw),
    row(9, OPTIONAL, &[1, 2, 3, 4], Withdraw, Withdraw),
    row(10, OPTIONAL, &[1, 2, 3, 4], Withdraw, Withdraw),
];

/// The row of a type; `None` for a type without one.
pub fn find(code: u8, session: Session) -> Option<&'static Row> {
    let wide = match session {
        External | Internal => &WIDE,
        Old | OldInternal => &NARROW,
    };
    COMMON.iter().chain(wide).chain(&INSIDE).find(|row| row.code == code)
}

/// What an attribute of this type with these flags and a value of this length leads to, where the message announces a
/// prefix. A value of the right length is right.
pub fn expected(code: u8, flags: u8, len: usize, session: Session) -> Expected {
    match (code, session) {
        // RFC 7606 §7.5, §7.9, §7.10: from outside they are dropped unread.
        (5 | 9 | 10, External | Old) => return Discard,
        // RFC 6793 §4.1, §6: from a new speaker they are dropped unread.
        (17 | 18, External | Internal) => return Discard,
        _ => {}
    }
    let bits = flags & OPTIONAL_TRANSITIVE;
    let Some(row) = find(code, session) else { return unknown(flags) };
    if row.wrong_flags == Good {
        return unknown(flags);
    }
    // An empty AS_PATH is one (RFC 7606 §5.4 excepts it).
    let length_good = len == row.right.len() || (code == 2 && len == 0);
    let by_length = if length_good { Good } else { row.wrong_length };
    let by_flags = if bits == row.flags { Good } else { row.wrong_flags };
    by_length.max(by_flags)
}

/// RFC 7606 §3 c in spirit: a type that is not known cannot be well-known. The Partial and Extended Length bits never are
/// an error.
fn unknown(flags: u8) -> Expected {
    if flags & OPTIONAL == 0 { Withdraw } else { Good }
}

/// The same where the message announces nothing and has other attributes (RFC 7606 §5.2).
pub fn expected_without_routes(code: u8, flags: u8, len: usize, session: Session) -> Expected {
    match expected(code, flags, len, session) {
        Withdraw => Reset,
        other => other,
    }
}

/// Whole attribute lists in hexadecimal, over an eBGP session of four-octet numbers, before the prefix 10.0.0.0/8. `M` stands
/// for the mandatory attributes.
pub const LISTS: &[(&str, &str, Expected)] = &[
    ("nothing wrong", "M", Good),
    ("origin 2", "400101 02 4002 06 0201 0000fde8 400304 c0000201", Good),
    ("origin 3", "400101 03 4002 06 0201 0000fde8 400304 c0000201", Withdraw),
    ("origin 255", "400101 ff 4002 06 0201 0000fde8 400304 c0000201", Withdraw),
    ("origin missing", "4002 06 0201 0000fde8 400304 c0000201", Withdraw),
    ("path missing", "400101 00 400304 c0000201", Withdraw),
    ("next hop missing", "400101 00 4002 06 0201 0000fde8", Withdraw),
    ("all missing", "", Withdraw),
    ("segment of type 5", "400101 00 4002 06 0501 0000fde8 400304 c0000201", Withdraw),
    ("segment of type 0", "400101 00 4002 06 0001 0000fde8 400304 c0000201", Withdraw),
    ("empty segment", "400101 00 4002 08 0201 0000fde8 0200 400304 c0000201", Withdraw),
    ("segment overrun", "400101 00 4002 06 0202 0000fde8 400304 c0000201", Withdraw),
    ("one octet left over", "400101 00 4002 07 0201 0000fde8 02 400304 c0000201", Withdraw),
    ("two segments", "400101 00 4002 0c 0201 0000fde8 0201 00000001 400304 c0000201", Good),
    ("AS 0", "400101 00 4002 0a 0202 0000fde8 00000000 400304 c0000201", Withdraw),
    ("AS_SET", "400101 00 4002 0c 0201 0000fde8 0101 00000001 400304 c0000201", Withdraw),
    ("AS_CONFED_SEQUENCE", "400101 00 4002 0c 0301 00000001 0201 0000fde8 400304 c0000201", Withdraw),
    ("AS_CONFED_SET", "400101 00 4002 0c 0401 00000001 0201 0000fde8 400304 c0000201", Withdraw),
    ("another AS first", "400101 00 4002 06 0201 00000007 400304 c0000201", Withdraw),
    ("an empty path, so no AS first", "400101 00 4002 00 400304 c0000201", Withdraw),
    ("MED twice", "M 800404 00000001 800404 00000002", Discard),
    ("MED twice, the second bad", "M 800404 00000001 800403 000002", Discard),
    ("MED twice, the first bad", "M 800403 000001 800404 00000002", Withdraw),
    ("MP_REACH twice", "M 800e0b 0001 01 04c0000201 00 080b 800e0b 0001 01 04c0000201 00 080b", Reset),
    ("MP_UNREACH twice", "M 800f05 0001 01 080c 800f05 0001 01 080c", Reset),
    ("unknown twice", "M c0c800 c0c800", Discard),
    ("aggregator of AS 0", "M c00708 00000000 01020304", Discard),
    ("aggregator of two octets", "M c00706 fde8 01020304", Discard),
    ("AS4_PATH from a new speaker", "M c01106 0201 0000fde8", Discard),
    ("AS4_AGGREGATOR from a new speaker", "M c01208 0000fde8 01020304", Discard),
    ("no communities", "M c00800", Withdraw),
    ("communities of six octets", "M c00806 000100020003", Withdraw),
    ("large community twice", "M c02018 000000010000000200000003 000000010000000200000003", Good),
    ("LOCAL_PREF from outside", "M 400504 00000064", Discard),
    ("one octet left", "M 40", Withdraw),
    ("two octets left", "M 4001", Withdraw),
    ("three octets left with Extended Length", "M 500400", Withdraw),
    ("last attribute overruns", "M 800405 00000001", Withdraw),
    ("last attribute overruns, extended", "M 9004 ffff 00000001", Withdraw),
    ("MP_REACH overruns", "M 800eff 0001", Reset),
    ("MP_REACH of four octets", "M 800e04 00010104", Reset),
    ("MP_REACH, next hop of five octets", "M 800e0b 0001 01 05c000020101 00 08", Reset),
    ("MP_REACH, IPv6 next hop not agreed", "M 800e17 0001 01 1020010db8000000000000000000000001 00 080b", Reset),
    ("MP_REACH, prefix of 33 bits", "M 800e0f 0001 01 04c0000201 00 210b01020304", Reset),
    ("MP_REACH, IPv6 next hop of 4", "M 800e09 0002 01 04c0000201 00", Reset),
    ("MP_UNREACH of two octets", "M 800f02 0001", Reset),
    ("MP_UNREACH, prefix cut off", "M 800f06 0001 01 180b01", Reset),
    ("MP_REACH of a family not known", "M 800e07 4004 47 00 00 0102", Good),
    ("well-known 200", "M 40c800", Withdraw),
    ("type 0, well-known", "M 400000", Withdraw),
    ("flags 0x10 on type 200", "M 10c80000", Withdraw),
    ("a discard and a withdrawal", "M c00701 00 c00800", Withdraw),
];
