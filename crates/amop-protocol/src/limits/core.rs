//! The bounds of the core. Their values stand where they are kept to; here is what comes of them.

use super::{
    Bound, GOSSIP_PERIOD, Limit, MAX_CHANNEL_FRAME, MAX_CONTROL_FRAME, MAX_FRAGMENTED, MAX_HOPS,
    MAX_JSON_BODY, MAX_LINK_FRAME, MAX_RECIPIENTS, Policy,
};
use crate::{
    broker::{
        control::{self, asks},
        deliver, lists,
    },
    session::server,
    topic::MAX_TOPIC_BYTES,
    wire::peer::MAX_DESTINATIONS,
};

/// Bounds of one client's session. Those that are kept to by the client port are its own.
pub fn of_sessions(config: &server::Config) -> Vec<Limit> {
    use Bound::{Bytes, Count, Time};
    vec![
        Limit::new(
            "size of a client's frame",
            Bytes(MAX_CHANNEL_FRAME),
            Policy::Disconnect,
            "before any of it is buffered",
        )
        .metric("amop_client_port_closed_total{reason=\"Protocol\"}"),
        Limit::new(
            "topics of a client",
            Count(config.max_topics),
            Policy::Disconnect,
            "the list is read no further than the bound",
        )
        .key("client_port.max_topics_per_client")
        .metric("amop_client_port_closed_total{reason=\"Topics\"}"),
        Limit::new(
            "length of a topic",
            Bytes(MAX_TOPIC_BYTES),
            Policy::Drop,
            "in a report that name is left out; a send gets 100",
        )
        .metric("amop_client_port_bad_topics_total"),
        Limit::new(
            "sends of a client without outcome",
            Count(config.max_in_flight),
            Policy::Refuse(103),
            "with the time to wait",
        )
        .key("client_port.max_in_flight")
        .metric("amop_client_port_sends_refused_total"),
        Limit::new(
            "silence of a client",
            Time(config.idle),
            Policy::Disconnect,
            "a byte in either direction starts it anew",
        )
        .key("client_port.idle_timeout")
        .metric("amop_client_port_closed_total{reason=\"Idle\"}"),
        Limit::new(
            "deliveries that an extension client has not acknowledged",
            Count(server::MAX_UNRECEIVED),
            Policy::GiveWay,
            "the oldest counts as not received, and fails",
        )
        .metric("amop_delivery_outcomes_total"),
        Limit::new(
            "JSON of a handshake or a call",
            Bytes(MAX_JSON_BODY),
            Policy::Drop,
            "a handshake is ignored, a call answered with an error",
        )
        .metric("amop_client_port_ignored_total{reason=\"malformed\"}"),
        Limit::new(
            "refused names that an acknowledgement repeats",
            Count(server::MAX_REFUSED_NAMED),
            Policy::Drop,
            "further ones are only counted",
        )
        .metric("amop_client_port_bad_topics_total"),
    ]
}

/// Bounds of what other nodes can make gossip hold.
pub fn of_gossip(config: &control::Config) -> Vec<Limit> {
    [of_nodes(config), of_lists(config), of_exchange(config)].concat()
}

fn of_nodes(config: &control::Config) -> Vec<Limit> {
    use Bound::{Count, Time};
    vec![
        Limit::new(
            "topics of a node's clients together",
            Count(config.max_own_topics),
            Policy::Drop,
            "further ones are not taken; it is also the most that other nodes take",
        )
        .key("client_port.max_topics")
        .metric("amop_control_topics_over_capacity_total"),
        Limit::new(
            "nodes known",
            Count(config.max_nodes),
            Policy::GiveWay,
            "the one unreachable longest; if all are reachable, the newcomer is ignored and counted",
        )
        .key("overlay.max_nodes")
        .metric("amop_control_nodes_over_capacity_total"),
        Limit::new(
            "nodes remembered after they have gone",
            Count(config.max_tombstones),
            Policy::GiveWay,
            "the one with the lowest id is forgotten",
        )
        .metric("amop_control_tombstones_forgotten_total"),
        Limit::new(
            "time that an unreachable node's lists are kept",
            Time(config.expiry),
            Policy::GiveWay,
            "its version is remembered",
        )
        .metric("amop_control_nodes_expired_total"),
        Limit::new(
            "topics that a node may announce",
            Count(config.lists.max_topics),
            Policy::Drop,
            "the record is refused, and so is what else is wrong with one",
        )
        .metric("amop_control_records_refused_total"),
        Limit::new(
            "links that a node may announce",
            Count(config.max_links),
            Policy::Drop,
            "the record is refused",
        )
        .metric("amop_control_records_refused_total"),
    ]
}

fn of_lists(config: &control::Config) -> Vec<Limit> {
    use Bound::{Bytes, Count};
    vec![
        Limit::new(
            "pieces of one node's list of topics",
            Count(lists::MAX_PIECES as usize),
            Policy::Drop,
            "the list is not taken",
        )
        .metric("amop_control_lists_misfit_total"),
        Limit::new(
            "bytes of one node's list of topics",
            Bytes(config.lists.max_list_bytes),
            Policy::Drop,
            "the list is not taken",
        )
        .metric("amop_control_lists_misfit_total"),
        Limit::new(
            "changes of another node's list before it is sent whole",
            Count(2 * config.lists.max_deltas),
            Policy::Drop,
            "further ones are not taken until it is",
        )
        .metric("amop_control_lists_misfit_total"),
        Limit::new(
            "bytes of lists that are not complete, all nodes",
            Bytes(config.lists.max_unfinished_bytes),
            Policy::GiveWay,
            "the largest",
        )
        .metric("amop_control_lists_unfinished_total"),
    ]
}

fn of_exchange(config: &control::Config) -> Vec<Limit> {
    use Bound::{Count, Time};
    vec![
        Limit::new(
            "changes of another node taken at once, as time at its pace",
            Time(config.burst),
            Policy::Drop,
            "a second has 4 MiB of lists, 400 small changes of topics, 20 of links or 2 restarts; what is left out is asked for later",
        )
        .metric("amop_control_records_paced_total"),
        Limit::new(
            "silence of a neighbour that was asked for records",
            Time(asks::PATIENCE),
            Policy::GiveWay,
            "the next one is asked",
        )
        .metric("amop_control_pulls_unanswered_total"),
        Limit::new(
            "time for all of a neighbour's answer",
            Time(asks::LONGEST_ANSWER),
            Policy::GiveWay,
            "the next one is asked",
        )
        .metric("amop_control_pulls_unanswered_total"),
        Limit::new(
            "announcements of a node under way",
            Count(config.max_waves),
            Policy::GiveWay,
            "the two oldest are joined; acknowledgements of subscriptions take longer",
        )
        .metric("amop_control_waves_joined_total"),
        Limit::new(
            "time between two comparisons of what neighbours know",
            Time(GOSSIP_PERIOD),
            Policy::Wait,
            "changes are sent at once in any case",
        ),
    ]
}

/// Bounds of delivery, for a node of so many shards.
pub fn of_delivery(config: &deliver::Config, shards: usize) -> Vec<Limit> {
    use Bound::{Bytes, Count, Time};
    let both = 2 * shards;
    vec![
        Limit::new("messages remembered", Count(config.sent.entries * both), Policy::GiveWay, "the oldest ended ones are forgotten; of those that failed and may be tried again, as many are kept, then the oldest count as ended")
            .key("delivery.seen_entries")
            .metric("amop_delivery_seen_forgotten_total"),
        Limit::new("bytes of outcomes remembered", Bytes(config.sent.bytes * both), Policy::GiveWay, "the oldest outcomes are dropped; their duplicates get 102")
            .key("delivery.seen_bytes")
            .metric("amop_delivery_seen_outcomes_dropped_total"),
        Limit::new("recipients of one multicast that its publisher is told by name", Count(MAX_RECIPIENTS), Policy::Drop, "further ones are only counted")
            .metric("amop_delivery_outcomes_total"),
        Limit::new("time that a send may take", Time(config.max_deadline), Policy::Refuse(102), "a longer deadline is cut to it")
            .key("delivery.max_deadline")
            .metric("amop_delivery_outcomes_total"),
        Limit::new("time that a subscriber has for its answer", Time(config.push_timeout_max), Policy::Refuse(102), "the next candidate comes first, if there is one")
            .key("delivery.max_push_timeout")
            .metric("amop_delivery_outcomes_total"),
        Limit::new("duplicates that wait for one message in flight", Count(deliver::MAX_WAITERS), Policy::Refuse(103), "at the origin")
            .metric("amop_delivery_outcomes_total"),
        Limit::new("nodes that wait for one message in flight", Count(deliver::MAX_REQUESTERS), Policy::Drop, "at the destination; they ask again")
            .metric("amop_delivery_requesters_ignored_total"),
        Limit::new("attempts of one send", Count(deliver::MAX_ATTEMPTS as usize), Policy::Refuse(101), "the worst of their causes is told")
            .metric("amop_delivery_attempts_total"),
        Limit::new("nodes that a send goes around because they refused it", Count(deliver::MAX_AROUND), Policy::Refuse(103), "with the time to wait")
            .metric("amop_delivery_outcomes_total"),
        Limit::new("origins whose numbers are remembered, with their shards", Count(deliver::MAX_LANES * shards), Policy::GiveWay, "those out of reach are forgotten")
            .metric("amop_delivery_stale_messages_total"),
        Limit::new("hops", Count(MAX_HOPS.into()), Policy::Refuse(100), "a frame that still arrives there is dropped")
            .metric("amop_delivery_unroutable_frames_total"),
        Limit::new("destinations in one frame", Count(MAX_DESTINATIONS), Policy::Disconnect, "an origin sends several frames; a longer list is a fault of the neighbour that brings it")
            .metric("amop_overlay_peer_faults_total"),
    ]
}

/// Bounds of frames between nodes.
pub fn of_links() -> Vec<Limit> {
    use Bound::{Bytes, Count};
    vec![
        Limit::new(
            "size of a data frame between nodes",
            Bytes(MAX_LINK_FRAME),
            Policy::Disconnect,
            "the link is closed",
        )
        .metric("amop_overlay_peer_faults_total"),
        Limit::new(
            "size of a control frame",
            Bytes(MAX_CONTROL_FRAME),
            Policy::Disconnect,
            "the link is closed",
        )
        .metric("amop_overlay_peer_faults_total"),
        Limit::new(
            "large frames open on a substream",
            Count(MAX_FRAGMENTED),
            Policy::Disconnect,
            "a sender lets others wait; who opens more has its link closed",
        )
        .metric("amop_overlay_peer_faults_total"),
    ]
}
