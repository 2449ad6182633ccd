//! The bounds of the overlay, as operators are told of them.

use amop_protocol::limits::{self, Bound, Limit, Policy};

use super::{
    COMMANDS, Config, REPORTS,
    config::{MAX_CONNECTIONS_PER_PEER, MAX_EVENTS_PER_LINK},
    driver::MAX_REMEMBERED,
    security::MAX_BUFFERED,
};

/// All of them; those of frames between nodes are the core's.
pub(crate) fn limits(config: &Config) -> Vec<Limit> {
    let mut all = connections(config);
    all.extend(queues(config));
    all.extend(limits::of_links());
    all
}

fn connections(config: &Config) -> Vec<Limit> {
    use Bound::{Bytes, Count, Time};
    vec![
        Limit::new(
            "connections to nodes",
            Count(config.max_connections as usize),
            Policy::Disconnect,
            "the new one",
        )
        .key("overlay.max_connections")
        .metric("amop_overlay_inbound_refused_total"),
        Limit::new(
            "connections with the same node",
            Count(MAX_CONNECTIONS_PER_PEER as usize),
            Policy::Disconnect,
            "the new one",
        )
        .metric("amop_overlay_inbound_refused_total"),
        Limit::new(
            "TLS handshakes of nodes under way, dialled ones apart",
            Count(config.max_pending_inbound),
            Policy::GiveWay,
            "the oldest of the address that has the most",
        )
        .metric("amop_overlay_handshakes_evicted_total"),
        Limit::new(
            "time for a node's TLS handshake; for its hello",
            Time(config.handshake_timeout),
            Policy::Disconnect,
            "",
        )
        .metric("amop_overlay_handshake_timeouts_total"),
        Limit::new(
            "bytes that a connection's multiplexer buffers, beyond 256 KiB for each substream",
            Bytes(MAX_BUFFERED),
            Policy::Wait,
            "the peer waits",
        ),
        Limit::new("silence of a node", Time(config.silence), Policy::Disconnect, "")
            .metric("amop_overlay_silent_links_total"),
        Limit::new(
            "addresses that are dialled",
            Count(config.max_addresses),
            Policy::Drop,
            "configured ones always count; only those are dialled in this version",
        )
        .metric("amop_overlay_addresses_ignored_total"),
        Limit::new(
            "pause between two dials of an address",
            Time(config.back_off.1),
            Policy::Wait,
            "doubling up to this; up to 1 s if the peer was up before",
        )
        .metric("amop_overlay_dials_total"),
        Limit::new(
            "certificates of nodes remembered",
            Count(MAX_REMEMBERED),
            Policy::GiveWay,
            "all without a connection are forgotten",
        ),
    ]
}

fn queues(config: &Config) -> Vec<Limit> {
    use Bound::{Bytes, Count};
    vec![
        Limit::new(
            "bytes of data queued towards a node",
            Bytes(config.data_queue),
            Policy::Drop,
            "the origin sends it again later. Clients that have less than an eighth of it queued have as much room again; one frame of another always fits",
        )
        .key("overlay.link_queue")
        .metric("amop_overlay_frames_refused_total"),
        Limit::new(
            "bytes of control messages queued towards a node",
            Bytes(config.control_queue),
            Policy::Disconnect,
            "gossip starts afresh over the next link",
        )
        .metric("amop_overlay_control_overflows_total"),
        Limit::new(
            "bytes of incomplete data frames, all links; of one link half",
            Bytes(config.reassembly),
            Policy::Drop,
            "the origin is told, and sends it again later",
        )
        .key("overlay.partial_frames")
        .metric("amop_overlay_reassembly_dropped_total"),
        Limit::new(
            "bytes of incomplete control frames, all links; of one link half",
            Bytes(config.control_reassembly),
            Policy::Drop,
            "gossip asks for it again",
        )
        .metric("amop_overlay_reassembly_dropped_total"),
        Limit::new(
            "events of all links that wait for the control task",
            Count(config.events),
            Policy::Wait,
            "links wait, and their peers with them; round-trip times are dropped",
        )
        .metric("amop_overlay_round_trips_dropped_total"),
        Limit::new(
            "control messages of one link that wait for the control task",
            Count(MAX_EVENTS_PER_LINK),
            Policy::Wait,
            "fewer if they are long",
        ),
        Limit::new(
            "reports of links that wait for the swarm's task",
            Count(REPORTS),
            Policy::Wait,
            "links wait",
        ),
        Limit::new(
            "commands that wait for the swarm's task",
            Count(COMMANDS),
            Policy::Wait,
            "the node waits",
        ),
    ]
}
