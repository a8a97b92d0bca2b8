//! Messages by hand, octet by octet: nothing of the codec under test is used here.

/// What a router says of itself.
#[derive(Debug, Clone)]
pub struct Who {
    pub asn: u16,
    /// Seconds.
    pub hold: u16,
    /// Capabilities as they stand in the OPEN, one after the other.
    pub capabilities: Vec<u8>,
}

/// Both unicast families (RFC 4760 §8).
pub const FAMILIES: &[u8] = &[1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1];
/// Extended messages (RFC 8654 §3).
pub const LONG_MESSAGES: &[u8] = &[6, 0];
/// Enhanced route refresh (RFC 7313 §3.1), with the plain one (RFC 2918 §2).
pub const REFRESHES: &[u8] = &[2, 0, 70, 0];

impl Who {
    /// A speaker with both families and four-octet AS numbers (RFC 6793 §3).
    pub fn new(asn: u16, hold: u16) -> Self {
        let mut who = Self::old(asn, hold);
        who.capabilities.extend([65, 4, 0, 0]);
        who.capabilities.extend(asn.to_be_bytes());
        who
    }

    /// One that knows AS numbers of two octets only.
    pub fn old(asn: u16, hold: u16) -> Self {
        Self { asn, hold, capabilities: FAMILIES.to_vec() }
    }

    pub fn with(mut self, capabilities: &[u8]) -> Self {
        self.capabilities.extend(capabilities);
        self
    }

    /// The OPEN.
    pub fn open(&self) -> Vec<u8> {
        let len = u8::try_from(self.capabilities.len()).expect("a few capabilities");
        self.open_with(&[&[len + 2, 2, len], &self.capabilities[..]].concat())
    }

    /// An OPEN with these octets for its optional parameters, their length included.
    pub fn open_with(&self, parameters: &[u8]) -> Vec<u8> {
        let fixed = [&[4][..], &self.asn.to_be_bytes(), &self.hold.to_be_bytes(), &[192, 0, 2, 200]].concat();
        message(1, &[&fixed, parameters].concat())
    }
}

/// A message with a right header.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    header(u16::try_from(19 + body.len()).expect("a message"), kind, body)
}

/// A message that says it has this length.
pub fn header(len: u16, kind: u8, body: &[u8]) -> Vec<u8> {
    [&[0xff; 16][..], &len.to_be_bytes(), &[kind], body].concat()
}

pub fn keepalive() -> Vec<u8> {
    message(4, &[])
}

/// An UPDATE with these three parts.
pub fn update(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let len = |part: &[u8]| u16::try_from(part.len()).expect("a part of a message").to_be_bytes();
    message(2, &[&len(withdrawn), withdrawn, &len(attributes), attributes, nlri].concat())
}

/// One attribute; its length field is as long as the flags say.
pub fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len()).expect("an attribute").to_be_bytes();
    let len = if flags & 0x10 == 0 { &len[1..] } else { &len[..] };
    [&[flags, code], len, value].concat()
}

/// Digits of hexadecimal, whatever stands between them.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// What a NOTIFICATION says.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    pub code: u8,
    pub subcode: u8,
    pub data: Vec<u8>,
}

impl Told {
    /// From the body of one.
    pub fn read(body: &[u8]) -> Self {
        Self { code: body[0], subcode: body[1], data: body[2..].to_vec() }
    }
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} {:02x?}", self.code, self.subcode, self.data)
    }
}
