//! The integration tests: one binary, one module per theme.

mod delivery;
mod devnet;
mod mesh;
mod tidy;
