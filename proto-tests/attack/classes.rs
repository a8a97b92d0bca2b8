//! The classes of input that brought other speakers down in recent years, each on a live speaker with the answer that the
//! RFCs want. What the table of attributes covers already is not repeated.

use crate::line::{Heard, Line, PATIENCE, fresh};
use crate::octets::{REFRESHES, Told, Who, attribute, header, hex, keepalive, message, update};
use crate::pure::who;
use crate::table::EXTERNAL_ASN;
use crate::verdicts::{Session, find};
use crate::ward::{Bounds, EXTERNAL, INTERNAL, Peak, Ward};
use std::collections::BTreeMap;

/// One input and its answer.
struct Case {
    class: &'static str,
    name: String,
    place: Place,
    octets: Vec<u8>,
    wanted: Wanted,
}

/// Where it is said.
#[derive(Clone, Copy)]
enum Place {
    /// Instead of our OPEN.
    Opening,
    /// In a session of this kind.
    Up(Session),
}

enum Wanted {
    /// A NOTIFICATION with this code and subcode, and these data where they matter.
    Told(u8, u8, Option<Vec<u8>>),
    /// An end without a word.
    Silence,
    /// The OPEN is good.
    Opens,
    /// The session stays; attributes found at fault, and those of them for which routes are treated as withdrawn.
    Stays { faults: u64, withdrawn: u64 },
}

const GOOD: Wanted = Wanted::Stays { faults: 0, withdrawn: 0 };
const UP: Place = Place::Up(Session::External);

/// Tries them all.
pub fn all() -> Result<String, String> {
    let ward = Ward::start("")?;
    let (mut counts, mut peak) = (BTreeMap::new(), Peak::default());
    let lists = [
        open_parameters(),
        capabilities(),
        open_fields(),
        out_of_place(),
        headers(),
        lengths(),
        attributes(),
        orders(),
        no_attributes(),
        refreshes(),
        paths(),
        repetitions(),
        notifications(),
    ];
    for case in lists.into_iter().flatten() {
        let Case { class, name, .. } = &case;
        case.run(&ward).map_err(|what| format!("{class}: {name}: {what}"))?;
        *counts.entry(case.class).or_insert(0) += 1;
        peak.see(&ward);
    }
    Ok(format!("{counts:?}; {}", ward.unharmed(Bounds::default(), peak)?))
}

impl Case {
    fn run(&self, ward: &Ward) -> Result<(), String> {
        let mut line = match self.place {
            Place::Opening => {
                let mut line = Line::dial(fresh(EXTERNAL), ward.speaker)?;
                match line.next(PATIENCE) {
                    Heard::Message(1, _) => line,
                    other => return Err(format!("no OPEN but {other:?}")),
                }
            }
            Place::Up(session) => {
                let block = if matches!(session, Session::External | Session::Old) { EXTERNAL } else { INTERNAL };
                Line::established(fresh(block), ward.speaker, &who(session).with(REFRESHES))?
            }
        };
        line.say(&self.octets)?;
        match &self.wanted {
            Wanted::Told(code, subcode, data) => {
                let told = line.last_words()?;
                let fits = |told: &Told| {
                    (told.code, told.subcode) == (*code, *subcode)
                        && data.as_ref().is_none_or(|data| *data == told.data)
                };
                if told.as_ref().is_some_and(fits) {
                    Ok(())
                } else {
                    Err(format!("told {told:?}, not {code}/{subcode} {data:?}"))
                }
            }
            Wanted::Silence => match line.last_words()? {
                None => Ok(()),
                Some(told) => Err(format!("told {told:?}")),
            },
            Wanted::Opens => match line.next(PATIENCE) {
                Heard::Message(4, _) => Ok(()),
                other => Err(format!("no KEEPALIVE but {other:?}")),
            },
            Wanted::Stays { faults, withdrawn } => self.stays(ward, &mut line, (*faults, *withdrawn)),
        }
    }

    fn stays(&self, ward: &Ward, line: &mut Line, wanted: (u64, u64)) -> Result<(), String> {
        let address = line.stream.local_addr().map_err(|error| error.to_string())?.ip();
        let Place::Up(session) = self.place else { return Err("there is no session that could stay".to_owned()) };
        let range = if matches!(session, Session::External | Session::Old) { "external" } else { "internal" };
        let name = format!("{range}/{address}");
        line.in_step()?;
        let peer = ward.peer(&name);
        let counted = Ward::faults(&peer);
        if peer["state"] != "Established" || counted != wanted {
            return Err(format!("{counted:?} (faults, withdrawn) instead of {wanted:?}: {peer}"));
        }
        line.drain()
    }
}

fn case(class: &'static str, name: impl Into<String>, place: Place, octets: Vec<u8>, wanted: Wanted) -> Case {
    Case { class, name: name.into(), place, octets, wanted }
}

fn told(code: u8, subcode: u8) -> Wanted {
    Wanted::Told(code, subcode, None)
}

/// CVE-2022-40302, -40318, -43681: lists of optional parameters that end too early.
fn open_parameters() -> Vec<Case> {
    let open = |parameters: &[u8]| Who::new(EXTERNAL_ASN, 9).open_with(parameters);
    [
        ("type 255 and nothing else", &[1, 255][..], (2, 0)),
        ("extended, half a length", &[255, 255, 0], (2, 0)),
        ("extended, a length beyond the message", &[255, 255, 0, 9, 2], (2, 0)),
        ("extended, a parameter without its length", &[255, 255, 0, 2, 2, 0], (2, 0)),
        ("extended, a parameter of another type", &[255, 255, 0, 3, 9, 0, 0], (2, 4)),
        ("a length beyond the message", &[5, 2, 1], (2, 0)),
        ("a length short of the message", &[2, 2, 0, 2, 0], (2, 0)),
        ("no length, and parameters", &[0, 2, 0], (2, 0)),
        ("a type without its length", &[1, 2], (2, 0)),
        ("a parameter beyond the list", &[4, 2, 10, 1, 4], (2, 0)),
        ("a second one beyond the list", &[4, 2, 0, 2, 1], (2, 0)),
        ("authentication, long gone", &[2, 1, 0], (2, 4)),
        ("type 0", &[2, 0, 0], (2, 4)),
    ]
    .into_iter()
    .map(|(name, parameters, (code, subcode))| {
        case("optional parameters", name, Place::Opening, open(parameters), told(code, subcode))
    })
    .collect()
}

/// CVE-2022-36440, -2023-31489, -2023-41361, -2025-43971: capabilities whose length is not theirs. Families, refresh and
/// wide AS numbers are terms of the session and must be right; of the others a bad one is none.
fn capabilities() -> Vec<Case> {
    let right: [(u8, &[u8]); 15] = [
        (1, &[0, 1, 0, 1]),
        (2, &[]),
        (65, &[0, 0, 0xfd, 0xe8]),
        (5, &[0, 1, 0, 1, 0, 2]),
        (6, &[]),
        (9, &[3]),
        (64, &[0, 120, 0, 1, 1, 0]),
        (69, &[0, 1, 1, 3]),
        (70, &[]),
        (71, &[0, 1, 1, 0, 0, 0, 9]),
        (73, &[2, b'r', b'1', 1, b'x']),
        (75, &[3, b'f', b'r', b'r']),
        (76, &[0, 1, 1, 0, 9]),
        (128, &[]),
        (255, &[1, 2]),
    ];
    let mut cases = Vec::new();
    for (code, value) in right {
        let strict = matches!(code, 1 | 2 | 65);
        let longer = [value, &[7]].concat();
        for len in [0, value.len().saturating_sub(1), value.len(), value.len() + 1] {
            let capability = [&[code, u8::try_from(len).unwrap()], &longer[..len]].concat();
            let good = len == value.len() || !strict;
            // Ahead of the right ones, so that a reader who oversteps finds something there.
            let mut who = Who::new(EXTERNAL_ASN, 9);
            who.capabilities = [capability.clone(), who.capabilities].concat();
            let wanted = if good { Wanted::Opens } else { told(2, 0) };
            cases.push(case("capabilities", format!("{code} of {len} octets"), Place::Opening, who.open(), wanted));
            let beyond = Who { capabilities: [&[code, 200], &longer[..len]].concat(), ..Who::new(EXTERNAL_ASN, 9) };
            let name = format!("{code} that oversteps its parameter");
            cases.push(case("capabilities", name, Place::Opening, beyond.open(), told(2, 0)));
        }
    }
    let names = [73, 4, 1, b'a', 1, b'b'].repeat(30);
    let twice = Who::new(EXTERNAL_ASN, 9).with(&names);
    cases.push(case("capabilities", "thirty names", Place::Opening, twice.open(), Wanted::Opens));
    let version = [&[75, 200, 255][..], &[b'x'; 199]].concat();
    let version = Who::new(EXTERNAL_ASN, 9).with(&version);
    cases.push(case("capabilities", "a version that oversteps", Place::Opening, version.open(), Wanted::Opens));
    cases
}

fn open_fields() -> Vec<Case> {
    let open = Who::new(EXTERNAL_ASN, 9).open();
    let changed = |at: usize, with: &[u8]| {
        let mut octets = open.clone();
        octets[at..at + with.len()].copy_from_slice(with);
        octets
    };
    [
        ("version 3", changed(19, &[3]), Wanted::Told(2, 1, Some(vec![0, 4]))),
        ("AS 0", changed(20, &[0, 0]), told(2, 2)),
        ("another AS", Who::new(EXTERNAL_ASN + 1, 9).open(), told(2, 2)),
        ("AS 0 in the capability", Who::old(EXTERNAL_ASN, 9).with(&[65, 4, 0, 0, 0, 0]).open(), told(2, 2)),
        ("a hold time of 1", changed(22, &[0, 1]), told(2, 6)),
        ("a hold time of 2", changed(22, &[0, 2]), told(2, 6)),
        ("identifier 0.0.0.0", changed(24, &[0; 4]), told(2, 3)),
    ]
    .into_iter()
    .map(|(name, octets, wanted)| case("fields of OPEN", name, Place::Opening, octets, wanted))
    .collect()
}

/// Messages where they do not belong (RFC 6608), and the CAPABILITY message (CVE-2022-37032, -2024-31949).
fn out_of_place() -> Vec<Case> {
    let dynamic = message(6, &[0x80, 0, 0, 1, 1, 0, 4, 0, 1, 0, 1]);
    let told = |code, subcode, data: u8| Wanted::Told(code, subcode, Some(vec![data]));
    let class = "messages out of place";
    vec![
        case(class, "KEEPALIVE first", Place::Opening, keepalive(), told(5, 1, 4)),
        case(class, "UPDATE first", Place::Opening, update(&[], &[], &[]), told(5, 1, 2)),
        case(class, "ROUTE-REFRESH first", Place::Opening, message(5, &[0, 1, 0, 1]), told(5, 1, 5)),
        case(class, "NOTIFICATION first", Place::Opening, message(3, &[6, 5]), Wanted::Silence),
        case(class, "a second OPEN", UP, Who::new(EXTERNAL_ASN, 9).open(), told(5, 3, 1)),
        case(class, "CAPABILITY first", Place::Opening, dynamic.clone(), told(1, 3, 6)),
        case(class, "CAPABILITY", UP, dynamic.clone(), told(1, 3, 6)),
        case(class, "a thousand of them", UP, dynamic.repeat(1000), told(1, 3, 6)),
        case(class, "type 0", UP, message(0, &[]), told(1, 3, 0)),
        case(class, "type 255", UP, message(255, &[1; 90]), told(1, 3, 255)),
        case(
            class,
            "not BGP at all",
            Place::Opening,
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            Wanted::Told(1, 1, Some(vec![])),
        ),
    ]
}

/// CVE-2026-37462 and FRR's of 4096 octets: a header that promises what cannot be.
fn headers() -> Vec<Case> {
    let mut cases = Vec::new();
    for (kind, lens) in [
        (1, &[0, 1, 18, 19, 28, 4097, 65_535][..]),
        (2, &[0, 18, 19, 22, 4097, 65_535]),
        (3, &[0, 18, 19, 20, 4097, 65_535]),
        (4, &[0, 18, 20, 23, 4096, 65_535]),
        (5, &[0, 18, 19, 22, 4097, 65_535]),
    ] {
        for len in lens {
            for place in [Place::Opening, UP] {
                let wanted = Wanted::Told(1, 2, Some(u16::to_be_bytes(*len).to_vec()));
                let name = format!("type {kind}, length {len}");
                cases.push(case("header lengths", name, place, header(*len, kind, &[]), wanted));
            }
        }
    }
    for at in 0..16 {
        let mut octets = keepalive();
        octets[at] = 0xfe;
        let place = if at % 2 == 0 { Place::Opening } else { UP };
        cases.push(case("markers", format!("octet {at}"), place, octets, Wanted::Told(1, 1, Some(vec![]))));
    }
    let longest = update(&[], &mandatory(), &[24, 10, 0, 0].repeat((4096 - 23 - mandatory().len()) / 4));
    cases.push(case("header lengths", format!("an UPDATE of {}", longest.len()), UP, longest, GOOD));
    cases
}

/// ORIGIN, AS_PATH and NEXT_HOP.
fn mandatory() -> Vec<u8> {
    hex("40010100 400206 0201 0000fde8 400304 c0000201")
}

/// Lengths inside an UPDATE, and prefixes.
fn lengths() -> Vec<Case> {
    let good = update(&[], &mandatory(), &[8, 10]);
    let at = |at: usize, value: u16| {
        let mut octets = good.clone();
        octets[at..at + 2].copy_from_slice(&value.to_be_bytes());
        octets
    };
    let rest = u16::try_from(good.len() - 23).unwrap();
    let mut cases = Vec::new();
    for len in [rest + 1, rest + 3, 4096, 32_767, 32_768, 65_532, 65_535] {
        cases.push(case("UPDATE lengths", format!("withdrawn length {len}"), UP, at(19, len), told(3, 1)));
        cases.push(case("UPDATE lengths", format!("attribute length {len}"), UP, at(21, len), told(3, 1)));
    }
    for bits in [33, 34, 64, 128, 255] {
        let prefix = [&[bits][..], &[1; 32]].concat();
        for octets in [update(&prefix, &[], &[]), update(&[], &mandatory(), &prefix)] {
            cases.push(case("prefixes", format!("/{bits}"), UP, octets, told(3, 10)));
        }
    }
    for bits in 1..=32u8 {
        let cut = [&[bits][..], &vec![1; usize::from(bits).div_ceil(8) - 1]].concat();
        for octets in [update(&cut, &[], &[]), update(&[], &mandatory(), &cut)] {
            cases.push(case("prefixes", format!("/{bits} cut off"), UP, octets, told(3, 10)));
        }
    }
    cases
}

/// CVE-2026-30405, -41642, -37461 and those in attributes that are better not known.
fn attributes() -> Vec<Case> {
    let with = |name: String, attributes: Vec<u8>, wanted| {
        case("attributes", name, UP, update(&[], &attributes, &[8, 10]), wanted)
    };
    let withdraws = || Wanted::Stays { faults: 1, withdrawn: 1 };
    let mut cases = Vec::new();
    for len in (0..=5).chain([16]) {
        let attributes = [hex("40010100 400206 0201 0000fde8"), attribute(0x40, 3, &[9; 16][..len])].concat();
        cases.push(with(format!("NEXT_HOP of {len}"), attributes, if len == 4 { GOOD } else { withdraws() }));
    }
    for flags in [0x40, 0x00, 0x10, 0x50] {
        let attributes = [mandatory(), attribute(flags, 200, &[])].concat();
        cases.push(with(format!("type 200, flags {flags:#x}"), attributes, withdraws()));
    }
    for (code, unit) in [(16, 8), (25, 20), (8, 4), (32, 12)] {
        for len in 0..=40 {
            let attributes = [mandatory(), attribute(0xc0, code, &vec![7; len])].concat();
            let good = len > 0 && len % unit == 0;
            cases.push(with(format!("type {code} of {len}"), attributes, if good { GOOD } else { withdraws() }));
        }
    }
    // PMSI_TUNNEL, TUNNEL_ENCAPSULATION, AIGP, BGP-LS, next hop capabilities, PREFIX_SID, ATTR_SET: unknown here.
    for code in [22, 23, 26, 29, 39, 40, 128] {
        let nested: [&[u8]; 6] = [&[], &[1], &[1, 0], &[5, 0xff, 0xff, 0], &[1, 0, 7, 0, 0, 0, 0], &[0xff; 200]];
        for value in nested {
            let attributes = [mandatory(), attribute(0xc0, code, value)].concat();
            cases.push(with(format!("type {code}, {value:02x?}"), attributes, GOOD));
        }
    }
    cases
}

/// CVE-2026-41643: AS4_PATH before AS_PATH, and every other order, in one session of each kind.
fn orders() -> Vec<Case> {
    [(Session::External, 3), (Session::Internal, 2), (Session::Old, 1), (Session::OldInternal, 0)]
        .into_iter()
        .map(|(session, faults)| {
            let right = |code: u8| {
                let row = find(code, session).expect("a known type");
                attribute(row.flags, code, row.right)
            };
            let parts = [1, 2, 3, 5, 14, 17, 18].map(right);
            let mut octets = Vec::new();
            let mut count = 0;
            permute(&mut [0, 1, 2, 3, 4, 5, 6], 0, &mut |order| {
                let attributes: Vec<u8> = order.iter().flat_map(|at| parts[*at].clone()).collect();
                octets.extend(update(&[], &attributes, &[8, 10]));
                count += 1;
            });
            assert_eq!(count, 5040);
            let wanted = Wanted::Stays { faults: faults * count, withdrawn: 0 };
            case("orders of attributes (5040 each)", format!("{session:?}"), Place::Up(session), octets, wanted)
        })
        .collect()
}

fn permute(order: &mut [usize], from: usize, visit: &mut impl FnMut(&[usize])) {
    if from == order.len() {
        return visit(order);
    }
    for at in from..order.len() {
        order.swap(from, at);
        permute(order, from + 1, visit);
        order.swap(from, at);
    }
}

/// CVE-2026-42285, -2023-46752, -46753, -47234, -47235, -41358: prefixes without what they need, withdrawals of what was never
/// there, and what looks like an End-of-RIB.
fn no_attributes() -> Vec<Case> {
    let (reach, unreach) = (hex("800e0b 0001 01 04c0000201 00 080b"), hex("800f05 0001 01 080c"));
    let lacking = || Wanted::Stays { faults: 3, withdrawn: 3 };
    let v6 = hex("800e1a 0002 01 10 20010db8000000000000000000000001 00 20 20010db8");
    [
        ("NLRI and nothing", update(&[], &[], &[8, 10]), lacking()),
        ("NLRI behind MP_REACH", update(&[], &reach, &[8, 10]), lacking()),
        ("NLRI behind MP_UNREACH", update(&[], &unreach, &[8, 10]), lacking()),
        ("NLRI behind an unknown attribute", update(&[], &hex("c0c800"), &[8, 10]), lacking()),
        ("MP_REACH alone", update(&[], &v6, &[]), Wanted::Stays { faults: 2, withdrawn: 2 }),
        ("twice", update(&[], &[], &[8, 10]).repeat(2), Wanted::Stays { faults: 6, withdrawn: 6 }),
        ("a withdrawal of nothing", update(&[8, 10], &[], &[]), GOOD),
        ("withdrawn and announced", update(&[8, 10], &mandatory(), &[8, 10]), GOOD),
        ("withdrawn and badly announced", update(&[8, 10], &[], &[8, 10]), lacking()),
        (
            "End-of-RIB of all families",
            [update(&[], &[], &[]), update(&[], &hex("800f03 0002 01"), &[])].concat(),
            GOOD,
        ),
        ("End-of-RIB of a family not spoken", update(&[], &hex("800f03 4004 47"), &[]), GOOD),
        ("almost End-of-RIB, with flags", update(&[], &hex("c00f03 0002 01"), &[]), told(3, 9)),
        ("almost End-of-RIB, a list of one octet", update(&[], &[0x40], &[]), told(3, 1)),
        ("almost End-of-RIB, an unknown well-known", update(&[], &hex("40c800"), &[]), told(3, 2)),
        ("attributes and no routes", update(&[], &mandatory(), &[]), GOOD),
        ("a bad ORIGIN and no routes", update(&[], &hex("400101 09"), &[]), told(3, 6)),
    ]
    .into_iter()
    .map(|(name, octets, wanted)| case("routes without attributes", name, UP, octets, wanted))
    .collect()
}

/// CVE-2023-41360 and a storm: ROUTE-REFRESH of every length, with filters, for families of nobody.
fn refreshes() -> Vec<Case> {
    let mut cases = Vec::new();
    for len in 0..=21usize {
        let body = |subtype| [&[0, 1, subtype, 1][..], &[1; 17]].concat()[..len].to_vec();
        let (octets, marked, unknown) = (message(5, &body(0)), message(5, &body(1)), message(5, &body(9)));
        let refused = |octets: &[u8]| Wanted::Told(1, 2, Some(octets[16..18].to_vec()));
        let class = "ROUTE-REFRESH";
        let wanted = if len == 4 { GOOD } else { refused(&octets) };
        cases.push(case(class, format!("a request of {}", 19 + len), UP, octets, wanted));
        let wanted = match len {
            0..4 => refused(&marked),
            4 => GOOD,
            _ => Wanted::Told(7, 1, Some(marked.clone())),
        };
        cases.push(case(class, format!("a mark of {}", 19 + len), UP, marked, wanted));
        let wanted = if len < 4 { refused(&unknown) } else { GOOD };
        cases.push(case(class, format!("an unknown subtype of {}", 19 + len), UP, unknown, wanted));
    }
    let families: Vec<u8> = (0..=255).flat_map(|safi| message(5, &[0x40, 4, 0, safi])).collect();
    cases.push(case("ROUTE-REFRESH", "families of nobody", UP, families, GOOD));
    cases.push(case("ROUTE-REFRESH", "ten thousand", UP, message(5, &[0, 1, 0, 1]).repeat(10_000), GOOD));
    cases
}

/// CVE-2023-44186, -2025-20115: long paths.
fn paths() -> Vec<Case> {
    let segment = |kind: u8, count: u8| [&[kind, count][..], &hex("0000fde8").repeat(count.into())].concat();
    let with = |name: &str, flags: u8, path: &[u8], wanted| {
        let attributes = [hex("40010100 400304 c0000201"), attribute(flags, 2, path)].concat();
        case("long paths", name, UP, update(&[], &attributes, &[8, 10]), wanted)
    };
    let withdraws = || Wanted::Stays { faults: 1, withdrawn: 1 };
    vec![
        with("62 numbers, short length", 0x40, &segment(2, 62), GOOD),
        with("255 numbers", 0x50, &segment(2, 255), GOOD),
        with("256 numbers", 0x50, &[segment(2, 255), segment(2, 1)].concat(), GOOD),
        with("1000 numbers", 0x50, &segment(2, 250).repeat(4), GOOD),
        with("600 segments of one", 0x50, &segment(2, 1).repeat(600), GOOD),
        with("a confederation of 255", 0x50, &segment(3, 255), withdraws()),
        with("a set of 255", 0x50, &segment(1, 255), withdraws()),
        with("a count beyond the attribute", 0x50, &segment(2, 255)[..500], withdraws()),
        with("255 empty segments", 0x50, &[2, 0].repeat(255), withdraws()),
        with("an odd end", 0x50, &[segment(2, 255), vec![2]].concat(), withdraws()),
    ]
}

/// Duplicates that leaked, and as many faults as one message holds.
fn repetitions() -> Vec<Case> {
    let med = [mandatory(), hex("800404 00000001").repeat(500)].concat();
    let tiny = [mandatory(), hex("c0c800").repeat(1300)].concat();
    let broken = [mandatory(), hex("40c800").repeat(1300)].concat();
    let class = "repetitions";
    vec![
        case(
            class,
            "500 MEDs",
            UP,
            update(&[], &med, &[8, 10]).repeat(200),
            Wanted::Stays { faults: 499 * 200, withdrawn: 0 },
        ),
        case(
            class,
            "1300 unknown",
            UP,
            update(&[], &tiny, &[8, 10]).repeat(200),
            Wanted::Stays { faults: 1299 * 200, withdrawn: 0 },
        ),
        case(
            class,
            "1300 bad",
            UP,
            update(&[], &broken, &[8, 10]).repeat(200),
            Wanted::Stays { faults: 1300 * 200, withdrawn: 200 },
        ),
    ]
}

/// RFC 9003 texts that are none; nothing is answered (RFC 4271 §6.4).
fn notifications() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let texts: [&[u8]; 7] = [&[], &[0], &[255], &[5, b'a'], b"\x04\xff\xfe\x00\x1b", b"\x06a\nb\rc\x07", &[b'x'; 4000]];
    for text in texts {
        for subcode in [2, 4, 9, 10, 255] {
            let octets = message(3, &[&[6, subcode], text].concat());
            cases.push(case(
                "NOTIFICATION texts",
                format!("6/{subcode} {} octets", text.len()),
                UP,
                octets,
                Wanted::Silence,
            ));
        }
    }
    for code in [0, 1, 2, 3, 4, 5, 7, 8, 9, 255] {
        cases.push(case("NOTIFICATION texts", format!("code {code}"), UP, message(3, &[code, 77]), Wanted::Silence));
    }
    cases
}
