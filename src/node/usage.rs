//! How near the node is to what bounds it.

use amop_protocol::limits::{Bound, Limit};

use super::status::Source;
use crate::telemetry::status::Usage;

/// Every limit, and how much of it is taken now where somebody counts that.
pub(super) fn usage(limits: &[Limit], source: &Source) -> Vec<Usage> {
    limits
        .iter()
        .map(|limit| Usage {
            what: limit.what.to_owned(),
            bound: limit.bound.to_string(),
            most: match limit.bound {
                Bound::Count(most) | Bound::Bytes(most) => u64::try_from(most).ok(),
                Bound::Time(_) | Bound::Mbit(_) => None,
            },
            used: limit.key.and_then(|key| used(key, source)).and_then(|used| u64::try_from(used).ok()),
            key: limit.key.map(str::to_owned),
            policy: limit.policy.to_string(),
            metric: limit.metric.map(str::to_owned),
        })
        .collect()
}

fn used(key: &str, source: &Source) -> Option<usize> {
    let routing = source.data.routing();
    let topics = || routing.topics().filter(|(_, routes)| !routes.sessions.is_empty()).count();
    Some(match key {
        "client_port.max_clients" => source.clients.len(),
        "client_port.partial_frames" => usize::try_from(source.clients.metrics().partial_bytes.get()).ok()?,
        "client_port.queue" => source.queued_for_clients().max().unwrap_or_default(),
        "client_port.max_topics" => topics(),
        "client_port.max_topics_per_client" => {
            source.topics_of_clients().into_values().max().unwrap_or_default()
        }
        "overlay.link_queue" => source.links.queued().into_iter().max().unwrap_or_default(),
        "overlay.max_connections" => source.links.len(),
        "overlay.max_nodes" => routing.reachable().count(),
        "limits.payloads" => source.data.held_bytes(),
        _ => return None,
    })
}
