//! Raises throwaway consortia and meshes for tests and benches.
//!
//! - [`ca`] makes certificates, good and bad.
//! - [`wait`] waits for a condition, with a deadline.

pub mod ca;
pub mod wait;
