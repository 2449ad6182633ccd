//! What comes to a client: a [`Subscription`] is a stream of [`Delivery`]s.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use amop_auth::content;
use amop_protocol::{
    Topic, TraceContext,
    broker::event::{Mode, Sender},
    session::once::{Answer, Ticket},
};
use bytes::Bytes;
use futures::Stream;
use tokio::sync::mpsc;

use crate::{Client, driver::Control, private::holder::Holder};

/// The code by which a request is refused when its [`Delivery`] is dropped without an answer.
pub const REFUSED_UNANSWERED: i32 = 1;
/// The code by which a request is refused when the subscription's queue is full.
pub const REFUSED_BUSY: i32 = 2;
/// The code by which a request is refused that came again and was handled before, when its answer
/// is no longer among those [remembered](crate::Options::remember).
pub const REFUSED_FORGOTTEN: i32 = amop_protocol::session::once::FORGOTTEN;

/// The code by which this client refuses to prove that it holds a key, when what it is sent over the
/// verify channel of a private topic is nothing that may be signed.
pub const REFUSED_UNPROVED: i32 = 4;
/// The code by which a request on a private topic is refused that was not encrypted for this
/// subscriber.
pub const REFUSED_UNREADABLE: i32 = 5;

/// A stream of messages on one or more topics. Dropping it unsubscribes.
///
/// The client reads from the node whether or not this stream is read, so a slow subscription
/// never holds up the others. At most [`queue_messages`](crate::Options::queue_messages) messages
/// and [`queue_bytes`](crate::Options::queue_bytes) bytes wait here. When more come, a request is
/// refused at once with [`REFUSED_BUSY`], so that its sender knows, and a multicast message is
/// dropped and counted in [`Subscription::dropped`].
///
/// If one client subscribes to a topic several times, every subscription gets each multicast
/// message, and requests go to them in turn. After a lost connection the client subscribes anew;
/// multicast messages sent while no node was connected are missed. The stream ends when the client is closed.
/// `next()` is cancel safe.
pub struct Subscription {
    pub(crate) queue: mpsc::Receiver<Delivery>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) topics: Vec<Topic>,
    pub(crate) complete: bool,
    pub(crate) _leave: Leave,
    /// Of a private topic: what proves that this client may receive it.
    pub(crate) _holder: Option<Arc<Holder>>,
    pub(crate) client: Client,
}

impl Subscription {
    /// The topics.
    pub fn topics(&self) -> &[Topic] {
        &self.topics
    }

    /// Whether, when this subscription came about, every reachable node had confirmed it. False
    /// if some had not within the node's bound, or if the node cannot tell (plain 2.x frames).
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// How many multicast messages were dropped because this stream was not read fast enough.
    pub fn dropped(&self) -> u64 {
        self.meter.dropped.load(Ordering::Relaxed)
    }

    /// The client it belongs to.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

impl Stream for Subscription {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let delivery = ready!(self.queue.poll_recv(cx));
        if let Some(delivery) = &delivery {
            self.meter.waiting.fetch_sub(delivery.payload.len(), Ordering::Relaxed);
        }
        Poll::Ready(delivery)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("topics", &self.topics)
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}

/// A message that reached this client.
///
/// One that is a request must be answered; if it is dropped without an answer it is refused at
/// once with [`REFUSED_UNANSWERED`], rather than leaving the requester waiting.
#[derive(Debug)]
#[non_exhaustive]
pub struct Delivery {
    /// The topic it was sent to.
    pub topic: Topic,
    /// The message.
    pub payload: Bytes,
    /// [`Mode::Unicast`] for a request, [`Mode::Multicast`] for a message to all.
    pub mode: Mode,
    /// Who sent it, as the sender's own node verified it. `None` only from a node that speaks
    /// plain 2.x frames.
    pub sender: Option<Sender>,
    /// How long the node waits for an answer, if it says.
    pub answer_within: Option<Duration>,
    /// The W3C trace that it is part of, if its publisher named one and the node is not plain 2.x.
    pub context: Option<TraceContext>,
    pub(crate) reply: Option<Reply>,
}

impl Delivery {
    /// Whether an answer is expected.
    pub fn is_request(&self) -> bool {
        self.reply.is_some()
    }

    /// Answers a request; does nothing for a multicast message.
    ///
    /// Never waits. If the connection is lost, the answer goes out when the requester's node asks
    /// for it again through another. One that does not fit a frame becomes a refusal with
    /// [`REFUSED_UNANSWERED`].
    pub fn answer(mut self, answer: impl Into<Bytes>) {
        if let Some(mut reply) = self.reply.take() {
            let answer = answer.into();
            let answer = reply.seal.take().map_or(answer.clone(), |seal| seal.seal(&answer).into());
            reply.send(0, answer);
        }
    }

    /// Refuses a request; its sender gets code 101. No other subscriber is tried. A `code` of 0,
    /// which would mean success, is sent as [`REFUSED_UNANSWERED`]. Does nothing for a
    /// multicast message.
    pub fn refuse(mut self, code: i32) {
        if let Some(reply) = self.reply.take() {
            reply.refuse(code);
        }
    }
}

/// The way back of one request. Holds its place in the driver's queue from the start, so that
/// answering never waits and never fails for want of room.
#[derive(Debug)]
pub(crate) struct Reply {
    place: Option<mpsc::OwnedPermit<Control>>,
    ticket: Ticket,
    /// What encrypts an answer, if the request was encrypted.
    seal: Option<content::Reply>,
}

impl Reply {
    pub(crate) fn new(
        place: mpsc::OwnedPermit<Control>,
        ticket: Ticket,
        seal: Option<content::Reply>,
    ) -> Self {
        Self { place: Some(place), ticket, seal }
    }

    pub(crate) fn refuse(self, code: i32) {
        let code = if code == 0 { REFUSED_UNANSWERED } else { code };
        self.send(code, Bytes::new());
    }

    fn send(mut self, result: i32, payload: Bytes) {
        self.put(result, payload);
    }

    fn put(&mut self, result: i32, payload: Bytes) {
        if let Some(place) = self.place.take() {
            place.send(Control::Answer { ticket: self.ticket, answer: Answer { result, payload } });
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.put(REFUSED_UNANSWERED, Bytes::new());
    }
}

/// Unsubscribes when dropped; its place in the driver's queue is held from the start.
pub(crate) struct Leave {
    place: Option<mpsc::OwnedPermit<Control>>,
    subscription: u64,
}

impl Leave {
    pub(crate) fn new(place: mpsc::OwnedPermit<Control>, subscription: u64) -> Self {
        Self { place: Some(place), subscription }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            place.send(Control::Unsubscribe(self.subscription));
        }
    }
}

/// What waits in a subscription and what was lost.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) waiting: AtomicUsize,
    pub(crate) dropped: AtomicU64,
}

/// The driver's end of a subscription.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    pub(crate) subscription: u64,
    pub(crate) queue: mpsc::Sender<Delivery>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) max_bytes: usize,
}

impl Sink {
    /// Queues a delivery; gives it back if there is no room.
    pub(crate) fn offer(&self, delivery: Delivery) -> Option<Delivery> {
        let len = delivery.payload.len();
        // Only the driver adds, so nobody can overtake between these two.
        let waiting = self.meter.waiting.load(Ordering::Relaxed);
        if waiting > 0 && waiting + len > self.max_bytes {
            return Some(delivery);
        }
        self.meter.waiting.fetch_add(len, Ordering::Relaxed);
        let refused = self.queue.try_send(delivery).err()?;
        self.meter.waiting.fetch_sub(len, Ordering::Relaxed);
        Some(refused.into_inner())
    }
}
