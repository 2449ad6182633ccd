//! How many chunks are on their way to a receiver at once.
//!
//! As many as keep it busy, and no more: what waits in queues on the way delays everybody's small
//! messages, and is sent again when one end restarts. So the window goes by delay: it grows while
//! chunks are acknowledged about as fast as when few were on their way, and shrinks when they
//! take longer. A failure empties the pipe and begins anew.

use std::time::Duration;

use tokio::time::Instant;

/// Chunks on their way at the beginning, and after a failure.
const FIRST: f64 = 2.0;
/// Never fewer.
const LEAST: f64 = 1.0;
/// Never more: 8 MiB.
const MOST: f64 = 32.0;
/// How much longer than the shortest an acknowledgement may take: that many times, and this.
const STRETCH: u32 = 3;
const SLACK: Duration = Duration::from_millis(4);
/// So often the window begins anew, for a moment: what is the shortest time cannot be told while
/// chunks wait for each other.
const PERIOD: Duration = Duration::from_secs(10);

/// The window of one receiver.
#[derive(Debug)]
pub(super) struct Window {
    size: f64,
    /// It has not yet been too large.
    starting: bool,
    /// The shortest time of acknowledgement in this period.
    shortest: Duration,
    period: Instant,
    /// It was made smaller then; what was sent before says nothing new.
    shrunk: Instant,
}

impl Window {
    /// A window that opens.
    pub(super) fn new(now: Instant) -> Self {
        Self { size: FIRST, starting: true, shortest: Duration::MAX, period: now, shrunk: now }
    }

    /// Whether one more may be sent beside those on their way.
    pub(super) fn has_room(&self, under_way: usize) -> bool {
        under_way < self.size as usize
    }

    /// A chunk sent at `sent` was acknowledged.
    pub(super) fn acknowledged(&mut self, sent: Instant, now: Instant) {
        if sent < self.shrunk {
            return;
        }
        let took = now - sent;
        self.shortest = self.shortest.min(took);
        if now - self.period > PERIOD {
            (self.shortest, self.period) = (Duration::MAX, now);
            self.shrink(FIRST, now);
            self.starting = true;
        } else if took <= self.shortest * STRETCH + SLACK {
            self.size += if self.starting { 1.0 } else { 1.0 / self.size };
            self.size = self.size.min(MOST);
        } else {
            self.shrink(self.size * 0.8, now);
        }
    }

    /// A chunk was not acknowledged.
    pub(super) fn failed(&mut self, sent: Instant, now: Instant) {
        if sent >= self.shrunk {
            self.shrink(FIRST, now);
        }
    }

    fn shrink(&mut self, to: f64, now: Instant) {
        self.size = to.max(LEAST);
        (self.starting, self.shrunk) = (false, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A line that takes a chunk each `each`, and a round trip of `trip` beside: what the window is after
    /// `count` chunks.
    fn run(
        window: &mut Window,
        start: Instant,
        each: Duration,
        trip: Duration,
        count: u32,
    ) -> (f64, Instant) {
        let mut under_way = std::collections::VecDeque::new();
        let (mut now, mut free) = (start, start);
        for _ in 0..count {
            while window.has_room(under_way.len()) {
                free = free.max(now) + each;
                under_way.push_back((now, free + trip));
            }
            let (sent, done) = under_way.pop_front().unwrap();
            now = now.max(done);
            window.acknowledged(sent, now);
        }
        (window.size, now)
    }

    #[test]
    fn it_fills_a_line_and_keeps_its_queue_short() {
        for (each, trip) in [(MS / 2, MS / 2), (MS, 20 * MS), (10 * MS, MS), (20 * MS, 100 * MS)] {
            let start = Instant::now();
            let (size, _) = run(&mut Window::new(start), start, each, trip, 2_000);
            let fills = (trip + each).as_secs_f64() / each.as_secs_f64();
            assert!(size + 1.0 >= fills.min(MOST), "{size} of {fills}");
            let waits = each.mul_f64(size - 1.0);
            // The shortest time is measured with another chunk on its way.
            assert!(
                waits <= (trip + each * 2) * STRETCH + SLACK + each * 2,
                "{waits:?} for {each:?}, {trip:?}"
            );
        }
    }

    #[test]
    fn it_follows_a_line_that_becomes_slower() {
        let start = Instant::now();
        let mut window = Window::new(start);
        let (fast, now) = run(&mut window, start, MS / 4, 2 * MS, 1_000);
        let (slow, _) = run(&mut window, now, 10 * MS, 2 * MS, 200);
        assert!(slow < fast / 2.0, "{fast} {slow}");
    }

    #[test]
    fn a_failure_counts_once_for_all_that_was_on_its_way() {
        let start = Instant::now();
        let mut window = Window::new(start);
        run(&mut window, start, MS, 30 * MS, 500);
        let now = start + Duration::from_secs(60);
        window.failed(now - MS, now);
        window.acknowledged(now - MS, now + MS);
        let size = window.size;
        window.failed(now - MS, now + MS);
        assert_eq!(window.size, size);
        assert!((FIRST..FIRST + 2.0).contains(&size), "{size}");
    }
}
