//! Many seeds, on all cores, and what is told of one that failed.

use std::{
    ops::Range,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Instant,
};

use crate::{
    generate,
    oracle::Totals,
    play::play,
    shrink::{only, shrink},
    world::World,
};

/// Failing seeds after which no more are tried.
const ENOUGH: usize = 5;
/// Of one run so much is told of what is wrong; the rest mostly follows from it.
const MOST_TOLD: usize = 8;

/// What many runs came to.
pub struct Runs {
    pub totals: Totals,
    /// Seeds that broke the contract.
    pub broken: Vec<u64>,
    /// Seconds.
    pub took: f64,
}

/// Runs a seed and lets the oracle judge it.
pub fn judged(seed: u64) -> Result<World, Vec<String>> {
    let mut world = play(&generate::plan(seed), false);
    match std::mem::take(&mut world.oracle.broken) {
        broken if broken.is_empty() => Ok(world),
        broken => Err(broken),
    }
}

/// Runs all seeds, as many at a time as there are cores.
pub fn all(seeds: Range<u64>) -> Runs {
    let begun = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let (results, told) = mpsc::channel();
    let mut totals = Totals::default();
    let mut broken = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..cores() {
            let (results, next) = (results.clone(), &next);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let _ = results.send((seed, judged(seed).map(|world| world.totals())));
                }
            });
        }
        drop(results);
        for (seed, result) in told {
            match result {
                Ok(run) => totals += run,
                Err(_) => broken.push(seed),
            }
            if broken.len() == ENOUGH {
                next.store(seeds.end, Ordering::Relaxed);
            }
        }
    });
    broken.sort_unstable();
    Runs { totals, broken, took: begun.elapsed().as_secs_f64() }
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What is wrong with a seed, by the smallest part of its plan that shows it.
pub fn explain(seed: u64) -> String {
    let plan = generate::plan(seed);
    let kept = shrink(&plan, |part| !play(part, false).oracle.broken.is_empty());
    let smallest = only(&plan, &kept);
    let mut broken = play(&smallest, false).oracle.broken;
    broken.truncate(MOST_TOLD);
    let wrong = broken.join("\n  ");
    let steps = steps(&kept);
    format!(
        "seed {seed}, of {} steps these:\n{smallest}\nbreak the contract:\n  {wrong}\nagain: \
         SEED={seed} KEEP={steps} cargo test -p amop-protocol --test sim random -- --nocapture\n",
        plan.steps.len(),
    )
}

/// `3,7-9`: as [`parse_steps`] reads it.
fn steps(kept: &[usize]) -> String {
    let runs = kept.chunk_by(|a, b| a + 1 == *b);
    let named = runs.map(|run| match run {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    named.collect::<Vec<_>>().join(",")
}

/// Numbers and ranges of steps, separated by commas.
pub fn parse_steps(kept: &str) -> Vec<usize> {
    let number = |digits: &str| digits.parse().unwrap_or_else(|_| panic!("{digits} is no number of a step"));
    kept.split(',')
        .flat_map(|run| match run.split_once('-') {
            Some((first, last)) => number(first)..number(last) + 1,
            None => number(run)..number(run) + 1,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_named_and_read() {
        let kept = [0, 1, 2, 5, 9, 10];
        assert_eq!(steps(&kept), "0-2,5,9-10");
        assert_eq!(parse_steps("0-2,5,9-10"), kept);
    }
}
