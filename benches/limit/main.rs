//! Nodes beside the limit of the machine: two processes that forward frames over mutual TLS and do nothing else.
//!
//! `cargo bench --bench limit` puts every work to the relays of frames (`limit`), those of bare bytes (`raw`) and nodes of
//! ours (`amop`) in turn, and prints tables with ratios, and what is to be reached; `-- --help` says what can be
//! set. Nothing needs to be installed; `benches/peers` does the same beside other products.

use std::{path::Path, process::ExitCode, sync::Arc};

use amop_limit::{
    compare::Options,
    setup::{Role, Setup, contenders},
};
use amop_load::children;
use anyhow::Context;
use clap::Parser;

/// Measures nodes beside the limit: minimal relays over the same TLS.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// A process of the bench itself
    #[command(subcommand)]
    role: Option<Role>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    match args.role {
        Some(role) => Ok(role.play()),
        None => measure(&args.options),
    }
}

fn measure(options: &Options) -> anyhow::Result<ExitCode> {
    children::raise_open_files().context("cannot raise the number of open files")?;
    let dir = tempfile::tempdir()?;
    let setup = Arc::new(Setup::new(dir.path())?);
    let complete = options.compare(contenders(&setup, Path::new(env!("CARGO_BIN_EXE_amop"))), dir.path())?;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
