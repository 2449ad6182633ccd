//! What telemetry bounds, for the list of all limits.

use amop_protocol::limits::{Bound, Limit, Policy};

use super::{
    admin::{self, MAX_CONNECTIONS},
    lines, otlp, overview,
};

/// The limits of logs and of the admin port.
pub(crate) fn limits() -> Vec<Limit> {
    let lost = "the new line; the log says so when lines get through again";
    let mut all = vec![
        Limit::new("log lines not yet written", Bound::Count(lines::MAX_LINES), Policy::Drop, lost)
            .metric("amop_log_lines_lost_total"),
        Limit::new("bytes of log lines not yet written", Bound::Bytes(lines::MAX_BYTES), Policy::Drop, lost)
            .metric("amop_log_lines_lost_total"),
        Limit::new(
            "admin connections",
            Bound::Count(MAX_CONNECTIONS),
            Policy::GiveWay,
            "the oldest of the address that has the most",
        )
        .metric("amop_admin_cut_total{reason=\"Evicted\"}"),
    ];
    all.extend(admin::limits());
    all.extend(overview::limits());
    all.extend(otlp::limits());
    all
}
