//! Everything others can fill, with its bound, what happens there, and the metric that shows it:
//! the list that docs/operations.md shows.
//!
//! Values come from what keeps to them: constants, and the settings that a configuration leads to.

use amop_protocol::limits::{self, Bound, Limit, Policy};

use super::{control, data_path::SHARDS, failures, reload, settings, trace};
use crate::{client_port, config::Config, identity, overlay, telemetry};

/// All limits of a node with this configuration.
pub fn limits(config: &Config) -> Vec<Limit> {
    let mut all = client_port::limits(&settings::of_client_port(config));
    all.extend(overlay::limits(&settings::overlay(config)));
    all.extend(limits::of_gossip(&settings::control(config)));
    all.extend(limits::of_delivery(&settings::delivery(config), SHARDS));
    all.extend(telemetry::limits());
    all.extend(own(config));
    all.extend(trace::limits(config));
    all
}

fn own(config: &Config) -> Vec<Limit> {
    use Bound::{Bytes, Count, Mbit};
    let limits = &config.limits;
    vec![
        Limit::new(
            "payloads of messages in flight",
            Bytes(limits.payload_bytes),
            Policy::Refuse(103),
            "with the time to wait. Each counts 1 KiB more than its payload, and so does each node's part of a report on recipients. The last eighth is kept for clients and origins that hold less than a sixteenth",
        )
        .key("limits.payloads")
        .metric("amop_delivery_outcomes_total{cause=\"CAUSE_NO_ROOM\"}"),
        Limit::new(
            "bandwidth of all clients",
            Mbit(limits.outgoing_bandwidth_limit),
            Policy::Refuse(103),
            "with the time to wait; never a client within its share",
        )
        .key("limits.outgoing_bandwidth_limit")
        .metric("amop_delivery_outcomes_total{cause=\"CAUSE_NODE_BANDWIDTH\"}"),
        Limit::new(
            "bandwidth of one client",
            Mbit(limits.client_bandwidth_limit),
            Policy::Refuse(103),
            "with the time to wait",
        )
        .key("limits.client_bandwidth_limit")
        .metric("amop_delivery_outcomes_total{cause=\"CAUSE_CLIENT_QUOTA\"}"),
        Limit::new(
            "bandwidth passed on for other nodes",
            Mbit(limits.relay_bandwidth_limit),
            Policy::Refuse(103),
            "another way comes first, if there is one; with the time to wait",
        )
        .key("limits.relay_bandwidth_limit")
        .metric("amop_delivery_relay_refused_frames_total"),
        Limit::new(
            "commands of sessions that wait for the control task",
            Count(control::COMMANDS),
            Policy::Wait,
            "the sessions' further frames wait; reports of more than 500 topics let shorter ones go first",
        ),
        Limit::new(
            "requests to load certificates again that wait",
            Count(reload::REQUESTS),
            Policy::Wait,
            "whoever asks for one more",
        ),
        Limit::new(
            "failed sends that the web page names",
            Count(failures::MAX_FAILURES),
            Policy::GiveWay,
            "the oldest; the counters have all",
        )
        .metric("amop_delivery_outcomes_total"),
        Limit::new(
            "connections that wait to be accepted, of clients and of nodes each",
            Count(identity::BACKLOG as usize),
            Policy::Wait,
            "if the system allows so many (net.core.somaxconn); whoever comes then tries again after a second",
        ),
        Limit::new(
            "log lines of one kind that strangers cause, in a second",
            Count(identity::Throttle::LINES),
            Policy::Drop,
            "the next line says how many were left out",
        )
        .metric("amop_client_port_handshakes_failed_total"),
    ]
}

/// The table of docs/operations.md.
pub fn table(limits: &[Limit]) -> String {
    let mut text = "| what | default | key | when reached | metric |\n|---|---|---|---|---|\n".to_owned();
    for Limit { what, bound, key, policy, then, metric } in limits {
        let code = |name: &Option<&str>| name.map(|name| format!("`{name}`")).unwrap_or_default();
        let when = match *then {
            "" => policy.to_string(),
            then => format!("{policy}: {then}"),
        };
        text += &format!("| {what} | {bound} | {} | {when} | {} |\n", code(key), code(metric));
    }
    text
}
