//! A client's byte stream: frames read in batches, frames written as they are to appear in TLS records.

use std::{
    borrow::Cow,
    collections::VecDeque,
    future::poll_fn,
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use amop_protocol::wire::channel::{Decoder, Encoded, Frame, FrameError};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_util::io::poll_read_buf;

/// Room made in the read buffer at a time.
const READ_BUFFER: usize = 32 * 1024;
/// With less room than this a read is not worth its system call.
const READ_LEAST: usize = 8 * 1024;
/// Bytes read at first, when nothing is known of what comes.
const LOOK: usize = 1024;
/// Room made at once for the rest of a frame, so that its bytes stay where they were read: a chunk of
/// a file with what proves it, and some.
const READ_WHOLE: usize = 288 * 1024;
/// Frames up to this size are copied together for clients that take several in one record.
const COALESCE: usize = 16 * 1024;
/// Room made for frames that are to be copied together.
const FIRST: usize = 1024;

/// What a [`Connection::step`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// That many bytes were read; 0: the client will send no more.
    Read(usize),
    /// Everything submitted was written and flushed.
    Written,
}

/// Whether the step may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Allowed,
    Paused,
}

/// How frames are laid into TLS records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Records {
    /// Each frame in records of its own: 2.x SDKs take what one read gives for one frame.
    OfOneFrame,
    /// Small frames together.
    Coalesced,
}

/// Something to be written.
#[derive(Debug)]
enum Part {
    Frame(Encoded),
    /// Small frames together.
    Frames(BytesMut),
}

impl Part {
    fn bytes(&self) -> [&[u8]; 2] {
        match self {
            Self::Frame(frame) => [frame.head(), frame.payload()],
            Self::Frames(frames) => [frames, &[]],
        }
    }
}

/// The stream, what was read and not handled, and what is being written.
#[derive(Debug)]
pub(super) struct Connection<S> {
    stream: S,
    decoder: Decoder,
    input: BytesMut,
    /// Each is written in one call, which makes TLS records of it alone.
    output: VecDeque<Part>,
    /// Bytes of the first of `output` that are written.
    written: usize,
    /// Bytes that may come to be copied together.
    expected: usize,
    unflushed: bool,
    read_next: bool,
    /// The input buffer has grown for a large frame.
    grown: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(stream: S, max_frame: usize) -> Self {
        Self {
            stream,
            decoder: Decoder::new(max_frame),
            input: BytesMut::new(),
            output: VecDeque::new(),
            written: 0,
            expected: 0,
            unflushed: false,
            read_next: false,
            grown: false,
        }
    }

    /// The next frame that was read as a whole.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        self.decoder.decode(&mut self.input)
    }

    /// Bytes read and not handled.
    pub(super) fn held(&self) -> usize {
        self.input.len()
    }

    /// Lets go of the room that a large frame took, once it is handled.
    pub(super) fn trim(&mut self) {
        // What is left of the buffer would keep all of it alive, whatever its own capacity says.
        if self.grown && self.decoder.missing(&self.input).unwrap_or(0) <= READ_BUFFER {
            self.input = BytesMut::from(&self.input[..]);
            self.grown = false;
        }
    }

    /// Whether something submitted is not written yet.
    pub(super) fn is_writing(&self) -> bool {
        self.unflushed
    }

    /// About so many bytes are going to be submitted together: room for them is made once.
    pub(super) fn expect(&mut self, bytes: usize) {
        self.expected = bytes;
    }

    /// Submits a frame to be written by the coming steps.
    pub(super) fn submit(&mut self, frame: Cow<'_, Encoded>, records: Records) {
        self.unflushed = true;
        let len = frame.wire_len();
        if records == Records::OfOneFrame || len > COALESCE {
            return self.output.push_back(Part::Frame(frame.into_owned()));
        }
        if let Some(Part::Frames(frames)) = self.output.back_mut() {
            return frame.put(frames);
        }
        let mut frames = BytesMut::with_capacity(len.max(FIRST).max(std::mem::take(&mut self.expected)));
        frame.put(&mut frames);
        self.output.push_back(Part::Frames(frames));
    }

    /// Reads some, or finishes writing what was submitted, whichever comes first. Cancel safe:
    /// both go on where they were.
    pub(super) async fn step(&mut self, reading: Reading) -> io::Result<Step> {
        poll_fn(|cx| {
            // Whoever was not served last goes first, so that neither starves the other.
            self.read_next = !self.read_next;
            if self.read_next {
                if let Poll::Ready(step) = self.poll_read(cx, reading) {
                    return Poll::Ready(step);
                }
                return self.poll_write(cx);
            }
            if let Poll::Ready(step) = self.poll_write(cx) {
                return Poll::Ready(step);
            }
            self.poll_read(cx, reading)
        })
        .await
    }

    /// Says goodbye on the TLS level.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, reading: Reading) -> Poll<io::Result<Step>> {
        if reading == Reading::Paused {
            return Poll::Pending;
        }
        if self.input.is_empty() && self.input.capacity() < READ_LEAST {
            return self.poll_look(cx);
        }
        self.make_room();
        match poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input) {
            Poll::Ready(read) => Poll::Ready(read.map(Step::Read)),
            Poll::Pending => {
                // Most sessions are idle most of the time.
                if self.input.is_empty() {
                    self.input = BytesMut::new();
                }
                Poll::Pending
            }
        }
    }

    /// Reads what may be little, or nothing yet, so that whoever waits needs no buffer, and a small frame a
    /// small one.
    fn poll_look(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Step>> {
        let mut bytes = [MaybeUninit::uninit(); LOOK];
        let mut look = ReadBuf::uninit(&mut bytes);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut look))?;
        let read = look.filled();
        self.input = BytesMut::with_capacity(if read.len() < LOOK { read.len() } else { READ_BUFFER });
        self.input.extend_from_slice(read);
        Poll::Ready(Ok(Step::Read(read.len())))
    }

    fn make_room(&mut self) {
        if self.input.capacity() - self.input.len() < READ_LEAST {
            // Beyond a bound the buffer grows with what has come of a frame, not with what it claims.
            let missing = self.decoder.missing(&self.input).unwrap_or(0);
            // And a little more, so that its end does not move all of it.
            let room = READ_BUFFER.max(missing.min(READ_WHOLE.max(self.input.len())) + READ_LEAST);
            self.grown |= room > READ_BUFFER;
            self.input.reserve(room);
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Step>> {
        if !self.unflushed {
            return Poll::Pending;
        }
        while let Some([head, payload]) = self.output.front().map(Part::bytes) {
            let rest = [
                IoSlice::new(&head[self.written.min(head.len())..]),
                IoSlice::new(&payload[self.written.saturating_sub(head.len())..]),
            ];
            let len = head.len() + payload.len();
            let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
            if self.written >= len {
                self.written = 0;
                self.output.pop_front();
            }
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(Step::Written))
    }
}
