//! Bounds that the protocol itself sets, each with what happens when it is reached; and [`Limit`],
//! which is how every component says what bounds it has.
//!
//! Bounds of queues and tables stand in the `Config` of the component that owns them, or as
//! constants beside the code that keeps to them. [`of_sessions`], [`of_gossip`] and [`of_delivery`]
//! list those of the core.

use std::{fmt, time::Duration};

mod core;

pub use self::core::{of_delivery, of_gossip, of_links, of_sessions};

/// Largest channel frame, header included: 100 MiB, as FISCO BCOS has it. Larger: the session is closed.
pub const MAX_CHANNEL_FRAME: usize = 100 * 1024 * 1024;
/// Largest body of a handshake or a JSON-RPC call. Larger: the one is ignored, the other answered with an error.
pub const MAX_JSON_BODY: usize = 64 * 1024;
/// Largest frame between nodes: a channel frame and room for its header. Larger: the link is closed.
pub const MAX_LINK_FRAME: usize = MAX_CHANNEL_FRAME + 64 * 1024;
/// Largest frame on a control substream. Larger: the link is closed.
pub const MAX_CONTROL_FRAME: usize = 1024 * 1024;
/// Large frames that one substream carries at the same time. The sender lets further ones wait;
/// a peer that opens more has its link closed.
pub const MAX_FRAGMENTED: usize = 32;
/// Relays a data frame may pass. At zero it is dropped and the origin told.
pub const MAX_HOPS: u8 = 32;
/// How often neighbours compare what they know, and how often a node repairs what was lost.
pub const GOSSIP_PERIOD: Duration = Duration::from_secs(5);
/// Recipients of one multicast that its publisher is told by name; of further ones only the number.
pub const MAX_RECIPIENTS: usize = 10_000;

/// A bound on what others can make a node hold or do.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// What is bounded, for operators.
    pub what: &'static str,
    /// The bound that is in force.
    pub bound: Bound,
    /// The configuration key that sets it, as `table.key`.
    pub key: Option<&'static str>,
    /// What kind of thing happens when it is reached.
    pub policy: Policy,
    /// What happens in so many words.
    pub then: &'static str,
    /// The metric that shows it, with labels where they matter; `None` where nothing is lost.
    pub metric: Option<&'static str>,
}

impl Limit {
    /// A bound without key and metric.
    pub const fn new(what: &'static str, bound: Bound, policy: Policy, then: &'static str) -> Self {
        Self { what, bound, key: None, policy, then, metric: None }
    }

    /// The same, set by this key.
    #[must_use]
    pub const fn key(self, key: &'static str) -> Self {
        Self { key: Some(key), ..self }
    }

    /// The same, shown by this metric.
    #[must_use]
    pub const fn metric(self, metric: &'static str) -> Self {
        Self { metric: Some(metric), ..self }
    }
}

/// A number and its unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// So many things.
    Count(usize),
    /// So many bytes.
    Bytes(usize),
    /// So long.
    Time(Duration),
    /// So many Mbit/s; none at all if absent.
    Mbit(Option<f64>),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Count(count) => write_grouped(f, count),
            Self::Bytes(bytes) if bytes >= 1 << 30 && bytes.is_multiple_of(1 << 30) => {
                write!(f, "{} GiB", bytes >> 30)
            }
            Self::Bytes(bytes) if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => {
                write!(f, "{} MiB", bytes >> 20)
            }
            Self::Bytes(bytes) if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => {
                write_grouped(f, bytes >> 10)?;
                f.write_str(" KiB")
            }
            Self::Bytes(bytes) => {
                write_grouped(f, bytes)?;
                f.write_str(" B")
            }
            Self::Time(time) if time.subsec_millis() == 0 => write!(f, "{} s", time.as_secs()),
            Self::Time(time) => write!(f, "{} ms", time.as_millis()),
            Self::Mbit(Some(rate)) => write!(f, "{rate} Mbit/s"),
            Self::Mbit(None) => f.write_str("none"),
        }
    }
}

/// A number with a comma after every three digits.
fn write_grouped(f: &mut fmt::Formatter<'_>, number: usize) -> fmt::Result {
    let digits = number.to_string();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            f.write_str(",")?;
        }
        write!(f, "{digit}")?;
    }
    Ok(())
}

/// What kind of thing happens when a bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Whoever wants more waits, and so does whoever it reads from.
    Wait,
    /// A send is refused with this code.
    Refuse(i32),
    /// What is too much is dropped and counted.
    Drop,
    /// Something older, or needed less, makes room.
    GiveWay,
    /// Whoever goes too far is disconnected.
    Disconnect,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait => f.write_str("wait"),
            Self::Refuse(code) => write!(f, "refuse with {code}"),
            Self::Drop => f.write_str("drop and count"),
            Self::GiveWay => f.write_str("give way"),
            Self::Disconnect => f.write_str("disconnect"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_read_well() {
        let check = |bound: Bound, text: &str| assert_eq!(bound.to_string(), text);
        check(Bound::Count(16), "16");
        check(Bound::Count(1_024), "1,024");
        check(Bound::Count(1_000_000), "1,000,000");
        check(Bound::Bytes(254), "254 B");
        check(Bound::Bytes(64 * 1024), "64 KiB");
        check(Bound::Bytes(100 << 20), "100 MiB");
        check(Bound::Bytes(MAX_LINK_FRAME), "102,464 KiB");
        check(Bound::Bytes(1 << 30), "1 GiB");
        check(Bound::Time(Duration::from_secs(90)), "90 s");
        check(Bound::Time(Duration::from_millis(1_500)), "1500 ms");
        check(Bound::Mbit(None), "none");
        check(Bound::Mbit(Some(12.5)), "12.5 Mbit/s");
    }
}
