//! The receiving side: fragments back into frames.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::{Bytes, BytesMut};

use super::{FIRST, LAST};
use crate::{
    limits::MAX_FRAGMENTED,
    wire::link::{self, FrameFault, Kind, LinkFrame, PREFIX, Prefix},
};

/// Bytes of partly received frames that all links of a node may hold together.
#[derive(Debug)]
pub struct Budget {
    limit: AtomicUsize,
    held: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` bytes. One link may use at most half of it.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit: AtomicUsize::new(limit), held: AtomicUsize::new(0) })
    }

    /// Changes the limit. What is held beyond a lower one stays until it is given back.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Bytes held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let grown = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= limit);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What a frame read from the wire amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// A whole frame.
    Frame(LinkFrame),
    /// A fragment; nothing to do yet.
    Part,
    /// The budget is used up: this large frame is given up, its rest will be skipped. Holds the
    /// frame without its payload, if as much of it had arrived, so that its origin can be told.
    Dropped(Option<LinkFrame>),
}

/// How a peer broke the rules of fragments. Its link is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The large frame's own prefix is bad.
    #[error("fragmented frame is malformed: {0}")]
    Frame(#[from] FrameFault),
    /// A fragment with a header, with unknown marks or without content.
    #[error("fragment of stream {stream} is malformed")]
    Malformed {
        /// The stream.
        stream: u32,
    },
    /// A fragment that continues nothing.
    #[error("fragment continues stream {stream}, which is not open")]
    Unknown {
        /// The stream.
        stream: u32,
    },
    /// A second beginning.
    #[error("fragment opens stream {stream}, which is open")]
    Duplicate {
        /// The stream.
        stream: u32,
    },
    /// More large frames at once than allowed.
    #[error("more than {MAX_FRAGMENTED} fragmented frames at once")]
    TooMany,
    /// More or fewer bytes than the frame's length says.
    #[error("stream {stream} carried {received} bytes of a frame of {total}")]
    WrongLength {
        /// The stream.
        stream: u32,
        /// Bytes received.
        received: usize,
        /// Bytes announced.
        total: usize,
    },
}

/// Room made for a large frame when its beginning has come: as much as a payload of 256 KiB with its
/// header takes. Of a larger one the rest grows with what has come, since what was announced need never.
const AHEAD: usize = 320 * 1024;

/// Puts fragments together again: one per substream. Whole frames pass through untouched.
#[derive(Debug)]
pub struct Assembler {
    budget: Arc<Budget>,
    max: usize,
    held: usize,
    partial: BTreeMap<u32, Partial>,
}

#[derive(Debug)]
struct Partial {
    total: usize,
    received: usize,
    /// `None` once the frame was given up.
    bytes: Option<BytesMut>,
}

impl Assembler {
    /// For frames of at most `max` bytes.
    pub fn new(budget: Arc<Budget>, max: usize) -> Self {
        Self { budget, max, held: 0, partial: BTreeMap::new() }
    }

    /// Takes a frame as it was read.
    ///
    /// # Errors
    ///
    /// A [`Fault`] of the peer; the link must be closed.
    pub fn handle_frame(&mut self, frame: LinkFrame) -> Result<Arrived, Fault> {
        if frame.kind != Kind::Fragment {
            return Ok(Arrived::Frame(frame));
        }
        let (stream, marks) = (frame.flow, frame.hops);
        if !frame.header.is_empty() || frame.payload.is_empty() || marks & !(FIRST | LAST) != 0 {
            return Err(Fault::Malformed { stream });
        }
        if marks & FIRST != 0 {
            self.open(stream, &frame.payload)?;
        }
        let arrived = self.extend(stream, &frame.payload)?;
        if marks & LAST != 0 { self.finish(stream, arrived) } else { Ok(arrived) }
    }

    fn open(&mut self, stream: u32, payload: &[u8]) -> Result<(), Fault> {
        let open = self.partial.len();
        let Entry::Vacant(entry) = self.partial.entry(stream) else {
            return Err(Fault::Duplicate { stream });
        };
        if open >= MAX_FRAGMENTED {
            return Err(Fault::TooMany);
        }
        let prefix = Prefix::peek(payload, self.max)?.ok_or(Fault::Malformed { stream })?;
        if prefix.kind == Kind::Fragment {
            return Err(Fault::Malformed { stream });
        }
        entry.insert(Partial { total: prefix.length, received: 0, bytes: Some(BytesMut::new()) });
        Ok(())
    }

    fn extend(&mut self, stream: u32, piece: &Bytes) -> Result<Arrived, Fault> {
        let partial = self.partial.get_mut(&stream).ok_or(Fault::Unknown { stream })?;
        partial.received += piece.len();
        if partial.received > partial.total {
            return Err(partial.wrong_length(stream));
        }
        let Some(bytes) = &mut partial.bytes else { return Ok(Arrived::Part) };
        let fits = self.held + piece.len() <= self.budget.limit.load(Ordering::Relaxed) / 2;
        if fits && self.budget.take(piece.len()) {
            self.held += piece.len();
            if bytes.is_empty() {
                bytes.reserve(partial.total.min(AHEAD));
            }
            bytes.extend_from_slice(piece);
            return Ok(Arrived::Part);
        }
        let given_up = partial.bytes.take().unwrap_or_default();
        self.release(given_up.len());
        Ok(Arrived::Dropped(head(given_up, piece, self.max)))
    }

    fn finish(&mut self, stream: u32, arrived: Arrived) -> Result<Arrived, Fault> {
        let partial = self.partial.remove(&stream).ok_or(Fault::Unknown { stream })?;
        if partial.received != partial.total {
            return Err(partial.wrong_length(stream));
        }
        let Some(mut bytes) = partial.bytes else { return Ok(arrived) };
        self.release(bytes.len());
        let frame = link::decode(&mut bytes, self.max)?.ok_or(Fault::Malformed { stream })?;
        Ok(Arrived::Frame(frame))
    }

    fn release(&mut self, bytes: usize) {
        self.held -= bytes;
        self.budget.give_back(bytes);
    }
}

impl Partial {
    fn wrong_length(&self, stream: u32) -> Fault {
        Fault::WrongLength { stream, received: self.received, total: self.total }
    }
}

impl Drop for Assembler {
    fn drop(&mut self) {
        self.budget.give_back(self.held);
    }
}

/// The frame without its payload, from the bytes that had arrived and the piece that did not fit.
fn head(mut bytes: BytesMut, piece: &[u8], max: usize) -> Option<LinkFrame> {
    bytes.extend_from_slice(piece);
    let prefix = Prefix::peek(&bytes, max).ok().flatten()?;
    let mut bytes = bytes.freeze();
    let header = (PREFIX + prefix.header <= bytes.len())
        .then(|| bytes.split_to(PREFIX + prefix.header).split_off(PREFIX))?;
    // Copied, so that it does not keep alive what was given up.
    let header = Bytes::copy_from_slice(&header);
    Some(LinkFrame { kind: prefix.kind, hops: prefix.hops, flow: prefix.flow, header, payload: Bytes::new() })
}
