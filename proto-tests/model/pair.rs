//! Two peers and what is between them: one state of the world, and all that can happen in it.

use crate::setting::{Grain, Setting};
use crate::watch::{self, Fault};
use crate::wire::{End, Handshake, Kept, Line, News, Wire};
use bytes::BytesMut;
use herald::fsm::{State, Timer};
use herald::peer::{ConnId, EndOfRib, Input, LocalEnd, Output, Peer, Phase, Which};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;

/// One state. Time stands still: every timer that runs may expire at any moment.
#[derive(Debug, Clone)]
pub struct Pair {
    pub peers: [Arc<Peer>; 2],
    pub wires: Vec<Wire>,
    /// Which side knows what it wants.
    pub planned: [bool; 2],
    pub fault: Option<Fault>,
    /// Processes that may still die.
    pub deaths: u8,
    /// Lines that may still be cut.
    pub cuts: u8,
}

/// How much of a stream arrives at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Portion {
    /// The first octets of a message.
    Piece,
    /// One message to its end.
    Message,
    /// All that is under way.
    Everything,
}

/// What can happen; wires by their place, sides and ends 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Expire(usize, Which, Timer),
    Plan(usize),
    SynArrives(usize),
    DialFails(usize),
    SynAckArrives(usize),
    Deliver {
        wire: usize,
        to: usize,
        portion: Portion,
    },
    /// An end hears that the connection is gone.
    Learn {
        wire: usize,
        end: usize,
    },
    Cut(usize, [Kept; 2]),
    /// The process is killed, and its successor begins; the kernel closes its connections.
    Die(usize),
}

/// Octets of a piece.
const PIECE: usize = 7;
const PORTIONS: [Portion; 3] = [Portion::Piece, Portion::Message, Portion::Everything];
const KEPT: [[Kept; 2]; 5] = [
    [Kept::Nothing; 2],
    [Kept::Everything; 2],
    [Kept::AllButOne; 2],
    [Kept::Nothing, Kept::Everything],
    [Kept::Everything, Kept::Nothing],
];

impl Pair {
    /// Both started.
    pub fn new(setting: &Setting) -> Self {
        let mut pair = Self {
            peers: [0, 1].map(|side| Arc::new(setting.peer(side))),
            wires: Vec::new(),
            planned: [false; 2],
            fault: None,
            deaths: setting.deaths,
            cuts: setting.cuts,
        };
        for side in [0, 1] {
            pair.feed(setting, side, Input::Start);
        }
        pair
    }

    // === what can happen ===

    pub fn actions(&self, setting: &Setting, actions: &mut Vec<Action>) {
        for side in [0, 1] {
            let running = self.peers[side].running().filter(|(which, timer)| self.says_something(side, *which, *timer));
            actions.extend(running.map(|(which, timer)| Action::Expire(side, which, timer)));
            if setting.plans && !self.planned[side] {
                actions.push(Action::Plan(side));
            }
            if self.deaths > 0 {
                actions.push(Action::Die(side));
            }
        }
        for (index, wire) in self.wires.iter().enumerate() {
            self.actions_of(setting.grain, index, wire, actions);
        }
    }

    fn actions_of(&self, grain: Grain, index: usize, wire: &Wire, actions: &mut Vec<Action>) {
        let whole = wire.line == Line::Whole;
        match wire.handshake {
            Handshake::SynUnderWay if whole => actions.push(Action::SynArrives(index)),
            Handshake::SynAckUnderWay if whole => actions.push(Action::SynAckArrives(index)),
            Handshake::SynUnderWay | Handshake::SynAckUnderWay | Handshake::Done => {}
        }
        if matches!(wire.ends[wire.dialler], End::Dialing(_)) && (!whole || wire.handshake == Handshake::SynUnderWay) {
            actions.push(Action::DialFails(index));
        }
        for end in [0, 1].into_iter().filter(|end| wire.open(*end).is_some()) {
            let under_way = wire.pipes[1 - end].len();
            let portions = PORTIONS.into_iter().filter(|portion| match portion {
                Portion::Piece | Portion::Message if grain == Grain::Coarse => false,
                Portion::Piece => under_way > PIECE && wire.unread[end].is_empty(),
                Portion::Message => under_way > 0 && wire.first(1 - end) < under_way,
                Portion::Everything => under_way > 0,
            });
            actions.extend(portions.map(|portion| Action::Deliver { wire: index, to: end, portion }));
            if under_way == 0 && (wire.news[end] == News::Over || !whole) {
                actions.push(Action::Learn { wire: index, end });
            }
        }
        if whole && self.cuts > 0 {
            let differ = |kept: &[Kept; 2]| {
                [0, 1].into_iter().all(|end| kept[end] == Kept::Nothing || !wire.pipes[end].is_empty())
            };
            let kinds = if grain == Grain::Coarse { &KEPT[..2] } else { &KEPT };
            actions.extend(kinds.iter().copied().filter(differ).map(|kept| Action::Cut(index, kept)));
        }
    }

    /// A KEEPALIVE behind a KEEPALIVE changes nothing.
    fn says_something(&self, side: usize, which: Which, timer: Timer) -> bool {
        let id = self.peers[side].connections().find(|(of, ..)| *of == which).map(|(_, id, _)| id);
        let full = |wire: &&Wire| wire.id(side) == id && (wire.carries_keepalive(side) || wire.line == Line::Cut);
        timer != Timer::Keepalive || self.wires.iter().find(full).is_none()
    }

    // === what comes of it ===

    pub fn after(&self, setting: &Setting, action: Action) -> Self {
        let mut next = self.clone();
        match action {
            Action::Expire(side, which, timer) => {
                Arc::make_mut(&mut next.peers[side]).hasten(which, timer, setting.now);
                next.feed(setting, side, Input::Timeout);
            }
            Action::Plan(side) => {
                next.planned[side] = true;
                next.feed(setting, side, Input::Plan(setting.plan(side)));
            }
            Action::SynArrives(wire) => next.syn_arrives(setting, wire),
            Action::DialFails(wire) => {
                let side = next.wires[wire].dialler;
                if let Some(id) = next.wires[wire].id(side) {
                    next.wires[wire].shut(side);
                    next.wires[wire].handshake = Handshake::Done;
                    next.feed(setting, side, Input::ConnectFailed(id, String::new()));
                }
            }
            Action::SynAckArrives(wire) => next.syn_ack_arrives(setting, wire),
            Action::Deliver { wire, to, portion } => next.deliver(setting, wire, to, portion),
            Action::Learn { wire, end } => {
                if let Some(id) = next.wires[wire].open(end) {
                    next.wires[wire].shut(end);
                    next.feed(setting, end, Input::Closed(id, None));
                }
            }
            Action::Cut(wire, kept) => {
                next.wires[wire].cut(kept);
                next.cuts -= 1;
            }
            Action::Die(side) => next.die(setting, side),
        }
        next.wires.retain(|wire| !wire.is_over());
        next
    }

    fn syn_arrives(&mut self, setting: &Setting, index: usize) {
        let acceptor = 1 - self.wires[index].dialler;
        self.wires[index].handshake = Handshake::SynAckUnderWay;
        let before = watch::before(self, acceptor);
        let accepted = Arc::make_mut(&mut self.peers[acceptor]).accept(local_end(acceptor), setting.now);
        match accepted {
            Some(id) => self.wires[index].ends[acceptor] = End::Open(id),
            None => self.wires[index].shut(acceptor),
        }
        self.obey(setting, acceptor);
        watch::after(self, setting, acceptor, None, &before);
    }

    fn syn_ack_arrives(&mut self, setting: &Setting, index: usize) {
        let dialler = self.wires[index].dialler;
        self.wires[index].handshake = Handshake::Done;
        if let End::Dialing(id) = self.wires[index].ends[dialler] {
            self.wires[index].ends[dialler] = End::Open(id);
            self.feed(setting, dialler, Input::Connected(id, local_end(dialler)));
        }
    }

    fn deliver(&mut self, setting: &Setting, index: usize, to: usize, portion: Portion) {
        let wire = &mut self.wires[index];
        let octets = match portion {
            Portion::Piece => PIECE,
            Portion::Message => wire.first(1 - to),
            Portion::Everything => wire.pipes[1 - to].len(),
        };
        let Some(id) = wire.open(to) else { return };
        let arrived: Vec<u8> = wire.pipes[1 - to].drain(..octets).collect();
        let mut unread = std::mem::take(&mut wire.unread[to]);
        unread.extend_from_slice(&arrived);
        self.feed(setting, to, Input::Received(id, &mut unread));
        if self.wires[index].open(to) == Some(id) {
            self.wires[index].unread[to] = unread;
        }
    }

    fn die(&mut self, setting: &Setting, side: usize) {
        self.deaths -= 1;
        for wire in self.wires.iter_mut().filter(|wire| wire.id(side).is_some()) {
            wire.shut(side);
        }
        self.peers[side] = Arc::new(setting.peer(side));
        self.planned[side] = false;
        self.feed(setting, side, Input::Start);
    }

    // === the driver ===

    fn feed(&mut self, setting: &Setting, side: usize, input: Input<'_>) {
        let before = watch::before(self, side);
        let about = watch::About::of(&input);
        Arc::make_mut(&mut self.peers[side]).handle(input, setting.now);
        self.obey(setting, side);
        watch::after(self, setting, side, Some(about), &before);
    }

    fn obey(&mut self, setting: &Setting, side: usize) {
        let peer = Arc::make_mut(&mut self.peers[side]);
        let outputs: Vec<Output> = std::iter::from_fn(|| peer.poll_output()).collect();
        // Written before anything is closed: a close that flushes takes it along, and another one leaves nothing to write.
        let mut octets = BytesMut::new();
        for wire in &mut self.wires {
            let Some(id) = wire.open(side) else { continue };
            loop {
                peer.transmit(id, &mut octets, usize::MAX, setting.now);
                if octets.is_empty() {
                    break;
                }
                wire.send(side, &octets.split());
            }
        }
        for output in outputs {
            match output {
                Output::Connect(id) => self.wires.push(Wire::dialled(side, id)),
                Output::Close(id, _) => {
                    if let Some(wire) = self.wires.iter_mut().find(|wire| wire.id(side) == Some(id)) {
                        wire.shut(side);
                    }
                }
            }
        }
    }

    // === what it looks like ===

    /// Two states with the same mark go on alike.
    pub fn mark(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// The wire that an Established session of a side is on.
    pub fn session(&self, side: usize) -> Option<usize> {
        let (_, id, _) = self.peers[side].connections().find(|(.., state)| matches!(state, State::Established(..)))?;
        self.wires.iter().position(|wire| wire.open(side) == Some(id))
    }

    /// A side that knows what it wants has told it to the end.
    fn has_told(&self, side: usize) -> bool {
        let told = matches!(self.peers[side].status().phase, Phase::Established { end_of_rib: EndOfRib::Sent(_), .. });
        told == self.planned[side]
    }

    /// Both have the same session and have told what they want, and nothing else is anywhere.
    pub fn is_settled(&self) -> bool {
        let [Some(here), Some(there)] = [0, 1].map(|side| self.session(side)) else { return false };
        let wire = &self.wires[here];
        here == there
            && self.wires.len() == 1
            && wire.line == Line::Whole
            && wire.news == [News::None; 2]
            && wire.pipes.iter().all(Vec::is_empty)
            && self.peers.iter().all(|peer| peer.connections().count() == 1)
            && [0, 1].into_iter().all(|side| self.has_told(side))
    }
}

fn local_end(side: usize) -> LocalEnd {
    let address = |side: usize| SocketAddr::from(([192, 0, 2, 1 + side as u8], 179));
    LocalEnd { local: address(side), remote: address(1 - side), interface: vec![address(side).ip()], unfit: Vec::new() }
}

/// The connection of a peer that a number stands for: its lasting one, its guest, or none.
fn role(peer: &Peer, id: ConnId) -> u8 {
    peer.connections().find(|(_, of, _)| *of == id).map_or(0, |(which, ..)| match which {
        Which::Home => 1,
        Which::Guest => 2,
    })
}

impl Hash for Pair {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for peer in &self.peers {
            peer.likeness(hasher);
        }
        let mut wires: Vec<u64> = self.wires.iter().map(|wire| mark_of(wire, &self.peers)).collect();
        wires.sort_unstable();
        (wires, self.fault.is_some(), self.deaths, self.cuts).hash(hasher);
    }
}

/// The order in which wires were made makes no difference.
fn mark_of(wire: &Wire, peers: &[Arc<Peer>; 2]) -> u64 {
    let mut hasher = DefaultHasher::new();
    wire.likeness(&mut hasher, |end, id| role(&peers[end], id));
    hasher.finish()
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.mark() == other.mark()
    }
}
