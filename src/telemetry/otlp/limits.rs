//! What of this has a bound.

use amop_protocol::limits::{Bound, Limit, Policy};

use super::{
    QUEUE, QUEUED_BYTES,
    exporter::{BATCH, BATCH_BYTES},
    post::MAX_ANSWER,
};

/// The limits of the export of spans.
pub(crate) fn limits() -> Vec<Limit> {
    let dropped = "the new span";
    let metric = "amop_otlp_dropped_total{cause=\"Queue\"}";
    let next = "the rest goes with the next one";
    vec![
        Limit::new("spans that wait for the collector", Bound::Count(QUEUE), Policy::Drop, dropped)
            .metric(metric),
        Limit::new("bytes of spans that wait", Bound::Bytes(QUEUED_BYTES), Policy::Drop, dropped)
            .metric(metric),
        Limit::new("spans in one request to the collector", Bound::Count(BATCH), Policy::Wait, next),
        Limit::new("bytes of one request to the collector", Bound::Bytes(BATCH_BYTES), Policy::Wait, next),
        Limit::new(
            "bytes of the collector's answer that are read",
            Bound::Bytes(MAX_ANSWER),
            Policy::Drop,
            "the answer; what it is about counts by its status alone. Counted where spans were taken",
        )
        .metric("amop_otlp_answers_unread_total"),
    ]
}
