//! A session, the events that can be thrown at it, and a clock that the test moves.

use herald::fsm::{Event, MessageSize, Opening, Output, SendHoldTime, Session, Terms, Violation};
use herald::wire::{Asn, Capability, Family, Notification, Open, RouterId};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

pub fn terms(hold_time: Duration) -> Terms {
    Terms {
        asn: Asn(64512),
        router_id: RouterId::new(Ipv4Addr::new(10, 0, 0, 1)).unwrap(),
        peer_asn: Asn(64513),
        hold_time,
        families: [Family::IPV4_UNICAST, Family::IPV6_UNICAST].into(),
        opening: Opening::Active,
        delay_open: Duration::ZERO,
        send_hold_time: SendHoldTime::Recommended,
        graceful_restart: None,
        message_size: MessageSize::Standard,
        role: None,
    }
}

/// The peer's OPEN: one that fits the terms.
pub fn open(hold_time: u16) -> Open {
    Open {
        my_as: 64513,
        hold_time,
        router_id: RouterId::new(Ipv4Addr::new(10, 0, 0, 2)).unwrap(),
        capabilities: vec![Capability::Multiprotocol(Family::IPV4_UNICAST)],
    }
}

/// Event `number`, with what it carries; `None` is a ROUTE-REFRESH.
pub fn event(number: Option<u8>) -> Event {
    let violation = |code, subcode, data: &'static [u8]| Violation {
        notification: Notification { code, subcode, data: data.into() },
        reason: "made up".to_owned(),
    };
    let Some(number) = number else { return Event::RouteRefreshMsg(Family::IPV4_UNICAST) };
    match number {
        1 => Event::ManualStart,
        2 => Event::ManualStop(Notification::bare(6, 2)),
        3 => Event::AutomaticStart,
        4 => Event::ManualStartPassive,
        5 => Event::AutomaticStartPassive,
        6 => Event::AutomaticStartDamped,
        7 => Event::AutomaticStartDampedPassive,
        8 => Event::AutomaticStop(Notification::bare(6, 8)),
        9 => Event::ConnectRetryTimerExpires,
        10 => Event::HoldTimerExpires,
        11 => Event::KeepaliveTimerExpires,
        12 => Event::DelayOpenTimerExpires,
        13 => Event::IdleHoldTimerExpires,
        14 => Event::TcpConnectionValid,
        15 => Event::TcpCrInvalid,
        16 => Event::TcpCrAcked,
        17 => Event::TcpConnectionConfirmed,
        18 => Event::TcpConnectionFails(Some("made up".to_owned())),
        19 => Event::BgpOpen(open(180)),
        20 => Event::BgpOpenWithDelayOpenTimerRunning(open(180)),
        21 => Event::BgpHeaderErr(violation(1, 2, &[0, 19])),
        22 => Event::BgpOpenMsgErr(violation(2, 4, &[])),
        23 => Event::OpenCollisionDump,
        24 => Event::NotifMsgVerErr(Notification::bare(2, 1)),
        25 => Event::NotifMsg(Notification::bare(6, 4)),
        26 => Event::KeepAliveMsg,
        27 => Event::UpdateMsg,
        28 => Event::UpdateMsgErr(violation(3, 1, &[])),
        29 => Event::SendHoldTimerExpires,
        _ => panic!("there is no event {number}"),
    }
}

/// A session with its clock.
pub struct Rig {
    pub session: Session,
    pub now: Instant,
}

impl Rig {
    pub fn new(hold_time: Duration, seed: u64) -> Self {
        Self::with(terms(hold_time), seed)
    }

    pub fn with(terms: Terms, seed: u64) -> Self {
        Self { session: Session::new(terms, seed), now: Instant::now() }
    }

    pub fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    pub fn throw(&mut self, event: Event) -> Vec<Output> {
        assert_eq!(event.number().is_none(), matches!(event, Event::RouteRefreshMsg(_)));
        self.session.handle(event, self.now);
        self.outputs()
    }

    pub fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.session.poll_output()).collect()
    }

    /// Moves the clock to the next deadline and lets it expire.
    pub fn expire(&mut self) -> Vec<Output> {
        let (at, _) = self.session.poll_timeout().expect("a running session has a deadline");
        self.now = self.now.max(at);
        self.session.handle_timeout(self.now);
        self.outputs()
    }
}
