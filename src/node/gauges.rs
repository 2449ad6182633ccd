//! How things stand in the node, read when somebody asks for metrics.

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use tokio::runtime::Handle;

use super::{data_path::Standing, status::Source};
use crate::telemetry::status::{StatusSource, Usage};

/// Shows what [`Source`] knows.
pub(super) struct Gauges {
    source: Arc<Source>,
    runtime: Handle,
}

/// A gauge: its name, what it shows, and where it stands.
type Row = (&'static str, &'static str, fn(&Gauges, &Standing) -> f64);

const GAUGES: &[Row] = &[
    ("node_ready", "1 if the node is ready, else 0", |g, _| {
        f64::from(u8::from(g.source.not_ready().is_empty()))
    }),
    ("control_nodes", "Nodes that are reachable, this one included", |g, _| {
        count(g.source.data.routing().reachable().count())
    }),
    ("control_topics", "Topics that are known, with a subscriber anywhere", |g, _| {
        count(g.source.data.routing().topics().count())
    }),
    ("control_own_topics", "Topics of this node's clients", |g, _| {
        count(g.source.data.routing().topics().filter(|(_, routes)| !routes.sessions.is_empty()).count())
    }),
    ("overlay_round_trip_max_seconds", "Round-trip time to the farthest neighbour", |g, _| {
        g.source.links.round_trips().into_iter().max().unwrap_or_default().as_secs_f64()
    }),
    ("overlay_round_trip_mean_seconds", "Round-trip time to neighbours, on average", |g, _| {
        mean(&g.source.links.round_trips())
    }),
    ("overlay_queued_bytes", "Bytes that wait for all links", |g, _| {
        count(g.source.links.queued().iter().sum())
    }),
    ("client_port_queued_bytes", "Bytes that wait for all clients", |g, _| {
        count(g.source.queued_for_clients().sum())
    }),
    ("delivery_in_flight", "Sends that have no outcome yet", |g, _| count(g.source.data.in_flight())),
    ("delivery_pushes_in_flight", "Messages given to sessions that have not answered", |_, held| {
        count(held.pushes)
    }),
    ("delivery_remembered", "Messages remembered, so that none runs twice", |_, held| count(held.remembered)),
    ("delivery_remembered_bytes", "Bytes of outcomes that are remembered", |_, held| {
        count(held.remembered_bytes)
    }),
    ("delivery_timers", "Timers that are armed, most of which will find nothing to do", |_, held| {
        count(held.timers)
    }),
    ("delivery_resting", "Messages that failed at a session and may be asked for again", |_, held| {
        count(held.resting)
    }),
    (
        "certificates_first_expiry_timestamp_seconds",
        "When the first of the node's certificates expires, Unix time",
        |g, _| g.source.certificates.first_to_expire().unwrap_or_default() as f64,
    ),
    ("tasks_alive", "Tasks of the node", |g, _| count(g.runtime.metrics().num_alive_tasks())),
    ("tasks_queued", "Tasks that could run and wait for a thread", |g, _| {
        count(g.runtime.metrics().global_queue_depth())
    }),
];

impl Gauges {
    /// Of the node that runs in the runtime this is called in.
    pub(super) fn new(source: Arc<Source>) -> Self {
        Self { source, runtime: Handle::current() }
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let held = self.source.data.standing();
        for (name, help, read) in GAUGES {
            let gauge = ConstGauge::new(read(self, &held));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let changes = ConstCounter::new(self.source.data.routing().revision());
        let (name, help) = ("control_routing_changes", "Changes of routes and subscriptions");
        changes.encode(encoder.encode_descriptor(name, help, None, changes.metric_type())?)?;
        let usage = self.source.limits();
        let (name, help) = ("limits_used", "How much of a limit is taken, by whoever has the most");
        family(&mut encoder, name, help, &usage, |usage| usage.used)?;
        let (name, help) = ("limits_bound", "The limits whose use is known");
        family(&mut encoder, name, help, &usage, |usage| usage.used.and(usage.most))
    }
}

/// One gauge for each limit with a key; keys are a closed set.
fn family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    usage: &[Usage],
    value: impl Fn(&Usage) -> Option<u64>,
) -> Result<(), fmt::Error> {
    let of = |value: u64| ConstGauge::new(value as f64);
    let mut metric = encoder.encode_descriptor(name, help, None, of(0).metric_type())?;
    for usage in usage {
        if let (Some(key), Some(value)) = (usage.key.as_deref(), value(usage)) {
            of(value).encode(metric.encode_family(&[("limit", key)])?)?;
        }
    }
    Ok(())
}

fn count(count: usize) -> f64 {
    count as f64
}

fn mean(times: &[Duration]) -> f64 {
    let total: Duration = times.iter().sum();
    total.as_secs_f64() / count(times.len().max(1))
}

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gauges").finish_non_exhaustive()
    }
}
