//! A model checker over the machine itself: two peers, up to two connections each, everything that a network and time can do
//! to them, in every order.
//!
//! A state is two `Peer`s and the connections between them. Time stands still and every timer that runs may expire at any
//! moment, so that no order of deadlines is left out; connections are byte streams, delayed, cut into pieces, cut off with
//! their tails lost, half open; processes die. Checked in every state: no law of `watch` was broken on the way; and by a fair
//! schedule (`schedule`) both peers have one session within a stated number of steps.

mod pair;
mod schedule;
mod setting;
mod watch;
mod wire;

use herald::peer::settings::Opening;
use pair::{Action, Pair};
use schedule::{Distances, ORDERS, Order, STEPS};
use setting::{Graceful, Grain, Search, Setting};
use stateright::{Checker, Model, Property};
use std::time::Instant;

/// One configuration for the checker.
struct Check {
    setting: Setting,
    distances: [Distances; 2],
}

impl Check {
    fn leads_to_a_session(&self, pair: &Pair) -> bool {
        ORDERS.iter().zip(&self.distances).all(|(order, distances)| distances.from(pair, &self.setting, *order).is_ok())
    }
}

impl Model for Check {
    type State = Pair;
    type Action = Action;

    fn init_states(&self) -> Vec<Pair> {
        vec![Pair::new(&self.setting)]
    }

    fn actions(&self, state: &Pair, actions: &mut Vec<Action>) {
        if state.fault.is_none() {
            state.actions(&self.setting, actions);
        }
    }

    fn next_state(&self, last: &Pair, action: Action) -> Option<Pair> {
        Some(last.after(&self.setting, action))
    }

    fn within_boundary(&self, state: &Pair) -> bool {
        state.wires.len() <= self.setting.wires
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no law is broken", |_: &Self, state: &Pair| state.fault.is_none()),
            Property::always("a fair schedule leads to one session", |check: &Self, state: &Pair| {
                check.leads_to_a_session(state)
            }),
        ]
    }
}

/// The configurations, each a corner of its own.
fn settings(reach: Reach) -> Vec<Setting> {
    let named = |name| {
        let plain = Setting::named(name, Instant::now());
        match reach {
            Reach::Usual => plain,
            Reach::Wide => Setting { wires: 4, cuts: 2, ..plain },
        }
    };
    let deep = |name| Setting { grain: Grain::Coarse, search: Search::Deep(60), ..named(name) };
    let (active, passive) = (Opening::Active, Opening::Passive);
    vec![
        named("both dial"),
        Setting { ids: [7, 7], ..deep("both dial, equal identifiers, deep") },
        Setting { graceful: Graceful::Both, deaths: 1, cuts: 0, ..named("graceful, a death") },
        Setting { graceful: Graceful::Both, deaths: 2, plans: true, ..deep("graceful, deaths, cuts, plans, deep") },
        Setting { graceful: Graceful::First, asns: [64512; 2], plans: true, ..named("iBGP, one graceful, plans") },
        Setting { openings: [active, passive], deaths: 1, cuts: 2, ..named("one dials, a death") },
        Setting {
            openings: [passive, active],
            delays: [0, 2],
            deaths: 2,
            ..deep("the other dials and delays, deaths, deep")
        },
        Setting { delays: [2, 0], ..named("one delays its OPEN") },
        Setting { delays: [2, 2], ids: [2, 1], ..deep("both delay, deep") },
    ]
}

/// How far the search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Usual,
    /// More connections at a time, more cuts, more states: for long runs.
    Wide,
}

/// Distinct states of one configuration, printed with what was found.
fn check(setting: Setting, limit: usize) -> usize {
    let begun = Instant::now();
    let check = Check { setting, distances: Default::default() };
    let builder = check.checker().threads(2).target_state_count(limit);
    match setting.search {
        Search::Broad => told(setting, begun, limit, &builder.spawn_bfs().join()),
        Search::Deep(steps) => told(setting, begun, limit, &builder.target_max_depth(steps).spawn_dfs().join()),
    }
}

fn told(setting: Setting, begun: Instant, limit: usize, checker: &impl Checker<Check>) -> usize {
    let longest = checker.model().distances.iter().map(Distances::longest).max().unwrap_or(0);
    let distinct = checker.unique_state_count();
    let is_bounded = matches!(setting.search, Search::Deep(steps) if checker.max_depth() >= steps);
    let is_all = checker.state_count() < limit && !is_bounded;
    println!(
        "{:42} {distinct:>8} states of {:>8} reached{}, {:>2} deep, {longest:>2} steps to a session, {:.1} s",
        setting.name,
        checker.state_count(),
        if is_all { " (all there are)" } else { "" },
        checker.max_depth(),
        begun.elapsed().as_secs_f64()
    );
    for (name, path) in checker.discoveries() {
        tell(&setting, name, path);
    }
    distinct
}

/// A counterexample, step by step, and how the fair schedules go on from there.
fn tell(setting: &Setting, name: &str, path: stateright::Path<Pair, Action>) {
    println!("{}: not so: {name}", setting.name);
    for (state, action) in path.into_vec() {
        show(&state);
        println!("  {action:?}");
        if action.is_none() {
            follow(setting, &state, ORDERS[0]);
        }
    }
    panic!("{}: not so: {name}; the steps are above", setting.name);
}

fn show(state: &Pair) {
    let sides = state.peers.each_ref().map(|peer| {
        let connections: Vec<_> = peer.connections().map(|(w, id, s)| format!("{w:?} {} {}", id.0, s.name())).collect();
        format!("{} {:?} timers {:?}", peer.status().phase.name(), connections, peer.running().collect::<Vec<_>>())
    });
    println!("    {:#?} fault {:?}", sides, state.fault);
    for wire in &state.wires {
        let lengths = [wire.pipes[0].len(), wire.pipes[1].len()];
        println!(
            "    wire of {}: {:?} {:?} {:?} {:?} {lengths:?}",
            wire.dialler, wire.ends, wire.handshake, wire.line, wire.news
        );
    }
}

fn follow(setting: &Setting, state: &Pair, order: Order) {
    println!("and then, fairly:");
    let mut here = state.clone();
    for _ in 0..STEPS {
        let Some(action) = schedule::next(&here, order) else { return println!("nothing ever") };
        println!("  {action:?}");
        here = here.after(setting, action);
        show(&here);
    }
}

/// `HERALD_MODEL_STATES` bounds what is reached in each configuration; `HERALD_MODEL=wide` goes further.
#[test]
fn every_state_leads_to_one_session() {
    let reach = match std::env::var("HERALD_MODEL").as_deref() {
        Ok("wide") => Reach::Wide,
        Ok(other) => panic!("HERALD_MODEL is wide or nothing, not {other}"),
        Err(_) => Reach::Usual,
    };
    let bound = std::env::var("HERALD_MODEL_STATES").ok().map(|text| text.parse().expect("a number of states"));
    let limit = bound.unwrap_or(match reach {
        Reach::Usual => 1_200_000,
        Reach::Wide => 5_000_000,
    });
    let states: usize = settings(reach).into_iter().map(|setting| check(setting, limit)).sum();
    println!("{states} distinct states, each of them within {STEPS} fair steps of one session");
    assert!(bound.is_some() || states >= 1_000_000, "only {states} states");
}
