//! What was asked for, as every report states it.

use serde::Serialize;

use crate::work::{Pacing, Traffic, bulk::Bulk, connect::Connect, idle::Idle};

/// What was asked for; what does not apply to a work is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Setting {
    /// Bytes of each message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_bytes: Option<usize>,
    /// Messages under way, or ahead of the slowest subscriber; in an open loop at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<usize>,
    /// In an open loop: messages due in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_rate_per_s: Option<f64>,
    /// Bytes in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// Clients that send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publishers: Option<usize>,
    /// Clients that receive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscribers: Option<usize>,
    /// Topics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topics: Option<usize>,
    /// Clients that do nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<usize>,
    /// Starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<usize>,
    /// Nodes of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<usize>,
    /// Load before measuring, in seconds.
    pub warm_up_s: f64,
    /// How long was to be measured, in seconds; 0 if a work ends by itself.
    pub duration_s: f64,
}

impl Setting {
    pub(crate) fn of(traffic: &Traffic) -> Self {
        let (in_flight, rate) = match traffic.pacing {
            Pacing::Closed { in_flight } => (in_flight, None),
            Pacing::Open { rate, in_flight } => (in_flight, Some(rate)),
        };
        Self {
            payload_bytes: Some(traffic.payload),
            in_flight: Some(in_flight),
            asked_rate_per_s: rate,
            publishers: Some(traffic.publishers),
            subscribers: Some(traffic.subscribers),
            topics: Some(traffic.topics),
            warm_up_s: traffic.warm_up.as_secs_f64(),
            duration_s: traffic.duration.as_secs_f64(),
            ..Self::default()
        }
    }

    pub(crate) fn of_bulk(bulk: &Bulk) -> Self {
        Self {
            payload_bytes: Some(bulk.chunk),
            in_flight: Some(bulk.in_flight),
            total_bytes: Some(bulk.bytes),
            ..Self::default()
        }
    }

    pub(crate) fn of_connect(connect: &Connect) -> Self {
        Self {
            in_flight: Some(connect.at_once),
            warm_up_s: connect.warm_up.as_secs_f64(),
            duration_s: connect.duration.as_secs_f64(),
            ..Self::default()
        }
    }

    pub(crate) fn of_idle(idle: &Idle) -> Self {
        Self {
            clients: Some(idle.clients),
            in_flight: Some(idle.at_once),
            duration_s: idle.duration.as_secs_f64(),
            ..Self::default()
        }
    }
}
