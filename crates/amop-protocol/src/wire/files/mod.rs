//! Frames of file transfers: `proto/amop/v1/files.proto` as messages that are valid.
//!
//! Two SDKs speak them; to nodes they are payloads like any other.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

pub use pb::FileReason as Reason;
use pb::file_frame::Step as Wire;

use super::generated as pb;

/// What every frame of a transfer begins with.
pub const LABEL: &[u8] = b"amop/file/1\n";
/// Bytes of a chunk; the last one of a file has what is left.
pub const CHUNK: u64 = 256 * 1024;
/// Largest file: 2^48 bytes, 256 TiB.
pub const MAX_SIZE: u64 = 1 << 48;
/// Ranges of chunks that one frame names.
pub const MAX_RANGES: usize = 1_024;
/// Bytes of a name, as its sender has it.
pub const MAX_NAME: usize = 4_096;
/// Bytes of a media type.
pub const MAX_MEDIA_TYPE: usize = 255;
/// Bytes of an explanation; what is longer is cut.
pub const MAX_WHY: usize = 512;
/// Bytes of a nonce.
pub const NONCE: usize = 12;
/// Hashes in a proof: the depth of the tree over the largest file.
const MAX_PROOF: usize = 30;
/// Topics of inboxes begin so, followed by 32 hex digits.
pub const INBOX_PREFIX: &str = "_amop_file_";

/// Names a transfer, or a receiver of files: 16 random bytes, in hex where people see it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub [u8; 16]);

impl Id {
    /// The topic over which it is reached.
    pub fn inbox(&self) -> String {
        format!("{INBOX_PREFIX}{self}")
    }

    /// Reads 32 hex digits; `None` if they are anything else.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let mut id = [0; 16];
        if hex.len() != 32 {
            return None;
        }
        for (byte, digits) in id.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            *byte = u8::try_from(digit(digits[0])? << 4 | digit(digits[1])?).ok()?;
        }
        Some(Self(id))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The transfer it belongs to.
    pub transfer: Id,
    /// What it says.
    pub step: Step,
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A file is offered.
    Offer(Offer),
    /// This receiver has the offer and will decide.
    Seen {
        /// Who that is.
        receiver: Id,
    },
    /// The file is wanted.
    Accept {
        /// By whom.
        receiver: Id,
        /// The chunks to send.
        missing: Vec<Range>,
    },
    /// The file is not wanted.
    Decline {
        /// By whom.
        receiver: Id,
        /// For people.
        why: String,
    },
    /// Understood.
    Noted,
    /// A piece of the file.
    Chunk {
        /// Which.
        index: u64,
        /// Hashes of 32 bytes each.
        proof: Bytes,
        /// [`CHUNK`] bytes, or what is left.
        data: Bytes,
    },
    /// A piece is verified and written.
    Stored {
        /// Which.
        index: u64,
    },
    /// How far is it?
    Ask,
    /// So far.
    State(State),
    /// The transfer is over.
    Stop {
        /// Why; unspecified if a newer version gave one that this one does not know.
        reason: Reason,
        /// For people.
        why: String,
        /// Who says so, if it is a receiver.
        receiver: Option<Id>,
    },
    /// Another step, encrypted.
    Sealed {
        /// For the cipher.
        nonce: [u8; NONCE],
        /// The step, with its tag.
        sealed: Bytes,
    },
}

/// An offer.
#[derive(Clone, PartialEq, Eq)]
pub struct Offer {
    /// As its sender has it: not safe to be used.
    pub name: String,
    /// Bytes, at most [`MAX_SIZE`].
    pub size: u64,
    /// As its sender says; may be empty.
    pub media_type: String,
    /// BLAKE3 of the content.
    pub root: [u8; 32],
    /// On a private topic: what seals all further frames.
    pub key: Option<[u8; 32]>,
}

impl fmt::Debug for Offer {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, size, media_type, .. } = self;
        f.debug_struct("Offer")
            .field("name", name)
            .field("size", size)
            .field("media_type", media_type)
            .finish_non_exhaustive()
    }
}

/// Chunks that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first one.
    pub first: u64,
    /// How many, at least 1.
    pub count: u64,
}

/// How far a receiver is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// These are missing.
    Missing(Vec<Range>),
    /// All is there, but not in its place, or nobody has decided yet.
    Working,
    /// In its place.
    Done {
        /// Says who.
        receiver: Id,
    },
}

/// Why bytes are no frame of a transfer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// It does not begin with the label.
    #[error("this is no frame of a file transfer of version 1")]
    NotFile,
    /// Cut off.
    #[error("the header of a frame of a file transfer runs past its end")]
    Truncated,
    /// The header is not what the label says.
    #[error("the header of a frame of a file transfer cannot be decoded")]
    Header(#[from] prost::DecodeError),
    /// A field that must be there is absent or cannot be.
    #[error("field {0} of a frame of a file transfer is missing or not valid")]
    Field(&'static str),
}

/// Chunks of a file of `size` bytes.
pub fn chunks(size: u64) -> u64 {
    size.div_ceil(CHUNK)
}

/// Where a chunk begins, and how many bytes it has; `None` if the file has no such chunk.
pub fn extent(size: u64, index: u64) -> Option<(u64, usize)> {
    let at = index.checked_mul(CHUNK).filter(|at| *at < size)?;
    // At most 256 KiB.
    Some((at, (size - at).min(CHUNK) as usize))
}

impl Frame {
    /// Whether a payload claims to be a frame of a transfer.
    pub fn is_frame(payload: &[u8]) -> bool {
        payload.starts_with(LABEL)
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// When it is no frame of a transfer, or not a valid one.
    pub fn decode(payload: &Bytes) -> Result<Self, FrameError> {
        let rest = payload.strip_prefix(LABEL).ok_or(FrameError::NotFile)?;
        Self::decode_inner(payload.slice_ref(rest))
    }

    /// Reads what was sealed.
    ///
    /// # Errors
    /// When it is no valid frame.
    pub fn decode_inner(mut rest: Bytes) -> Result<Self, FrameError> {
        let header = rest.try_get_u16().map_err(|_| FrameError::Truncated)?;
        if usize::from(header) > rest.len() {
            return Err(FrameError::Truncated);
        }
        let header = pb::FileFrame::decode(rest.split_to(header.into()))?;
        let step = Step::from_wire(header.step.ok_or(FrameError::Field("step"))?, rest)?;
        Ok(Self { transfer: id(&header.transfer, "transfer")?, step })
    }

    /// The payload of this frame.
    pub fn encode(&self) -> Bytes {
        let mut frame = BytesMut::from(LABEL);
        self.encode_inner(&mut frame);
        frame.freeze()
    }

    /// Appends what a sealed frame holds.
    pub fn encode_inner(&self, to: &mut BytesMut) {
        put_header(self.transfer, self.step.to_wire(), to);
        if let Step::Chunk { data: content, .. } | Step::Sealed { sealed: content, .. } = &self.step {
            to.put_slice(content);
        }
    }
}

/// The payload of a chunk's frame up to its content, with room for that: it is read from disk to
/// where it is sent from.
pub fn chunk_head(transfer: Id, index: u64, proof: Bytes, room: usize) -> BytesMut {
    let mut head = BytesMut::with_capacity(LABEL.len() + 64 + proof.len() + room);
    head.put_slice(LABEL);
    put_header(transfer, Wire::Chunk(pb::FileChunk { index, proof }), &mut head);
    head
}

/// As [`chunk_head`], of a chunk that is to be encrypted from `.1` on.
pub fn sealed_chunk_head(
    transfer: Id,
    nonce: [u8; NONCE],
    index: u64,
    proof: Bytes,
    room: usize,
) -> (BytesMut, usize) {
    let mut head = sealed_head(transfer, nonce, 128 + proof.len() + room);
    let at = head.len();
    put_header(transfer, Wire::Chunk(pb::FileChunk { index, proof }), &mut head);
    (head, at)
}

/// The payload of a sealed frame up to what is sealed.
pub fn sealed_head(transfer: Id, nonce: [u8; NONCE], room: usize) -> BytesMut {
    let mut head = BytesMut::with_capacity(LABEL.len() + 64 + room);
    head.put_slice(LABEL);
    let nonce = Bytes::copy_from_slice(&nonce);
    put_header(transfer, Wire::Sealed(pb::FileSealed { nonce }), &mut head);
    head
}

fn put_header(transfer: Id, step: Wire, to: &mut BytesMut) {
    let header = pb::FileFrame { transfer: Bytes::copy_from_slice(&transfer.0), step: Some(step) };
    // Ranges and texts are bounded far below what the length can say.
    to.put_u16(u16::try_from(header.encoded_len()).unwrap_or(u16::MAX));
    header.encode(to).expect("invariant: a BytesMut grows");
}

impl Step {
    fn from_wire(step: Wire, content: Bytes) -> Result<Self, FrameError> {
        Ok(match step {
            Wire::Offer(offer) => Self::Offer(Offer::from_wire(offer)?),
            Wire::Seen(seen) => Self::Seen { receiver: id(&seen.receiver, "receiver")? },
            Wire::Accept(accept) => Self::Accept {
                receiver: id(&accept.receiver, "receiver")?,
                missing: ranges(&accept.missing)?,
            },
            Wire::Decline(decline) => {
                Self::Decline { receiver: id(&decline.receiver, "receiver")?, why: text(decline.why) }
            }
            Wire::Noted(pb::FileNoted {}) => Self::Noted,
            Wire::Chunk(chunk) => {
                if chunk.proof.len() % 32 != 0 || chunk.proof.len() > MAX_PROOF * 32 {
                    return Err(FrameError::Field("proof"));
                }
                Self::Chunk { index: chunk.index, proof: chunk.proof, data: content }
            }
            Wire::Stored(stored) => Self::Stored { index: stored.index },
            Wire::Ask(pb::FileAsk {}) => Self::Ask,
            Wire::State(state) => Self::State(State::from_wire(state)?),
            Wire::Stop(stop) => Self::Stop {
                reason: stop.reason(),
                receiver: (!stop.receiver.is_empty()).then(|| id(&stop.receiver, "receiver")).transpose()?,
                why: text(stop.why),
            },
            Wire::Sealed(sealed) => Self::Sealed {
                nonce: sealed.nonce.as_ref().try_into().map_err(|_| FrameError::Field("nonce"))?,
                sealed: content,
            },
        })
    }

    fn to_wire(&self) -> Wire {
        let bytes = |id: &Id| Bytes::copy_from_slice(&id.0);
        match self {
            Self::Offer(offer) => Wire::Offer(offer.to_wire()),
            Self::Seen { receiver } => Wire::Seen(pb::FileSeen { receiver: bytes(receiver) }),
            Self::Accept { receiver, missing } => {
                Wire::Accept(pb::FileAccept { receiver: bytes(receiver), missing: from_ranges(missing) })
            }
            Self::Decline { receiver, why } => {
                Wire::Decline(pb::FileDecline { receiver: bytes(receiver), why: text(why.clone()) })
            }
            Self::Noted => Wire::Noted(pb::FileNoted {}),
            Self::Chunk { index, proof, .. } => {
                Wire::Chunk(pb::FileChunk { index: *index, proof: proof.clone() })
            }
            Self::Stored { index } => Wire::Stored(pb::FileStored { index: *index }),
            Self::Ask => Wire::Ask(pb::FileAsk {}),
            Self::State(state) => Wire::State(state.to_wire()),
            Self::Stop { reason, why, receiver } => Wire::Stop(pb::FileStop {
                reason: (*reason).into(),
                why: text(why.clone()),
                receiver: receiver.as_ref().map(bytes).unwrap_or_default(),
            }),
            Self::Sealed { nonce, .. } => {
                Wire::Sealed(pb::FileSealed { nonce: Bytes::copy_from_slice(nonce) })
            }
        }
    }
}

impl Offer {
    fn from_wire(offer: pb::FileOffer) -> Result<Self, FrameError> {
        let pb::FileOffer { name, size, media_type, root, key } = offer;
        if name.len() > MAX_NAME {
            return Err(FrameError::Field("name"));
        }
        if size > MAX_SIZE {
            return Err(FrameError::Field("size"));
        }
        if media_type.len() > MAX_MEDIA_TYPE
            || !media_type.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
        {
            return Err(FrameError::Field("media_type"));
        }
        let root = root.as_ref().try_into().map_err(|_| FrameError::Field("root"))?;
        let key = match key.len() {
            0 => None,
            _ => Some(key.as_ref().try_into().map_err(|_| FrameError::Field("key"))?),
        };
        Ok(Self { name, size, media_type, root, key })
    }

    fn to_wire(&self) -> pb::FileOffer {
        pb::FileOffer {
            name: self.name.clone(),
            size: self.size,
            media_type: self.media_type.clone(),
            root: Bytes::copy_from_slice(&self.root),
            key: self.key.map_or_else(Bytes::new, |key| Bytes::copy_from_slice(&key)),
        }
    }
}

impl State {
    fn from_wire(state: pb::FileState) -> Result<Self, FrameError> {
        use pb::file_state::State as Wire;
        Ok(match state.state.ok_or(FrameError::Field("state"))? {
            Wire::Missing(missing) => Self::Missing(ranges(&missing.missing)?),
            Wire::Working(pb::FileNoted {}) => Self::Working,
            Wire::Done(done) => Self::Done { receiver: id(&done.receiver, "receiver")? },
        })
    }

    fn to_wire(&self) -> pb::FileState {
        use pb::file_state::State as Wire;
        let state = match self {
            Self::Missing(missing) => Wire::Missing(pb::FileMissing { missing: from_ranges(missing) }),
            Self::Working => Wire::Working(pb::FileNoted {}),
            Self::Done { receiver } => {
                Wire::Done(pb::FileDone { receiver: Bytes::copy_from_slice(&receiver.0) })
            }
        };
        pb::FileState { state: Some(state) }
    }
}

fn id(bytes: &[u8], field: &'static str) -> Result<Id, FrameError> {
    bytes.try_into().map(Id).map_err(|_| FrameError::Field(field))
}

/// In order and disjoint, or they are refused.
fn ranges(wire: &[pb::FileRange]) -> Result<Vec<Range>, FrameError> {
    if wire.len() > MAX_RANGES {
        return Err(FrameError::Field("missing"));
    }
    let mut from = 0;
    let mut ranges = Vec::with_capacity(wire.len());
    for pb::FileRange { first, count } in wire {
        let end = first.checked_add(*count).filter(|end| *end <= chunks(MAX_SIZE));
        let end = end.filter(|_| *count > 0 && *first >= from).ok_or(FrameError::Field("missing"))?;
        ranges.push(Range { first: *first, count: *count });
        from = end;
    }
    Ok(ranges)
}

fn from_ranges(ranges: &[Range]) -> Vec<pb::FileRange> {
    ranges.iter().map(|Range { first, count }| pb::FileRange { first: *first, count: *count }).collect()
}

/// Cut to its bound, and without what could play tricks on a terminal.
fn text(mut why: String) -> String {
    why.truncate(why.floor_char_boundary(MAX_WHY));
    why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
