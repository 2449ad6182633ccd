//! Bytes to frames and back, for as long as the link lives.

use std::sync::{Arc, atomic::Ordering};

use amop_protocol::wire::{
    generated::control::Message as Body,
    interleave::{Arrived, Assembler},
    link::{self, FRAGMENT, Kind, LinkFrame},
};
use bytes::{BufMut, BytesMut};
use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Context, DownReason, Event, Link, PeerFault, handle::Outgoing, turn::Turns};

/// Room made for reading at a time; frames read are slices of it.
const READ_ROOM: usize = 64 * 1024;
/// With less room than this, new room is made. No more is read at once: yamux brings that much, and what
/// it could fill is zeroed before each read.
const MIN_ROOM: usize = 16 * 1024;
/// Bytes written and flushed at once. Memory of a batch is kept for the next.
const BATCH: usize = 64 * 1024;

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Control,
    Data,
}

/// Writes what is queued: all of it that fits into one batch, one write, one flush.
pub(super) async fn write(link: Link, mut stream: impl AsyncWrite + Unpin, flow: Flow) {
    let outgoing = link.outgoing(flow);
    let writing = outgoing.dead.run_until_cancelled(write_batches(&link, outgoing, &mut stream));
    match link.0.end.cut.run_until_cancelled(writing).await {
        // The readers may still find what had come before; they see the end for themselves.
        Some(Some(Err(error))) => link.drain(DownReason::Lost(error)),
        // Perhaps only the link's other connection is lost, and the peer waits for more here. Tried once:
        // perhaps it takes nothing.
        Some(None) => _ = stream.shutdown().now_or_never(),
        _ => {}
    }
}

async fn write_batches(
    link: &Link,
    outgoing: &Outgoing,
    stream: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    // One piece, however many frames and fragments: the multiplexer makes a frame of each that it gets.
    let mut batch = BytesMut::with_capacity(BATCH);
    loop {
        batch.clear();
        // No frame in the queue is too large: `try_send` refuses those.
        let filled = outgoing.queue.lock().poll_batch(&mut batch, BATCH).map_err(std::io::Error::other)?;
        if filled {
            stream.write_all(&batch).await?;
            stream.flush().await?;
            link.0.metrics.bytes_sent.inc_by(batch.len() as u64);
            link.0.passed.bytes_sent.fetch_add(batch.len() as u64, Ordering::Relaxed);
        } else if link.0.end.drain.is_cancelled() {
            if link.0.end.is_by_peer() {
                // Our end of the stream tells the peer that all it sent was read.
                link.0.end.all_read.cancelled().await;
            }
            return stream.shutdown().await;
        } else {
            // Left when draining begins, to look at the queue one last time.
            link.0.end.drain.run_until_cancelled(outgoing.wake.notified()).await;
        }
    }
}

/// Hands data frames to the router, in order, in this task.
pub(super) async fn read_data(
    link: Link,
    stream: impl AsyncRead + Unpin,
    assembler: Assembler,
    context: Arc<Context>,
) {
    let mut reader = Reader { stream, input: BytesMut::new(), assembler, link: &link };
    let reading = async {
        loop {
            let frame = match reader.next().await? {
                Arrived::Frame(frame) => frame,
                Arrived::Dropped(head) => {
                    context.metrics.reassembly_dropped.inc();
                    if let Some(head) = head {
                        context.router.handle_dropped(link.peer(), head);
                    }
                    continue;
                }
                Arrived::Part => {
                    tokio::task::consume_budget().await;
                    continue;
                }
            };
            if frame.kind != Kind::Data {
                return Err(PeerFault::WrongStream(frame.kind).into());
            }
            context.router.handle_data(link.peer(), frame).map_err(PeerFault::Data)?;
            // Other links and clients have their turn, however much there is to read.
            tokio::task::consume_budget().await;
        }
    };
    finish(&link, Flow::Data, link.0.end.cut.run_until_cancelled(reading).await);
}

/// Hands control messages to the node; waits while its queue is full, and so does the peer.
pub(super) async fn read_control(
    link: &Link,
    stream: impl AsyncRead + Unpin,
    input: BytesMut,
    assembler: Assembler,
    context: &Context,
) {
    let mut reader = Reader { stream, input, assembler, link };
    let turns = Turns::default();
    let reading = async {
        loop {
            match reader.next().await? {
                Arrived::Frame(frame) => {
                    let turn = turns.take(frame.wire_len()).await;
                    let Some(message) = control_message(frame)? else { continue };
                    let event = Event::Control { peer: link.peer(), link: link.id(), message, turn };
                    if context.events.send(event).await.is_err() {
                        return Err(DownReason::Shutdown);
                    }
                }
                Arrived::Dropped(_) => {
                    context.metrics.reassembly_dropped.inc();
                }
                Arrived::Part => {}
            }
        }
    };
    finish(link, Flow::Control, link.0.end.cut.run_until_cancelled(reading).await);
}

fn finish(link: &Link, flow: Flow, result: Option<Result<std::convert::Infallible, DownReason>>) {
    if let Some(Err(DownReason::Lost(_))) = &result {
        link.outgoing(flow).dead.cancel();
    }
    match result {
        // What is still on its way, on this side or on the other stream, gets its chance.
        Some(Err(reason @ (DownReason::ClosedByPeer | DownReason::Lost(_)))) => link.drain(reason),
        Some(Err(reason)) => link.close(reason),
        _ => {}
    }
    link.0.end.reader_done();
}

/// The message in a control frame; `None` if it is of a kind that is newer than this node.
fn control_message(frame: LinkFrame) -> Result<Option<Body>, PeerFault> {
    if frame.kind != Kind::Control {
        return Err(PeerFault::WrongStream(frame.kind));
    }
    match frame.into_control().map_err(|_| PeerFault::Control)? {
        Some(Body::Hello(_)) => Err(PeerFault::Hello),
        message => Ok(message),
    }
}

/// Reads frames with one buffer; payloads are slices of it.
struct Reader<'a, R> {
    stream: R,
    input: BytesMut,
    assembler: Assembler,
    link: &'a Link,
}

impl<R: AsyncRead + Unpin> Reader<'_, R> {
    async fn next(&mut self) -> Result<Arrived, DownReason> {
        loop {
            if let Some(frame) = link::decode(&mut self.input, FRAGMENT).map_err(PeerFault::from)? {
                let arrived = self.assembler.handle_frame(frame).map_err(PeerFault::from)?;
                if matches!(arrived, Arrived::Frame(_)) {
                    self.link.0.metrics.frames_received.inc();
                    self.link.0.passed.frames_received.fetch_add(1, Ordering::Relaxed);
                }
                return Ok(arrived);
            }
            if self.input.capacity() - self.input.len() < MIN_ROOM {
                self.input.reserve(READ_ROOM);
            }
            let mut room = (&mut self.input).limit(MIN_ROOM);
            let read = self.stream.read_buf(&mut room).await.map_err(DownReason::Lost)?;
            if read == 0 {
                return Err(DownReason::ClosedByPeer);
            }
            self.link.hear();
            self.link.0.metrics.bytes_received.inc_by(read as u64);
            self.link.0.passed.bytes_received.fetch_add(read as u64, Ordering::Relaxed);
        }
    }
}
