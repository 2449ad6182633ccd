//! What the overlay counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{link::DownReason, security::UpgradeError};

/// The overlay's metrics. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Links up now. up = opened − closed.
    pub links: Gauge,
    /// Links that came up.
    pub links_opened: Counter,
    /// Links that went down.
    pub links_closed: Family<ClosedLabels, Counter>,
    /// Dials begun.
    pub dials: Counter,
    /// Dials that failed before there was a connection.
    pub dial_failures: Counter,
    /// Inbound connections that never got through TLS, or were refused by a limit or list.
    pub inbound_failures: Counter,
    /// Inbound connections refused at a bound, or by a list.
    pub inbound_refused: Counter,
    /// Inbound connections that gave way to newer ones before their handshake was done.
    pub handshakes_evicted: Counter,
    /// Handshakes, of whichever side, that made no connection, by reason.
    pub handshakes_failed: Family<ClosedLabels, Counter>,
    /// Addresses not dialled because there are too many.
    pub addresses_ignored: Counter,
    /// Connections closed because TLS or the hellos took too long.
    pub handshake_timeouts: Counter,
    /// Connections given up because the peer had a better one, or an older epoch.
    pub duplicates: Counter,
    /// Links closed because the peer broke the protocol.
    pub peer_faults: Counter,
    /// Links closed because nothing was heard.
    pub silent_links: Counter,
    /// Links closed because the peer took control frames too slowly.
    pub control_overflows: Counter,
    /// Data frames refused because a link's queue was full, or the link gone.
    pub frames_refused: Counter,
    /// Large frames dropped because too many bytes of unfinished ones were held.
    pub reassembly_dropped: Counter,
    /// Frames received whole.
    pub frames_received: Counter,
    /// Bytes received on links.
    pub bytes_received: Counter,
    /// Bytes sent on links.
    pub bytes_sent: Counter,
    /// Round-trip times that were not reported because the node was busy.
    pub round_trips_dropped: Counter,
}

/// Label of [`Metrics::links_closed`] and [`Metrics::handshakes_failed`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ClosedLabels {
    /// Why.
    pub reason: &'static str,
}

impl Metrics {
    /// A link went down.
    pub(super) fn count_closed(&self, reason: &DownReason) {
        self.links_closed.get_or_create(&ClosedLabels { reason: reason.label() }).inc();
    }

    /// A handshake came to nothing.
    pub(super) fn count_handshake_failed(&self, reason: &'static str) {
        self.handshakes_failed.get_or_create(&ClosedLabels { reason }).inc();
    }

    /// Registers all under `amop_overlay_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("overlay");
        registry.register("links", "Links up now", self.links.clone());
        for reason in DownReason::LABELS {
            drop(self.links_closed.get_or_create(&ClosedLabels { reason }));
        }
        for reason in UpgradeError::LABELS {
            drop(self.handshakes_failed.get_or_create(&ClosedLabels { reason }));
        }
        let help = "Handshakes with nodes that made no connection";
        registry.register("handshakes_failed", help, self.handshakes_failed.clone());
        registry.register("links_closed", "Links that went down", self.links_closed.clone());
        let counters = [
            ("links_opened", "Links that came up", &self.links_opened),
            ("dials", "Dials begun", &self.dials),
            ("dial_failures", "Dials that failed", &self.dial_failures),
            ("inbound_failures", "Inbound connections that failed or were refused", &self.inbound_failures),
            ("inbound_refused", "Inbound connections refused at a bound or by a list", &self.inbound_refused),
            (
                "handshakes_evicted",
                "Inbound handshakes that gave way to newer ones",
                &self.handshakes_evicted,
            ),
            ("addresses_ignored", "Addresses not dialled at the bound", &self.addresses_ignored),
            ("handshake_timeouts", "Handshakes that took too long", &self.handshake_timeouts),
            ("duplicates", "Connections given up for a better one", &self.duplicates),
            ("peer_faults", "Links closed for a broken protocol", &self.peer_faults),
            ("silent_links", "Links closed for silence", &self.silent_links),
            ("control_overflows", "Links closed for a full control queue", &self.control_overflows),
            ("frames_refused", "Data frames refused by a full queue", &self.frames_refused),
            ("reassembly_dropped", "Large frames dropped at the bound", &self.reassembly_dropped),
            ("frames_received", "Frames received whole", &self.frames_received),
            ("received_bytes", "Bytes received on links", &self.bytes_received),
            ("sent_bytes", "Bytes sent on links", &self.bytes_sent),
            ("round_trips_dropped", "Round-trip times not reported", &self.round_trips_dropped),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
    }
}
