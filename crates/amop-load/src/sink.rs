//! What reaches a subscriber: counted, and timed if the message says when it was to be sent.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{clock, payload, record::Latencies};

/// Counts what reaches one subscriber or responder.
#[derive(Default)]
pub struct Sink {
    messages: AtomicU64,
    bytes: AtomicU64,
    /// From when messages were to be sent until they were here.
    latencies: Arc<Mutex<Latencies>>,
    wakes: Option<Wakes>,
}

/// Who waits for messages to arrive.
struct Wakes {
    /// Told after so many messages, again and again.
    each: u64,
    whom: Arc<Notify>,
}

impl Sink {
    /// One that nothing has reached.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records latencies where others do too: a histogram is large.
    #[must_use]
    pub fn recording_into(self, latencies: Arc<Mutex<Latencies>>) -> Self {
        Self { latencies, ..self }
    }

    /// Tells `whom` after each so many messages, at least 1.
    #[must_use]
    pub fn waking(self, each: u64, whom: Arc<Notify>) -> Self {
        Self { wakes: Some(Wakes { each: each.max(1), whom }), ..self }
    }

    /// A message is here. Called by the system's client, for each, as soon as it has it.
    pub fn deliver(&self, payload: &[u8]) {
        if let Some(moment) = payload::moment(payload) {
            self.latencies.lock().record(clock::since(moment));
        }
        self.bytes.fetch_add(payload.len() as u64, Ordering::Relaxed);
        let before = self.messages.fetch_add(1, Ordering::Release);
        if let Some(wakes) = self.wakes.as_ref().filter(|wakes| (before + 1).is_multiple_of(wakes.each)) {
            wakes.whom.notify_one();
        }
    }

    /// How many messages have come.
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Acquire)
    }

    /// Bytes of their payloads.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What the timed ones among them took since the last call.
    pub fn take_latencies(&self) -> Latencies {
        std::mem::take(&mut *self.latencies.lock())
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink")
            .field("messages", &self.messages())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Template;

    #[test]
    fn what_comes_is_counted_and_timed_if_it_says_when() {
        let sink = Sink::new();
        let template = Template::new(100);
        sink.deliver(&template.fill(0));
        sink.deliver(&template.fill(clock::now()));
        sink.deliver(b"x");
        assert_eq!((sink.messages(), sink.bytes()), (3, 201));
        assert_eq!(sink.take_latencies().samples(), 1);
        assert_eq!(sink.take_latencies().samples(), 0, "taken");
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_now_and_then() {
        let whom = Arc::new(Notify::new());
        let sink = Sink::new().waking(2, whom.clone());
        let woken = whom.notified();
        sink.deliver(b"one");
        sink.deliver(b"two");
        woken.await;
    }
}
