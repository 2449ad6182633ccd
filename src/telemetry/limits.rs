//! What telemetry bounds, for the list of all limits.

use amop_protocol::limits::{Bound, Limit, Policy};

use super::{admin::MAX_CONNECTIONS, lines};

/// The limits of logs and of the admin port.
pub(crate) fn limits() -> Vec<Limit> {
    let lost = "the new line; the log says so when lines get through again";
    vec![
        Limit::new("log lines not yet written", Bound::Count(lines::MAX_LINES), Policy::Drop, lost)
            .metric("amop_log_lines_lost_total"),
        Limit::new("bytes of log lines not yet written", Bound::Bytes(lines::MAX_BYTES), Policy::Drop, lost)
            .metric("amop_log_lines_lost_total"),
        Limit::new(
            "admin connections",
            Bound::Count(MAX_CONNECTIONS),
            Policy::Wait,
            "further ones are not accepted",
        ),
    ]
}
