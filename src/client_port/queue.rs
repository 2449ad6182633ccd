//! What waits to be written to one client: bounded in bytes, filled by whoever has something for
//! it, emptied by its session in the order that [`Lanes`] give.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use amop_protocol::{
    Seq, Topic,
    broker::event::{Mode, Outcome, Push, PushError, PushId},
    session::lanes::{Lanes, Queued},
    wire::channel::{Encoded, HEADER},
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::registry::Disconnect;

/// Something to write. Small, because a multicast puts one into each of many queues: what else is large lies elsewhere.
#[derive(Debug)]
pub(super) enum Item {
    Push(Push),
    Outcome(Box<Outcome>),
    Reply(Box<Encoded>),
    /// A subscriber was handed the message of this name.
    Handed(Box<Seq>),
    Goodbye(Duration),
}
const _: () = assert!(size_of::<Item>() <= 24);

/// Bookkeeping that every queued item costs beside its bytes: tiny frames count for what they take.
const OVERHEAD: usize = 256;

/// What large items take turns by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Flow {
    /// Messages to the client. The only ones whose order is promised.
    Messages(Topic),
    /// Outcomes of what the client sent; of some the topic is not known.
    Outcomes(Option<Topic>),
    /// All else.
    Replies,
}

impl Queued for Item {
    type Flow = Flow;

    fn cost(&self) -> usize {
        OVERHEAD
            + match self {
                Self::Push(push) => HEADER + push.topic.as_str().len() + push.payload.len(),
                Self::Outcome(outcome) => HEADER + outcome.body.prefix.len() + outcome.body.payload.len(),
                Self::Reply(frame) => frame.wire_len(),
                Self::Handed(_) | Self::Goodbye(_) => HEADER,
            }
    }

    fn flow(&self) -> Flow {
        match self {
            Self::Push(push) => Flow::Messages(push.topic.clone()),
            Self::Outcome(outcome) => Flow::Outcomes(outcome.topic.clone()),
            Self::Reply(_) | Self::Handed(_) | Self::Goodbye(_) => Flow::Replies,
        }
    }

    fn is_ordered(&self) -> bool {
        matches!(self, Self::Push(_))
    }
}

impl Item {
    pub(super) fn push_id(&self) -> Option<PushId> {
        match self {
            Self::Push(push) => Some(push.id),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    items: Lanes<Item>,
    /// Of items here and of items taken but not yet written.
    bytes: usize,
    ending: Option<Disconnect>,
    gone: bool,
}

/// The part of the room that unicasts leave to all else.
const SPARED: usize = 8;

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Notify,
    ended: Notify,
    max_bytes: usize,
    extended: AtomicBool,
}

impl Queue {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            state: Mutex::default(),
            filled: Notify::new(),
            ended: Notify::new(),
            max_bytes,
            extended: AtomicBool::new(false),
        }
    }

    /// Queues an item, or says why not; an overflow by anything but a unicast ends the session.
    pub(super) fn offer(&self, item: Item) -> Result<(), PushError> {
        let cost = item.cost();
        let mut state = self.state.lock();
        let refused = match state.ending {
            None => false,
            Some(Disconnect::Slow | Disconnect::Untrusted) => true,
            // What is owed is still written; new messages are for others.
            Some(Disconnect::Finished) => matches!(item, Item::Push(_)),
        };
        if state.gone || refused {
            return Err(PushError::Gone);
        }
        // What has somewhere else to go leaves room for what ends the session if it finds none.
        let spared = if is_unicast(&item) { self.max_bytes / SPARED } else { 0 };
        let fits = state.bytes == 0 || state.bytes.saturating_add(cost) <= self.max_bytes - spared;
        // With something there the session has been woken for it, or takes this when it has written.
        let is_first = state.items.is_empty();
        if fits {
            state.bytes += cost;
            state.items.push(item);
        } else if !is_unicast(&item) {
            state.ending = Some(Disconnect::Slow);
            self.ended.notify_one();
        }
        drop(state);
        if !fits {
            return Err(PushError::Full);
        }
        if is_first {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Ends the session: at once, or in order for [`Disconnect::Finished`].
    pub(super) fn end(&self, how: Disconnect) {
        let mut state = self.state.lock();
        // An end at once comes before one in order.
        if how == Disconnect::Untrusted {
            state.ending = Some(how);
        }
        state.ending.get_or_insert(how);
        drop(state);
        self.ended.notify_one();
    }

    /// Bytes that wait, or are being written.
    pub(super) fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    /// The client was granted extensions. For whoever looks at the session from outside.
    pub(super) fn extend(&self) {
        self.extended.store(true, Ordering::Relaxed);
    }

    /// Whether the client was granted extensions.
    pub(super) fn is_extended(&self) -> bool {
        self.extended.load(Ordering::Relaxed)
    }

    /// Takes the item whose turn it is.
    pub(super) fn pop(&self) -> Option<Item> {
        self.state.lock().items.pop()
    }

    /// Items of this cost were written.
    pub(super) fn release(&self, cost: usize) {
        let mut state = self.state.lock();
        state.bytes = state.bytes.saturating_sub(cost);
    }

    /// Resolves when something has come since all was taken. Cancel safe; for one waiter, who takes all there
    /// is before it waits again.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Resolves when the session is to end. Cancel safe; for one waiter.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Whether and how the session is to end.
    pub(super) fn ending(&self) -> Option<Disconnect> {
        self.state.lock().ending
    }

    /// Nothing is taken in any more; gives what is left, of each topic in order.
    pub(super) fn retire(&self) -> impl Iterator<Item = Item> + use<> {
        let mut state = self.state.lock();
        state.gone = true;
        std::mem::take(&mut state.items).into_items()
    }
}

/// A message that is for another subscriber if this one has no room.
fn is_unicast(item: &Item) -> bool {
    matches!(item, Item::Push(push) if push.mode == Mode::Unicast)
}

#[cfg(test)]
mod tests {
    use amop_protocol::{Cause, Retry, SessionId, broker::event::AnswerBody};
    use bytes::Bytes;

    use super::*;

    const MAX: usize = 1024 * 1024;

    fn outcome(seq: u128, len: usize) -> Item {
        Item::Outcome(Box::new(Outcome {
            session: SessionId(1),
            seq: Seq::from_u128(seq),
            mode: Mode::Unicast,
            topic: None,
            cause: Cause::Delivered,
            body: AnswerBody { prefix: Bytes::new(), payload: vec![0; len].into() },
            retry_after: Duration::ZERO,
            retry: Retry::Unspecified,
            hop: None,
        }))
    }

    fn seqs(items: &[Item]) -> Vec<u128> {
        let seq = |item: &Item| match item {
            Item::Outcome(outcome) => outcome.seq.to_u128(),
            Item::Handed(seq) => seq.to_u128(),
            _ => None,
        };
        items.iter().filter_map(seq).collect()
    }

    fn next(queue: &Queue) -> Vec<u128> {
        seqs(queue.pop().as_slice())
    }

    #[test]
    fn small_items_pass_large_ones() {
        let queue = Queue::new(MAX);
        for seq in 0..3 {
            queue.offer(outcome(seq, 256 * 1024)).expect("there is room");
        }
        queue.offer(Item::Handed(Box::new(Seq::from_u128(3)))).expect("there is room");
        assert_eq!(next(&queue), [3]);
        assert_eq!(next(&queue), [0]);
        queue.offer(outcome(4, 10)).expect("there is room");
        assert_eq!(next(&queue), [4]);
        assert_eq!(next(&queue), [1]);
        assert_eq!(next(&queue), [2]);
        assert!(queue.pop().is_none());
    }

    #[test]
    fn what_is_taken_counts_until_it_is_written() {
        let queue = Queue::new(MAX);
        queue.offer(outcome(0, 2 * MAX)).expect("one is always admitted to an empty queue");
        let taken = queue.pop().expect("it is there");
        assert_eq!(queue.offer(Item::Handed(Box::new(Seq::from_u128(1)))), Err(PushError::Full));
        assert_eq!(queue.ending(), Some(Disconnect::Slow), "it cannot be told how a send ended");
        queue.release(taken.cost());
        assert_eq!(queue.state.lock().bytes, 0);
    }
}
