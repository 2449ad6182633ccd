//! Between yamux and TLS: what yamux writes in one go leaves in one go.
//!
//! yamux flushes after each of its frames, of 16 KiB at most, and a flush makes a TLS record and a
//! system call. But before it waits for anything it reads; so a flush is put off until then.
//!
//! **Invariant**: whenever yamux waits, all it has written is on its way, or this stream has it woken
//! when there is room.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};

/// Four frames of yamux with their headers.
const BUFFER: usize = 66 * 1024;

/// A stream that flushes when it is read.
#[derive(Debug)]
pub(super) struct Coalesced<T> {
    stream: BufWriter<T>,
    /// A flush was put off.
    unflushed: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Coalesced<T> {
    pub(super) fn new(stream: T) -> Self {
        Self { stream: BufWriter::with_capacity(BUFFER, stream), unflushed: false }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Coalesced<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(cx)
        {
            self.unflushed = false;
            if let Err(error) = flushed {
                return Poll::Ready(Err(error));
            }
        }
        Pin::new(&mut self.stream).poll_read(cx, room)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Coalesced<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.unflushed = true;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    /// Puts it off.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_was_written_leaves_when_it_is_read_and_in_one_go() {
        let (near, mut far) = duplex(1024);
        let mut near = Coalesced::new(near);
        for part in [&b"a"[..], b"bc", b"d"] {
            near.write_all(part).await.expect("buffered");
            near.flush().await.expect("put off");
        }
        let mut bytes = [0; 16];
        assert!(far.read(&mut bytes).now_or_never().is_none(), "nothing left yet");
        assert!(near.read(&mut [0]).now_or_never().is_none(), "nothing came");
        assert_eq!(far.read(&mut bytes).await.expect("it left"), 4);
        assert_eq!(&bytes[..4], b"abcd");
    }

    #[tokio::test]
    async fn what_finds_no_room_leaves_when_there_is_some() {
        let (near, mut far) = duplex(10);
        let mut near = Coalesced::new(near);
        let sent: Vec<u8> = (0..100).collect();
        near.write_all(&sent).await.expect("buffered");
        let reading = async { near.read(&mut [0]).await.expect("the other side's word") };
        let other = async {
            let mut got = vec![0; sent.len()];
            far.read_exact(&mut got).await.expect("all of it");
            far.write_all(b"!").await.expect("read");
            got
        };
        let (read, got) = tokio::join!(reading, other);
        assert_eq!((read, got), (1, sent.clone()));
    }

    #[tokio::test]
    async fn an_end_takes_along_what_was_put_off() {
        let (near, mut far) = duplex(10);
        let mut near = Coalesced::new(near);
        near.write_all(b"last").await.expect("buffered");
        near.shutdown().await.expect("an end");
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.expect("all of it");
        assert_eq!(got, b"last");
    }
}
