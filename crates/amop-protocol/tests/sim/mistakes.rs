//! Whether the simulation would notice: mistakes put into the core on purpose.

use std::sync::atomic::{AtomicU64, Ordering};

use amop_protocol::mutations::{self, Mutation};

use crate::{
    generate::PRIVATE,
    runs::{cores, judged},
};

/// Seeds within which each mistake must be caught.
const SEEDS: u64 = 400;

#[test]
fn every_mistake_is_caught() {
    let caught: Vec<(Mutation, Option<u64>)> =
        Mutation::ALL.into_iter().map(|mutation| (mutation, first_to_catch(mutation))).collect();
    for (mutation, seed) in &caught {
        match seed {
            Some(seed) => {
                let wrong = mutations::with(Some(*mutation), || judged(*seed)).err().unwrap_or_default();
                let wrong = wrong.first().map_or("", String::as_str);
                println!("{mutation:?} is caught after {} seeds: {wrong}", seed % PRIVATE + 1);
            }
            None => println!("{mutation:?} is not caught by {SEEDS} seeds"),
        }
    }
    assert!(caught.iter().all(|(_, seed)| seed.is_some()), "{caught:?}");
}

/// The first seed whose run breaks the contract with this mistake in the core.
fn first_to_catch(mutation: Mutation) -> Option<u64> {
    let first = if mutation.is_private() { PRIVATE } else { 0 };
    let end = first + SEEDS;
    let (next, found) = (AtomicU64::new(first), AtomicU64::new(end));
    std::thread::scope(|scope| {
        for _ in 0..cores() {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= found.load(Ordering::Relaxed) {
                        return;
                    }
                    if mutations::with(Some(mutation), || judged(seed)).is_err() {
                        found.fetch_min(seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    Some(found.into_inner()).filter(|seed| *seed < end)
}
