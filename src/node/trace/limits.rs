//! What of this has a bound.

use amop_protocol::limits::{Bound, Limit, Policy};

use super::{
    MAX_TRACES,
    export::{MAX_FOLLOWED, MAX_STEPS},
    gather::{MAX_ASKED, MAX_SEEN},
    inquiries::QUEUE,
    pace::{OTHERS, OWN},
};
use crate::config::Config;

/// The limits of what is remembered and asked.
pub(in crate::node) fn limits(config: &Config) -> Vec<Limit> {
    use Bound::Count;
    let left_out = "amop_trace_left_out_total";
    vec![
        Limit::new(
            "steps of messages remembered, of own ones and as many of relayed ones",
            Count(config.trace.entries),
            Policy::GiveWay,
            "the oldest, so that a trace no longer finds it; 96 bytes each",
        )
        .key("trace.entries")
        .metric("amop_trace_forgotten_total"),
        Limit::new(
            "entries that are read in a second for questions about messages, of nodes of the own institution",
            Count(OWN as usize),
            Policy::Drop,
            "except for nodes that stay within their share; whoever asks waits 2 s and does without",
        )
        .metric("amop_trace_refused_total"),
        Limit::new(
            "the same, of all other institutions",
            Count(OTHERS as usize),
            Policy::Drop,
            "likewise, each institution having its share",
        )
        .metric("amop_trace_refused_total"),
        Limit::new(
            "questions about messages that wait, of the own institution and as many of others",
            Count(QUEUE),
            Policy::Drop,
            "whoever asks waits 2 s and does without. One asker has at most 16 of them",
        )
        .metric("amop_trace_dropped_total"),
        Limit::new(
            "traces followed at a time over the admin port",
            Count(MAX_TRACES),
            Policy::Drop,
            "answered with 503",
        )
        .metric("amop_trace_busy_total"),
        Limit::new(
            "nodes asked about one message",
            Count(MAX_ASKED),
            Policy::GiveWay,
            "those not known to have had it, the farthest first; the trace says so",
        )
        .metric(left_out),
        Limit::new(
            "messages told at once to somebody who follows a topic",
            Count(MAX_SEEN),
            Policy::Drop,
            "further ones; the answer says how many",
        )
        .metric(left_out),
        Limit::new(
            "messages followed at a time for OpenTelemetry's spans",
            Count(MAX_FOLLOWED),
            Policy::Drop,
            "further ones have no span",
        )
        .metric("amop_otlp_dropped_total{cause=\"Busy\"}"),
        Limit::new(
            "steps of one message in its span",
            Count(MAX_STEPS),
            Policy::Drop,
            "later ones; the span says how many (dropped_events_count)",
        )
        .metric("amop_otlp_steps_left_out_total"),
    ]
}
