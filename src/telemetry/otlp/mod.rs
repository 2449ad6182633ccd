//! Spans of messages, for an OpenTelemetry collector: OTLP over HTTP, as protobuf.
//!
//! Whoever has a [`Span`] puts it on the queue of [`Spans`] and never waits. The task of [`Exporter::run`] takes them
//! from there in batches, `encode` makes protobuf of them and `post` sends that to the [`Endpoint`]. The task is woken
//! by spans and by its group's end, and waits for nothing but the collector.
//!
//! **Invariant**: every span that was put on the queue is exported, or counted with the cause why not.
//! **Invariant**: beyond the machine nothing is exported in the clear.

mod encode;
mod endpoint;
mod exporter;
mod limits;
mod metrics;
mod post;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use amop_protocol::TraceContext;
use prost::Message;
use rustls::ClientConfig;
use tokio::sync::mpsc;

pub(crate) use self::limits::limits;
pub use self::{
    endpoint::{Endpoint, EndpointError},
    exporter::Exporter,
    metrics::{Dropped, Metrics},
};

/// Spans that wait for the collector; more are dropped and counted.
const QUEUE: usize = 4096;
/// Bytes that they may have together, as they are exported.
const QUEUED_BYTES: usize = 8 * 1024 * 1024;

/// What a node did with one message of a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The trace, and the publisher's span in it, below which this one stands.
    pub parent: TraceContext,
    /// What was done.
    pub name: &'static str,
    /// Its first and its last step, since the Unix epoch.
    pub time: (Duration, Duration),
    /// What is to be known of it.
    pub attributes: Vec<Attribute>,
    /// Its steps.
    pub events: Vec<Event>,
    /// Steps for which there was no room.
    pub events_left_out: u32,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// One step of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When, since the Unix epoch.
    pub at: Duration,
    /// What happened.
    pub name: String,
    /// What is to be known of it.
    pub attributes: Vec<Attribute>,
}

/// A name and what it stands for.
pub type Attribute = (&'static str, Value);

/// What an attribute has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

/// Where to, and what all spans have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The collector.
    pub endpoint: Endpoint,
    /// How it is believed, if it is asked over TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// Who exports: OpenTelemetry's resource.
    pub resource: Vec<Attribute>,
    /// How fast.
    pub pace: Pace,
}

/// How fast spans are exported, and how patiently.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long the first span of a batch waits for others: 1 s.
    pub gather: Duration,
    /// How long the collector has for its answer: 10 s.
    pub patience: Duration,
    /// The wait before the first repetition, doubled with each: 500 ms.
    pub back_off: Duration,
    /// How often one batch is sent at most: five times.
    pub attempts: u32,
    /// How long the end of the node waits for what is left: 2 s.
    pub flush: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            gather: Duration::from_secs(1),
            patience: Duration::from_secs(10),
            back_off: Duration::from_millis(500),
            attempts: 5,
            flush: Duration::from_secs(2),
        }
    }
}

/// The way to the exporter. When the last clone is dropped it exports what is left, and ends.
#[derive(Clone, Debug)]
pub struct Spans {
    queue: mpsc::Sender<Queued>,
    held: Arc<AtomicUsize>,
    metrics: Metrics,
}

/// A span on the queue, and its part of the bytes held.
#[derive(Debug)]
struct Queued {
    span: wire::Span,
    bytes: usize,
    held: Arc<AtomicUsize>,
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Spans {
    /// Has a span exported; never waits.
    pub fn send(&self, span: Span) {
        self.metrics.spans.inc();
        self.metrics.steps_left_out.inc_by(span.events_left_out.into());
        let span = encode::span(span);
        let bytes = span.encoded_len();
        let held = self.held.fetch_add(bytes, Ordering::Relaxed);
        let queued = Queued { span, bytes, held: self.held.clone() };
        if held + bytes > QUEUED_BYTES || self.queue.try_send(queued).is_err() {
            self.metrics.drop(Dropped::Queue, 1);
        }
    }

    /// Counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// Both ends of the queue.
pub fn channel(settings: Settings, metrics: Metrics) -> (Spans, Exporter) {
    let (queue, spans) = mpsc::channel(QUEUE);
    let exporter = Exporter::new(settings, spans, metrics.clone());
    (Spans { queue, held: Arc::default(), metrics }, exporter)
}
