//! The bounds of the client port, as operators are told of them.

use amop_protocol::limits::{self, Bound, Limit, Policy};

use super::{Config, listings, session};

/// All of them; those of a session's protocol are the core's.
pub(crate) fn limits(config: &Config) -> Vec<Limit> {
    use Bound::{Bytes, Count, Time};
    let mut all = vec![
        Limit::new(
            "clients connected",
            Count(config.max_clients),
            Policy::Disconnect,
            "the new one, after its handshake",
        )
        .key("client_port.max_clients")
        .metric("amop_client_port_refused_total{reason=\"Full\"}"),
        Limit::new(
            "TLS handshakes of clients under way",
            Count(config.max_handshakes),
            Policy::GiveWay,
            "the oldest of the address that has the most",
        )
        .key("client_port.max_handshakes")
        .metric("amop_client_port_handshakes_failed_total{reason=\"Evicted\"}"),
        Limit::new(
            "time for a client's TLS handshake",
            Time(config.handshake_timeout),
            Policy::Disconnect,
            "",
        )
        .key("client_port.handshake_timeout")
        .metric("amop_client_port_handshakes_failed_total{reason=\"TimedOut\"}"),
        Limit::new(
            "bytes of incomplete frames, all clients",
            Bytes(config.max_partial_bytes),
            Policy::Disconnect,
            "the session that wants more; one holds up to 64 KiB that do not count",
        )
        .key("client_port.partial_frames")
        .metric("amop_client_port_closed_total{reason=\"Memory\"}"),
        Limit::new(
            "bytes queued towards a client",
            Bytes(config.max_queued_bytes),
            Policy::Refuse(101),
            "a unicast, which may have another candidate; anything else is dropped and the session closed. One frame always fits an empty queue",
        )
        .key("client_port.queue")
        .metric("amop_client_port_pushes_refused_total"),
        Limit::new(
            "subscriptions of a session that await confirmation",
            Count(session::MAX_SETTLING),
            Policy::Wait,
            "its further frames are not read",
        ),
        Limit::new(
            "frames of a session that are handled before others have their turn",
            Count(session::TURN),
            Policy::Wait,
            "they are handled when the turn comes round",
        ),
        Limit::new(
            "share of time spent on the lists that getPeers and getNodeInfo give",
            Count(listings::SHARE),
            Policy::Wait,
            "percent; between two lists the last one is given again",
        ),
    ];
    all.extend(limits::of_sessions(&config.session()));
    all
}
