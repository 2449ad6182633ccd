//! Raises throwaway consortia and meshes for tests and benches.
//!
//! - [`ca`] makes certificates, good and bad.
//! - [`collector`] takes traces.
//! - [`network`] is a network as one node's core knows it, without the network.
//! - [`process`] runs nodes as processes of their own.
//! - [`wait`] waits for a condition, with a deadline.

pub mod ca;
pub mod collector;
pub mod network;
pub mod process;
pub mod wait;
