//! Works: what is asked of a system, and how it is measured.
//!
//! - [`requests`]: request and answer through all nodes, closed or open loop.
//! - [`fan_out`]: each message to all subscribers, with a window or open loop.
//! - [`bulk`]: a large amount in acknowledged chunks, memory to memory.
//! - [`connect`]: connections set up, one after the other and several at once.
//! - [`idle`]: connections that do nothing, and the memory they take.
//! - [`start`]: from the start of the processes to the first answer.
//!
//! In a *closed* loop so many messages are under way at a time, and the next is sent when one is answered: it measures what a
//! system can do. When the system stalls, so does the load, and the stall is one slow sample among many fast ones. In an
//! *open* loop messages are due at a fixed rate, whatever became of those before, and latency counts from when a message was
//! due, not from when it could be sent: a stall is seen by everything that was due meanwhile, as users would see it.

pub mod bulk;
pub mod connect;
mod ends;
pub mod fan_out;
pub mod idle;
mod loops;
mod pacer;
pub mod progress;
pub mod requests;
pub mod start;
pub(crate) mod tally;
#[cfg(test)]
mod tests;
mod traffic;

use std::time::Duration;

pub use self::{
    progress::{Phase, Progress},
    tally::{ErrorCount, Errors},
    traffic::{Pacing, Traffic},
};
use crate::system::Failure;

/// A work could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for cannot be.
    #[error("{0}")]
    Setting(String),
    /// The thread that keeps the rate could not be started.
    #[error("the system gives no thread for keeping the rate; end other programs")]
    Thread(#[from] std::io::Error),
    /// A client could not be connected.
    #[error("a {who} could not be connected")]
    Connect {
        /// What it was for, such as `responder`.
        who: &'static str,
        /// Why.
        source: Failure,
    },
    /// Messages do not get through.
    #[error("no message got through within {after:?}; see that the nodes are linked")]
    NotReady {
        /// How long was tried.
        after: Duration,
        /// How the last one failed; `None` if it was waited for in vain.
        #[source]
        last: Option<Failure>,
    },
    /// A node has died.
    #[error("a node has died while it was measured: {0}")]
    Died(Failure),
    /// A start did not come about.
    #[error("the system did not start")]
    Start(#[source] Failure),
    /// Messages were lost, so that the window in which they are sent does not move on.
    #[error(
        "nothing arrives any more: {published} messages were published, the slowest subscriber has {slowest}; use a smaller window (--in-flight) if subscribers drop messages"
    )]
    Stalled {
        /// Messages published to the topic.
        published: u64,
        /// Messages that its slowest subscriber has.
        slowest: u64,
    },
    /// A chunk of a large amount failed.
    #[error("a chunk failed, after {done} bytes")]
    Chunk {
        /// Bytes acknowledged until then.
        done: u64,
        /// Why.
        source: Failure,
    },
}
