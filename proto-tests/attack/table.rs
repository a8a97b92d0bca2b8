//! What an attribute leads to in a session: the verdicts of RFC 7606, and of a reset the NOTIFICATION (RFC 4271 §6.3, RFC 4760
//! §7). Written by hand; like `verdicts`, it uses nothing of the program.

use crate::octets::{Told, attribute};
use crate::verdicts::{Expected, Session, expected, expected_without_routes, find};

/// The AS of the external routers here: what their paths must begin with.
pub const EXTERNAL_ASN: u16 = 65_000;

/// Every kind of session.
pub const SESSIONS: [Session; 4] = [Session::External, Session::Internal, Session::Old, Session::OldInternal];

/// What the attribute under attack stands beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// A prefix, 10.0.0.0/8, and what that needs.
    Route,
    /// The same attributes, and no prefix in the body.
    Nothing,
}

/// One attribute under attack.
#[derive(Debug, Clone)]
pub struct Shot {
    pub session: Session,
    pub beside: Beside,
    pub code: u8,
    pub flags: u8,
    pub value: Vec<u8>,
}

/// Lengths 0, right, right - 1 and right + 1; of a type without a right one 0, 1, 2 and 3.
pub fn values(code: u8, session: Session) -> Vec<Vec<u8>> {
    let Some(row) = find(code, session) else { return (0..4).map(|len| vec![0xff; len]).collect() };
    let longer = [row.right, &[0xff]].concat();
    let mut lens = vec![0, row.right.len().saturating_sub(1), row.right.len(), row.right.len() + 1];
    lens.dedup();
    lens.into_iter().map(|len| longer[..len].to_vec()).collect()
}

/// 256 types, 256 flags octets, four lengths; ATOMIC_AGGREGATE has only two, since none is the right one, and ORIGIN three.
pub const SHOTS: usize = 256 * (256 * 4 - 3);

/// All of one type.
pub fn shots(session: Session, beside: Beside, code: u8) -> impl Iterator<Item = Shot> {
    let values = values(code, session).into_iter();
    values
        .flat_map(move |value| (0..=255).map(move |flags| Shot { session, beside, code, flags, value: value.clone() }))
}

/// Whether the type is one that is judged; the others are whatever their flags say.
pub fn is_known(code: u8, session: Session) -> bool {
    find(code, session).is_some() && ![26, 40, 128].contains(&code)
}

impl Shot {
    /// The whole UPDATE.
    pub fn octets(&self) -> Vec<u8> {
        let needed: &[u8] = match self.session {
            Session::Internal | Session::OldInternal => &[1, 2, 3, 5],
            Session::External | Session::Old => &[1, 2, 3],
        };
        let needed = needed.iter().filter(|code| **code != self.code);
        let needed = needed.flat_map(|code| attribute(0x40, *code, find(*code, self.session).unwrap().right));
        let attributes = [needed.collect(), self.attribute()].concat();
        crate::octets::update(&[], &attributes, if self.beside == Beside::Route { &[8, 10] } else { &[] })
    }

    fn attribute(&self) -> Vec<u8> {
        attribute(self.flags, self.code, &self.value)
    }

    pub fn expected(&self) -> Expected {
        let Self { session, beside, code, flags, ref value } = *self;
        // RFC 4271 §6.3, RFC 7606 §7.2: an external path begins with the peer's AS, and an empty one begins with none. Where nothing
        // is announced, the path is nobody's.
        let external = matches!(session, Session::External | Session::Old);
        if external && code == 2 && value.is_empty() && beside == Beside::Route {
            return Expected::Withdraw;
        }
        match beside {
            Beside::Route => expected(code, flags, value.len(), session),
            Beside::Nothing => expected_without_routes(code, flags, value.len(), session),
        }
    }

    /// The NOTIFICATION of a reset.
    pub fn told(&self) -> Told {
        let told = |subcode, data| Told { code: 3, subcode, data };
        let wanted = find(self.code, self.session).map(|row| row.flags);
        match self.code {
            // RFC 4760 §7: Optional Attribute Error.
            14 | 15 => told(9, self.attribute()),
            _ if !is_known(self.code, self.session) => told(2, self.attribute()),
            _ if wanted != Some(self.flags & 0xc0) => told(4, self.attribute()),
            // Malformed AS_PATH, and no data.
            2 => told(11, vec![]),
            _ => told(5, self.attribute()),
        }
    }

    /// What this shot is an example of, among those of one type: which of its flags and lengths are right.
    pub fn class(&self) -> (u8, usize) {
        let right = find(self.code, self.session).map_or(0, |row| row.flags);
        (self.flags & 0xc0 ^ right, self.value.len())
    }
}

/// Neither table names the program or the rest of its tests: it could agree with itself then.
pub fn knows_nothing_of_the_program() -> Result<String, String> {
    for (name, text) in [("verdicts", include_str!("../wire/verdicts.rs")), ("table", include_str!("table.rs"))] {
        let uses = text.lines().filter(|line| line.trim_start().starts_with("use ") || line.contains("::wire"));
        for line in uses.filter(|line| !line.contains("line.contains")) {
            let known = ["Expected", "Session", "crate::octets", "crate::verdicts"];
            if !known.iter().any(|name| line.contains(name)) {
                return Err(format!("{name}: {line}"));
            }
        }
    }
    let octets = include_str!("octets.rs");
    let uses: Vec<_> = octets.lines().filter(|line| line.trim_start().starts_with("use ")).collect();
    if uses.is_empty() { Ok("no import from src".to_owned()) } else { Err(format!("octets: {uses:?}")) }
}
