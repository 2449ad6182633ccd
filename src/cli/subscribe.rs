//! `amop subscribe`.

use std::process::ExitCode;

/// Arguments of `amop subscribe`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// Runs the command.
pub(super) async fn run(_args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("this command is not in this build")
}
