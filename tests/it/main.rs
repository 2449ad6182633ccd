//! The integration tests: one binary, one module per theme.

mod admin;
mod badinput;
mod bench;
mod cli;
mod delivery;
mod devnet;
mod failover;
mod files;
mod fisco;
mod limits;
mod mesh;
mod metrics;
mod plain2x;
mod private;
mod process;
mod provoke;
mod relay;
mod reload;
mod shutdown;
mod tidy;
mod trace;
mod traps;
