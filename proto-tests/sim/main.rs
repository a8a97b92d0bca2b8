//! A peer against a model router, over a hostile network, under a clock that the test moves.
//!
//! Each seed is one story: plans come and change, connections are re-chunked, delayed, stuck, cut at any octet, half
//! open; the router asks again, complains, closes. When all is quiet, the router must hold what the plan says.
//! `HERALD_SIM_SEED=N` runs one seed and prints its story; `HERALD_SIM_SEEDS=N` runs that many, from `HERALD_SIM_FIRST`
//! on. Duels have the same variables under the name `HERALD_DUEL`.

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

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// Stories where nobody asks for more; `make test` does.
const SEEDS: u64 = 2000;
const DUELS: u64 = 300;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// Tells the stories of all seeds that `name` asks for, on every core, and adds up what happened in them. The first seed
/// that fails is named, with the variable that tells its story again.
fn tell<T: Default + Copy + Send>(
    name: &str,
    seeds: u64,
    run: fn(u64, world::Voice) -> T,
    add: fn(&mut T, &T),
) -> (T, u64) {
    let seeds = number(&format!("HERALD_{name}_SEEDS")).unwrap_or(seeds);
    let first = number(&format!("HERALD_{name}_FIRST")).unwrap_or(0);
    let next = AtomicU64::new(first);
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let share = || {
        let mut total = T::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return Ok(total);
            }
            match catch_unwind(AssertUnwindSafe(|| run(seed, world::Voice::Silent))) {
                Ok(told) => add(&mut total, &told),
                Err(panic) => {
                    next.store(u64::MAX / 2, Ordering::Relaxed);
                    return Err((seed, words(panic.as_ref())));
                }
            }
        }
    };
    let shares: Vec<_> = std::thread::scope(|scope| {
        let tellers: Vec<_> = (0..cores).map(|_| scope.spawn(share)).collect();
        tellers.into_iter().map(|teller| teller.join().expect("a panic was caught")).collect()
    });
    let failed = shares.iter().filter_map(|share| share.as_ref().err()).min();
    if let Some((seed, words)) = failed {
        panic!("seed {seed} failed: run again with HERALD_{name}_SEED={seed} to see its story. {words}");
    }
    let mut total = T::default();
    shares.iter().flatten().for_each(|told| add(&mut total, told));
    (total, seeds)
}

#[test]
fn when_quiet_the_router_holds_the_plan() {
    if let Some(seed) = number("HERALD_SIM_SEED") {
        println!("seed {seed}: {:?}", world::run(seed, world::Voice::Aloud));
        return;
    }
    let (total, seeds) = tell("SIM", SEEDS, world::run, told::Told::add);
    println!("{seeds} seeds: {total:?}");
    total.assert_rich(seeds);
}

#[test]
fn two_peers_end_with_one_session_and_each_other_s_plan() {
    if let Some(seed) = number("HERALD_DUEL_SEED") {
        println!("seed {seed}: {:?}", duel::run(seed, world::Voice::Aloud));
        return;
    }
    let (total, seeds) = tell("DUEL", DUELS, duel::run, duel::Tally::add);
    println!("{seeds} duels: {total:?}");
    total.assert_rich(seeds);
}
