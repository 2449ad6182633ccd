//! `amop topics`: which topics a node knows, and where they are subscribed.

use std::process::ExitCode;

use crate::{
    cli::{ask, output},
    telemetry::{
        client::Asker,
        status::{Page, Topic},
    },
};

/// Which topics to show.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only topics that begin so
    #[arg(long, value_name = "NAME")]
    prefix: Option<String>,
    /// Show so many at most; without it all
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
    #[command(flatten)]
    ask: ask::Ask,
}

/// Asks and prints.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let page = Page { prefix: args.prefix, limit: args.limit, after: None };
    args.ask.run(async |asker: Asker| asker.topics(&page).await, |topics| describe(topics)).await
}

fn describe(topics: &[Topic]) -> String {
    if topics.is_empty() {
        return "no topic has a subscriber".to_owned();
    }
    output::table(["TOPIC", "HERE", "ELSEWHERE"], &topics.iter().map(row).collect::<Vec<_>>())
}

fn row(topic: &Topic) -> [String; 3] {
    let elsewhere: Vec<String> =
        topic.nodes.iter().map(|node| format!("{} ({})", node.name, node.subscribers)).collect();
    [topic.topic.clone(), topic.local_sessions.to_string(), elsewhere.join(", ")]
}
