//! Rows that ask whether a kind of session comes up and carries routes both ways: there, and gone again.

use super::{Cell, PATIENCE, route, wanted};
use crate::bed::{LINK_LOCAL, ROUTER, SPEAKER, Wires};
use crate::capture::Capture;
use crate::daemon::{Kind, Router, Seen};
use crate::herald::Herald;
use crate::rig::{Outcome, wait_until};
use crate::session::{Ask, Dials, Family, Session};
use std::thread;
use std::time::{Duration, Instant};

/// The session comes up, both services are there, one is deleted and goes, and comes again.
fn carries(cell: Cell<'_>, session: &Session) -> Outcome {
    carries_and(cell, session, |_, _| Ok(()))
}

/// The same, and then something more.
fn carries_and(cell: Cell<'_>, session: &Session, more: impl FnOnce(&dyn Router, &Herald<'_>) -> Outcome) -> Outcome {
    let bed = cell.bed(session)?;
    let (router, herald) = cell.start(&bed, session)?;
    cell.settled(session, &*router, &herald, &[1, 2])?;
    bed.delete(2)?;
    cell.settled(session, &*router, &herald, &[1])?;
    bed.service(3)?;
    cell.settled(session, &*router, &herald, &[1, 3])?;
    more(&*router, &herald)
}

/// What a route must look like at the router.
pub fn shows(router: &dyn Router, session: &Session, attributes: &[Seen]) -> Outcome {
    for family in &session.families {
        let text = router.route(route(1, *family))?;
        for attribute in attributes {
            let looks = router.looks(attribute);
            if !text.contains(&looks) {
                return Err(format!("{attribute:?} of {family:?} should look like {looks:?} in {text}"));
            }
        }
    }
    Ok(())
}

pub fn ebgp(cell: Cell<'_>) -> Outcome {
    let session = Session::default();
    carries_and(cell, &session, |router, _| shows(router, &session, &[Seen::AsPath(vec![session.ours])]))
}

pub fn ibgp(cell: Cell<'_>) -> Outcome {
    let session = Session { theirs: crate::session::OUR_ASN, ..Session::default() };
    carries_and(cell, &session, |router, _| shows(router, &session, &[Seen::LocalPref(100)]))
}

pub fn v4(cell: Cell<'_>) -> Outcome {
    carries(cell, &Session { families: vec![Family::V4], ..Session::default() })
}

pub fn v6(cell: Cell<'_>) -> Outcome {
    carries(cell, &Session { over: Family::V6, families: vec![Family::V6], ..Session::default() })
}

/// Both families on one session over IPv6; the row `ebgp` has them over IPv4.
pub fn both(cell: Cell<'_>) -> Outcome {
    carries(cell, &Session { over: Family::V6, ..Session::default() })
}

/// A link without IPv4: IPv4 routes have an IPv6 next hop.
pub fn rfc8950(cell: Cell<'_>) -> Outcome {
    let session = Session { wires: Wires::SixOnly, over: Family::V6, ..Session::asking(&[Ask::ExtendedNextHop]) };
    carries(cell, &session)
}

/// With the same key the session is up; a router with another key hears nothing.
pub fn md5(cell: Cell<'_>) -> Outcome {
    let dials = if cell.kind.signs_what_it_accepts() { Dials::Herald } else { Dials::Router };
    let with = |key| Session { dials, ..Session::asking(&[Ask::Password(key)]) };
    let session = with("correct-horse");
    does_not_come_up(cell, &with("another"), &session)?;
    carries(cell, &session)
}

/// Both ends guard themselves, whoever dials; a router that sends with a TTL of 1, as over one hop, is not heard.
pub fn gtsm(cell: Cell<'_>) -> Outcome {
    let session = Session::asking(&[Ask::TtlSecurity]);
    does_not_come_up(cell, &Session::default(), &session)?;
    if cell.kind.guards_what_it_accepts() {
        carries(cell, &session)?;
    }
    let dialled = Session { dials: Dials::Router, ..session };
    does_not_come_up(cell, &Session { dials: Dials::Router, ..Session::default() }, &dialled)?;
    carries(cell, &dialled)
}

/// What the router is told does not fit what herald is told: herald has no session, and the router no route.
fn does_not_come_up(cell: Cell<'_>, router: &Session, herald: &Session) -> Outcome {
    let bed = cell.bed(herald)?;
    let router = cell.places.start(cell.kind, cell.rig, &bed, router)?;
    let herald = Herald::start(cell.rig, &bed, &herald.yaml())?;
    wait_until(PATIENCE, "herald to begin with its peer", || herald.peer())?;
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        let (peer, table) = (herald.peer()?, super::ours(router.table()?));
        if peer["establishedCount"] != 0 || !table.is_empty() {
            return Err(format!("a session came up that must not: {peer}, {table:?}"));
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

pub fn passive(cell: Cell<'_>) -> Outcome {
    carries(cell, &Session { dials: Dials::Router, ..Session::default() })
}

/// herald takes every router of a block, with a key for all of it.
pub fn our_range(cell: Cell<'_>) -> Outcome {
    let asks = [Ask::OurRange, Ask::Password("for-the-block")];
    carries_and(cell, &Session { dials: Dials::Router, ..Session::asking(&asks) }, |_, herald| {
        let name = format!("router/{}", ROUTER[0]);
        let peer = herald.peer()?;
        if peer["name"] == name.as_str() { Ok(()) } else { Err(format!("the peer is not called {name}: {peer}")) }
    })
}

/// The router takes every speaker of a block.
pub fn their_range(cell: Cell<'_>) -> Outcome {
    carries(cell, &Session::asking(&[Ask::RouterRange]))
}

/// Each end is at its link-local address. Of the two halves of an IPv6 next hop (RFC 2545 §3) FRR uses the link-local one, BIRD
/// the global one.
pub fn link_local(cell: Cell<'_>) -> Outcome {
    // FRR 10 resolves link-local next hops only on connections that it opened (its issue 14818); 8.4 opens none here.
    let dials = if cell.kind == Kind::Frr10 { Dials::Router } else { Dials::Herald };
    let session = Session { over: Family::V6, dials, ..Session::asking(&[Ask::LinkLocal(cell.number)]) };
    let bed = cell.bed(&session)?;
    let (router, herald) = cell.start(&bed, &session)?;
    for services in [&[1, 2][..], &[1], &[1, 3]] {
        let right = wait_until(PATIENCE, "the routes", || {
            let (state, mut has) = (router.state()?, super::ours(router.table()?));
            for hops in has.values_mut() {
                if hops.remove(&LINK_LOCAL[1]) {
                    hops.insert(SPEAKER[1]);
                }
            }
            let want = wanted(&session, services);
            if has == want { Ok(()) } else { Err(format!("{state}; {has:?}, wanted {want:?}")) }
        });
        right.map_err(|what| format!("{what}\nherald:\n{}", herald.log_end()))?;
        match services.len() {
            1 => bed.service(3)?,
            _ if services.contains(&2) => bed.delete(2)?,
            _ => {}
        }
    }
    Ok(())
}

/// herald's AS needs four octets and the router knows only two: it sees AS_TRANS, and the real path in AS4_PATH.
pub fn two_octet_as(cell: Cell<'_>) -> Outcome {
    // Without capabilities FRR takes IPv4 only.
    let families = vec![Family::V4];
    let session = Session { ours: 4_200_000_001, families, ..Session::asking(&[Ask::TwoOctetAs]) };
    let bed = cell.bed(&session)?;
    let capture = Capture::begin(cell.rig, &bed)?;
    let (router, herald) = cell.start(&bed, &session)?;
    cell.settled(&session, &*router, &herald, &[1, 2])?;
    // AS4_PATH (RFC 6793 §3): optional, transitive, 17, six octets; a sequence of one.
    let as4_path = [&[0xc0, 17, 6, 2, 1][..], &session.ours.to_be_bytes()].concat();
    let says = |octets: &[u8]| octets.windows(as4_path.len()).any(|window| window == as4_path);
    wait_until(PATIENCE, "an UPDATE with AS4_PATH on the wire", || {
        let messages = capture.messages()?;
        if messages.iter().any(|message| says(&message.body)) { Ok(()) } else { Err(format!("{messages:?}")) }
    })?;
    shows(&*router, &session, &[Seen::AsPath(vec![if cell.kind.merges_as4_path() { session.ours } else { 23456 }])])
}

/// A hold time of three seconds is kept, and when herald says nothing more the routes go within it.
pub fn hold_3(cell: Cell<'_>) -> Outcome {
    let session = Session { hold: 3, ..Session::default() };
    carries_and(cell, &session, |router, herald| {
        let begin = herald.peer()?["session"]["since"].clone();
        // Two hold times in which nothing shall happen.
        thread::sleep(Duration::from_secs(7));
        let peer = herald.peer()?;
        if peer["session"]["since"] != begin || peer["session"]["holdTimeSeconds"] != 3 {
            return Err(format!("the session did not last, or its hold time is not 3 s: {peer}"));
        }
        herald.freeze()?;
        let (_, took) = wait_until(PATIENCE, "the routes to go", || {
            if super::ours(router.table()?).is_empty() { Ok(()) } else { Err("they are there".to_owned()) }
        })?;
        println!("  {} {:.1} s after the last word", cell.kind.name(), took.as_secs_f64());
        if took <= Duration::from_secs(6) { Ok(()) } else { Err(format!("the routes went after {took:?}")) }
    })
}

/// Routes of five octets each: above what a standard message holds.
const MANY: u32 = 1000;

/// More routes than one standard message holds arrive, in messages above 4096 octets.
pub fn extended_messages(cell: Cell<'_>) -> Outcome {
    let session = Session { families: vec![Family::V4], ..Session::asking(&[Ask::ExtendedMessages]) };
    let bed = cell.bed(&session)?;
    bed.many(MANY)?;
    let capture = Capture::begin(cell.rig, &bed)?;
    let (router, herald) = cell.start(&bed, &session)?;
    let want = MANY as usize + wanted(&session, &[1, 2]).len();
    wait_until(PATIENCE, "every route", || {
        let table = router.table()?;
        let has = table.keys().filter(|prefix| prefix.is_ipv4() && prefix.prefix() == 32).count();
        if has == want { Ok(()) } else { Err(format!("{has} routes\n{}", herald.log_end())) }
    })?;
    let (longest, _) = wait_until(PATIENCE, "a message above 4096 octets on the wire", || {
        let longest = capture.messages()?.iter().map(|message| message.length).max().unwrap_or_default();
        if longest > 4096 { Ok(longest) } else { Err(format!("{longest} octets")) }
    })?;
    println!("  {} longest message {longest} octets", cell.kind.name());
    Ok(())
}
