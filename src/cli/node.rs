//! `amop node`: one node, until it is told to stop.
//!
//! Exit codes: 0 after an orderly stop; 1 when it could not start, was stopped a second time
//! before the first stop was complete, or ended by itself.

use std::{
    io::{IsTerminal, Read},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use tokio::sync::oneshot;

use crate::{
    cli::{output, signals::Signals},
    config::{self, Listener, Log, LogFormat},
    node::Node,
    telemetry::logging::{self, Logging},
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
    let (config, credentials) = config::check(&args.config)?;
    let _logging = start_logging(&config.log)?;
    let mut signals = Signals::new()?;
    let mut hang_ups = signals.take_hang_ups()?;
    let stdin_closed = stdin_closed();
    tokio::pin!(stdin_closed);
    let mut node = tokio::select! {
        biased;
        () = signals.recv() => return Ok(ExitCode::SUCCESS),
        started = Node::start(config, credentials) => started?,
    };
    loop {
        tokio::select! {
            biased;
            () = signals.recv() => tracing::info!("told to stop"),
            () = &mut stdin_closed => tracing::info!("standard input has closed; stopping"),
            // Somebody with the authority: the log has said who.
            () = node.asked_to_stop() => {}
            () = node.ended() => {
                node.shutdown().await;
                anyhow::bail!("the node has ended by itself; its log says why");
            }
            () = hang_ups.recv() => {
                // The log says what came of it.
                let _ = node.reload().await;
                continue;
            }
        }
        break;
    }
    tokio::select! {
        biased;
        () = signals.recv() => anyhow::bail!("told to stop a second time; ended at once"),
        _report = node.shutdown() => Ok(ExitCode::SUCCESS),
    }
}

fn check(args: &Args) -> anyhow::Result<ExitCode> {
    let (config, credentials) = config::check(&args.config)?;
    Node::check(&config)?;
    let subject = credentials.subject();
    output::say(format_args!(
        "{} is in order: node {} of {}, clients at {}, overlay at {}, admin at {}",
        args.config.display(),
        config.node.name.as_deref().unwrap_or(&subject.name),
        subject.institution,
        clients_at(&config.client_port.listeners),
        config.overlay.listen,
        config.admin.listen,
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn clients_at(listeners: &[Listener]) -> String {
    listeners.iter().map(|listener| listener.listen.to_string()).collect::<Vec<_>>().join(" and ")
}

fn start_logging(log: &Log) -> Result<Logging, logging::StartError> {
    let format = match log.format {
        LogFormat::Text => logging::Format::Text,
        LogFormat::Json => logging::Format::Json,
        LogFormat::Auto if std::io::stderr().is_terminal() => logging::Format::Text,
        LogFormat::Auto => logging::Format::Json,
    };
    logging::start(&log.level, format)
}

/// Resolves when standard input closes, if [`STOP_WITH_STDIN`] asks for that; otherwise never.
async fn stdin_closed() {
    if std::env::var_os(STOP_WITH_STDIN).is_none() {
        return std::future::pending().await;
    }
    let (closed, wait) = oneshot::channel();
    // A thread of its own: a blocked read cannot be cancelled, and must not hold up the runtime's end.
    let reader = std::thread::Builder::new().name("stdin".into()).spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut ignored = [0; 64];
        while stdin.read(&mut ignored).is_ok_and(|read| read > 0) {}
        let _ = closed.send(());
    });
    match reader.context("cannot watch standard input") {
        Ok(_) => drop(wait.await),
        Err(error) => {
            tracing::warn!(%error, "standard input is not watched");
            std::future::pending().await
        }
    }
}
