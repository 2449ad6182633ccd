//! Questions and answers that come in, and who waits for the answers.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use amop_protocol::{NodeId, wire::inquiry::MAX_ACCOUNT_BYTES};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{metrics::Metrics, pace::Asker};

/// Questions that wait, of nodes of the own institution and as many of others; more are dropped and counted, and
/// whoever asked does without.
pub(in crate::node) const QUEUE: usize = 128;

/// Of these, how many may be of one asker: whoever asks little finds room whatever another does.
pub(in crate::node) const EACH: usize = 16;

/// Where the data path puts what comes in. Clones are the same.
#[derive(Clone, Debug)]
pub(in crate::node) struct Inquiries {
    own: mpsc::Sender<Asked>,
    others: mpsc::Sender<Asked>,
    places: Places,
    waiting: Arc<Mutex<HashMap<u64, Waiting>>>,
    next: Arc<AtomicU64>,
    pub(super) metrics: Metrics,
}

/// Who waits for an answer, and from whom.
#[derive(Debug)]
struct Waiting {
    from: NodeId,
    answers: mpsc::Sender<(NodeId, Bytes)>,
}

/// A question of another node.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) by: NodeId,
    pub(super) asker: Asker,
    pub(super) id: u64,
    pub(super) question: Bytes,
    _place: Place,
}

/// One of an asker's places in its queue; free again when dropped.
#[derive(Debug)]
struct Place {
    asker: Asker,
    places: Places,
}

/// Questions that wait, by who asks; no more than the queues hold.
type Places = Arc<Mutex<HashMap<Asker, usize>>>;

impl Place {
    /// A place, unless the asker has as many as it may.
    fn take(places: &Places, asker: &Asker) -> Option<Self> {
        let mut counts = places.lock();
        let taken = counts.entry(asker.clone()).or_default();
        if *taken >= EACH {
            return None;
        }
        *taken += 1;
        Some(Self { asker: asker.clone(), places: places.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.places.lock();
        if let Some(taken) = counts.get_mut(&self.asker) {
            *taken -= 1;
            if *taken == 0 {
                counts.remove(&self.asker);
            }
        }
    }
}

/// The questions of other nodes, for the desk.
#[derive(Debug)]
pub(in crate::node) struct Arrivals {
    own: mpsc::Receiver<Asked>,
    others: mpsc::Receiver<Asked>,
}

impl Arrivals {
    /// The next one; `None` when the node ends. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Asked> {
        // Not biased: neither kind keeps the other waiting.
        tokio::select! {
            Some(asked) = self.own.recv() => Some(asked),
            Some(asked) = self.others.recv() => Some(asked),
            else => None,
        }
    }
}

/// Both ends.
pub(in crate::node) fn channel(metrics: Metrics) -> (Inquiries, Arrivals) {
    let [(own, from_own), (others, from_others)] = [mpsc::channel(QUEUE), mpsc::channel(QUEUE)];
    let (places, waiting, next) = Default::default();
    let inquiries = Inquiries { own, others, places, waiting, next, metrics };
    (inquiries, Arrivals { own: from_own, others: from_others })
}

impl Inquiries {
    /// Takes what another node asks or answers; never waits. `asker` is who it is, if that is known.
    pub(in crate::node) fn take(
        &self,
        from: NodeId,
        asker: Option<Asker>,
        id: u64,
        is_answer: bool,
        payload: Bytes,
    ) {
        if is_answer {
            let mut waiting = self.waiting.lock();
            if waiting.get(&id).is_some_and(|waiting| waiting.from == from)
                && let Some(Waiting { answers, .. }) = waiting.remove(&id)
            {
                // There is room for one answer to each question; whoever asked may have given up.
                let _ = answers.try_send((from, payload));
            }
            return;
        }
        self.metrics.questions.inc();
        // None is so long, and those that wait are in no budget.
        if payload.len() > MAX_ACCOUNT_BYTES {
            self.metrics.dropped.inc();
            return;
        }
        let Some(asker) = asker else {
            self.metrics.refused.inc();
            return;
        };
        let queue = match &asker {
            Asker::Own(_) => &self.own,
            Asker::Other(_) => &self.others,
        };
        let place = Place::take(&self.places, &asker);
        let asked = place.map(|place| Asked { by: from, asker, id, question: payload, _place: place });
        if asked.is_none_or(|asked| queue.try_send(asked).is_err()) {
            self.metrics.dropped.inc();
        }
    }

    /// A number for a question to `from`, whose answer goes to `answers`.
    pub(super) fn expect(&self, from: NodeId, answers: mpsc::Sender<(NodeId, Bytes)>) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.waiting.lock().insert(id, Waiting { from, answers });
        id
    }

    /// These questions are not waited for any longer.
    pub(super) fn forget(&self, ids: &[u64]) {
        let mut waiting = self.waiting.lock();
        let left = ids.iter().filter(|id| waiting.remove(id).is_some()).count();
        self.metrics.unanswered.inc_by(left as u64);
    }
}
