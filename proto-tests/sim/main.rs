//! A peer against a model router, over a hostile network, under a clock that the test moves.
//!
//! Each seed is one story: plans come and change, connections are re-chunked, delayed, stuck, cut at any octet, half
//! open; the router asks again, complains, closes. When all is quiet, the router must hold what the plan says.
//! `HERALD_SIM_SEED=N` runs one seed and prints its story; `HERALD_SIM_SEEDS=N` runs that many,
//! from `HERALD_SIM_FIRST` on.

mod chance;
mod collisions;
mod desk;
mod duel;
mod model;
mod network;
mod restart;
mod router;
mod scenes;
mod speed;
mod told;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

const SEEDS: u64 = 2000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

#[test]
fn when_quiet_the_router_holds_the_plan() {
    if let Some(seed) = number("HERALD_SIM_SEED") {
        let told = world::run(seed, world::Voice::Aloud);
        println!("seed {seed}: {told:?}");
        return;
    }
    let seeds = number("HERALD_SIM_SEEDS").unwrap_or(SEEDS);
    let mut total = told::Told::default();
    let first = number("HERALD_SIM_FIRST").unwrap_or(0);
    for seed in first..first + seeds {
        match catch_unwind(AssertUnwindSafe(|| world::run(seed, world::Voice::Silent))) {
            Ok(told) => total.add(&told),
            Err(_) => panic!("seed {seed} failed: run again with HERALD_SIM_SEED={seed} to see its story"),
        }
    }
    println!("{seeds} seeds: {total:?}");
    total.assert_rich(seeds);
}

const DUELS: u64 = 300;

#[test]
fn two_peers_end_with_one_session_and_each_other_s_plan() {
    if let Some(seed) = number("HERALD_DUEL_SEED") {
        println!("seed {seed}: {:?}", duel::run(seed, world::Voice::Aloud));
        return;
    }
    let seeds = number("HERALD_DUEL_SEEDS").unwrap_or(DUELS);
    let mut total = duel::Tally::default();
    for seed in 0..seeds {
        match catch_unwind(AssertUnwindSafe(|| duel::run(seed, world::Voice::Silent))) {
            Ok(tally) => total.add(&tally),
            Err(_) => panic!("seed {seed} failed: run again with HERALD_DUEL_SEED={seed} to see its story"),
        }
    }
    println!("{seeds} duels: {total:?}");
    total.assert_rich(seeds);
}
