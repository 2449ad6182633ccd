//! `amop routes`: over which neighbour a node sends to each other node.

use std::process::ExitCode;

pub(super) use super::ask::Ask as Args;
use crate::{cli::output, telemetry::status::Route};

/// Asks and prints.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.run(async |asker| asker.routes().await, |routes| describe(routes)).await
}

fn describe(routes: &[Route]) -> String {
    if routes.is_empty() {
        return "no other node is reachable".to_owned();
    }
    let row = |route: &Route| {
        let id = route.node_id.chars().take(16).collect();
        [route.name.clone(), route.next_hop.clone(), route.hops.to_string(), id]
    };
    output::table(["NODE", "NEXT HOP", "HOPS", "ID"], &routes.iter().map(row).collect::<Vec<_>>())
}
