//! A node: overlay, client port and core, put together.
//!
//! Only here do the two ports meet. `control` owns announcements and routes, `data_path`
//! moves messages, `supervisor` starts and stops everything in the right order.
//!
//! Tasks of its own: `control` (woken by commands, overlay events, its timer), `timers` (woken
//! when a delivery timer is due) and `reload` (woken every second, and by whoever asks). All are
//! vital: if one ends unasked, so does the node.

mod broker;
mod certificates;
mod control;
mod core_counters;
mod data_path;
mod endings;
mod failures;
mod gauges;
mod lifecycle;
pub mod limits;
mod links;
mod metrics;
mod overview;
mod reload;
mod sessions;
mod settings;
mod status;
mod supervisor;
mod trace;
mod trust;
mod usage;

pub use self::{
    reload::Reloaded,
    supervisor::{Node, NodeHandle, Report, StartError},
};
