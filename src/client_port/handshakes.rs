//! TLS handshakes under way: bounded, and the oldest gives way to the newest.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Handshakes under way.
#[derive(Debug)]
pub(super) struct Handshakes {
    max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    under_way: BTreeMap<u64, CancellationToken>,
}

/// One of them; over when dropped.
#[derive(Debug)]
pub(super) struct Handshake {
    all: Arc<Handshakes>,
    number: u64,
    evicted: CancellationToken,
}

impl Handshakes {
    pub(super) fn new(max: usize) -> Self {
        Self { max, inner: Mutex::default() }
    }

    /// Begins a handshake; if there are too many, the oldest is told to end.
    pub(super) fn begin(self: &Arc<Self>) -> Handshake {
        let mut inner = self.inner.lock();
        if inner.under_way.len() >= self.max
            && let Some((_, oldest)) = inner.under_way.pop_first()
        {
            oldest.cancel();
        }
        let number = inner.next;
        inner.next += 1;
        let evicted = CancellationToken::new();
        inner.under_way.insert(number, evicted.clone());
        Handshake { all: self.clone(), number, evicted }
    }
}

impl Handshake {
    /// Resolves when this handshake must give way. Cancel safe.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.all.inner.lock().under_way.remove(&self.number);
    }
}
