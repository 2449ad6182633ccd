//! Raises throwaway consortia and meshes for tests and benches.
//!
//! - [`ca`] makes certificates, good and bad.

pub mod ca;
