//! `amop status`: a node at a glance.

use std::process::ExitCode;

pub(super) use super::ask::Ask as Args;
use crate::{
    cli::output,
    telemetry::{
        client::{AskError, Asker},
        status::{Certificate, ConfiguredPeer, Listener, PeerState, Status, Usage},
    },
};

/// Limits are shown from this part of them on, in percent.
const NEAR: u64 = 50;
/// Certificates are shown in yellow with so many days left.
const SOON: i64 = 30;

/// What is shown for people; `--json` gives the status alone, as ever.
#[derive(serde::Serialize)]
struct Shown {
    #[serde(flatten)]
    status: Status,
    #[serde(skip)]
    limits: Vec<Usage>,
    #[serde(skip)]
    certificates: Vec<Certificate>,
}

/// Asks and prints.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.run(look, describe).await
}

async fn look(asker: Asker) -> Result<Shown, AskError> {
    let status = asker.status().await?;
    // Nodes of an older version have no such pages.
    let limits = asker.limits().await.unwrap_or_default();
    let certificates = asker.certificates().await.unwrap_or_default();
    Ok(Shown { status, limits, certificates })
}

fn describe(shown: &Shown) -> String {
    let status = &shown.status;
    let admin = status.addresses.admin.map_or_else(|| "off".to_owned(), |address| address.to_string());
    let state = match (status.ready, status.not_ready.as_slice()) {
        (true, _) => output::good("ready"),
        (false, []) => output::warning("not ready"),
        (false, why) => output::warning(format_args!("not ready ({})", why.join("; "))),
    };
    let rows = [
        ("node", output::bold(&status.name)),
        ("institution", status.institution.clone()),
        ("id", status.node_id.clone()),
        ("state", format!("{state}, up {}", output::duration(status.uptime_seconds))),
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
    let mut lines: Vec<String> = rows.map(|(what, value)| line(what, &value)).into();
    lines.extend(status.configured_peers.iter().filter_map(missing));
    if !status.at_restart.is_empty() {
        let keys =
            format!("changed in the file, not before the next start: {}", status.at_restart.join(", "));
        lines.push(line("config", &output::warning(keys)));
    }
    lines.extend(shown.certificates.iter().filter(|found| found.of != "root").map(certificate));
    lines.extend(shown.limits.iter().filter_map(near));
    lines.join("\n")
}

fn line(what: &str, value: &str) -> String {
    format!("{what:12} {value}")
}

/// A configured peer without a link.
fn missing(peer: &ConfiguredPeer) -> Option<String> {
    let ConfiguredPeer { address, state, failures, error } = peer;
    let why = error.as_deref().unwrap_or("not tried yet");
    match state {
        PeerState::Linked => None,
        PeerState::Own => Some(line("peer", &output::warning(format_args!("{address} is this very node")))),
        PeerState::Dialling | PeerState::Waiting if *failures == 0 => None,
        PeerState::Dialling | PeerState::Waiting => Some(line(
            "peer",
            &output::warning(format_args!("{address}: no link, {failures} attempts failed: {why}")),
        )),
    }
}

fn certificate(found: &Certificate) -> String {
    let days = format!("{} days left: {}", found.days_left, found.subject);
    line("certificate", &if found.days_left < SOON { output::warning(days) } else { days })
}

/// A limit that the node comes near to.
fn near(limit: &Usage) -> Option<String> {
    let (used, most) = (limit.used?, limit.most.filter(|most| *most > 0)?);
    let percent = u64::try_from(u128::from(used) * 100 / u128::from(most)).ok()?;
    let text = || {
        format!(
            "{percent} % of {} ({}): {}",
            limit.bound,
            limit.key.as_deref().unwrap_or("fixed"),
            limit.what
        )
    };
    (percent >= NEAR).then(|| line("limit", &output::warning(text())))
}

fn listeners(all: &[Listener]) -> String {
    let describe = |Listener { address, profile }: &Listener| match &**profile {
        "default" => address.to_string(),
        profile => format!("{address} ({profile})"),
    };
    all.iter().map(describe).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_shown_when_it_is_near() {
        let usage = |used, most| Usage {
            what: "clients connected".into(),
            bound: "4,096".into(),
            most,
            used,
            key: Some("client_port.max_clients".into()),
            policy: "disconnect".into(),
            metric: None,
        };
        assert!(near(&usage(Some(2_047), Some(4_096))).is_none());
        let text = near(&usage(Some(4_000), Some(4_096))).unwrap();
        assert!(text.contains("97 % of 4,096 (client_port.max_clients)"), "{text}");
        assert!(near(&usage(None, Some(1))).is_none() && near(&usage(Some(1), None)).is_none());
        assert!(near(&usage(Some(1), Some(0))).is_none());
    }
}
