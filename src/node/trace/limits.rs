//! What of this has a bound.

use amop_protocol::limits::{Bound, Limit, Policy};

use super::{
    MAX_TRACES,
    inquiries::QUEUE,
    pace::{OTHERS, OWN},
};
use crate::config::Config;

/// The limits of what is remembered and asked.
pub(in crate::node) fn limits(config: &Config) -> Vec<Limit> {
    use Bound::Count;
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
            "whoever asks waits 2 s and does without",
        )
        .metric("amop_trace_dropped_total"),
        Limit::new(
            "traces followed at a time over the admin port",
            Count(MAX_TRACES),
            Policy::Drop,
            "answered with 503",
        )
        .metric("amop_trace_busy_total"),
    ]
}
