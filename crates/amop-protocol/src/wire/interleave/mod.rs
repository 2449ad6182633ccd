//! Large frames in pieces, so that they delay nothing; one [`Interleaver`] and one
//! [`Assembler`] per substream and direction.
//!
//! A frame larger than [`FRAGMENT`] travels as frames of kind `Fragment`. One after the other,
//! their payloads are the bytes of the large frame, its own prefix included, so the first one
//! tells its length. In a fragment's prefix, *hop limit* holds [`FIRST`] and [`LAST`], the
//! header length is 0, and *flow* numbers the stream of fragments, unique while it is open.
//!
//! Invariants: frames of one flow arrive in the order they were queued; a frame waits for at
//! most one fragment and for what else is small; what a peer claims is never allocated beyond
//! 320 KiB for each frame that it has begun, only what it sent.

mod assemble;
mod queue;
mod spare;
mod turns;

pub use assemble::{Arrived, Assembler, Budget, Fault};
pub use queue::{Full, Interleaver};
pub use turns::flow_of;

use super::link::{FRAGMENT, PREFIX};

/// Marks the first fragment of a frame.
pub const FIRST: u8 = 1;
/// Marks the last fragment of a frame; a frame may fit into a single one that is both.
pub const LAST: u8 = 2;
/// Bytes of the large frame that one fragment carries at most.
pub const PIECE: usize = FRAGMENT - PREFIX;

#[cfg(test)]
mod tests;
