//! The FISCO BCOS 2.x channel frame: the one framing of the client port.
//!
//! ```text
//! offset  size  field
//! 0       4     length of the whole frame, these 42 bytes included
//! 4       2     type
//! 6       32    seq
//! 38      4     result, signed; 0 in requests
//! 42      …     body
//! ```
//! All integers are big-endian. Most bodies of messages are *topic bodies*: one byte that is
//! the topic's length plus one, the topic, the payload.
//!
//! A frame is refused as soon as its length is known, so a bad one is never buffered. What is
//! read shares the read buffer; what is written is a small head and the payload it was given.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{
    Seq, Topic,
    limits::MAX_CHANNEL_FRAME,
    topic::{self, MAX_TOPIC_BYTES},
};

/// Bytes before a frame's body.
pub const HEADER: usize = 42;

/// The type of a frame; types that nobody knows are ignored, so any number is one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Type(pub u16);

impl Type {
    /// A JSON-RPC request or its answer.
    pub const JSON_RPC: Self = Self(0x12);
    /// Heartbeat, both ways.
    pub const HEARTBEAT: Self = Self(0x13);
    /// Handshake, both ways.
    pub const HANDSHAKE: Self = Self(0x14);
    /// Registers an event filter; there are no events here.
    pub const EVENT_REGISTER: Self = Self(0x15);
    /// Unregisters an event filter.
    pub const EVENT_UNREGISTER: Self = Self(0x16);
    /// A message to one subscriber.
    pub const UNICAST: Self = Self(0x30);
    /// The answer to a message, or how it ended.
    pub const ANSWER: Self = Self(0x31);
    /// The complete list of a session's topics, as a JSON array.
    pub const TOPICS: Self = Self(0x32);
    /// A message to all subscribers.
    pub const MULTICAST: Self = Self(0x35);
    /// Asks a publisher to verify a subscriber of a private topic.
    pub const VERIFY: Self = Self(0x37);
    /// What came of the verification.
    pub const VERIFIED: Self = Self(0x38);
    /// Transaction receipt: a blockchain node's, never sent here.
    pub const RECEIPT: Self = Self(0x1000);
    /// Block height: a blockchain node's, never sent here.
    pub const BLOCK: Self = Self(0x1001);
    /// Event log: a blockchain node's, never sent here.
    pub const EVENT_LOG: Self = Self(0x1002);

    /// Extension, client to node: the whole topic set, acknowledged.
    pub const SUBSCRIBE: Self = Self(0x0400);
    /// Extension, node to client: the topic set is in force.
    pub const SUBSCRIBED: Self = Self(0x0401);
    /// Extension, client to node: a message.
    pub const PUBLISH: Self = Self(0x0402);
    /// Extension, node to client: how a message ended.
    pub const PUBLISH_RESULT: Self = Self(0x0403);
    /// Extension, node to client: a message.
    pub const DELIVER: Self = Self(0x0404);
    /// Extension, client to node: the answer to a message.
    pub const DELIVER_ANSWER: Self = Self(0x0405);
    /// Extension, node to client: the node drains.
    pub const GOODBYE: Self = Self(0x0406);
    /// Extension, client to node: messages have arrived.
    pub const RECEIVED: Self = Self(0x0407);
    /// Extension, node to client: a subscriber was handed a message.
    pub const HANDED_OVER: Self = Self(0x0408);

    /// Whether this is an extension frame, which 2.x clients neither send nor see.
    pub const fn is_extension(self) -> bool {
        self.0 >= 0x0400 && self.0 < 0x1000
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x}", self.0)
    }
}

impl fmt::Debug for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A frame that was read. The body shares the read buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Type,
    /// Matches an answer to its request.
    pub seq: Seq,
    /// 0 in requests; a code in answers.
    pub result: i32,
    /// What follows the header.
    pub body: Bytes,
}

/// Why bytes are not a frame: in each case the connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length does not even cover the header.
    #[error(
        "a frame's length must be at least {HEADER}, this one says {0}; the peer does not speak the channel protocol"
    )]
    TooShort(usize),
    /// The length is above the maximum.
    #[error("a frame of {len} bytes is above the maximum of {max}; send less, or raise the maximum")]
    TooLong {
        /// What the frame claims.
        len: usize,
        /// What is allowed.
        max: usize,
    },
}

/// Cuts frames off the front of a read buffer.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    max: usize,
}

impl Default for Decoder {
    /// Frames up to [`MAX_CHANNEL_FRAME`].
    fn default() -> Self {
        Self::new(MAX_CHANNEL_FRAME)
    }
}

impl Decoder {
    /// A decoder of frames up to `max` bytes, header included.
    pub const fn new(max: usize) -> Self {
        Self { max }
    }

    /// Takes the first frame off `buffer` if it is there as a whole.
    ///
    /// # Errors
    /// When the length cannot be that of a frame; decided on the first four bytes.
    #[inline]
    pub fn decode(&self, buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some(len) = self.frame_len(buffer)? else { return Ok(None) };
        if buffer.len() < len {
            return Ok(None);
        }
        let mut header = [0; HEADER];
        header.copy_from_slice(&buffer[..HEADER]);
        buffer.advance(HEADER);
        let body = buffer.split_to(len - HEADER).freeze();
        let (kind, seq, result) = parse_header(&header);
        Ok(Some(Frame { kind, seq, result, body }))
    }

    /// How many bytes the first frame of `buffer` still lacks; 0 if it is complete or its
    /// length is not known yet.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn missing(&self, buffer: &[u8]) -> Result<usize, FrameError> {
        Ok(self.frame_len(buffer)?.map_or(0, |len| len.saturating_sub(buffer.len())))
    }

    fn frame_len(&self, buffer: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(length) = buffer.first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_be_bytes(*length) as usize;
        if len < HEADER {
            return Err(FrameError::TooShort(len));
        }
        if len > self.max {
            return Err(FrameError::TooLong { len, max: self.max });
        }
        Ok(Some(len))
    }
}

fn parse_header(header: &[u8; HEADER]) -> (Type, Seq, i32) {
    let mut seq = [0; 32];
    seq.copy_from_slice(&header[6..38]);
    let kind = u16::from_be_bytes([header[4], header[5]]);
    let result = i32::from_be_bytes([header[38], header[39], header[40], header[41]]);
    (Type(kind), Seq(seq), result)
}

/// A frame ready to be written: a head of its own, and a payload that is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    head: Bytes,
    payload: Bytes,
}

impl Encoded {
    /// A frame whose body is `prefix`, which is copied, and `payload`, which is not.
    ///
    /// Whoever takes messages from outside compares [`Encoded::wire_len`] with the maximum; a
    /// frame beyond what the length field can say is refused by every decoder.
    #[inline]
    pub fn new(kind: Type, seq: Seq, result: i32, prefix: &[u8], payload: Bytes) -> Self {
        let mut head = Vec::with_capacity(HEADER + prefix.len());
        push_header(&mut head, kind, seq, result, prefix.len() + payload.len());
        head.extend_from_slice(prefix);
        Self { head: head.into(), payload }
    }

    /// A frame whose body is `len` bytes that `prefix` appends, and `payload`, which is not copied.
    pub(super) fn with_prefix(
        kind: Type,
        seq: Seq,
        result: i32,
        len: usize,
        prefix: impl FnOnce(&mut Vec<u8>),
        payload: Bytes,
    ) -> Self {
        let mut head = Vec::with_capacity(HEADER + len);
        push_header(&mut head, kind, seq, result, len + payload.len());
        prefix(&mut head);
        Self { head: head.into(), payload }
    }

    /// A frame with a topic body.
    #[inline]
    pub fn with_topic(kind: Type, seq: Seq, result: i32, topic: &Topic, payload: Bytes) -> Self {
        let name = topic.as_str().as_bytes();
        let mut head = Vec::with_capacity(HEADER + 1 + name.len());
        push_header(&mut head, kind, seq, result, 1 + name.len() + payload.len());
        // A topic has at most 254 bytes.
        head.push(name.len() as u8 + 1);
        head.extend_from_slice(name);
        Self { head: head.into(), payload }
    }

    /// A frame with no body.
    pub fn empty(kind: Type, seq: Seq, result: i32) -> Self {
        Self::new(kind, seq, result, &[], Bytes::new())
    }

    /// Header and prefix.
    pub fn head(&self) -> &Bytes {
        &self.head
    }

    /// What follows the head.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Bytes of the whole frame.
    pub fn wire_len(&self) -> usize {
        self.head.len() + self.payload.len()
    }

    /// Appends the frame to a batch: the one copy of the payload.
    #[inline]
    pub fn put(&self, batch: &mut impl BufMut) {
        batch.put_slice(&self.head);
        batch.put_slice(&self.payload);
    }
}

impl From<Frame> for Encoded {
    fn from(frame: Frame) -> Self {
        Self::new(frame.kind, frame.seq, frame.result, &[], frame.body)
    }
}

fn push_header(head: &mut Vec<u8>, kind: Type, seq: Seq, result: i32, body: usize) {
    let len = u32::try_from(HEADER + body).unwrap_or(u32::MAX);
    head.extend_from_slice(&len.to_be_bytes());
    head.extend_from_slice(&kind.0.to_be_bytes());
    head.extend_from_slice(&seq.0);
    head.extend_from_slice(&result.to_be_bytes());
}

/// A topic body, cut where the payload begins. Both pieces share the frame's bytes.
///
/// The topic need not be a valid name: empty and malformed ones can be read, and are refused
/// where the name is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicBody {
    prefix: Bytes,
    /// What follows the topic.
    pub payload: Bytes,
}

/// Why a body is not a topic body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicBodyError {
    /// No body at all.
    #[error("the body is empty; it must begin with the topic's length byte")]
    Empty,
    /// A length byte of 0, which counts itself and so cannot be.
    #[error("the topic's length byte is 0; it counts itself, so 1 is the least")]
    Zero,
    /// The topic would run past the end of the body.
    #[error("a topic of {topic} bytes does not fit a body of {body}; the length byte is wrong")]
    Overrun {
        /// Bytes of topic that the length byte claims.
        topic: usize,
        /// Bytes of the body.
        body: usize,
    },
}

impl TopicBody {
    /// Cuts a topic body in two.
    ///
    /// # Errors
    /// When it is empty or its length byte cannot be.
    #[inline]
    pub fn parse(mut body: Bytes) -> Result<Self, TopicBodyError> {
        let cut = match body.first() {
            None => return Err(TopicBodyError::Empty),
            Some(0) => return Err(TopicBodyError::Zero),
            Some(&n) => usize::from(n),
        };
        if cut > body.len() {
            return Err(TopicBodyError::Overrun { topic: cut - 1, body: body.len() });
        }
        let payload = body.split_off(cut);
        Ok(Self { prefix: body, payload })
    }

    /// Length byte and topic.
    pub fn prefix(&self) -> &Bytes {
        &self.prefix
    }

    /// The topic's bytes.
    pub fn topic_bytes(&self) -> &[u8] {
        &self.prefix[1..]
    }

    /// The topic, if its name is valid.
    ///
    /// # Errors
    /// When the name is empty, not UTF-8 or contains control characters.
    pub fn topic(&self) -> Result<Topic, topic::ParseError> {
        Topic::from_bytes(self.topic_bytes())
    }
}

/// Length byte and topic: what a topic body begins with.
pub fn topic_prefix(topic: &Topic) -> Bytes {
    let name = topic.as_str().as_bytes();
    let mut prefix = Vec::with_capacity(1 + MAX_TOPIC_BYTES.min(name.len()));
    prefix.push(name.len() as u8 + 1);
    prefix.extend_from_slice(name);
    prefix.into()
}

#[cfg(test)]
mod tests;
