//! `amop peers`: which nodes a node reaches, and how.

use std::process::ExitCode;

use crate::{cli::output, telemetry::client};

pub(super) use super::status::Args;

/// Asks and prints.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let peers = client::peers(args.address()?).await?;
    if args.json {
        output::json(&peers)?;
        return Ok(ExitCode::SUCCESS);
    }
    if peers.is_empty() {
        output::say("no other node is reachable")?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<[String; 6]> = peers
        .into_iter()
        .map(|peer| {
            let round_trip = peer.round_trip_us.map_or_else(String::new, |us| format!("{us} µs"));
            let id = peer.node_id.chars().take(16).collect();
            [peer.name, peer.institution, peer.hops.to_string(), peer.via.unwrap_or_default(), round_trip, id]
        })
        .collect();
    output::say(output::table(["NODE", "INSTITUTION", "HOPS", "VIA", "ROUND TRIP", "ID"], &rows))?;
    Ok(ExitCode::SUCCESS)
}
