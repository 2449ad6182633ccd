//! `amop topics`: which topics a node knows, and where they are subscribed.

use std::process::ExitCode;

use crate::{
    cli::output,
    telemetry::{client, status::Topic},
};

pub(super) use super::status::Args;

/// Asks and prints.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let topics = client::topics(args.address()?).await?;
    if args.json {
        output::json(&topics)?;
        return Ok(ExitCode::SUCCESS);
    }
    if topics.is_empty() {
        output::say("no topic has a subscriber")?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<[String; 3]> = topics.into_iter().map(row).collect();
    output::say(output::table(["TOPIC", "HERE", "ELSEWHERE"], &rows))?;
    Ok(ExitCode::SUCCESS)
}

fn row(topic: Topic) -> [String; 3] {
    let elsewhere: Vec<String> =
        topic.nodes.iter().map(|node| format!("{} ({})", node.name, node.subscribers)).collect();
    [topic.topic, topic.local_sessions.to_string(), elsewhere.join(", ")]
}
