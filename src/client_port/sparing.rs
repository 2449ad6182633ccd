//! Buffers between TLS and a socket that are there only while they are of use.
//!
//! A node has thousands of sessions, and few of them are busy at a time: what an idle one holds is paid
//! for thousands of times. A read brings several records in one system call, as many as a busy session
//! has; what TLS writes leaves in one piece when it flushes.
//!
//! **Invariant**: whoever waits for bytes and has none to write holds no buffer.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

/// Bytes asked for in one read where reads bring all that is asked for.
const READ: usize = 64 * 1024;
/// When a read brings less than this, the next ones go where TLS wants them, past this buffer.
const LITTLE: usize = 8 * 1024;
/// Bytes that wait for a flush.
const WRITE: usize = 32 * 1024;

/// The stream with its buffers.
#[derive(Debug)]
pub(super) struct Sparing<S> {
    stream: S,
    read: BytesMut,
    /// Reads bring much.
    busy: bool,
    written: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sparing<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, read: BytesMut::new(), busy: false, written: BytesMut::new() }
    }

    /// Reads into the empty buffer; lets go of it while there is nothing.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.read.reserve(READ);
        match poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.read) {
            Poll::Pending => {
                self.read = BytesMut::new();
                self.busy = false;
                Poll::Pending
            }
            Poll::Ready(read) => {
                self.busy = read? >= LITTLE;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Writes all that waits, and lets go of its buffer.
    fn poll_empty(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.written.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.written))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written.advance(written);
        }
        self.written = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Sparing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() && !self.busy {
            self.read = BytesMut::new();
            let before = room.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(cx, room))?;
            // There may be more than TLS asked for.
            self.busy = room.remaining() == 0 && room.filled().len() > before;
            return Poll::Ready(Ok(()));
        }
        if self.read.is_empty() {
            ready!(self.poll_fill(cx))?;
        }
        let taken = self.read.len().min(room.remaining());
        room.put_slice(&self.read[..taken]);
        self.read.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Sparing<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if self.written.len() + len > WRITE {
            ready!(self.poll_empty(cx))?;
        }
        if len > WRITE {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        }
        self.written.reserve(len);
        parts.iter().for_each(|part| self.written.extend_from_slice(part));
        Poll::Ready(Ok(len))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn who_waits_holds_nothing() {
        let (near, mut far) = duplex(1 << 20);
        let mut near = Sparing::new(near);
        let mut byte = [0];
        for _ in 0..3 {
            assert!(near.read(&mut byte).now_or_never().is_none());
            assert_eq!((near.read.capacity(), near.written.capacity()), (0, 0));
            far.write_all(b"x").await.expect("there is room");
            assert_eq!(near.read(&mut byte).await.expect("a byte"), 1);
            near.write_all(b"y").await.expect("buffered");
            near.flush().await.expect("there is room");
        }
    }

    #[tokio::test]
    async fn everything_passes_both_ways_in_order_however_it_is_cut() {
        let (near, far) = duplex(777);
        let (near, far) = (Sparing::new(near), Sparing::new(far));
        let sent: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(n) >> 3) as u8).collect();
        let both = async |mut stream: Sparing<_>, sizes: [usize; 3]| {
            let (mut reads, mut writes) = tokio::io::split(&mut stream);
            let write = async {
                let mut rest = &sent[..];
                for size in sizes.iter().cycle() {
                    if rest.is_empty() {
                        break;
                    }
                    let (part, later) = rest.split_at((*size).min(rest.len()));
                    writes.write_all(part).await.expect("it is read");
                    writes.flush().await.expect("it is read");
                    rest = later;
                }
            };
            let read = async {
                let mut got = vec![0; sent.len()];
                reads.read_exact(&mut got).await.expect("all of it");
                got
            };
            tokio::join!(write, read).1
        };
        let (one, other) = tokio::join!(both(near, [1, 5000, 40_000]), both(far, [100_000, 3, 32_768]));
        assert!(one == sent && other == sent);
    }

    #[tokio::test]
    async fn what_tls_writes_leaves_in_one_piece() {
        let (near, mut far) = duplex(1 << 20);
        let mut near = Sparing::new(near);
        for part in [&b"a"[..], b"bc", b"d"] {
            near.write_all(part).await.expect("buffered");
        }
        let mut got = [0; 16];
        assert!(far.read(&mut got).now_or_never().is_none(), "nothing left yet");
        near.shutdown().await.expect("an end takes it along");
        assert_eq!(far.read(&mut got).await.expect("it left"), 4);
    }
}
