//! `amop status`: a node at a glance. Also says where a node's admin port is found for the
//! other commands that ask one.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use crate::{
    cli::output,
    config,
    telemetry::{
        client,
        status::{Listener, Status},
    },
};

/// Which node to ask, and how to print what it says.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The node's admin address
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:20300")]
    admin: SocketAddr,
    /// Take the admin address from this node's configuration
    #[arg(long, value_name = "FILE", conflicts_with = "admin")]
    config: Option<PathBuf>,
    /// Print JSON, for scripts
    #[arg(long)]
    pub(super) json: bool,
}

impl Args {
    /// Where the node's admin port is.
    pub(super) fn address(&self) -> anyhow::Result<SocketAddr> {
        match &self.config {
            None => Ok(self.admin),
            Some(path) => Ok(config::load(path)?.admin.listen),
        }
    }
}

/// Asks and prints.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let status = client::status(args.address()?).await?;
    if args.json {
        output::json(&status)?;
    } else {
        output::say(describe(&status))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(status: &Status) -> String {
    let admin = status.addresses.admin.map_or_else(|| "off".to_owned(), |address| address.to_string());
    let state = if status.ready { output::good("ready") } else { output::warning("not ready") };
    let rows = [
        ("node", output::bold(&status.name)),
        ("institution", status.institution.clone()),
        ("id", status.node_id.clone()),
        ("state", format!("{state}, up {}", duration(status.uptime_seconds))),
        ("version", format!("{}, epoch {}", status.version, status.epoch)),
        ("clients at", format!("{} (connected: {})", listeners(&status.addresses.listeners), status.clients)),
        (
            "overlay at",
            format!(
                "{} (links: {}, nodes reached: {})",
                status.addresses.overlay, status.links, status.nodes
            ),
        ),
        ("admin at", admin),
        ("topics", format!("{} of its own clients", status.topics)),
    ];
    rows.map(|(what, value)| format!("{what:12} {value}")).join("\n")
}

fn listeners(all: &[Listener]) -> String {
    let describe = |Listener { address, profile }: &Listener| match &**profile {
        "default" => address.to_string(),
        profile => format!("{address} ({profile})"),
    };
    all.iter().map(describe).collect::<Vec<_>>().join(" and ")
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(61), "1 min 1 s");
        assert_eq!(duration(7_260), "2 h 1 min");
        assert_eq!(duration(90_000), "1 d 1 h");
    }
}
