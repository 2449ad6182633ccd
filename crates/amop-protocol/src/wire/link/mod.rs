//! Frames between nodes.
//!
//! ```text
//! offset  size  field
//! 0       4     length of the whole frame, these 12 bytes included
//! 4       1     kind
//! 5       1     hop limit: a relay lowers it in place
//! 6       2     header length
//! 8       4     flow: frames of one flow stay in order, others may overtake them
//! 12      h     protobuf header (`Data` of `peer.proto`)
//! 12+h    …     payload, raw
//! ```
//! All integers are big-endian. In a control frame header and payload together are one
//! `Control` of `peer.proto`. A frame larger than [`FRAGMENT`] travels as several of kind
//! `Fragment`, so that others pass between them; see [`super::interleave`].

use bytes::{Buf, BufMut, Bytes, BytesMut};

use prost::Message;

use super::generated;
use crate::limits::MAX_LINK_FRAME;

/// Bytes before a frame's protobuf header.
pub const PREFIX: usize = 12;
/// Frames up to this size are sent whole; larger ones in pieces of at most this size.
pub const FRAGMENT: usize = 16 * 1024;

/// What a link frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// A control message as a frame. Its bytes are header and payload taken together; here all
    /// of them are payload, which may be longer than a header.
    pub fn control(message: generated::control::Message) -> Self {
        let payload = generated::Control { message: Some(message) }.encode_to_vec().into();
        Self { kind: Kind::Control, hops: 0, flow: 0, header: Bytes::new(), payload }
    }

    /// The message in a control frame; `None` if it is of a kind newer than this code.
    ///
    /// # Errors
    ///
    /// [`NotControl`] if the frame is no control frame or cannot be decoded.
    pub fn into_control(self) -> Result<Option<generated::control::Message>, NotControl> {
        if self.kind != Kind::Control {
            return Err(NotControl);
        }
        let decoded = generated::Control::decode(self.header.chain(self.payload));
        decoded.map(|control| control.message).map_err(|_| NotControl)
    }

    /// Bytes this frame takes on the wire when sent whole.
    pub fn wire_len(&self) -> usize {
        PREFIX + self.header.len() + self.payload.len()
    }

    /// The frame's first bytes, if it may be sent at all.
    ///
    /// # Errors
    ///
    /// [`TooLarge`] if the header or the frame is longer than the format allows.
    pub fn prefix(&self) -> Result<[u8; PREFIX], TooLarge> {
        let too_large = TooLarge { header: self.header.len(), frame: self.wire_len() };
        if self.wire_len() > MAX_LINK_FRAME {
            return Err(too_large);
        }
        let length = u32::try_from(self.wire_len()).map_err(|_| too_large)?;
        let header = u16::try_from(self.header.len()).map_err(|_| too_large)?;
        let mut prefix = [0; PREFIX];
        let mut out = &mut prefix[..];
        out.put_u32(length);
        out.put_u8(self.kind as u8);
        out.put_u8(self.hops);
        out.put_u16(header);
        out.put_u32(self.flow);
        Ok(prefix)
    }

    /// Appends the whole frame to `batch`, the only copy of its payload.
    ///
    /// # Errors
    ///
    /// [`TooLarge`]; nothing is appended then.
    pub fn encode(&self, batch: &mut BytesMut) -> Result<(), TooLarge> {
        let prefix = self.prefix()?;
        batch.reserve(self.wire_len());
        batch.put_slice(&prefix);
        batch.put_slice(&self.header);
        batch.put_slice(&self.payload);
        Ok(())
    }
}

/// Takes the next whole frame out of `input` without copying it; `None` until it is there.
///
/// A bad prefix is refused as soon as its bytes are there, before anything is waited for or
/// reserved. After an error the stream cannot be read on.
///
/// # Errors
///
/// A [`FrameFault`] if the prefix claims what cannot be or the frame is longer than `max`.
pub fn decode(input: &mut BytesMut, max: usize) -> Result<Option<LinkFrame>, FrameFault> {
    let Some(Prefix { length, kind, hops, header, flow }) = Prefix::peek(input, max)? else {
        return Ok(None);
    };
    if input.len() < length {
        return Ok(None);
    }
    let mut frame = input.split_to(length).freeze();
    frame.advance(PREFIX);
    let header = frame.split_to(header);
    Ok(Some(LinkFrame { kind, hops, flow, header, payload: frame }))
}

/// A frame's first bytes, checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefix {
    pub(super) length: usize,
    pub(super) kind: Kind,
    pub(super) hops: u8,
    pub(super) header: usize,
    pub(super) flow: u32,
}

impl Prefix {
    /// Reads the prefix at the start of `input`; `None` until its bytes are there.
    pub(super) fn peek(input: &[u8], max: usize) -> Result<Option<Self>, FrameFault> {
        let Some((mut length, mut rest)) = input.split_at_checked(4) else { return Ok(None) };
        let length = length.get_u32() as usize;
        if length < PREFIX {
            return Err(FrameFault::TooShort { length });
        }
        if length > max {
            return Err(FrameFault::TooLong { length, max });
        }
        if rest.len() < PREFIX - 4 {
            return Ok(None);
        }
        let kind = Kind::from_wire(rest.get_u8())?;
        let (hops, header, flow) = (rest.get_u8(), usize::from(rest.get_u16()), rest.get_u32());
        if PREFIX + header > length {
            return Err(FrameFault::HeaderTooLong { header, length });
        }
        Ok(Some(Self { length, kind, hops, header, flow }))
    }
}

impl Kind {
    fn from_wire(value: u8) -> Result<Self, FrameFault> {
        match value {
            1 => Ok(Self::Control),
            2 => Ok(Self::Data),
            3 => Ok(Self::Fragment),
            kind => Err(FrameFault::UnknownKind { kind }),
        }
    }
}

/// A frame where a control message was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the frame is no control message")]
pub struct NotControl;

/// A frame of ours that the format cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame of {frame} bytes with a header of {header} is larger than a link carries; send less")]
pub struct TooLarge {
    /// Length of its header; 65,535 at most.
    pub header: usize,
    /// Length of the whole; [`MAX_LINK_FRAME`] at most.
    pub frame: usize,
}

/// What is wrong with a prefix. The peer is at fault; its link is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameFault {
    /// Shorter than its own prefix.
    #[error("frame claims {length} bytes, less than its own prefix")]
    TooShort {
        /// The claim.
        length: usize,
    },
    /// Longer than allowed here.
    #[error("frame claims {length} bytes, more than the {max} allowed here")]
    TooLong {
        /// The claim.
        length: usize,
        /// The bound.
        max: usize,
    },
    /// The header does not fit into the frame.
    #[error("frame of {length} bytes claims a header of {header}")]
    HeaderTooLong {
        /// The claim.
        header: usize,
        /// The frame's length.
        length: usize,
    },
    /// Neither control nor data nor a fragment.
    #[error("frame is of unknown kind {kind}")]
    UnknownKind {
        /// What it says it is.
        kind: u8,
    },
}

#[cfg(test)]
mod tests;
