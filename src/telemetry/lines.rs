//! Log lines on their way out: a bounded queue, and a thread that writes it.
//!
//! Standard error may be a pipe that nobody reads, or a file on a disk that is full. Whoever logs
//! never waits for it: lines that find no room, or cannot be written, are dropped and counted.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, LazyLock},
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use prometheus_client::metrics::counter::Counter;

/// Lines that may wait.
pub(super) const MAX_LINES: usize = 4096;
/// Bytes of them together.
pub(super) const MAX_BYTES: usize = 4 << 20;
/// How often at most the log itself says that lines were lost.
const SAY_SO: Duration = Duration::from_secs(1);

/// Lines dropped or not written, in this process: logging is one for all of it.
static LOST: LazyLock<Counter> = LazyLock::new(Counter::default);

/// The counter of lines that were lost.
pub(super) fn lost() -> Counter {
    LOST.clone()
}

/// Where lines are put. Clones share the queue. Every write is one line, and succeeds at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
    idle: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// A line has been taken out and is not written yet.
    is_writing: bool,
}

impl Lines {
    /// A queue, and the thread that writes it to `out`. The thread lasts as long as the process.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let lines = Self::default();
        let shared = lines.0.clone();
        thread::Builder::new().name("log".into()).spawn(move || shared.write(out))?;
        Ok(lines)
    }

    /// Waits until all lines are written, but no longer than `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let mut queue = self.0.queue.lock();
        let busy = |queue: &mut Queue| queue.is_writing || !queue.lines.is_empty();
        self.0.idle.wait_while_for(&mut queue, busy, patience);
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut queue = self.0.queue.lock();
        if queue.lines.len() >= MAX_LINES || queue.bytes + line.len() > MAX_BYTES {
            LOST.inc();
        } else {
            queue.bytes += line.len();
            queue.lines.push_back(line.to_vec());
            self.0.more.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn write(&self, mut out: impl Write) {
        let (mut said, mut said_at) = (LOST.get(), Instant::now());
        loop {
            let line = self.next();
            match out.write_all(&line).and_then(|()| out.flush()) {
                Err(_) => drop(LOST.inc()),
                Ok(()) if LOST.get() > said && said_at.elapsed() >= SAY_SO => {
                    tracing::warn!(
                        lines = LOST.get() - said,
                        "log lines were lost: standard error did not take them"
                    );
                    (said, said_at) = (LOST.get(), Instant::now());
                }
                Ok(()) => {}
            }
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut queue = self.queue.lock();
        queue.is_writing = false;
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.bytes -= line.len();
                queue.is_writing = true;
                return line;
            }
            self.idle.notify_all();
            self.more.wait(&mut queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn what_nobody_takes_is_lost_and_nobody_waits_for_it() {
        let (reader, writer) = io::pipe().expect("a pipe");
        let mut lines = Lines::start(writer).expect("a thread");
        let before = lost().get();
        // More than the pipe holds and the queue admits.
        for _ in 0..4 * MAX_LINES {
            lines.write_all(&[b'x'; 100]).expect("never fails");
        }
        assert!(lost().get() > before);
        lines.flush(Duration::from_millis(1));

        // Once somebody reads, what was kept comes out.
        let reading = thread::spawn(move || io::copy(&mut { reader }, &mut io::sink()));
        lines.flush(LONG);
        assert!(lines.0.queue.lock().lines.is_empty());
        drop(reading);
    }

    #[test]
    fn what_cannot_be_written_is_lost_and_counted() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut lines = Lines::start(Full).expect("a thread");
        let before = lost().get();
        lines.write_all(b"a line\n").expect("never fails");
        lines.flush(LONG);
        assert!(lost().get() > before);
    }
}
