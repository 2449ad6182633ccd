//! `amop reload`: has a node load its certificates from their files, at once, and says what came of it.

use std::process::ExitCode;

use crate::{
    cli::{
        ask::{Intent, Node},
        output,
    },
    telemetry::status::{Certificate, Reload},
};

/// Which node.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A node looks at its files every second anyway. This says at once whether what is in them could be used."
)]
pub(super) struct Args {
    #[command(flatten)]
    node: Node,
    /// Print JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// Tells the node, and prints what has changed.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let reload = args.node.asker(Intent::Change)?.reload().await?;
    if args.json {
        output::json(&reload)?;
        return Ok(ExitCode::SUCCESS);
    }
    for line in describe(&reload) {
        output::say(line)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(Reload { added, removed }: &Reload) -> Vec<String> {
    let line = |what, Certificate { of, subject, serial, days_left, .. }: &Certificate| {
        format!("{what}: {of} {subject}, serial {serial}, {days_left} days left")
    };
    let mut lines: Vec<_> = added.iter().map(|it| line("in force", it)).collect();
    lines.extend(removed.iter().map(|it| line("no longer in force", it)));
    if lines.is_empty() {
        lines.push("nothing has changed".to_owned());
    }
    lines
}
