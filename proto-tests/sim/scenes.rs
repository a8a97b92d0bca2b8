//! Scenes of one peer, message by message.

use crate::desk::{Desk, FAMILIES, end, open};
use bytes::BytesMut;
use herald::peer::settings::MessageSize;
use herald::peer::status::Consequence;
use herald::peer::{CloseHow, ConnId, EndOfRib, Input, LocalEnd, Output, Phase, Plan, Room, Stop};
use herald::rib::{Bounds, PrefixLimits, RouteSet};
use herald::wire::attribute::MpReach;
use herald::wire::{
    AsPath, AsWidth, Asn, Attribute, Capability, Context, Family, Message, Notification, Open, Origin, Prefix,
    RouteRefresh, Update,
};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

pub fn plan(prefixes: &[&str]) -> Plan {
    let routes: RouteSet = prefixes.iter().map(|text| (text.parse().unwrap(), Arc::default())).collect();
    Plan { routes, bounds: Bounds::everything(), ..Plan::default() }
}

/// What a list of messages says, a word each: prefixes announced or withdrawn (+, -), End-of-RIB, or the message's name.
pub fn words(messages: &[Message]) -> Vec<String> {
    let mut words = Vec::new();
    for message in messages {
        match message {
            Message::Update(update) => match update.end_of_rib() {
                Some(family) => words.push(format!("end {family}")),
                None => {
                    words.extend(update.gone().map(|prefix| format!("-{prefix}")));
                    words.extend(update.announced().map(|(prefix, next_hop)| format!("+{prefix} via {next_hop}")));
                }
            },
            Message::Notification(n) => words.push(format!("{}/{}", n.code, n.subcode)),
            Message::Open(_) => words.push("OPEN".to_owned()),
            Message::Keepalive => words.push("KEEPALIVE".to_owned()),
            Message::RouteRefresh(refresh) => words.push(format!("refresh {} {}", refresh.subtype, refresh.family)),
        }
    }
    words
}

const ENDS: [&str; 2] = ["end ipv4-unicast", "end ipv6-unicast"];

#[test]
fn nothing_is_sent_before_the_first_plan_and_an_empty_plan_ends_the_rib() {
    let mut desk = Desk::established();
    assert_eq!(words(&desk.said()), [""; 0]);
    desk.wait(60);
    assert_eq!(words(&desk.said()), ["KEEPALIVE"]);
    let Phase::Established { end_of_rib: EndOfRib::Pending, .. } = desk.peer.status().phase else { panic!("pending") };
    desk.plan(plan(&[]));
    assert_eq!(words(&desk.said()), ENDS);
    let Phase::Established { end_of_rib: EndOfRib::Sent(at), .. } = desk.peer.status().phase else { panic!("sent") };
    assert_eq!(at, desk.now);
    desk.plan(plan(&["198.51.100.1"]));
    desk.plan(plan(&[]));
    assert_eq!(words(&desk.said()), [""; 0], "what came and went between two writes is not told");
}

#[test]
fn a_plan_from_before_the_session_is_the_first_table() {
    let mut desk = Desk::open_sent();
    desk.plan(plan(&["198.51.100.1", "2001:db8::5"]));
    assert_eq!(words(&desk.said()), ["OPEN"]);
    desk.receive(&[Message::Open(open())]);
    assert_eq!(words(&desk.said()), ["KEEPALIVE"]);
    desk.receive(&[Message::Keepalive]);
    desk.context.families = FAMILIES.into();
    desk.context.as_width = AsWidth::Four;
    let table = ["+198.51.100.1/32 via 192.0.2.1", "+2001:db8::5/128 via 2001:db8::1"];
    assert_eq!(words(&desk.said()), [&table[..], &ENDS].concat());
    assert_eq!(desk.peer.status().advertised.values().copied().collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_refresh_answers_with_everything_and_loses_no_withdrawal() {
    let mut desk = Desk::established();
    desk.plan(plan(&["198.51.100.1", "198.51.100.2", "2001:db8::5"]));
    desk.said();
    desk.plan(plan(&["198.51.100.2", "2001:db8::5"]));
    let refresh = |subtype| Message::RouteRefresh(RouteRefresh { family: Family::IPV4_UNICAST, subtype });
    desk.receive(&[refresh(0), refresh(0)]);
    assert_eq!(words(&desk.said()), ["-198.51.100.1/32", "+198.51.100.2/32 via 192.0.2.1"]);
    // Other subtypes are RFC 7313's and were not offered; other families are none of ours.
    desk.receive(&[refresh(1)]);
    let family = Family { afi: 1, safi: 128 };
    desk.receive(&[Message::RouteRefresh(RouteRefresh { family, subtype: 0 })]);
    assert_eq!(words(&desk.said()), [""; 0]);
}

/// Established with a peer that offers these too.
fn established_offering(offers: &[Capability], change: impl FnOnce(&mut herald::peer::Neighbor)) -> Desk {
    let mut desk = Desk::with(change);
    desk.peer.handle(Input::Start, desk.now);
    desk.expect_dial();
    desk.peer.handle(Input::Connected(desk.conn, end()), desk.now);
    let mut open = open();
    open.capabilities.extend_from_slice(offers);
    desk.receive(&[Message::Open(open), Message::Keepalive]);
    desk.said();
    desk.context = Desk::established().context;
    desk
}

#[test]
fn a_refresh_is_marked_for_a_peer_that_knows_marks_and_waits_for_the_first_table() {
    let mut desk = established_offering(&[Capability::EnhancedRouteRefresh], |_| {});
    let refresh = |family, subtype| Message::RouteRefresh(RouteRefresh { family, subtype });
    desk.receive(&[refresh(Family::IPV4_UNICAST, 0)]);
    assert_eq!(words(&desk.said()), [""; 0], "no mark before a plan");
    desk.plan(plan(&["198.51.100.1", "2001:db8::5"]));
    let first = desk.said();
    assert_eq!(words(&first)[2..4], ENDS);
    let again = [first, desk.said()].concat();
    let (begin, route, end) = ("refresh 1 ipv4-unicast", "+198.51.100.1/32 via 192.0.2.1", "refresh 2 ipv4-unicast");
    assert_eq!(words(&again)[4..], [begin, route, end], "held back, not forgotten");
    // A withdrawal that was not out yet goes in between, and marks of the peer mean nothing to us.
    desk.plan(plan(&["198.51.100.2", "2001:db8::5"]));
    desk.receive(&[
        refresh(Family::IPV4_UNICAST, 0),
        refresh(Family::IPV4_UNICAST, 1),
        refresh(Family::IPV6_UNICAST, 2),
    ]);
    let expected = [begin, "-198.51.100.1/32", "+198.51.100.2/32 via 192.0.2.1", end];
    assert_eq!(words(&desk.said()), expected);
    assert_eq!(desk.sent("ROUTE-REFRESH"), 4);
}

#[test]
fn messages_grow_where_both_sides_offer_it() {
    let routes: Vec<String> = (0..4000u32).map(|n| Ipv4Addr::from_bits(0x0A00_0000 + n).to_string()).collect();
    let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
    for (offers, size, updates) in [
        (&[Capability::ExtendedMessage][..], MessageSize::Extended, 1),
        (&[], MessageSize::Extended, 5),
        (&[Capability::ExtendedMessage], MessageSize::Standard, 5),
    ] {
        let mut desk = established_offering(offers, |neighbor| neighbor.message_size = size);
        desk.context.max_len = if updates == 1 { 65_535 } else { 4096 };
        desk.plan(plan(&routes));
        let said = desk.said();
        assert_eq!(said.len(), updates + 2, "{size:?}");
        assert_eq!(words(&said).len(), 4002);
    }
}

#[test]
fn another_next_hop_of_the_node_moves_its_family_and_none_withdraws_it() {
    let end = LocalEnd { interface: vec!["192.0.2.1".parse().unwrap()], ..end() };
    let mut desk = Desk::established_on(end);
    let routes = plan(&["198.51.100.1", "2001:db8::5"]);
    let at = |address: &str| Plan { node_addresses: vec![address.parse().unwrap()], ..routes.clone() };
    desk.plan(routes.clone());
    let first = ["+198.51.100.1/32 via 192.0.2.1"];
    assert_eq!(words(&desk.said()), [&first[..], &ENDS].concat(), "a family without next hop ends all the same");
    assert!(desk.peer.status().unannounced[&Family::IPV6_UNICAST].contains("InternalIP"));
    desk.plan(at("2001:db8::77"));
    assert_eq!(words(&desk.said()), ["+2001:db8::5/128 via 2001:db8::77"]);
    assert!(desk.peer.status().unannounced.is_empty());
    desk.plan(at("2001:db8::78"));
    assert_eq!(words(&desk.said()), ["+2001:db8::5/128 via 2001:db8::78"]);
    desk.plan(routes);
    assert_eq!(words(&desk.said()), ["-2001:db8::5/128"]);
}

#[test]
fn routes_follow_the_addresses_around_the_session_and_a_family_without_one_is_withdrawn() {
    let located = |desk: &mut Desk, interface: &[&str], unfit: &[&str]| {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let end = LocalEnd { interface: parse(interface), unfit: parse(unfit), ..end() };
        desk.peer.handle(Input::Located(desk.conn, end), desk.now);
        words(&desk.said())
    };
    let mut desk = Desk::established();
    desk.plan(plan(&["198.51.100.1", "2001:db8::5"]));
    desk.said();
    let own = "192.0.2.1";
    assert_eq!(located(&mut desk, &[own, "2001:db8::1", "2001:db8::2"], &[]), [""; 0], "the one in use is still there");
    assert_eq!(located(&mut desk, &[own, "2001:db8::2"], &[]), ["+2001:db8::5/128 via 2001:db8::2"]);
    assert_eq!(located(&mut desk, &[own], &["2001:db8::3"]), ["-2001:db8::5/128"], "one that passes is none");
    let why = &desk.peer.status().unannounced[&Family::IPV6_UNICAST];
    assert!(why.contains("no usable IPv6 address"), "{why}");
    // The Node's own stands in as long as the kernel has it, on whatever interface.
    let own_plan = plan(&["198.51.100.1", "2001:db8::5"]);
    let named = Plan { node_addresses: vec!["2001:db8::77".parse().unwrap()], ..own_plan };
    desk.plan(named.clone());
    assert_eq!(words(&desk.said()), ["+2001:db8::5/128 via 2001:db8::77"]);
    desk.plan(Plan { absent: named.node_addresses.iter().copied().collect(), ..named });
    assert_eq!(words(&desk.said()), ["-2001:db8::5/128"]);
    let why = &desk.peer.status().unannounced[&Family::IPV6_UNICAST];
    assert!(why.contains("no interface of this node has its InternalIP 2001:db8::77"), "{why}");
    assert_eq!(located(&mut desk, &[own, "2001:db8::2"], &[]), ["+2001:db8::5/128 via 2001:db8::2"]);
    assert!(desk.peer.status().unannounced.is_empty());
    assert_eq!(desk.state(), "Established");
    // What comes of a connection that is none is nothing.
    desk.peer.handle(Input::Located(ConnId(99), LocalEnd { interface: vec![], ..end() }), desk.now);
    assert_eq!(words(&desk.said()), [""; 0]);
}

#[test]
fn a_session_whose_own_address_is_gone_is_begun_anew_at_once_but_not_again_and_again() {
    let displaced = |desk: &mut Desk| {
        desk.peer.handle(Input::Displaced(desk.conn, "its source address is gone".to_owned()), desk.now);
        assert_eq!(desk.outputs(), [], "the driver has closed the connection already");
        let wait = desk.peer.poll_timeout().expect("another attempt").saturating_duration_since(desk.now);
        desk.now += wait;
        desk.peer.handle(Input::Timeout, desk.now);
        desk.expect_dial();
        wait
    };
    let established = |desk: &mut Desk| {
        desk.peer.handle(Input::Connected(desk.conn, end()), desk.now);
        desk.context = Context::before_open();
        desk.receive(&[Message::Open(open()), Message::Keepalive]);
        desk.said();
        assert_eq!(desk.state(), "Established");
    };
    let mut desk = Desk::established();
    assert_eq!(displaced(&mut desk), Duration::ZERO);
    assert!(desk.peer.status().last_down.as_ref().unwrap().1.contains("its source address is gone"));
    established(&mut desk);
    desk.now += Duration::from_secs(10);
    let wait = displaced(&mut desk);
    assert!(wait >= Duration::from_millis(1500), "the second within 30 s is waited out: {wait:?}");
    established(&mut desk);
    desk.now += Duration::from_secs(20);
    assert_eq!(displaced(&mut desk), Duration::ZERO, "the first is long enough ago");
    // Before the session too.
    desk.now += Duration::from_secs(40);
    desk.peer.handle(Input::Connected(desk.conn, end()), desk.now);
    assert_eq!(desk.state(), "OpenSent");
    assert_eq!(displaced(&mut desk), Duration::ZERO);
    // Another connection's end leaves the session alone, and hurries nothing.
    let mut desk = Desk::established();
    let guest = desk.accept();
    desk.peer.handle(Input::Displaced(guest, "gone".to_owned()), desk.now);
    assert_eq!((desk.state(), desk.outputs()), ("Established", vec![]));
    // What waits for another reason goes on waiting.
    let mut desk = Desk::established();
    desk.peer.handle(Input::Closed(desk.conn, None), desk.now);
    desk.peer.handle(Input::Displaced(desk.conn, "gone".to_owned()), desk.now);
    assert!(desk.peer.poll_timeout().unwrap() > desk.now);
}

#[test]
fn what_must_never_leave_stays_and_is_named() {
    let mut desk = Desk::established();
    desk.plan(plan(&["0.0.0.0/0", "127.0.0.1", "198.51.100.1"]));
    assert_eq!(words(&desk.said())[..1], ["+198.51.100.1/32 via 192.0.2.1"]);
    assert_eq!(desk.peer.status().barred, ["0.0.0.0/0: a default route", "127.0.0.1/32: loopback"]);
    desk.plan(plan(&["198.51.100.1"]));
    assert_eq!(words(&desk.said()), [""; 0]);
    assert!(desk.peer.status().barred.is_empty());
}

#[test]
fn each_stop_has_its_words() {
    let shutdown = || Stop::Shutdown("maintenance of node-1".to_owned());
    for (stop, expected) in [
        (shutdown(), &["6/2"][..]),
        (Stop::ConfigurationChange, &["6/6"]),
        (Stop::Deconfigured, &["-198.51.100.1/32", "-198.51.100.2/32", "6/3"]),
    ] {
        let mut desk = Desk::established();
        desk.plan(plan(&["198.51.100.1", "198.51.100.2"]));
        desk.said();
        // A change that never went out: the peer holds the old set, and that is what must be withdrawn.
        desk.plan(plan(&["198.51.100.2", "198.51.100.3"]));
        desk.peer.handle(Input::Stop(stop), desk.now);
        assert_eq!(desk.outputs(), [Output::Close(desk.conn, CloseHow::AfterFlush)]);
        assert!(!desk.peer.is_finished(), "the last words are still here");
        assert_eq!(words(&desk.said()), expected);
        assert!(desk.peer.is_finished());
        assert_eq!(desk.peer.poll_timeout(), None);
        assert_eq!(desk.peer.status().phase, Phase::Idle { retry_at: None });
        // Nothing wakes it any more.
        desk.peer.handle(Input::Start, desk.now);
        desk.plan(plan(&[]));
        assert_eq!((desk.outputs().len(), desk.said().len()), (0, 0));
    }
    let mut desk = Desk::established();
    desk.peer.handle(Input::Stop(shutdown()), desk.now);
    let [Message::Notification(told)] = &desk.said()[..] else { panic!("a NOTIFICATION") };
    assert_eq!(told.shutdown_text().as_deref(), Some("maintenance of node-1"));
}

#[test]
fn a_stop_before_a_session_is_short() {
    let mut desk = Desk::at_rest();
    desk.peer.handle(Input::Stop(Stop::Deconfigured), desk.now);
    assert!(desk.peer.is_finished());

    let mut desk = Desk::dialling();
    desk.peer.handle(Input::Stop(Stop::Deconfigured), desk.now);
    assert_eq!(desk.outputs(), [Output::Close(desk.conn, CloseHow::Now)]);
    assert!(desk.peer.is_finished());

    // A connection that falls takes its last words with it.
    let mut desk = Desk::open_sent();
    desk.peer.handle(Input::Stop(Stop::ConfigurationChange), desk.now);
    assert_eq!(desk.outputs(), [Output::Close(desk.conn, CloseHow::AfterFlush)]);
    assert!(!desk.peer.is_finished());
    desk.peer.handle(Input::Closed(desk.conn, None), desk.now);
    assert!(desk.peer.is_finished());
}

#[test]
fn a_keepalive_that_has_not_left_is_not_joined_by_another() {
    let mut desk = Desk::established();
    for _ in 0..4 {
        desk.receive(&[Message::Keepalive]);
        desk.wait(40);
    }
    assert_eq!(words(&desk.said()), ["KEEPALIVE"]);
}

#[test]
fn a_quiet_session_lives_for_ever_and_speaks_three_times_a_hold_time() {
    let mut desk = Desk::established();
    desk.plan(plan(&[]));
    desk.said();
    let begin = desk.now;
    while desk.now < begin + std::time::Duration::from_secs(3600) {
        desk.now = desk.peer.poll_timeout().unwrap();
        desk.peer.handle(Input::Timeout, desk.now);
        desk.receive(&[Message::Keepalive]);
        assert_eq!(words(&desk.said()), ["KEEPALIVE"]);
        desk.acknowledge();
    }
    assert_eq!(desk.peer.status().established_count, 1);
    let spoken = desk.sent("KEEPALIVE") - 1;
    assert!((120..=160).contains(&spoken), "{spoken} in an hour");
}

#[test]
fn without_a_hold_time_silence_is_no_death_and_we_are_silent_too() {
    let mut desk = Desk::open_sent();
    desk.receive(&[Message::Open(Open { hold_time: 0, ..open() }), Message::Keepalive]);
    assert!(matches!(desk.peer.status().phase, Phase::Established { hold_time, .. } if hold_time.is_zero()));
    // The KEEPALIVE that answers an OPEN is the only one (RFC 4271 §4.4).
    assert!(matches!(desk.said()[..], [Message::Open(_), Message::Keepalive]));
    desk.wait(1_000_000);
    assert_eq!(desk.outputs(), []);
    assert_eq!(desk.said(), []);
    assert!(matches!(desk.peer.status().phase, Phase::Established { .. }));
}

#[test]
fn a_silent_peer_is_given_up_after_the_hold_time() {
    let mut desk = Desk::established();
    desk.wait(89);
    assert_eq!(desk.outputs(), []);
    desk.wait(1);
    assert_eq!(desk.outputs(), [Output::Close(desk.conn, CloseHow::AfterFlush)]);
    assert_eq!(words(&desk.said()).last().unwrap(), "4/0");
    let (at, why) = desk.peer.status().last_down.clone().unwrap();
    assert_eq!((at, why.as_str()), (desk.now, "hold timer expired: nothing heard from the peer for 90 s"));
}

/// Whoever drives a peer gives it what has come before it says what time it is: after a standstill both are there at once.
#[test]
fn what_had_come_before_the_deadline_was_looked_at_keeps_the_session() {
    let mut desk = Desk::established();
    desk.now += Duration::from_secs(200);
    desk.receive(&[Message::Keepalive]);
    desk.wait(0);
    assert_eq!(desk.outputs(), []);
    assert_eq!(words(&desk.said()), ["KEEPALIVE"], "the first that is done is to be heard");
    desk.wait(89);
    assert_eq!(desk.outputs(), []);
    desk.wait(1);
    assert_eq!(words(&desk.said()).last().unwrap(), "4/0");
}

#[test]
fn half_a_header_is_no_message_and_keeps_no_session() {
    let mut desk = Desk::established();
    let mut half = BytesMut::from(&[0xff; 10][..]);
    desk.now += Duration::from_secs(89);
    desk.peer.handle(Input::Received(desk.conn, &mut half), desk.now);
    desk.wait(1);
    assert_eq!(desk.outputs(), [Output::Close(desk.conn, CloseHow::AfterFlush)]);
    assert_eq!(words(&desk.said()).last().unwrap(), "4/0");
}

#[test]
fn a_wrong_as_is_told_so_and_tried_again_later() {
    let mut desk = Desk::open_sent();
    desk.receive(&[Message::Open(Open { my_as: 7, capabilities: vec![], ..open() })]);
    assert_eq!(desk.outputs(), [Output::Close(desk.conn, CloseHow::AfterFlush)]);
    assert_eq!(words(&desk.said()), ["OPEN", "2/2"]);
    let status = desk.peer.status();
    assert!(status.last_down.as_ref().unwrap().1.contains("expects AS 64513"), "{status:?}");
    assert_eq!(status.notifications.len(), 1);
    let Phase::Idle { retry_at: Some(at) } = status.phase else { panic!("{:?}", status.phase) };
    desk.now = at;
    desk.peer.handle(Input::Timeout, desk.now);
    let last = desk.conn;
    desk.expect_dial();
    assert_ne!(desk.conn, last, "a connection has its own name");
}

#[test]
fn octets_behind_a_fatal_message_have_no_reader() {
    let mut desk = Desk::established();
    desk.receive(&[Message::Notification(Notification::bare(6, 4)), Message::Open(open()), Message::Keepalive]);
    assert_eq!(desk.outputs(), [Output::Close(desk.conn, CloseHow::Now)]);
    assert_eq!(words(&desk.said()), [""; 0], "a NOTIFICATION is answered by nothing");
    assert_eq!(desk.peer.status().received.get("OPEN"), Some(&1));
}

#[test]
fn connections_that_are_not_ours_are_ignored() {
    let mut desk = Desk::established();
    let stranger = ConnId(99);
    let before = desk.peer.status().clone();
    desk.peer.handle(Input::Connected(stranger, end()), desk.now);
    desk.peer.handle(Input::ConnectFailed(desk.conn, "late".to_owned()), desk.now);
    desk.peer.handle(Input::Closed(stranger, None), desk.now);
    desk.peer.handle(Input::Received(stranger, &mut BytesMut::from(&[0; 19][..])), desk.now);
    let mut out = BytesMut::new();
    desk.plan(plan(&[]));
    desk.peer.transmit(stranger, &mut out, usize::MAX, desk.now);
    assert!(out.is_empty() && desk.outputs().is_empty());
    assert_eq!(desk.peer.status(), &before);
}

#[test]
fn routes_of_the_peer_are_counted_and_discarded_and_faults_survived() {
    let mut desk = Desk::established();
    let path = Attribute::AsPath(AsPath::sequence([Asn(64513)]));
    let v6 = MpReach {
        family: Family::IPV6_UNICAST,
        next_hop: "2001:db8::254".parse().unwrap(),
        link_local: None,
        nlri: vec!["2001:db8:1::/48".parse().unwrap(), "2001:db8:2::/48".parse().unwrap()],
    };
    let attributes = vec![Attribute::MpReach(v6), Attribute::Origin(Origin::Igp), path];
    desk.receive(&[Message::Update(Update { attributes, ..Update::default() })]);
    // Without ORIGIN: the prefix is treated as withdrawn, the session goes on (RFC 7606 §3).
    let hop = Attribute::NextHop("192.0.2.254".parse().unwrap());
    let nlri = vec!["203.0.113.0/24".parse().unwrap()];
    desk.receive(&[Message::Update(Update { attributes: vec![hop], nlri, ..Update::default() })]);
    let status = desk.peer.status();
    assert_eq!((status.discarded, status.phase.name()), (3, "Established"));
    let missing = ("attribute-missing", Consequence::TreatAsWithdraw);
    assert_eq!((&status.malformed, status.incident_count), (&[(missing, 2)].into(), 1), "ORIGIN and AS_PATH");
    let incident = &status.incidents[0];
    assert_eq!((incident.consequence, &*incident.nlri), (Consequence::TreatAsWithdraw, "203.0.113.0/24"));
    assert!(incident.octets.ends_with("18cb0071"), "{}", incident.octets);
}

/// A router that keeps our routes across two sessions (RFC 4724) has the first selection until the second is whole: another
/// one beside it would be too many.
#[test]
fn what_a_limit_lets_through_outlives_the_session() {
    let limited = |prefixes: &[&str]| {
        let limits = PrefixLimits([(Family::IPV4_UNICAST, 3)].into());
        Plan { prefix_limits: limits, ..plan(prefixes) }
    };
    let mut desk = Desk::established();
    desk.plan(limited(&["198.51.100.5", "198.51.100.7", "198.51.100.9"]));
    let chosen = ["+198.51.100.5/32 via 192.0.2.1", "+198.51.100.7/32 via 192.0.2.1"];
    assert_eq!(words(&desk.said()), [&chosen[..], &ENDS].concat());
    desk.plan(limited(&["198.51.100.1", "198.51.100.5", "198.51.100.7", "198.51.100.9"]));
    assert_eq!(words(&desk.said()), [""; 0], "a lower one that came later waits");
    let limit = &desk.peer.status().limits[&Family::IPV4_UNICAST];
    assert_eq!((limit.accepts, limit.most, limit.held_back.len(), limit.room), (3, 2, 2, Room::Full));

    desk.peer.handle(Input::Closed(desk.conn, None), desk.now);
    assert!(desk.peer.status().limits.is_empty());
    desk.wait(2);
    desk.expect_dial();
    desk.context = Context::before_open();
    desk.peer.handle(Input::Connected(desk.conn, end()), desk.now);
    desk.receive(&[Message::Open(open()), Message::Keepalive]);
    desk.context = Context { as_width: AsWidth::Four, families: FAMILIES.into(), ..desk.context };
    assert_eq!(words(&desk.said()), [&["OPEN", "KEEPALIVE"], &chosen[..], &ENDS].concat());
}

#[test]
fn eight_notifications_are_remembered() {
    let mut desk = Desk::open_sent();
    for _ in 0..12 {
        desk.receive(&[Message::Notification(Notification::bare(6, 4))]);
        desk.outputs();
        let Phase::Idle { retry_at: Some(at) } = desk.peer.status().phase else { panic!() };
        desk.now = at;
        desk.peer.handle(Input::Timeout, at);
        desk.expect_dial();
        desk.peer.handle(Input::Connected(desk.conn, end()), at);
    }
    assert_eq!(desk.peer.status().notifications.len(), 8);
    assert!(desk.peer.status().notifications[7].starts_with("received Cease"));
}

#[test]
fn a_family_that_the_peer_did_not_offer_is_not_announced() {
    let mut desk = Desk::open_sent();
    let capabilities = vec![Capability::Multiprotocol(Family::IPV4_UNICAST)];
    desk.receive(&[Message::Open(Open { capabilities, ..open() }), Message::Keepalive]);
    desk.said();
    desk.context.families = [Family::IPV4_UNICAST].into();
    desk.plan(plan(&["198.51.100.1", "2001:db8::5"]));
    assert_eq!(words(&desk.said()), ["+198.51.100.1/32 via 192.0.2.1", "end ipv4-unicast"]);
    let why = &desk.peer.status().unannounced[&Family::IPV6_UNICAST];
    assert_eq!(why, "the peer did not offer ipv6-unicast");
}

#[test]
fn room_is_respected_to_the_message() {
    let mut desk = Desk::established();
    let host = |n: u32| Prefix::host(Ipv4Addr::from_bits(0x0A00_0000 + n).into());
    let routes: RouteSet = (0..6000).map(|n| (host(n), Arc::default())).collect();
    desk.plan(Plan { routes, bounds: Bounds::everything(), ..Plan::default() });
    let mut out = BytesMut::new();
    for limit in [1, 19, 4096, 5000] {
        out.clear();
        desk.peer.transmit(desk.conn, &mut out, limit, desk.now);
        assert!(limit <= out.len() && out.len() < limit + 4096, "{} octets at limit {limit}", out.len());
    }
    // A buffer that is full already gets nothing.
    let full = out.len();
    desk.peer.transmit(desk.conn, &mut out, full, desk.now);
    assert_eq!(out.len(), full);
    desk.said();
    assert_eq!(desk.peer.status().advertised[&Family::IPV4_UNICAST], 6000);
}
