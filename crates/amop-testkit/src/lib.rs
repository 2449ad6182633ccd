//! Raises throwaway consortia and meshes for tests and benches.
//!
//! - [`ca`] makes certificates, good and bad.
//! - [`process`] runs nodes as processes of their own.
//! - [`wait`] waits for a condition, with a deadline.

pub mod ca;
pub mod process;
pub mod wait;
