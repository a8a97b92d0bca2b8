//! One direction of a connection: a byte stream, delayed and re-chunked, never lost or reordered inside.

use crate::chance::Chance;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

#[derive(Default)]
pub struct Pipe {
    chunks: VecDeque<(Instant, Vec<u8>)>,
    last: Option<Instant>,
    /// The other end is gone, or a wire is cut: what is written vanishes.
    cut: bool,
}

impl Pipe {
    pub fn send(&mut self, mut octets: &[u8], now: Instant, chance: &mut Chance) {
        while !self.cut && !octets.is_empty() {
            let cuts = [1, 7, 100, octets.len(), octets.len()];
            let (chunk, rest) = octets.split_at(chance.pick(&cuts).min(octets.len()));
            let at = (now + Duration::from_millis(chance.below(40) as u64)).max(self.last.unwrap_or(now));
            self.chunks.push_back((at, chunk.to_vec()));
            self.last = Some(at);
            octets = rest;
        }
    }

    pub fn next(&self) -> Option<Instant> {
        self.chunks.front().map(|(at, _)| *at)
    }

    pub fn arrived(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.next()? > now {
            return None;
        }
        self.chunks.pop_front().map(|(_, chunk)| chunk)
    }

    /// Cuts the wire: of what is under way some octets still arrive, the tail is lost.
    pub fn cut(&mut self, chance: &mut Chance) {
        let under_way: usize = self.chunks.iter().map(|(_, chunk)| chunk.len()).sum();
        let mut arriving = chance.below(under_way + 1);
        for (_, chunk) in &mut self.chunks {
            chunk.truncate(arriving);
            arriving -= chunk.len();
        }
        self.chunks.retain(|(_, chunk)| !chunk.is_empty());
        self.cut = true;
    }

    /// When an end that follows everything under way arrives.
    pub fn end_at(&self, now: Instant) -> Instant {
        self.chunks.back().map_or(now, |(at, _)| *at) + Duration::from_millis(1)
    }

    pub fn is_cut(&self) -> bool {
        self.cut
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}
