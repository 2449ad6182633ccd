//! What a node shows of itself: log lines, metrics, health and status.
//!
//! Components own and register their metrics; this module owns the registry's shape, the admin
//! port that serves it, and the types of the status API, which the command line reads back.

pub mod admin;
pub mod client;
mod limits;
mod lines;
pub mod logging;
pub mod metrics;
pub mod otlp;
pub mod overview;
mod process;
pub mod status;
pub mod trace;

pub(crate) use self::limits::limits;
