//! Frames between nodes.
//!
//! ```text
//! offset  size  field
//! 0       4     length of the whole frame, these 12 bytes included
//! 4       1     kind
//! 5       1     hop limit: a relay lowers it in place
//! 6       2     header length
//! 8       4     flow: frames of one flow stay in order, others may overtake them
//! 12      h     protobuf header (`Control` or `Data` of `peer.proto`)
//! 12+h    …     payload, raw
//! ```
//! All integers are big-endian. A frame larger than [`FRAGMENT`] travels as several of kind
//! `Fragment`, so that others pass between them; see [`super::interleave`].

use bytes::Bytes;

/// Bytes before a frame's protobuf header.
pub const PREFIX: usize = 12;
/// Frames up to this size are sent whole; larger ones in pieces of at most this size.
pub const FRAGMENT: usize = 16 * 1024;

/// What a link frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Between neighbours: hello, gossip.
    Control = 1,
    /// Routed over any number of hops.
    Data = 2,
    /// A piece of a larger frame.
    Fragment = 3,
}

/// A whole frame, read or to be written. Clones share header and payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFrame {
    /// Control or data.
    pub kind: Kind,
    /// Relays it may still pass.
    pub hops: u8,
    /// Frames with the same flow keep their order on a link.
    pub flow: u32,
    /// Encoded protobuf header, at most 65,535 bytes.
    pub header: Bytes,
    /// The message itself; a copy-free slice of what was decrypted.
    pub payload: Bytes,
}

impl LinkFrame {
    /// Bytes this frame takes on the wire when sent whole.
    pub fn wire_len(&self) -> usize {
        PREFIX + self.header.len() + self.payload.len()
    }
}
