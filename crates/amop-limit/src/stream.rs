//! Reading and writing in bulk, without memory for connections that are idle.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::mpsc,
};
use tokio_util::io::poll_read_buf;

use crate::frame::{self, Kind, Next};

/// What is read from the system at once, on busy connections.
const BUFFER: usize = 64 * 1024;
/// What rustls asks for at once; a connection that had more waiting is busy.
const SMALL: usize = 4 * 1024;
/// Spare buffers kept per thread.
const SPARE: usize = 8;
/// Most that is written at once.
const BATCH: usize = 64 * 1024;
/// Room for decrypted bytes on busy connections, and most that is gathered before it is passed on.
const MOST: usize = 128 * 1024;
/// First size of the buffer of decrypted bytes.
const FIRST: usize = 4 * 1024;

thread_local! {
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A TCP connection that reads [`BUFFER`] bytes at once while there is that much to read. It holds the buffer
/// only while bytes wait in it.
pub(crate) struct Bulk {
    tcp: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    busy: bool,
}

impl Bulk {
    /// Without Nagle's delay.
    pub(crate) fn new(tcp: TcpStream) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        Ok(Self { tcp, buffer: Vec::new(), start: 0, end: 0, busy: false })
    }

    fn give_back(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        if !buffer.is_empty() {
            POOL.with_borrow_mut(|pool| {
                if pool.len() < SPARE {
                    pool.push(buffer);
                }
            });
        }
    }

    fn fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() {
            self.buffer = POOL.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; BUFFER]);
        }
        let mut into = ReadBuf::new(&mut self.buffer);
        let read = Pin::new(&mut self.tcp).poll_read(context, &mut into);
        let got = into.filled().len();
        if !matches!(read, Poll::Ready(Ok(()))) {
            self.give_back();
            return read;
        }
        self.busy = got > SMALL;
        (self.start, self.end) = (0, got);
        read
    }
}

impl AsyncRead for Bulk {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.start == this.end {
            if !this.busy {
                let before = out.filled().len();
                ready!(Pin::new(&mut this.tcp).poll_read(context, out))?;
                this.busy = out.filled().len() - before >= SMALL;
                return Poll::Ready(Ok(()));
            }
            ready!(this.fill(context))?;
        }
        let give = (this.end - this.start).min(out.remaining());
        out.put_slice(&this.buffer[this.start..this.start + give]);
        this.start += give;
        if this.start == this.end {
            this.give_back();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bulk {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, b: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(context, b)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

/// Writes what is queued, all of it at once up to [`BATCH`], and flushes when the queue is empty.
pub(crate) async fn write_queue(
    mut to: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Bytes>,
) -> io::Result<()> {
    let mut batch = Vec::new();
    while let Some(mut slice) = queue.recv().await {
        loop {
            let next = queue.try_recv().ok();
            if batch.len() + slice.len() > BATCH && !batch.is_empty() {
                to.write_all(&batch).await?;
                batch.clear();
            }
            let alone = batch.is_empty() && (next.is_none() || slice.len() > BATCH / 2);
            match alone {
                true => to.write_all(&slice).await?,
                false => batch.extend_from_slice(&slice),
            }
            match next {
                Some(next) => slice = next,
                None => break,
            }
        }
        if !batch.is_empty() {
            to.write_all(&batch).await?;
            batch.clear();
        }
        to.flush().await?;
    }
    Ok(())
}

/// Decrypted bytes, gathered.
pub(crate) struct Gather<R> {
    from: R,
    buffer: BytesMut,
    room: usize,
}

impl<R: AsyncRead + Unpin> Gather<R> {
    pub(crate) fn new(from: R) -> Self {
        Self { from, buffer: BytesMut::new(), room: FIRST }
    }

    /// The next run of frames; `None` when the stream has ended.
    pub(crate) async fn run(&mut self) -> io::Result<Option<(Kind, Bytes)>> {
        loop {
            let want = match frame::take_run(&mut self.buffer)? {
                Next::Run(kind, run) => return Ok(Some((kind, run))),
                Next::Incomplete(want) => want,
            };
            if !poll_fn(|context| self.poll_more(context, want)).await? {
                return Ok(None);
            }
        }
    }

    /// Reads at least one byte unless the stream has ended, then whatever else is there, up to
    /// [`MOST`]; `want` is what makes the first frame complete. Says whether the stream goes on.
    fn poll_more(&mut self, context: &mut Context<'_>, want: usize) -> Poll<io::Result<bool>> {
        let mut got = 0;
        loop {
            let free = self.buffer.capacity() - self.buffer.len();
            if free < self.room / 2 || self.buffer.capacity() < want {
                self.buffer.reserve(self.room.max(want.saturating_sub(self.buffer.len())));
            }
            match poll_read_buf(Pin::new(&mut self.from), context, &mut self.buffer) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(got > 0)),
                Poll::Ready(Ok(read)) => got += read,
                Poll::Pending if got > 0 => return Poll::Ready(Ok(true)),
                other => return other.map_ok(|_| false),
            }
            if got >= FIRST / 2 {
                self.room = MOST;
            }
            if self.buffer.len() >= MOST.max(want) {
                return Poll::Ready(Ok(true));
            }
        }
    }
}
