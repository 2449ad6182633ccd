//! `amop node`: one node, until it is told to stop.
//!
//! Exit codes: 0 after an orderly stop; 1 when it could not start, was stopped a second time
//! before the first stop was complete, or ended by itself.

use std::{io::Read, path::PathBuf, process::ExitCode};

use anyhow::Context;
use tokio::sync::oneshot;

use crate::{
    cli::{output, signals::Signals},
    config,
    node::Node,
    telemetry::logging,
};

/// When this variable is set, a node stops in order as soon as its standard input closes. `amop
/// devnet` sets it: so its nodes end with it, however it ends.
pub(super) const STOP_WITH_STDIN: &str = "AMOP_STOP_WITH_STDIN";

/// Which node to run.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The node's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check configuration and certificates, say what is wrong, and run nothing
    #[arg(long)]
    check: bool,
}

/// Runs the node, or only checks what it would run with.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.check {
        return check(&args);
    }
    let config = config::load(&args.config)?;
    logging::start(&config.logging.filter, config.logging.format)?;
    let mut signals = Signals::new()?;
    let mut stdin_closed = stdin_closed();
    let node = tokio::select! {
        biased;
        () = signals.recv() => return Ok(ExitCode::SUCCESS),
        started = Node::start(config) => started?,
    };
    let mut node = node;
    tokio::select! {
        biased;
        () = signals.recv() => tracing::info!("told to stop"),
        () = &mut stdin_closed => tracing::info!("standard input has closed; stopping"),
        () = node.ended() => {
            node.shutdown().await;
            anyhow::bail!("the node has ended by itself; its log says why");
        }
    }
    tokio::select! {
        biased;
        () = signals.recv() => anyhow::bail!("told to stop a second time; ended at once"),
        _report = node.shutdown() => Ok(ExitCode::SUCCESS),
    }
}
