//! Whole networks of the core on a virtual clock.
//!
//! A seed decides everything: the graph, the clients, what they do and what breaks. After each
//! run an oracle that shares no code with the core judges what happened. `SEED=n` runs one seed
//! and prints its trace; `SEEDS=n` sets how many are run, `FIRST=n` where they begin.

#![expect(unreachable_pub, clippy::print_stdout, reason = "a test binary has no outside")]
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "how fast the simulation runs is told"
)]

mod client;
mod generate;
mod node;
mod oracle;
mod plan;
mod play;
mod world;

use std::time::Instant;

use self::{play::play, world::World};

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a seed and lets the oracle judge it.
fn judged(seed: u64, verbose: bool) -> Result<World, String> {
    let plan = generate::plan(seed);
    let world = play(&plan, verbose);
    if world.oracle.broken.is_empty() {
        return Ok(world);
    }
    let how = format!("SEED={seed} cargo test -p amop-protocol --test sim random -- --nocapture");
    Err(format!("seed {seed} (run it alone: {how}):\n  {}", world.oracle.broken.join("\n  ")))
}

#[test]
fn random_networks_keep_the_contract() {
    if let Some(seed) = from_env("SEED") {
        let world = judged(seed, true).unwrap();
        println!("seed {seed}: {}", world.totals());
        return;
    }
    let first = from_env("FIRST").unwrap_or(0);
    let seeds = from_env("SEEDS").unwrap_or(2_000);
    let begun = Instant::now();
    let mut totals = oracle::Totals::default();
    let mut broken = Vec::new();
    for seed in first..first + seeds {
        match judged(seed, false) {
            Ok(world) => totals += world.totals(),
            Err(faults) => broken.push(faults),
        }
        if broken.len() == 5 {
            break;
        }
    }
    let took = begun.elapsed().as_secs_f64();
    println!("{seeds} seeds from {first} in {took:.1} s, {:.0} a second: {totals}", seeds as f64 / took);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(totals.succeeded > totals.failed, "most sends should succeed: {totals}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = |seed| play(&generate::plan(seed), false).trace();
    for seed in [1, 7, 42] {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
    assert_ne!(trace(1), trace(2));
}
