//! Load for systems that pass messages on: works, and what is measured of them.
//!
//! A system takes part by implementing [`system::Cluster`] with clients of its own; what is sent, when, and what counts as an
//! answer is decided here, once, so that figures of different systems are comparable. This crate knows no system:
//! neither ours nor another, nor TLS.

pub mod children;
pub mod clock;
pub mod meter;
pub mod payload;
pub mod record;
pub mod report;
mod sink;
pub mod system;
pub mod work;
