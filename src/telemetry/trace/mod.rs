//! What became of a message, hop by hop: written by a node, read by `amop trace`.

mod cures;

use amop_protocol::{Cause, Seq};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

pub use self::cures::cure;

/// Where the admin port's answers about messages come from.
pub trait TraceSource: Send + Sync + 'static {
    /// What became of the message with this seq; with `here` only what this very node knows. Takes up to 2 s, because
    /// other nodes are asked.
    fn trace(&self, seq: Seq, here: bool) -> BoxFuture<'static, Result<Trace, Busy>>;
    /// Messages to `topic` that came by here after `place`, which an earlier answer gave; from now on if it is empty.
    /// Waits up to some seconds for the first. The list has a bound.
    fn seen(&self, topic: &str, place: &str) -> BoxFuture<'static, Result<Seen, Busy>>;
}

/// As many traces are under way as the node follows at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node is following as many messages as it does at a time; try again in a few seconds")]
pub struct Busy;

/// What became of the messages with one seq: `/v1/trace/{seq}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// The seq, as it was asked for.
    pub id: String,
    /// None if nobody asked knows of it, or may say so. Several if clients have used the same seq.
    pub messages: Vec<Message>,
    /// Other nodes that were asked.
    pub asked: usize,
    /// Those of them that did not answer within 2 s.
    pub silent: Vec<Place>,
    /// What else whoever reads it should know.
    pub notes: Vec<String>,
}

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The publisher's node.
    pub origin: Place,
    /// Where it was sent to, if this node may know; cut short with `…` if only its beginning is known.
    pub topic: Option<String>,
    /// To all subscribers, not to one.
    pub multicast: bool,
    /// W3C's traceparent, if its publisher gave one.
    pub traceparent: Option<String>,
    /// What happened, in order of time.
    pub steps: Vec<Step>,
    /// How it ended; `None` if it is under way, or that is not known.
    pub outcome: Option<Ending>,
    /// The step that decided a failure: its place in `steps`.
    pub failed_at: Option<usize>,
    /// In plain words: what happened.
    pub verdict: String,
    /// In plain words: what to do about it; empty if nothing needs doing.
    pub cure: String,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its name; its id's first digits if it is not known any longer.
    pub name: String,
    /// Its institution; empty if it is not known any longer.
    pub institution: String,
    /// The first 16 hex digits of its id.
    pub id: String,
}

/// How a send ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The code its publisher saw.
    pub code: i32,
    /// The cause, as metrics and `PublishResult` name it.
    pub cause: String,
    /// The cause in plain words.
    pub text: String,
}

impl From<Cause> for Ending {
    fn from(cause: Cause) -> Self {
        let text = cause.explain().to_owned();
        Self { code: cause.status().code(), cause: cause.as_str_name().to_owned(), text }
    }
}

/// One step of a message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Microseconds after the first step, on the clock of the node that was asked. For another node's steps the time
    /// its answer took makes this uncertain, by `give_or_take_us`.
    pub at_us: u64,
    /// See `at_us`; 0 for the node that was asked.
    pub give_or_take_us: u64,
    /// Where it happened.
    pub node: Place,
    /// What happened: one of the names in `JournalKind` of peer.proto, in lower case.
    pub kind: String,
    /// Which attempt; 0: it is about none.
    pub attempt: u32,
    /// The code and cause, if it is about a failure or an end.
    pub ending: Option<Ending>,
    /// What happened, in plain words.
    pub text: String,
}

/// Messages that came by: `/v1/trace?topic=…`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Their seqs, as `/v1/trace/{seq}` takes them, in order.
    pub ids: Vec<String>,
    /// Where to go on.
    pub place: String,
    /// More came by than the list has room for.
    pub left_out: u64,
}

/// A seq as people write it: its 32 characters if they are plain, else 64 hex digits.
pub fn show_seq(seq: &Seq) -> String {
    match std::str::from_utf8(&seq.0) {
        Ok(text) if text.bytes().all(is_plain) => text.to_owned(),
        _ => seq.0.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// Reads what [`show_seq`] writes.
///
/// # Errors
/// When it is neither, with what is expected.
pub fn read_seq(text: &str) -> Result<Seq, String> {
    let bytes = text.as_bytes();
    let plain = <[u8; 32]>::try_from(bytes).ok().filter(|bytes| bytes.iter().copied().all(is_plain));
    let from_hex = || {
        let digits: &[u8; 64] = bytes.try_into().ok()?;
        let mut seq = [0; 32];
        for (byte, pair) in seq.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(seq)
    };
    plain.or_else(from_hex).map(Seq).ok_or_else(|| {
        format!("a message's ID is the seq that SDKs log: 32 letters and digits, or 64 hex digits; this has {} bytes", bytes.len())
    })
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seq_is_read_as_it_is_shown() {
        for seq in [Seq::from_u128(7), Seq([0xab; 32]), Seq(*b"abc-def_0123456789.ABCDEFGHIJKLM")] {
            assert_eq!(read_seq(&show_seq(&seq)), Ok(seq));
        }
        for bad in ["", "short", "with spaces and other thing here", &"g".repeat(64), &"é".repeat(32)] {
            assert!(read_seq(bad).is_err(), "{bad}");
        }
    }
}
