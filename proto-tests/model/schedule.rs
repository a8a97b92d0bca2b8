//! A fair schedule: what is under way arrives, what runs expires, nothing else is broken. From every state it must lead to
//! one session, and it is asked so from every state: a property of paths alone says nothing of those that go in circles.

use crate::pair::{Action, Pair, Portion};
use crate::setting::Setting;
use crate::wire::{End, Handshake, Line, News, Wire};
use herald::fsm::Timer;
use std::collections::HashMap;
use std::sync::Mutex;

/// Whose turn it is where both sides could move, and how much arrives at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    pub first: usize,
    pub portion: Portion,
}

pub const ORDERS: [Order; 2] =
    [Order { first: 0, portion: Portion::Everything }, Order { first: 1, portion: Portion::Message }];

/// The next step of the schedule; `None`: nothing will ever happen.
pub fn next(pair: &Pair, order: Order) -> Option<Action> {
    let sides = [order.first, 1 - order.first];
    let wires = || pair.wires.iter().enumerate();
    let arrives = sides.iter().find_map(|side| wires().find_map(|(index, wire)| arrives(index, wire, *side, order)));
    arrives.or_else(|| sides.iter().find_map(|side| wires().find_map(|(_, wire)| silence(pair, wire, *side)))).or_else(
        // A peer that waits something out is waited for before the other one dials into the wait.
        || {
            let timers = [Timer::DelayOpen, Timer::IdleHold, Timer::ConnectRetry];
            timers.iter().find_map(|timer| sides.iter().find_map(|side| expiry(pair, *side, *timer)))
        },
    )
}

/// What is under way to a side.
fn arrives(index: usize, wire: &Wire, side: usize, order: Order) -> Option<Action> {
    let whole = wire.line == Line::Whole;
    match (wire.handshake, wire.ends[wire.dialler]) {
        (Handshake::SynUnderWay, _) if whole && side != wire.dialler => return Some(Action::SynArrives(index)),
        (Handshake::SynAckUnderWay, _) if whole && side == wire.dialler => return Some(Action::SynAckArrives(index)),
        // The driver gives a dial up after a few seconds.
        (_, End::Dialing(_)) if !whole && side == wire.dialler => return Some(Action::DialFails(index)),
        _ => {}
    }
    wire.open(side)?;
    if !wire.pipes[1 - side].is_empty() {
        return Some(Action::Deliver { wire: index, to: side, portion: order.portion });
    }
    (wire.news[side] == News::Over).then_some(Action::Learn { wire: index, end: side })
}

/// On a line that was cut without a word nothing comes any more: the hold timer is what ends it.
fn silence(pair: &Pair, wire: &Wire, side: usize) -> Option<Action> {
    let id = wire.open(side).filter(|_| wire.line == Line::Cut)?;
    let (which, ..) = pair.peers[side].connections().find(|(_, of, _)| *of == id)?;
    let runs = |timer: &Timer| pair.peers[side].running().any(|running| running == (which, *timer));
    [Timer::Hold, Timer::DelayOpen].into_iter().find(runs).map(|timer| Action::Expire(side, which, timer))
}

fn expiry(pair: &Pair, side: usize, timer: Timer) -> Option<Action> {
    let (which, timer) = pair.peers[side].running().find(|(_, running)| *running == timer)?;
    Some(Action::Expire(side, which, timer))
}

/// How many steps a state is away from one session by a schedule; known for every state that a schedule went through.
#[derive(Default)]
pub struct Distances(Mutex<HashMap<u64, u16>>);

/// No schedule may take longer.
pub const STEPS: u16 = 40;

/// Why a schedule came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Nothing will ever happen.
    Deadlock,
    /// It went on for more than [`STEPS`], in a circle as a rule.
    Endless,
}

impl Distances {
    /// Steps from a state to one session.
    pub fn from(&self, state: &Pair, setting: &Setting, order: Order) -> Result<u16, Lost> {
        let mut path = vec![state.mark()];
        let mut here = state.clone();
        let end = loop {
            if here.is_settled() {
                break 0;
            }
            let known = self.0.lock().expect("nobody panics with it").get(&path[path.len() - 1]).copied();
            if let Some(steps) = known {
                break steps;
            }
            if path.len() > usize::from(STEPS) {
                return Err(Lost::Endless);
            }
            here = here.after(setting, next(&here, order).ok_or(Lost::Deadlock)?);
            path.push(here.mark());
        };
        let mut known = self.0.lock().expect("nobody panics with it");
        let steps = path.iter().rev().zip(end..).map(|(mark, steps)| (*mark, steps));
        let mut longest = end;
        for (mark, steps) in steps {
            known.insert(mark, steps);
            longest = steps;
        }
        if longest > STEPS { Err(Lost::Endless) } else { Ok(longest) }
    }

    pub fn longest(&self) -> u16 {
        self.0.lock().expect("nobody panics with it").values().copied().max().unwrap_or(0)
    }
}
