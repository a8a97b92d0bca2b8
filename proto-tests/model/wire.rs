//! One TCP connection between the two peers: two byte streams, delayed, cut into any pieces, cut off with their tails lost.

use bytes::BytesMut;
use herald::peer::ConnId;
use std::hash::{Hash, Hasher};

/// One end of a connection, as its owner's kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The SYN is still on its way here.
    Absent,
    /// Dialled from here.
    Dialing(ConnId),
    Open(ConnId),
    Gone,
}

/// How far the handshake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Handshake {
    SynUnderWay,
    SynAckUnderWay,
    Done,
}

/// Whether octets still get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Line {
    Whole,
    /// What is written vanishes, and nobody is told.
    Cut,
}

/// What an end can hear about the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum News {
    None,
    /// Behind the octets under way comes the end.
    Over,
}

/// Of what is under way when a line is cut, what still arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    Nothing,
    /// All but the last octet: a message without its end.
    AllButOne,
    Everything,
}

#[derive(Debug, Clone)]
pub struct Wire {
    pub dialler: usize,
    pub ends: [End; 2],
    pub handshake: Handshake,
    pub line: Line,
    pub news: [News; 2],
    /// `pipes[i]` carries what end i sends.
    pub pipes: [Vec<u8>; 2],
    /// What an end has read and what is no whole message yet.
    pub unread: [BytesMut; 2],
}

/// Where a message's header has its type and its length (RFC 4271 §4.1).
const TYPE_AT: usize = 18;
const LENGTH_AT: usize = 16;
const UPDATE: u8 = 2;
const KEEPALIVE: u8 = 4;

impl Wire {
    pub fn dialled(dialler: usize, id: ConnId) -> Self {
        let mut ends = [End::Absent; 2];
        ends[dialler] = End::Dialing(id);
        Self {
            dialler,
            ends,
            handshake: Handshake::SynUnderWay,
            line: Line::Whole,
            news: [News::None; 2],
            pipes: Default::default(),
            unread: Default::default(),
        }
    }

    pub fn open(&self, end: usize) -> Option<ConnId> {
        match self.ends[end] {
            End::Open(id) => Some(id),
            End::Absent | End::Dialing(_) | End::Gone => None,
        }
    }

    pub fn id(&self, end: usize) -> Option<ConnId> {
        match self.ends[end] {
            End::Open(id) | End::Dialing(id) => Some(id),
            End::Absent | End::Gone => None,
        }
    }

    /// Nothing can come of it any more.
    pub fn is_over(&self) -> bool {
        let syn = self.handshake == Handshake::SynUnderWay && self.line == Line::Whole;
        !syn && self.ends.iter().all(|end| matches!(end, End::Gone | End::Absent))
    }

    pub fn send(&mut self, end: usize, octets: &[u8]) {
        let heard = !matches!(self.ends[1 - end], End::Gone);
        if self.line == Line::Whole && heard {
            self.pipes[end].extend_from_slice(octets);
        }
    }

    /// One end is closed; the other one hears of it behind what is under way.
    pub fn shut(&mut self, end: usize) {
        self.ends[end] = End::Gone;
        self.pipes[1 - end].clear();
        self.unread[end].clear();
        if self.line == Line::Whole {
            self.news[1 - end] = News::Over;
        }
        if self.ends[1 - end] == End::Gone {
            self.pipes[end].clear();
        }
    }

    pub fn cut(&mut self, kept: [Kept; 2]) {
        self.line = Line::Cut;
        for (pipe, kept) in self.pipes.iter_mut().zip(kept) {
            match kept {
                Kept::Nothing => pipe.clear(),
                Kept::AllButOne => pipe.truncate(pipe.len().saturating_sub(1)),
                Kept::Everything => {}
            }
        }
    }

    /// Octets of the first message under way from an end.
    pub fn first(&self, end: usize) -> usize {
        let pipe = &self.pipes[end];
        let missing = self.unread[1 - end].len();
        if missing > 0 || pipe.len() <= TYPE_AT {
            return whole(&self.unread[1 - end], pipe).unwrap_or(pipe.len());
        }
        length(pipe).min(pipe.len())
    }

    pub fn carries_keepalive(&self, end: usize) -> bool {
        self.carries(end, KEEPALIVE)
    }

    pub fn carries_update(&self, end: usize) -> bool {
        self.carries(end, UPDATE)
    }

    /// Whether a message that has not begun to arrive is of this type.
    fn carries(&self, end: usize, kind: u8) -> bool {
        let begun = if self.unread[1 - end].is_empty() { 0 } else { self.first(end) };
        types(&self.pipes[end][begun..]).any(|of| of == kind)
    }

    /// Feeds what decides how it goes on. `role` names the connection that a number stands for.
    pub fn likeness(&self, hasher: &mut impl Hasher, role: impl Fn(usize, ConnId) -> u8) {
        (self.dialler, self.handshake, self.line, self.news).hash(hasher);
        for (end, state) in self.ends.iter().enumerate() {
            let word = match state {
                End::Absent => 0,
                End::Gone => 1,
                End::Dialing(id) => 2 + role(end, *id),
                End::Open(id) => 8 + role(end, *id),
            };
            word.hash(hasher);
        }
        self.pipes.hash(hasher);
        (&self.unread[0][..], &self.unread[1][..]).hash(hasher);
    }
}

fn length(octets: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([octets[LENGTH_AT], octets[LENGTH_AT + 1]]))
}

/// Octets of `pipe` that end the message begun in `unread`.
fn whole(unread: &[u8], pipe: &[u8]) -> Option<usize> {
    let begun: Vec<u8> = unread.iter().chain(pipe).copied().take(TYPE_AT).collect();
    (begun.len() == TYPE_AT).then(|| (length(&begun) - unread.len()).min(pipe.len()))
}

/// The type octets of the messages of a stream that begins at a message.
fn types(stream: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = stream;
    std::iter::from_fn(move || {
        let kind = *rest.get(TYPE_AT)?;
        rest = rest.get(length(rest)..).unwrap_or_default();
        Some(kind)
    })
}
