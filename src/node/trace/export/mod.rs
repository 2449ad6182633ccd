//! Spans of messages whose publishers have their trace recorded, for [`crate::telemetry::otlp`].
//!
//! Nothing is done for it where messages pass: a task reads, four times a second, what has been written into the
//! journals since (`follow`), and makes a span of each message that has ended (`shape`). With no collector configured
//! there is no such task. It is woken by time and by its group's end, and waits for nothing else.
//!
//! **Invariant**: what is exported comes from journals alone, so payloads and keys cannot be in it.

mod follow;
mod shape;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::registry::Registry;
use tokio::time::sleep;

pub(super) use self::follow::{MAX_FOLLOWED, MAX_STEPS};
use self::{follow::Follower, shape::Shape};
use super::who;
use crate::{
    config::{Collector, Config},
    identity::{self, Credentials, LoadError},
    node::{
        data_path::{DataPath, SHARDS},
        reload, settings,
    },
    tasks::{self, Tasks},
    telemetry::otlp::{self, Attribute, Dropped, Pace, Settings, Spans},
};

/// How often the journals are read.
const LOOK: Duration = Duration::from_millis(250);
/// The same while they fill fast.
const HASTY_LOOK: Duration = Duration::from_millis(25);

/// Reads journals and makes spans of what it finds.
struct Export {
    data: Arc<DataPath>,
    /// How far each journal was read.
    places: Vec<u64>,
    /// Entries that one of them holds.
    room: u64,
    follower: Follower,
    spans: Spans,
    told: Arc<reload::Settings>,
}

/// Exports spans of messages from now on, if a collector is configured.
///
/// # Errors
/// When the CA of the collector's certificate cannot be used.
pub(in crate::node) fn start(
    tasks: &Tasks,
    config: &Config,
    credentials: &Credentials,
    (data, told): (&Arc<DataPath>, &Arc<reload::Settings>),
    registry: &mut Registry,
) -> Result<(), LoadError> {
    let metrics = otlp::Metrics::register(registry);
    let Some(Collector { endpoint, ca }) = &config.trace.otlp else { return Ok(()) };
    let tls = ca.as_deref().map(identity::towards_servers).transpose()?;
    let resource = resource(config, credentials);
    let settings = Settings { endpoint: endpoint.clone(), tls, resource, pace: Pace::default() };
    let (spans, exporter) = otlp::channel(settings, metrics);
    let export = Export {
        places: vec![0; data.journals()],
        room: config.trace.entries.div_ceil(SHARDS) as u64,
        follower: Follower::new(data.routing().me(), told.in_force().longest_send),
        data: data.clone(),
        spans,
        told: told.clone(),
    };
    // A node without them does all it is for.
    tasks.spawn("spans", export.run(tasks.clone()));
    tasks.spawn("otlp", exporter.run(tasks.clone()));
    Ok(())
}

/// Who exports.
fn resource(config: &Config, credentials: &Credentials) -> Vec<Attribute> {
    let subject = credentials.subject();
    vec![
        ("service.name", "amop".into()),
        ("service.version", env!("CARGO_PKG_VERSION").into()),
        ("service.instance.id", credentials.node_key().id().to_string().into()),
        ("amop.node", settings::name(config, subject).into()),
        ("amop.institution", (&*subject.institution).into()),
    ]
}

impl Export {
    async fn run(mut self, tasks: Tasks) {
        let mut pause = LOOK;
        loop {
            tokio::select! {
                biased;
                () = tasks.cancelled() => break,
                () = sleep(pause) => {}
            }
            pause = tasks::at_length(|| self.look());
        }
        // By now every publisher has been told an outcome.
        tasks::at_length(|| {
            self.read();
            self.follower.end_all();
            self.send();
        });
    }

    /// Reads what is new and sends what has ended; says when to look again.
    fn look(&mut self) -> Duration {
        self.follower.set_longest(self.told.in_force().longest_send);
        let busiest = self.read();
        self.follower.end_due(self.data.now());
        self.send();
        if busiest > self.room / 4 { HASTY_LOOK } else { LOOK }
    }

    /// Reads what has been written since the last time; says how much that was in the journal that had the most.
    fn read(&mut self) -> u64 {
        // Those of what is relayed are read last and no further than they went at first: so nothing is found there
        // that happened to a message which has not been met yet.
        let mut until: Vec<u64> =
            (0..self.places.len()).rev().map(|journal| self.data.journal_written(journal)).collect();
        until.reverse();
        let mut busiest = 0;
        let Self { data, places, follower, spans, .. } = self;
        for (journal, (place, until)) in places.iter_mut().zip(until).enumerate() {
            busiest = busiest.max(until.saturating_sub(*place));
            follower.turn_page();
            while *place < until {
                let (next, gone) = data.read_on(journal, (*place, until), |entry, shard| {
                    follower.take(entry, || who(entry, shard));
                });
                spans.metrics().steps_missed.inc_by(gone);
                *place = next;
            }
        }
        let too_many = follower.take_refused();
        spans.metrics().spans.inc_by(too_many);
        spans.metrics().drop(Dropped::Busy, too_many);
        busiest
    }

    fn send(&mut self) {
        let routing = self.data.routing();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = self.data.now();
        let shape = Shape { routing: &routing, now, started: unix.saturating_sub(now.since_start()) };
        self.follower.ended().for_each(|followed| self.spans.send(shape.span(followed)));
    }
}
