//! Real faults on real processes: nodes that are killed, hang, restart, run out of things; links
//! that lose, delay, swallow and reset. Every test prints its figures.
//!
//! Beside the integration tests because it takes minutes, and wants the machine for itself:
//! `cargo test --test faults -- --nocapture`. One scenario runs at a time, whatever the number of threads.

mod certificates;
mod commands;
mod descriptors;
mod files;
mod lines;
mod load;
mod logs;
mod net;
mod partition;
mod proxy;
mod relay;
mod rolling;
mod weather;

/// A line of figures.
#[expect(clippy::print_stdout, reason = "the figures are what a scenario is run for")]
fn say(figures: impl std::fmt::Display) {
    println!("{figures}");
}
