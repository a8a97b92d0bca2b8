//! The allocator: scenarios by name, a model that scans, leaders that fail over one API server, and what it costs.

mod leaders;
mod model;
mod price;
mod rig;
mod scenarios;

/// Prints what it costs; fewer without optimisation, for the suite has a budget.
#[test]
fn what_it_costs() {
    println!("{}", price::measure(if cfg!(debug_assertions) { 5_000 } else { 100_000 }));
}
