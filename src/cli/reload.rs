//! `amop reload`: has a node load its configuration and certificates from their files, and says what came of it.

use std::process::ExitCode;

use crate::{
    cli::{
        ask::{Intent, Node},
        output,
    },
    telemetry::status::{Certificate, ChangedSetting, Reload},
};

/// Which node.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "All or nothing: if anything in the configuration or in the files of certificates is wrong, nothing changes and \
        this says why. Without being told, a node loads only certificates, whose files it looks at every second."
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

fn describe(Reload { added, removed, changed, at_restart }: &Reload) -> Vec<String> {
    let line = |what, Certificate { of, subject, serial, days_left, .. }: &Certificate| {
        format!("{what}: {of} {subject}, serial {serial}, {days_left} days left")
    };
    let mut lines: Vec<_> = added.iter().map(|it| line("in force", it)).collect();
    lines.extend(removed.iter().map(|it| line("no longer in force", it)));
    lines.extend(changed.iter().map(|ChangedSetting { key, change }| format!("changed: {key}: {change}")));
    if lines.is_empty() {
        lines.push("nothing has changed".to_owned());
    }
    let waits = |ChangedSetting { key, change }: &ChangedSetting| {
        format!("not before the next start: {key}: {change}")
    };
    lines.extend(at_restart.iter().map(waits));
    lines
}
