//! What the client port counts.

use std::fmt;

use amop_protocol::{Cause, session::server::Ignored};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, EncodeMetric, MetricEncoder},
    metrics::{MetricType, counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Counters of a client port; clones count together.
///
/// Relations: accepted = handshakes failed + refused + opened + handshakes under way;
/// open = opened − closed.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// TCP connections accepted.
    pub accepted: Counter,
    /// Failures of `accept` itself, after each of which the listener pauses.
    pub accept_errors: Counter,
    /// TLS handshakes that came to nothing.
    pub handshakes_failed: Family<HandshakeLabels, Counter>,
    /// Clients refused after their handshake.
    pub refused: Family<RefusalLabels, Counter>,
    /// Sessions that came up.
    pub opened: Counter,
    /// Sessions that ended, by reason.
    pub closed: Family<CloseLabels, Counter>,
    /// Sessions that are up.
    pub open: Gauge,
    /// Frames read.
    pub frames_received: Counter,
    /// Frames whose last byte was written.
    pub frames_sent: Counter,
    /// Bytes of frames read.
    pub bytes_received: Counter,
    /// Bytes of frames written.
    pub bytes_sent: Counter,
    /// Frames that led to nothing, by reason.
    pub ignored: Family<IgnoredLabels, Counter>,
    /// Names in topic reports that are no topics, each dropped singly.
    pub bad_topics: Counter,
    /// Sends refused before delivery: bad or reserved topics, quota.
    pub sends_refused: SendsRefused,
    /// Pushes refused because the session's queue was full.
    pub pushes_refused: Counter,
    /// Bytes held of frames that are not complete yet.
    pub partial_bytes: Gauge,
}

/// Why a TLS handshake came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum HandshakeFailure {
    /// TLS or certificate refused, or the client went away.
    Failed,
    /// Not finished in time.
    TimedOut,
    /// Too many under way; this was the oldest.
    Evicted,
}

/// Label of [`Metrics::handshakes_failed`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HandshakeLabels {
    /// Why.
    pub reason: HandshakeFailure,
}

/// Why a client is refused after its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum RefusalReason {
    /// As many as may be are connected.
    Full,
    /// Its certificate.
    Certificate,
}

/// Label of [`Metrics::refused`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusalLabels {
    /// Why.
    pub reason: RefusalReason,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum CloseReason {
    /// The client closed the connection.
    Client,
    /// The connection failed.
    Io,
    /// The client broke the framing.
    Protocol,
    /// No common version.
    Incompatible,
    /// Too many topics.
    Topics,
    /// Silence.
    Idle,
    /// It did not read what it was sent.
    Slow,
    /// The node's room for incomplete frames was used up.
    Memory,
    /// The node asked it to.
    Node,
}

/// Label of [`Metrics::closed`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CloseLabels {
    /// Why.
    pub reason: CloseReason,
}

/// Sends refused before delivery, one counter for each cause that there is.
#[derive(Clone, Debug, Default)]
pub struct SendsRefused {
    bad_topic: Counter,
    reserved_topic: Counter,
    client_quota: Counter,
    /// A cause that is not known here: a mistake that shows.
    other: Counter,
}

/// Labels of [`Metrics::sends_refused`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SendLabels {
    /// What the publisher was told.
    pub(super) code: i32,
    /// Why.
    pub(super) cause: &'static str,
}

impl SendsRefused {
    /// The counter of a cause.
    pub fn of(&self, cause: Cause) -> &Counter {
        match cause {
            Cause::BadTopic => &self.bad_topic,
            Cause::ReservedTopic => &self.reserved_topic,
            Cause::ClientQuota => &self.client_quota,
            _ => &self.other,
        }
    }

    fn family(&self) -> CountersBy {
        let known = [Cause::BadTopic, Cause::ReservedTopic, Cause::ClientQuota, Cause::Unspecified];
        CountersBy(known.map(|cause| {
            let labels = SendLabels { code: cause.status().code(), cause: cause.as_str_name() };
            (labels, self.of(cause).clone())
        }))
    }
}

/// Counters with their labels, to be shown together.
#[derive(Debug)]
struct CountersBy([(SendLabels, Counter); 4]);

impl EncodeMetric for CountersBy {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.iter().try_for_each(|(labels, counter)| counter.encode(encoder.encode_family(labels)?))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// Label of [`Metrics::ignored`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct IgnoredLabels {
    /// Why, in snake case.
    pub reason: &'static str,
}

/// The reasons of [`Ignored`], in snake case.
const IGNORED: [&str; 5] = ["heartbeat", "unknown_type", "malformed", "unknown_answer", "verification"];

impl Metrics {
    /// Registers every metric under `amop_client_port_`.
    pub fn register(&self, registry: &mut Registry) {
        self.show_all();
        let registry = registry.sub_registry_with_prefix("client_port");
        let mut counter = |name: &str, help: &str, counter: &Counter| {
            registry.register(name, help, counter.clone());
        };
        counter("accepted", "TCP connections accepted", &self.accepted);
        counter("accept_errors", "Failures to accept a connection", &self.accept_errors);
        counter("opened", "Sessions that came up", &self.opened);
        counter("frames_received", "Frames read", &self.frames_received);
        counter("frames_sent", "Frames written", &self.frames_sent);
        counter("received_bytes", "Bytes of frames read", &self.bytes_received);
        counter("sent_bytes", "Bytes of frames written", &self.bytes_sent);
        counter("bad_topics", "Names in topic reports that are no topics", &self.bad_topics);
        counter("pushes_refused", "Pushes refused at a full queue", &self.pushes_refused);
        let refused = self.sends_refused.family();
        registry.register(
            "sends_refused",
            "Sends refused before delivery, each of which was told so",
            refused,
        );
        registry.register("refused", "Clients refused after their handshake", self.refused.clone());
        registry.register("handshakes_failed", "Handshakes that failed", self.handshakes_failed.clone());
        registry.register("closed", "Sessions that ended", self.closed.clone());
        registry.register("ignored", "Frames that led to nothing", self.ignored.clone());
        registry.register("open", "Sessions that are up", self.open.clone());
        registry.register("partial_bytes", "Bytes of incomplete frames", self.partial_bytes.clone());
    }

    /// Shows every label from the start: a counter that appears with its first event misses it in rates.
    fn show_all(&self) {
        use CloseReason::{Client, Idle, Incompatible, Io, Memory, Node, Protocol, Slow, Topics};
        for reason in [HandshakeFailure::Failed, HandshakeFailure::TimedOut, HandshakeFailure::Evicted] {
            drop(self.handshakes_failed.get_or_create(&HandshakeLabels { reason }));
        }
        for reason in [RefusalReason::Full, RefusalReason::Certificate] {
            drop(self.refused.get_or_create(&RefusalLabels { reason }));
        }
        for reason in [Client, Io, Protocol, Incompatible, Topics, Idle, Slow, Memory, Node] {
            drop(self.closed.get_or_create(&CloseLabels { reason }));
        }
        for reason in IGNORED {
            drop(self.ignored.get_or_create(&IgnoredLabels { reason }));
        }
    }

    pub(super) fn count_send_refused(&self, cause: Cause) {
        self.sends_refused.of(cause).inc();
    }

    pub(super) fn count_refused(&self, reason: RefusalReason) {
        self.refused.get_or_create(&RefusalLabels { reason }).inc();
    }

    pub(super) fn count_ignored(&self, why: Ignored) {
        let reason = IGNORED[match why {
            Ignored::Heartbeat => 0,
            Ignored::UnknownType => 1,
            Ignored::Malformed => 2,
            Ignored::UnknownAnswer => 3,
            Ignored::Verification => 4,
        }];
        self.ignored.get_or_create(&IgnoredLabels { reason }).inc();
    }
}
