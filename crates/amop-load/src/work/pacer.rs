//! When messages of an open loop are due: a thread of its own, which sleeps more exactly than a runtime's timers.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::sync::mpsc;

use crate::clock;

/// Messages that are due and not taken yet; more are counted as not sent.
const QUEUE: usize = 65_536;
/// After so long the thread looks whether anybody still wants to know.
const LOOK: Duration = Duration::from_millis(100);

/// The moments of an open loop, by [`clock`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeline {
    /// The first message.
    pub(crate) start: u64,
    /// From here on they are measured.
    pub(crate) from: u64,
    /// No message is due from here on.
    pub(crate) until: u64,
}

impl Timeline {
    /// From now.
    pub(crate) fn new(warm_up: Duration, duration: Duration) -> Self {
        let start = clock::now();
        let from = start.saturating_add(clock::nanos(warm_up));
        Self { start, from, until: from.saturating_add(clock::nanos(duration)) }
    }
}

/// Tells when messages are due.
pub(crate) struct Pacer {
    /// The moments, each as soon as it has come. Closed when there are no more.
    pub(crate) due: mpsc::Receiver<u64>,
    /// Measured messages that nobody took in time.
    pub(crate) missed: Arc<AtomicU64>,
}

impl Pacer {
    /// `rate` in messages a second, more than 0.
    pub(crate) fn start(rate: f64, timeline: Timeline) -> io::Result<Self> {
        let (sender, due) = mpsc::channel(QUEUE);
        let missed = Arc::new(AtomicU64::new(0));
        let counter = missed.clone();
        thread::Builder::new().name("pacer".into()).spawn(move || {
            exact_sleep();
            run(1e9 / rate, timeline, &sender, &counter);
        })?;
        Ok(Self { due, missed })
    }
}

/// `interval` in nanoseconds.
fn run(interval: f64, timeline: Timeline, sender: &mpsc::Sender<u64>, missed: &AtomicU64) {
    for number in 0_u64.. {
        let due = timeline.start.saturating_add((number as f64 * interval) as u64);
        if due >= timeline.until {
            return;
        }
        while let left @ 1.. = due.saturating_sub(clock::now()) {
            if sender.is_closed() {
                return;
            }
            thread::sleep(LOOK.min(Duration::from_nanos(left)));
        }
        match sender.try_send(due) {
            Err(mpsc::error::TrySendError::Closed(_)) => return,
            Err(mpsc::error::TrySendError::Full(_)) if due >= timeline.from => {
                missed.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// Asks the system to wake this thread within 5 µs; by default it may take 50 µs more than asked for.
fn exact_sleep() {
    #[cfg(target_os = "linux")]
    {
        // Refused, sleeps are less exact; the report says how late messages were sent.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(5_000));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn moments_come_at_the_rate_and_end() {
        let timeline = Timeline::new(Duration::ZERO, Duration::from_millis(100));
        let mut pacer = Pacer::start(1_000.0, timeline).expect("a thread");
        let mut moments = Vec::new();
        while let Some(due) = pacer.due.recv().await {
            assert!(clock::now() >= due, "not before it is due");
            moments.push(due);
        }
        assert_eq!(moments.len(), 100);
        assert!(moments.is_sorted() && moments[0] == timeline.start);
    }

    #[tokio::test]
    async fn what_nobody_takes_is_counted() {
        let timeline = Timeline::new(Duration::ZERO, Duration::from_millis(20));
        let mut pacer = Pacer::start(10_000_000.0, timeline).expect("a thread");
        while !pacer.due.is_closed() {
            tokio::task::yield_now().await;
        }
        let mut taken = 0;
        while pacer.due.recv().await.is_some() {
            taken += 1;
        }
        assert_eq!(taken, QUEUE as u64);
        assert_eq!(taken + pacer.missed.load(Ordering::Relaxed), 200_000);
    }
}
