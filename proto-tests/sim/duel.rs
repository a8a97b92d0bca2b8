//! Two of our own peers facing each other, both dialling as a rule: connections collide, are cut, half open; processes die
//! and come back. When all is quiet, both ends have the same one session, and each has heard exactly what the other plans.

use crate::chance::Chance;
use crate::network::Pipe;
use crate::world::Voice;
use bytes::BytesMut;
use herald::peer::settings::{MessageSize, Offer, Opening, RestartState};
use herald::peer::{
    CloseHow, ConnId, EndOfRib, Identity, Input, LocalEnd, Neighbor, Output, Peer, Phase, Plan, Settings, Stop,
};
use herald::rib::Bounds;
use herald::wire::{AsWidth, Asn, Context, Family, Message, PeerKind, Prefix, RouterId, frame};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

const V4: Family = Family::IPV4_UNICAST;

/// What happened, so that a duel in which nothing happens is noticed.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub sessions: u64,
    pub collisions: u64,
    pub accepted: u64,
    pub replaced: u64,
    pub deaths: u64,
    pub cuts: u64,
    pub routes: u64,
    pub longest_wait: Duration,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.sessions += other.sessions;
        self.collisions += other.collisions;
        self.accepted += other.accepted;
        self.replaced += other.replaced;
        self.deaths += other.deaths;
        self.cuts += other.cuts;
        self.routes += other.routes;
        self.longest_wait = self.longest_wait.max(other.longest_wait);
    }

    pub fn assert_rich(&self, seeds: u64) {
        for (what, count) in [
            ("sessions", self.sessions),
            ("routes", self.routes),
            ("deaths", self.deaths * 2),
            ("cuts", self.cuts * 3),
            ("sessions that the peer dialled", self.accepted * 4),
            ("collisions", self.collisions * 4),
            ("replacements", self.replaced * 40),
        ] {
            assert!(count >= seeds, "too little of {what}: {self:?}");
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Plan,
    Cut,
    HalfOpen,
    Unreachable,
    /// The process is killed: the kernel closes its connections.
    Kill,
    /// The machine loses power: nobody is told.
    PowerLoss,
    /// The configuration changes: the old peer says goodbye, a new one begins.
    Reconfigure,
}

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Absent,
    Dialing(ConnId),
    Open(ConnId),
    Flushing(ConnId),
    Gone,
}

/// What one end has heard: its own reading of the octets, independent of the peer under test.
#[derive(Default)]
struct Ear {
    stream: BytesMut,
    table: BTreeSet<Prefix>,
    ends: usize,
}

/// A connection; index 0 and 1 are the ends.
struct Wire {
    dialler: usize,
    ends: [End; 2],
    /// `pipes[i]` carries what end i sends.
    pipes: [Pipe; 2],
    unread: [BytesMut; 2],
    out: [BytesMut; 2],
    ears: [Ear; 2],
    /// When the SYN arrives, then when the dialler hears of its success.
    syn: Option<Instant>,
    confirmed: Option<Instant>,
    /// When an end learns that the other one is gone.
    over: [Option<Instant>; 2],
}

struct Side {
    peer: Peer,
    plan: Option<Plan>,
    seed: u64,
    settings: Settings,
}

pub struct Duel {
    chance: Chance,
    now: Instant,
    start: Instant,
    sides: [Side; 2],
    wires: Vec<Wire>,
    unreachable_until: Instant,
    /// Machines without power do nothing until then.
    dark_until: [Instant; 2],
    context: Context,
    tally: Tally,
    voice: Voice,
}

/// Tells one story and checks its end.
pub fn run(seed: u64, voice: Voice) -> Tally {
    let mut duel = Duel::new(seed, voice);
    for side in [0, 1] {
        duel.plan(side);
        duel.feed(side, Input::Start);
    }
    let steps = 2 + duel.chance.below(8);
    for _ in 0..steps {
        let pause = duel.chance.pick(&[0, 5, 50, 500, 3000, 20_000]);
        let until = duel.now + Duration::from_millis(duel.chance.below(pause + 1) as u64);
        duel.advance(until);
        duel.step();
    }
    duel.settle();
    duel.tally
}

impl Duel {
    fn new(seed: u64, voice: Voice) -> Self {
        let mut chance = Chance::new(seed.wrapping_add(0xD0E1));
        let now = Instant::now();
        let internal = chance.once_in(3);
        let asns = [Asn(64512), if internal { Asn(64512) } else { Asn(64513) }];
        let ids: [u8; 2] =
            if internal { chance.pick(&[[1, 2], [2, 1]]) } else { chance.pick(&[[1, 2], [2, 1], [7, 7]]) };
        let active = [Opening::Active, Opening::Active];
        let one_dials = [[Opening::Active, Opening::Passive], [Opening::Passive, Opening::Active]];
        let openings = chance.pick(&[active, active, active, one_dials[0], one_dials[1]]);
        let hold = chance.pick(&[3, 9, 90]);
        let graceful = [chance.once_in(2), chance.once_in(2)];
        let extended = chance.once_in(2);
        let delay = [chance.pick(&[0, 0, 0, 2]), chance.pick(&[0, 0, 0, 2])];
        let address = |side: usize| IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1 + side as u8));
        let sides = [0, 1].map(|side: usize| {
            let settings = Settings {
                identity: Identity {
                    asn: asns[side],
                    router_id: RouterId::new(Ipv4Addr::new(10, 0, 0, ids[side])).unwrap(),
                },
                restart_state: RestartState::default(),
                neighbor: Neighbor {
                    hold_time: Duration::from_secs(hold),
                    families: [V4].into(),
                    opening: openings[side],
                    delay_open: Duration::from_secs(delay[side]),
                    graceful_restart: graceful[side].then_some(Offer { restart_time: Duration::from_secs(60) }),
                    message_size: if extended { MessageSize::Extended } else { MessageSize::Standard },
                    ..Neighbor::new("other".into(), address(1 - side), asns[1 - side])
                },
            };
            let seed = chance.draw();
            Side { peer: Peer::new(settings.clone(), seed, now), plan: None, seed, settings }
        });
        if voice == Voice::Aloud {
            println!("{:#?}", sides[0].settings);
            println!("{:#?}", sides[1].settings);
        }
        let context = Context {
            as_width: AsWidth::Four,
            peer_kind: if internal { PeerKind::Internal } else { PeerKind::External },
            max_len: 65_535,
            families: [V4].into(),
            ..Context::before_open()
        };
        Self {
            chance,
            now,
            start: now,
            sides,
            wires: Vec::new(),
            unreachable_until: now,
            dark_until: [now; 2],
            context,
            tally: Tally::default(),
            voice,
        }
    }

    fn say(&self, text: impl FnOnce() -> String) {
        if self.voice == Voice::Aloud {
            println!("{:>10.3} {}", (self.now - self.start).as_secs_f64(), text());
        }
    }

    // === time ===

    fn next(&self) -> Option<Instant> {
        let wires = self.wires.iter().flat_map(|wire| {
            let arrives = |end: usize| match wire.ends[end] {
                End::Absent | End::Dialing(_) => None,
                End::Open(_) | End::Flushing(_) | End::Gone => wire.pipes[1 - end].next(),
            };
            let over = |end: usize| match wire.ends[end] {
                // Behind everything that is still under way.
                End::Open(_) | End::Flushing(_) => wire.over[end].filter(|_| wire.pipes[1 - end].is_empty()),
                End::Absent | End::Dialing(_) | End::Gone => None,
            };
            [wire.syn, wire.confirmed, arrives(0), arrives(1), over(0), over(1)]
        });
        let peers = [0, 1].map(|side| {
            let dark = self.dark_until[side];
            self.sides[side].peer.poll_timeout().map(|at| if dark > self.now { at.max(dark) } else { at })
        });
        wires.flatten().chain(peers.into_iter().flatten()).min()
    }

    fn advance(&mut self, until: Instant) {
        let mut steps = 0;
        while let Some(at) = self.next().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.tick();
            steps += 1;
            assert!(steps < 200_000, "time stands still: {:?}", self.sides.each_ref().map(|side| side.peer.status()));
        }
        self.now = self.now.max(until);
    }

    fn tick(&mut self) {
        for side in [0, 1] {
            if self.sides[side].peer.poll_timeout().is_some_and(|at| at <= self.now)
                && self.dark_until[side] <= self.now
            {
                self.feed(side, Input::Timeout);
            }
        }
        for index in 0..self.wires.len() {
            self.tick_dial(index);
            for end in [0, 1] {
                self.tick_end(index, end);
            }
        }
    }

    fn tick_dial(&mut self, index: usize) {
        let now = self.now;
        let dialler = self.wires[index].dialler;
        if self.wires[index].syn.is_some_and(|at| at <= now) {
            self.wires[index].syn = None;
            if self.unreachable_until > now || self.dark_until[1 - dialler] > now {
                if let End::Dialing(id) = self.wires[index].ends[dialler] {
                    self.wires[index].ends = [End::Gone; 2];
                    self.feed(dialler, Input::ConnectFailed(id, "connection refused".to_owned()));
                }
                return;
            }
            self.wires[index].confirmed = Some(now + Duration::from_millis(self.chance.below(30) as u64));
            let end = local_end(index, 1 - dialler);
            match self.sides[1 - dialler].peer.accept(end, now) {
                Some(id) => {
                    self.wires[index].ends[1 - dialler] = End::Open(id);
                    self.say(|| format!("{} accepts {index}", 1 - dialler));
                }
                None => {
                    self.wires[index].ends[1 - dialler] = End::Gone;
                    self.wires[index].over[dialler] = Some(now);
                }
            }
            self.obey(1 - dialler);
        }
        if self.wires[index].confirmed.is_some_and(|at| at <= now) {
            self.wires[index].confirmed = None;
            match self.wires[index].ends[dialler] {
                End::Dialing(id) => {
                    self.wires[index].ends[dialler] = End::Open(id);
                    self.feed(dialler, Input::Connected(id, local_end(index, dialler)));
                }
                // Given up meanwhile: the other end is told.
                End::Absent | End::Open(_) | End::Flushing(_) | End::Gone => {
                    self.wires[index].over[1 - dialler].get_or_insert(now);
                }
            }
        }
    }

    fn tick_end(&mut self, index: usize, end: usize) {
        let now = self.now;
        loop {
            let wire = &mut self.wires[index];
            if matches!(wire.ends[end], End::Absent | End::Dialing(_)) {
                return;
            }
            let Some(octets) = wire.pipes[1 - end].arrived(now) else { break };
            match wire.ends[end] {
                End::Open(id) => {
                    wire.ears[end].hear(&octets, &self.context);
                    wire.unread[end].extend_from_slice(&octets);
                    let mut unread = std::mem::take(&mut wire.unread[end]);
                    self.feed(end, Input::Received(id, &mut unread));
                    self.wires[index].unread[end] = unread;
                    if let End::Open(other) = self.wires[index].ends[1 - end]
                        && !self.wires[index].pipes[end].is_cut()
                    {
                        self.feed(1 - end, Input::Acknowledged(other));
                    }
                }
                End::Flushing(_) => {}
                // A reset comes back for what nobody takes.
                End::Gone if !wire.pipes[end].is_cut() => {
                    wire.over[1 - end].get_or_insert(now);
                }
                End::Gone | End::Absent | End::Dialing(_) => {}
            }
        }
        let wire = &mut self.wires[index];
        if wire.over[end].is_some_and(|at| at <= now)
            && wire.pipes[1 - end].is_empty()
            && let End::Open(id) | End::Flushing(id) = wire.ends[end]
        {
            wire.ends[end] = End::Gone;
            self.say(|| format!("{end} sees the end of {index}"));
            self.feed(end, Input::Closed(id, None));
        }
    }

    // === the driver ===

    fn feed(&mut self, side: usize, input: Input<'_>) {
        let before = self.sides[side].peer.status().clone();
        self.say(|| format!("{side}: {}", format!("{input:?}").chars().take(90).collect::<String>()));
        self.sides[side].peer.handle(input, self.now);
        self.obey(side);
        let after = self.sides[side].peer.status();
        self.tally.sessions += after.established_count - before.established_count;
        self.tally.collisions += after.collisions - before.collisions;
        let replaced = |status: &herald::peer::Status| {
            status.last_down.as_ref().filter(|(_, why)| why.contains("restarted gracefully")).cloned()
        };
        self.tally.replaced += u64::from(replaced(after).is_some() && replaced(after) != replaced(&before));
        if before.phase.name() != after.phase.name() {
            let (to, why) = (after.phase.name(), after.last_down.clone().map(|(_, why)| why));
            self.say(|| format!("    {side}: {} -> {to} {why:?}", before.phase.name()));
            if to == "Established" {
                let wire = wire_of(&after.phase).expect("an Established session has a connection");
                self.tally.accepted += u64::from(self.wires[wire].dialler != side);
            }
        }
    }

    fn obey(&mut self, side: usize) {
        while let Some(output) = self.sides[side].peer.poll_output() {
            self.say(|| format!("    {side}: {output:?}"));
            match output {
                Output::Connect(id) => self.dial(side, id),
                Output::Close(id, how) => self.close(side, id, how),
            }
        }
        for index in 0..self.wires.len() {
            self.pump(index, side);
        }
    }

    fn dial(&mut self, side: usize, id: ConnId) {
        let mut ends = [End::Absent; 2];
        ends[side] = End::Dialing(id);
        self.wires.push(Wire {
            dialler: side,
            ends,
            pipes: Default::default(),
            unread: Default::default(),
            out: Default::default(),
            ears: Default::default(),
            syn: Some(self.now.max(self.dark_until[side]) + Duration::from_millis(self.chance.below(60) as u64)),
            confirmed: None,
            over: [None; 2],
        });
    }

    fn close(&mut self, side: usize, id: ConnId, how: CloseHow) {
        let Some(index) = self.wires.iter().rposition(|wire| wire.ends[side].id() == Some(id)) else { return };
        match (self.wires[index].ends[side], how) {
            (End::Open(_), CloseHow::AfterFlush) => {
                self.wires[index].ends[side] = End::Flushing(id);
                self.pump(index, side);
            }
            (End::Dialing(_), _) => self.wires[index].ends[side] = End::Gone,
            (End::Open(_) | End::Flushing(_) | End::Absent | End::Gone, _) => self.shut(index, side),
        }
    }

    fn shut(&mut self, index: usize, side: usize) {
        let now = self.now;
        let wire = &mut self.wires[index];
        wire.ends[side] = End::Gone;
        if !wire.pipes[side].is_cut() {
            wire.over[1 - side].get_or_insert(wire.pipes[side].end_at(now));
        }
    }

    fn pump(&mut self, index: usize, side: usize) {
        let id = match self.wires[index].ends[side] {
            End::Open(id) | End::Flushing(id) => id,
            End::Absent | End::Dialing(_) | End::Gone => return,
        };
        loop {
            let wire = &mut self.wires[index];
            self.sides[side].peer.transmit(id, &mut wire.out[side], 3000, self.now);
            if wire.out[side].is_empty() {
                break;
            }
            let octets = wire.out[side].split();
            wire.pipes[side].send(&octets, self.now, &mut self.chance);
        }
        if matches!(self.wires[index].ends[side], End::Flushing(_)) {
            self.shut(index, side);
        }
    }

    // === the script ===

    fn step(&mut self) {
        use Step::{Cut, HalfOpen, Kill, Plan, PowerLoss, Reconfigure, Unreachable};
        let step =
            self.chance.pick(&[Plan, Plan, Plan, Cut, Cut, HalfOpen, Unreachable, Kill, Kill, PowerLoss, Reconfigure]);
        let side = self.chance.below(2);
        self.say(|| format!("--- {step:?} {side}"));
        match step {
            Plan => self.plan(side),
            Cut | HalfOpen => self.cut(step),
            Unreachable => self.unreachable_until = self.now + Duration::from_secs(3),
            Kill => self.die(side, Step::Kill),
            PowerLoss => self.die(side, Step::PowerLoss),
            Reconfigure => {
                self.feed(side, Input::Stop(Stop::ConfigurationChange));
                self.begin_anew(side);
            }
        }
    }

    fn plan(&mut self, side: usize) {
        let mut plan = self.sides[side].plan.clone().unwrap_or_default();
        plan.bounds = Bounds::everything();
        for _ in 0..self.chance.below(30) {
            let last = self.chance.below(200) as u8;
            let prefix = Prefix::host(Ipv4Addr::new(198, 51, 100 + side as u8, last).into());
            match self.chance.once_in(3) {
                true => plan.routes.remove(&prefix),
                false => plan.routes.insert(prefix, Default::default()),
            };
        }
        self.sides[side].plan = Some(plan.clone());
        self.feed(side, Input::Plan(plan));
    }

    fn cut(&mut self, step: Step) {
        let open = |wire: &Wire| wire.ends.iter().all(|end| matches!(end, End::Open(_)));
        let Some(index) = self.wires.iter().rposition(open) else { return };
        self.tally.cuts += 1;
        let now = self.now;
        let deaf = self.chance.below(3);
        let wire = &mut self.wires[index];
        wire.pipes.iter_mut().for_each(|pipe| pipe.cut(&mut self.chance));
        for end in [0, 1] {
            if matches!(step, Step::Cut) || deaf != end {
                wire.over[end] = Some(wire.pipes[1 - end].end_at(now));
            }
        }
    }

    fn die(&mut self, side: usize, how: Step) {
        self.tally.deaths += 1;
        for index in 0..self.wires.len() {
            if self.wires[index].ends[side] == End::Gone {
                continue;
            }
            if matches!(how, Step::PowerLoss) {
                let wire = &mut self.wires[index];
                wire.pipes.iter_mut().for_each(|pipe| pipe.cut(&mut self.chance));
            }
            self.shut(index, side);
        }
        let pause = self.chance.pick(&[0, 300, 5000]);
        if matches!(how, Step::PowerLoss) {
            self.dark_until[side] = self.now + Duration::from_millis(pause);
        }
        self.begin_anew(side);
    }

    /// A new peer takes the place of the old one, which is gone without a trace or has said what it had to say.
    fn begin_anew(&mut self, side: usize) {
        let Side { settings, seed, plan, .. } = &mut self.sides[side];
        *seed = seed.wrapping_add(1);
        let (peer, plan) = (Peer::new(settings.clone(), *seed, self.now), plan.clone());
        for wire in &mut self.wires {
            if wire.ends[side].id().is_some() {
                // Last words that were still being said belong to nobody now.
                wire.ends[side] = End::Gone;
                wire.over[1 - side].get_or_insert(self.now + Duration::from_millis(50));
            }
        }
        self.sides[side].peer = peer;
        if let Some(plan) = plan {
            self.feed(side, Input::Plan(plan));
        }
        self.feed(side, Input::Start);
    }

    // === the end ===

    /// The one connection that both have a session on, when nothing is under way any more.
    fn quiet(&self) -> Option<usize> {
        let wires = [0, 1].map(|side| {
            let phase = &self.sides[side].peer.status().phase;
            let sent = matches!(phase, Phase::Established { end_of_rib: EndOfRib::Sent(_), .. });
            wire_of(phase).filter(|_| sent)
        });
        let index = wires[0].filter(|_| wires[0] == wires[1])?;
        let wire = &self.wires[index];
        let calm = wire.pipes.iter().all(Pipe::is_empty) && wire.over == [None; 2] && !wire.pipes[0].is_cut();
        let others = self.wires.iter().enumerate().filter(|(other, _)| *other != index);
        let alone = others.clone().all(|(_, wire)| wire.ends.iter().all(|end| matches!(end, End::Gone | End::Absent)));
        let nothing_on_the_way = others.clone().all(|(_, wire)| wire.syn.is_none());
        (calm && alone && nothing_on_the_way).then_some(index)
    }

    fn settle(&mut self) {
        let begun = self.now;
        let deadline = self.now + Duration::from_secs(1500);
        let index = loop {
            if let Some(index) = self.quiet() {
                break index;
            }
            let status = || self.sides.each_ref().map(|side| side.peer.status().clone());
            assert!(self.now < deadline, "no session after all this time: {:#?}", status());
            let next = self.next().unwrap_or_else(|| panic!("nothing will ever happen: {:#?}", status()));
            self.advance(next);
        };
        self.tally.longest_wait = self.now - begun;
        // It stays: nobody dials again, nobody falls.
        let (wires, sessions) = (self.wires.len(), self.tally.sessions);
        self.advance(self.now + Duration::from_secs(600));
        assert_eq!((self.wires.len(), self.tally.sessions), (wires, sessions), "no peace after the session was there");
        for side in [0, 1] {
            let wanted: BTreeSet<Prefix> = self.sides[1 - side]
                .plan
                .iter()
                .flat_map(|plan| plan.routes.iter().map(|(prefix, _)| *prefix))
                .collect();
            let ear = &self.wires[index].ears[side];
            assert_eq!(ear.table, wanted, "side {side} heard something else than the plan");
            assert_eq!(ear.ends, 1, "one End-of-RIB on a connection");
            self.tally.routes += wanted.len() as u64;
        }
    }
}

impl End {
    fn id(self) -> Option<ConnId> {
        match self {
            End::Dialing(id) | End::Open(id) | End::Flushing(id) => Some(id),
            End::Absent | End::Gone => None,
        }
    }
}

impl Ear {
    fn hear(&mut self, octets: &[u8], context: &Context) {
        self.stream.extend_from_slice(octets);
        while let Some(whole) = frame(&mut self.stream, context).expect("our framing is right") {
            let Message::Update(update) = Message::decode(&whole, context).expect("our messages can be read") else {
                continue;
            };
            if update.end_of_rib().is_some() {
                self.ends += 1;
            }
            update.gone().for_each(|prefix| assert!(self.table.remove(&prefix), "{prefix} was never announced"));
            self.table.extend(update.announced().map(|(prefix, _)| prefix));
        }
    }
}

/// Ports tell the connections apart in what peers say about themselves.
fn local_end(index: usize, side: usize) -> LocalEnd {
    let address = |side: usize| SocketAddr::from(([192, 0, 2, 1 + side as u8], 1000 + index as u16));
    LocalEnd { local: address(side), remote: address(1 - side), interface: vec![address(side).ip()], unfit: Vec::new() }
}

fn wire_of(phase: &Phase) -> Option<usize> {
    match phase {
        Phase::Established { local, .. } => Some(usize::from(local.port()) - 1000),
        Phase::Idle { .. } | Phase::Connect | Phase::Active | Phase::OpenSent | Phase::OpenConfirm => None,
    }
}
