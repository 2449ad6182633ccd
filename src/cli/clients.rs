//! `amop clients`: who is connected to a node.

use std::process::ExitCode;

use crate::{
    cli::{ask, output},
    telemetry::status::{Client, Page},
};

/// Which clients to show.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only clients whose names begin so
    #[arg(long, value_name = "NAME")]
    prefix: Option<String>,
    /// Show so many at most
    #[arg(long, value_name = "NUMBER", default_value_t = Page::LIMIT)]
    limit: usize,
    #[command(flatten)]
    ask: ask::Ask,
}

/// Asks and prints.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let page = Page { prefix: args.prefix, limit: Some(args.limit), after: None };
    let ask = async |asker: crate::telemetry::client::Asker| asker.clients_on(&page).await;
    args.ask.run(ask, |clients| describe(clients)).await
}

fn describe(clients: &[Client]) -> String {
    if clients.is_empty() {
        return "no client is connected".to_owned();
    }
    let headings = [
        "SESSION",
        "CLIENT",
        "INSTITUTION",
        "ADDRESS",
        "SPEAKS",
        "TOPICS",
        "CONNECTED",
        "QUEUED",
        "CERTIFICATE",
    ];
    let row = |client: &Client| {
        [
            client.session.to_string(),
            client.name.clone(),
            client.institution.clone(),
            client.address.to_string(),
            client.dialect.clone(),
            client.topics.to_string(),
            output::duration(client.connected_seconds),
            output::amount(client.queued_bytes as u64),
            client.fingerprint.chars().take(16).collect(),
        ]
    };
    output::table(headings, &clients.iter().map(row).collect::<Vec<_>>())
}
