//! Whole networks of the core on a virtual clock.
//!
//! A seed decides everything: the graph, the clients, what they do and what breaks. After each
//! run an oracle that shares no code with the core judges what happened. `SEED=n` runs one seed
//! and prints its trace; `SEEDS=n` sets how many are run.

#![expect(unreachable_pub, reason = "a test binary has no outside")]

mod node;
mod oracle;
mod plan;
mod world;

use std::time::Instant;

use world::World;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(seed: u64, verbose: bool) -> (u64, World) {
    let mut world = World::new(seed, verbose);
    plan::play(&mut world);
    (world.trace(), world)
}

fn judged(seed: u64, verbose: bool) -> World {
    let (_, world) = run(seed, verbose);
    let faults = world.faults();
    assert!(
        faults.is_empty(),
        "seed {seed} (run it alone: SEED={seed} cargo test -p amop-protocol --test sim random):\n  {}",
        faults.join("\n  ")
    );
    world
}

#[test]
fn random_networks_keep_the_contract() {
    if let Some(seed) = from_env("SEED") {
        let world = judged(seed, true);
        println!("seed {seed}: {}", world.summary());
        return;
    }
    let seeds = from_env("SEEDS").unwrap_or(400);
    let begun = Instant::now();
    let mut totals = oracle::Totals::default();
    for seed in 0..seeds {
        totals += judged(seed, false).totals();
    }
    println!("{seeds} seeds in {:.1} s: {totals}", begun.elapsed().as_secs_f64());
    assert!(totals.succeeded > totals.failed, "most sends should succeed: {totals}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 7, 42] {
        assert_eq!(run(seed, false).0, run(seed, false).0, "seed {seed}");
    }
    assert_ne!(run(1, false).0, run(2, false).0);
}
