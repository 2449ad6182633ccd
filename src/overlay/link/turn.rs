//! How much of one link may wait for the node: a neighbour that says much holds up no other.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::overlay::config::MAX_EVENTS_PER_LINK;

/// A message takes up one place for each so many bytes begun.
const BYTES: usize = 4 * 1024;

/// The places of one link.
#[derive(Debug)]
pub(super) struct Turns(Arc<Semaphore>);

/// The places that a message takes until it is dropped: once it was handled.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "held, never read")] Option<OwnedSemaphorePermit>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_EVENTS_PER_LINK)))
    }
}

impl Turns {
    /// Waits for places for a message of this length; a long one takes all there are. Cancel safe.
    pub(super) async fn take(&self, length: usize) -> Turn {
        let places = (1 + length / BYTES).min(MAX_EVENTS_PER_LINK) as u32;
        // It is never closed.
        Turn(self.0.clone().acquire_many_owned(places).await.ok())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn one_long_message_waits_alone_and_short_ones_together() {
        let turns = Turns::default();
        let long = turns.take(1 << 24).now_or_never().expect("room");
        assert!(turns.take(1).now_or_never().is_none());
        drop(long);
        let short: Vec<_> = (0..MAX_EVENTS_PER_LINK).filter_map(|_| turns.take(1).now_or_never()).collect();
        assert_eq!(short.len(), MAX_EVENTS_PER_LINK);
        assert!(turns.take(1).now_or_never().is_none());
    }
}
