//! `amop drain`: has a node stop in order, as SIGTERM does, from wherever its admin port is reached.
//!
//! Exit codes with `--wait`: 0 when the node stopped and everything in flight had its outcome; 1 when
//! it was refused, or sends were cut at the end of the grace period, or the end could not be followed.

use std::{process::ExitCode, time::Duration};

use crate::{
    cli::{
        ask::{Intent, Node},
        output,
    },
    telemetry::{
        client::{AskError, Asker},
        status::{Drain, Phase},
    },
};

/// How often the node is asked how far it is.
const LOOK: Duration = Duration::from_millis(100);

/// Which node to stop.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    node: Node,
    /// Follow the node until it has stopped, and say how it went
    #[arg(long)]
    wait: bool,
    /// Print JSON, for scripts: one line for each change
    #[arg(long)]
    json: bool,
}

/// Tells the node, and follows it if that is asked for.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let asker = args.node.asker(Intent::Change)?;
    let begun = asker.drain().await?;
    show(&args, &begun)?;
    if !args.wait {
        return Ok(ExitCode::SUCCESS);
    }
    follow(&args, &asker, begun).await
}

async fn follow(args: &Args, asker: &Asker, mut last: Drain) -> anyhow::Result<ExitCode> {
    while last.phase != Phase::Stopped {
        tokio::time::sleep(LOOK).await;
        let now = match asker.draining().await {
            Ok(now) => now,
            Err(error) if is_end(&error) => {
                anyhow::bail!("the node has ended before it could say how it went; its log has it")
            }
            Err(error) => return Err(error.into()),
        };
        if (now.phase, now.in_flight, now.clients) != (last.phase, last.in_flight, last.clients) {
            show(args, &now)?;
        }
        last = now;
    }
    let cut = last.cut.unwrap_or_default();
    Ok(if cut == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether it means that the process is gone, or going.
fn is_end(error: &AskError) -> bool {
    error.is_nobody()
        || matches!(error, AskError::Http { .. } | AskError::Body { .. } | AskError::Connect { .. })
}

fn show(args: &Args, drain: &Drain) -> anyhow::Result<()> {
    if args.json {
        return output::json(drain);
    }
    Ok(output::say(describe(drain))?)
}

fn describe(drain: &Drain) -> String {
    let Drain { phase, in_flight, clients, grace_ms, cut, clients_closed } = drain;
    match phase {
        Phase::Serving => "serving".to_owned(),
        Phase::Draining => format!(
            "draining: {in_flight} sends in flight, {clients} clients connected, {:.1} s of grace left",
            Duration::from_millis(*grace_ms).as_secs_f64()
        ),
        Phase::Stopped => match (cut.unwrap_or_default(), clients_closed.unwrap_or(true)) {
            (0, true) => output::good("stopped gracefully"),
            (0, false) => output::warning("stopped; some clients did not take their last frames"),
            (cut, _) => {
                output::warning(format_args!("stopped; {cut} sends were cut, each of which was told so"))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_described() {
        let drain = |phase, cut| Drain {
            phase,
            in_flight: 3,
            clients: 2,
            grace_ms: 4_600,
            cut,
            clients_closed: Some(true),
        };
        let text = describe(&drain(Phase::Draining, None));
        assert_eq!(text, "draining: 3 sends in flight, 2 clients connected, 4.6 s of grace left");
        assert!(describe(&drain(Phase::Stopped, Some(0))).contains("gracefully"));
        assert!(describe(&drain(Phase::Stopped, Some(7))).contains("7 sends were cut"));
    }
}
