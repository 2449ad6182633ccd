//! `amop peers`: which nodes a node reaches, and how its links are doing.

use std::process::ExitCode;

pub(super) use super::ask::Ask as Args;
use crate::{
    cli::output::{self, amount, rate},
    telemetry::status::{Link, Peer},
};

/// Asks and prints.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.run(async |asker| asker.peers().await, |peers| describe(peers)).await
}

fn describe(peers: &[Peer]) -> String {
    if peers.is_empty() {
        return "no other node is reachable".to_owned();
    }
    let headings = ["NODE", "INSTITUTION", "HOPS", "VIA", "ROUND TRIP", "UP", "IN", "OUT", "QUEUED", "ID"];
    let rows: Vec<_> = peers.iter().map(row).collect();
    output::table(headings, &rows)
}

fn row(peer: &Peer) -> [String; 10] {
    let of_link = |show: fn(&Link) -> String| peer.link.as_ref().map(show).unwrap_or_default();
    [
        peer.name.clone(),
        peer.institution.clone(),
        peer.hops.to_string(),
        peer.via.clone().unwrap_or_default(),
        peer.round_trip_us.map(|us| format!("{us} µs")).unwrap_or_default(),
        of_link(|link| output::duration(link.up_seconds)),
        of_link(|link| rate(link.received.bytes_per_second)),
        of_link(|link| rate(link.sent.bytes_per_second)),
        of_link(|link| amount(link.queued_bytes)),
        peer.node_id.chars().take(16).collect(),
    ]
}
