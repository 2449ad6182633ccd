//! The amop node: an IO shell around [`amop_protocol`], and the programs that use it.

pub mod cli;
pub mod client_port;
pub mod config;
pub mod identity;
pub mod node;
pub mod overlay;
pub mod tasks;
pub mod telemetry;

/// README.md's program, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
