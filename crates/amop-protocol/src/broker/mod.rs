//! Who wants what, where they are, and every message's way to its one outcome.

pub mod announce;
pub mod bandwidth;
pub mod budget;
pub mod control;
pub mod dedup;
pub mod deliver;
pub mod event;
pub mod inquiry;
pub mod journal;
pub mod lists;
pub mod pace;
pub mod private;
pub mod routing;
pub mod seal;
pub mod settle;
pub mod subscriptions;
#[cfg(test)]
mod testing;
pub mod timer;
pub mod topology;
pub mod wishes;
