//! One story: the driver, the wires, the script.

use crate::chance::Chance;
use crate::model::{Setting, Table, draw_plan};
use crate::network::Pipe;
use crate::router::{Drop, Router, Stage};
use crate::told::Told;
use bytes::BytesMut;
use herald::peer::settings::RestartState;
use herald::peer::{
    CloseHow, ConnId, EndOfRib, Identity, Input, LocalEnd, Neighbor, Output, Peer, Phase, Plan, Settings, Stop,
};
use herald::wire::{AsPath, Attribute, Family, Message, Notification, Origin, RouterId, Update};
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    Silent,
    Aloud,
}

#[derive(Debug, Clone)]
enum Step {
    Plan,
    Stick(Duration),
    Cut,
    HalfOpen,
    Refresh,
    Complain,
    Garbage,
    Announce,
    Unreachable(Duration),
}

/// The driver's side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Socket {
    /// The dial ends then, in a connection or not.
    Dialing(Instant),
    Open,
    /// Writes what is left, then shuts down.
    Flushing,
    Gone,
}

struct Conn {
    socket: Socket,
    out: BytesMut,
    unread: BytesMut,
    to_router: Pipe,
    to_peer: Pipe,
    router: Router,
    /// When each end learns that the connection is over.
    peer_end: Option<Instant>,
    router_end: Option<Instant>,
    /// What the router must hold when it has all End-of-RIBs.
    promised: Option<Table>,
}

impl Conn {
    /// The driver closes: the router learns of it behind what is under way, unless the wire is cut.
    fn shut(&mut self, now: Instant) {
        self.socket = Socket::Gone;
        if !self.to_router.is_cut() {
            self.router_end.get_or_insert(self.to_router.end_at(now));
        }
    }
}

struct World {
    setting: Setting,
    chance: Chance,
    now: Instant,
    start: Instant,
    peer: Peer,
    conns: BTreeMap<ConnId, Conn>,
    plan: Option<Plan>,
    script: VecDeque<(Instant, Step)>,
    stuck_until: Instant,
    unreachable_until: Instant,
    told: Told,
    /// What the router was told at the end of each connection, and how many routes it had then.
    farewells: BTreeMap<ConnId, (Notification, usize)>,
    voice: Voice,
}

/// Tells one story and checks its end.
pub fn run(seed: u64, voice: Voice) -> Told {
    let mut world = World::new(seed, voice);
    world.feed(Input::Start);
    while let Some((at, step)) = world.script.pop_front() {
        world.advance(at);
        world.step(&step);
    }
    world.settle();
    world.check_table();
    world.stop();
    world.told
}

impl World {
    fn new(seed: u64, voice: Voice) -> Self {
        let mut chance = Chance::new(seed);
        let setting = Setting::draw(&mut chance);
        let now = Instant::now();
        let settings = Settings {
            identity: Identity { asn: setting.our_asn, router_id: RouterId::new(Ipv4Addr::new(10, 0, 0, 1)).unwrap() },
            restart_state: RestartState::default(),
            neighbor: Neighbor {
                hold_time: Duration::from_secs(setting.our_hold.into()),
                families: setting.our_families.clone(),
                ..Neighbor::new("router".into(), Ipv4Addr::new(192, 0, 2, 254).into(), setting.router_asn)
            },
        };
        let mut world = Self {
            peer: Peer::new(settings, chance.draw(), now),
            script: VecDeque::new(),
            conns: BTreeMap::new(),
            plan: None,
            stuck_until: now,
            unreachable_until: now,
            told: Told::default(),
            farewells: BTreeMap::new(),
            start: now,
            setting,
            chance,
            now,
            voice,
        };
        world.write_script();
        if voice == Voice::Aloud {
            println!("{:#?}", world.setting);
        }
        world
    }

    fn write_script(&mut self) {
        let mut at = self.now;
        let steps = 3 + self.chance.below(25);
        let mut failures = 0;
        for n in 0..steps {
            // Bursts, and now and then a long pause.
            let pause = self.chance.pick(&[0, 0, 3, 20, 20, 200, 1000, 9000]);
            at += Duration::from_millis(self.chance.below(pause + 1) as u64);
            let step = match self.chance.below(20) {
                0 | 1 => Step::Stick(Duration::from_millis(self.chance.pick(&[20, 20, 100, 500, 4000, 20_000]))),
                2 => Step::Cut,
                3 if self.setting.hold() > 0 => Step::HalfOpen,
                4 | 5 => Step::Refresh,
                6 => Step::Complain,
                7 => Step::Garbage,
                8 => Step::Announce,
                9 => Step::Unreachable(Duration::from_secs(3)),
                _ => Step::Plan,
            };
            let fails =
                matches!(step, Step::Cut | Step::HalfOpen | Step::Complain | Step::Garbage | Step::Unreachable(_));
            failures += usize::from(fails);
            // Back-off doubles: a handful of failures is a story, twenty are an hour.
            self.script.push_back((at, if fails && failures > 4 { Step::Plan } else { step }));
            // The hardest moment for the books: another plan while the answer to a refresh is half out.
            if matches!(self.script.back(), Some((_, Step::Refresh))) && self.chance.once_in(2) {
                for (millis, step) in [(30, Step::Stick(Duration::from_millis(60))), (40, Step::Plan)] {
                    at += Duration::from_millis(self.chance.below(millis) as u64);
                    self.script.push_back((at, step));
                }
            }
            if n == 0 && self.chance.once_in(2) {
                at += Duration::from_secs(2);
            }
        }
        self.script.push_back((at + Duration::from_millis(1), Step::Plan));
    }

    fn say(&self, text: impl FnOnce() -> String) {
        if self.voice == Voice::Aloud {
            println!("{:>10.3} {}", (self.now - self.start).as_secs_f64(), text());
        }
    }

    // === time ===

    fn next(&self) -> Option<Instant> {
        let conns = self.conns.values().flat_map(|conn| {
            let dial = if let Socket::Dialing(at) = conn.socket { Some(at) } else { None };
            let writing = !conn.out.is_empty() && matches!(conn.socket, Socket::Open | Socket::Flushing);
            let writable = writing.then_some(self.stuck_until);
            let ends = [conn.peer_end, conn.router_end];
            [dial, writable, conn.to_router.next(), conn.to_peer.next(), conn.router.next()].into_iter().chain(ends)
        });
        conns.flatten().chain(self.peer.poll_timeout()).min()
    }

    /// Lives until `until`.
    fn advance(&mut self, until: Instant) {
        while let Some(at) = self.next().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.tick();
        }
        self.now = self.now.max(until);
    }

    fn tick(&mut self) {
        if self.peer.poll_timeout().is_some_and(|at| at <= self.now) {
            self.feed(Input::Timeout);
            assert!(self.peer.poll_timeout().is_none_or(|at| at > self.now), "a deadline that has come stays");
        }
        let ids: Vec<ConnId> = self.conns.keys().copied().collect();
        for id in ids {
            self.tick_dial(id);
            self.tick_router(id);
            self.tick_peer(id);
            self.pump(id);
        }
        let farewells = &mut self.farewells;
        self.conns.retain(|id, conn| {
            let alive = conn.socket != Socket::Gone || conn.router.stage != Stage::Closed || conn.router_end.is_some();
            if !alive {
                farewells.extend(conn.router.told.take().map(|told| (*id, (told, conn.router.table.len()))));
            }
            alive
        });
    }

    fn tick_dial(&mut self, id: ConnId) {
        let conn = &self.conns[&id];
        let Socket::Dialing(at) = conn.socket else { return };
        if at > self.now {
            return;
        }
        if self.unreachable_until > self.now {
            self.conn(id).socket = Socket::Gone;
            self.conn(id).router.stage = Stage::Closed;
            self.feed(Input::ConnectFailed(id, "connection refused".to_owned()));
            return;
        }
        self.conn(id).socket = Socket::Open;
        self.conn(id).router = Router::new(&self.setting, self.now);
        let end = LocalEnd {
            local: SocketAddr::new(self.setting.local, 40_000 + id.0 as u16),
            remote: "192.0.2.254:179".parse().unwrap(),
            interface: self.setting.interface.clone(),
            unfit: Vec::new(),
        };
        self.feed(Input::Connected(id, end));
    }

    fn tick_router(&mut self, id: ConnId) {
        let now = self.now;
        let conn = self.conns.get_mut(&id).expect("listed");
        let mut taken = 0;
        while let Some(octets) = conn.to_router.arrived(now) {
            conn.router.receive(&octets, now);
            taken += octets.len();
        }
        let acknowledges = taken > 0 && conn.socket == Socket::Open && !conn.to_peer.is_cut();
        conn.router.tick(now);
        let replies = conn.router.replies.split();
        conn.to_peer.send(&replies, now, &mut self.chance);
        if conn.router_end.is_some_and(|at| at <= now) && conn.to_router.is_empty() {
            conn.router_end = None;
            conn.router.stage = Stage::Closed;
        }
        let tells = conn.router.stage == Stage::Closed && !conn.to_peer.is_cut();
        if tells && conn.peer_end.is_none() && matches!(conn.socket, Socket::Open | Socket::Flushing) {
            conn.peer_end = Some(conn.to_peer.end_at(now));
        }
        self.check_end_of_rib(id);
        if acknowledges {
            self.feed(Input::Acknowledged(id));
        }
    }

    fn tick_peer(&mut self, id: ConnId) {
        while let Some(octets) = self.conns.get_mut(&id).and_then(|conn| conn.to_peer.arrived(self.now)) {
            let conn = self.conn(id);
            conn.unread.extend_from_slice(&octets);
            if conn.socket == Socket::Open {
                let mut unread = std::mem::take(&mut conn.unread);
                self.feed(Input::Received(id, &mut unread));
                self.conn(id).unread = unread;
            }
        }
        let over = self.conns[&id].peer_end.is_some_and(|at| at <= self.now) && self.conns[&id].to_peer.is_empty();
        if over {
            let error = self.chance.once_in(2).then(|| "connection reset by peer".to_owned());
            let conn = self.conn(id);
            conn.peer_end = None;
            let reported = conn.socket == Socket::Open || conn.socket == Socket::Flushing;
            conn.socket = Socket::Gone;
            if reported {
                self.feed(Input::Closed(id, error));
            }
        }
    }

    // === the driver ===

    fn conn(&mut self, id: ConnId) -> &mut Conn {
        self.conns.get_mut(&id).expect("the connection exists")
    }

    fn feed(&mut self, input: Input<'_>) {
        self.say(|| {
            let text = format!("{input:?}");
            text.chars().take(160).collect()
        });
        let phase = self.peer.status().phase.name();
        self.peer.handle(input, self.now);
        while let Some(output) = self.peer.poll_output() {
            self.say(|| format!("    {output:?}"));
            match output {
                Output::Connect(id) => self.dial(id),
                Output::Close(id, how) => self.close(id, how),
            }
        }
        let after = self.peer.status().phase.name();
        if phase != after {
            self.say(|| {
                format!("    {phase} -> {after} {:?}", self.peer.status().last_down.as_ref().map(|(_, why)| why))
            });
            self.told.sessions += u64::from(after == "Established");
        }
        let ids: Vec<ConnId> = self.conns.keys().copied().collect();
        for id in ids {
            self.pump(id);
        }
    }

    fn dial(&mut self, id: ConnId) {
        let at = self.now + Duration::from_millis(self.chance.below(300) as u64);
        let conn = Conn {
            socket: Socket::Dialing(at),
            out: BytesMut::new(),
            unread: BytesMut::new(),
            to_router: Pipe::default(),
            to_peer: Pipe::default(),
            router: Router::new(&self.setting, self.now),
            peer_end: None,
            router_end: None,
            promised: None,
        };
        assert!(self.conns.insert(id, conn).is_none(), "a connection id came twice");
    }

    fn close(&mut self, id: ConnId, how: CloseHow) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        match (conn.socket, how) {
            (Socket::Open, CloseHow::AfterFlush) => conn.socket = Socket::Flushing,
            (Socket::Dialing(_), _) => {
                conn.socket = Socket::Gone;
                conn.router.stage = Stage::Closed;
            }
            (Socket::Open | Socket::Flushing | Socket::Gone, _) => {
                conn.shut(now);
            }
        }
    }

    /// Writes while the socket takes it: a piece at a time, asking for more only when the last piece is out.
    fn pump(&mut self, id: ConnId) {
        let limit = self.setting.limit;
        let stuck = self.stuck_until > self.now;
        loop {
            let conn = self.conns.get_mut(&id).expect("listed");
            if !matches!(conn.socket, Socket::Open | Socket::Flushing) {
                return;
            }
            if conn.out.is_empty() {
                let had_sent = has_sent_end_of_rib(&self.peer);
                self.peer.transmit(id, &mut conn.out, limit, self.now);
                assert!(conn.out.len() < limit + 4096, "the output buffer is not bounded");
                self.note_end_of_rib(id, had_sent);
            }
            let conn = self.conns.get_mut(&id).expect("listed");
            if conn.out.is_empty() {
                if conn.socket == Socket::Flushing {
                    conn.shut(self.now);
                }
                return;
            }
            if stuck {
                return;
            }
            let taken = conn.out.split_to(1 + self.chance.below(conn.out.len()));
            conn.to_router.send(&taken, self.now, &mut self.chance);
        }
    }

    /// When the peer says that it sent End-of-RIB, the router must hold that very plan once it arrives.
    fn note_end_of_rib(&mut self, id: ConnId, had_sent: bool) {
        if has_sent_end_of_rib(&self.peer) && !had_sent {
            let plan = self.plan.as_ref().expect("End-of-RIB without a plan");
            let table = self.setting.table(plan);
            self.conn(id).promised = Some(table);
        }
        if self.plan.is_none() {
            assert_eq!(self.peer.status().sent.get("UPDATE"), None, "an UPDATE without a plan");
        }
    }

    fn check_end_of_rib(&mut self, id: ConnId) {
        let conn = self.conns.get_mut(&id).expect("listed");
        let Some(seen) = conn.router.at_end_of_rib.take() else { return };
        let promised = conn.promised.take().expect("End-of-RIB came and the peer does not say that it sent it");
        if conn.router.dropped == 0 {
            self.setting.assert_holds(&seen, &promised, "at End-of-RIB");
            self.told.end_of_rib_checked += 1;
        }
    }

    // === the script ===

    /// The connection that the router takes for the session.
    fn live(&mut self) -> Option<ConnId> {
        self.conns.iter().rev().find(|(_, conn)| conn.router.stage == Stage::Up).map(|(id, _)| *id)
    }

    fn step(&mut self, step: &Step) {
        self.say(|| format!("--- {step:?}"));
        match step {
            Step::Plan => {
                let plan = draw_plan(self.plan.as_ref(), &self.setting, &mut self.chance);
                self.plan = Some(plan.clone());
                self.told.plans += 1;
                self.feed(Input::Plan(plan));
            }
            Step::Stick(time) => {
                self.stuck_until = self.stuck_until.max(self.now + *time);
                self.told.stuck += 1;
            }
            Step::Unreachable(time) => self.unreachable_until = self.now + *time,
            Step::Cut | Step::HalfOpen => self.cut(step),
            Step::Refresh => {
                if let Some(id) = self.live() {
                    let drop = self.chance.pick(&[Drop::First, Drop::Nothing]);
                    let family = self.chance.pick(&[Family::IPV4_UNICAST, Family::IPV6_UNICAST]);
                    self.conn(id).router.refresh(family, drop);
                    self.told.refreshes += 1;
                    self.tick_router(id);
                }
            }
            Step::Complain => {
                if let Some(id) = self.live() {
                    let complaint = self.chance.pick(&[(6, 4), (6, 6), (2, 1), (4, 0)]);
                    self.conn(id).router.complain(Notification::bare(complaint.0, complaint.1));
                    self.told.complaints += 1;
                    self.tick_router(id);
                }
            }
            Step::Garbage => {
                if let Some(id) = self.live() {
                    let garbage: Vec<u8> = (0..40).map(|_| self.chance.draw() as u8).collect();
                    self.conn(id).router.replies.extend_from_slice(&garbage);
                    self.told.garbage += 1;
                    self.tick_router(id);
                }
            }
            Step::Announce => {
                if let Some(id) = self.live() {
                    self.announce(id);
                    self.tick_router(id);
                }
            }
        }
    }

    /// The router has routes of its own; they are no business of ours.
    fn announce(&mut self, id: ConnId) {
        let update = Update {
            nlri: vec!["203.0.113.0/24".parse().unwrap()],
            attributes: vec![
                Attribute::Origin(Origin::Igp),
                Attribute::AsPath(AsPath::sequence([self.setting.router_asn])),
                Attribute::NextHop(Ipv4Addr::new(192, 0, 2, 254)),
            ],
            ..Update::default()
        };
        self.conn(id).router.say(&Message::Update(update));
    }

    fn cut(&mut self, step: &Step) {
        let Some(id) = self.conns.iter().rev().find(|(_, c)| c.socket == Socket::Open).map(|(id, _)| *id) else {
            return;
        };
        let now = self.now;
        let conn = self.conns.get_mut(&id).expect("listed");
        conn.to_router.cut(&mut self.chance);
        conn.to_peer.cut(&mut self.chance);
        let (peer_end, router_end) = (conn.to_peer.end_at(now), conn.to_router.end_at(now));
        let whole = matches!(step, Step::Cut);
        let deaf = self.chance.below(3);
        if whole || deaf == 0 {
            conn.peer_end = Some(peer_end);
        }
        if whole || deaf == 1 {
            conn.router_end = Some(router_end);
        }
        self.told.cuts += u64::from(whole);
        self.told.half_open += u64::from(!whole);
    }

    // === the end ===

    fn is_quiet(&mut self) -> Option<ConnId> {
        let (id, conn) = self.conns.iter().next_back()?;
        let flows = conn.out.is_empty() && conn.to_router.is_empty() && conn.to_peer.is_empty();
        let up = matches!(self.peer.status().phase, Phase::Established { end_of_rib: EndOfRib::Sent(_), .. });
        let ending = conn.peer_end.is_some() || conn.router_end.is_some() || conn.to_router.is_cut();
        (flows && up && conn.router.stage == Stage::Up && !ending).then_some(*id)
    }

    fn settle(&mut self) {
        let deadline = self.now + Duration::from_secs(1000);
        while self.is_quiet().is_none() {
            assert!(
                self.now < deadline,
                "no quiet session after {:?}: {:?}",
                deadline - self.start,
                self.peer.status()
            );
            let next = self.next().expect("something comes");
            self.advance(next);
        }
    }

    fn check_table(&mut self) {
        let id = self.is_quiet().expect("settled");
        let wanted = self.setting.table(self.plan.as_ref().expect("the script ends with a plan"));
        let conn = &self.conns[&id];
        self.setting.assert_holds(&conn.router.table, &wanted, "when it is quiet");
        self.told.limited += u64::from(conn.router.table.len() < wanted.len());
        self.told.updates += conn.router.updates;
        self.told.with_routes += u64::from(!wanted.is_empty());
        for family in self.setting.families() {
            let held = conn.router.table.keys().filter(|prefix| prefix.family() == family).count();
            assert_eq!(self.peer.status().advertised.get(&family), Some(&held), "advertised, {family}");
        }
    }

    fn stop(&mut self) {
        let (stop, expected) = match self.chance.below(6) {
            0 => (Stop::Shutdown("node goes down".to_owned()), (6, 2)),
            1 => (Stop::Deconfigured, (6, 3)),
            2 => (Stop::ConfigurationChange, (6, 6)),
            _ => return,
        };
        let id = self.is_quiet().expect("settled");
        let emptied = stop == Stop::Deconfigured;
        self.stuck_until = self.now;
        self.feed(Input::Stop(stop));
        self.advance(self.now + Duration::from_secs(40));
        assert!(self.peer.is_finished() && self.peer.poll_timeout().is_none(), "stopped and not finished");
        assert!(!self.conns.contains_key(&id), "the connection was not closed");
        let (told, routes) = self.farewells.remove(&id).expect("the router was told");
        assert_eq!((told.code, told.subcode), expected);
        assert!(routes == 0 || !emptied, "deconfigured, and {routes} routes were left");
        self.told.stopped += 1;
    }
}

fn has_sent_end_of_rib(peer: &Peer) -> bool {
    matches!(peer.status().phase, Phase::Established { end_of_rib: EndOfRib::Sent(_), .. })
}
