//! The handle an application holds.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use amop_protocol::{Topic, broker::event::Mode, session::client::Message};
use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    ConnectError, Node, Options, PublishError, RequestError, RequestOptions, SubscribeError, Subscription,
    connector::Connector,
    dispatch::Dispatch,
    driver::{Control, Driver, Send},
    error::Failure,
    subscription::{Leave, Meter, Sink},
};

/// Subscriptions one client may hold; also what a node allows in topics.
const MAX_SUBSCRIPTIONS: usize = 10_000;
/// Sends handed over to the driver; more wait.
const SEND_QUEUE: usize = 256;

/// A connection to AMOP, restored by itself when lost. Clones share it; it is closed when the last
/// clone and the last [`Subscription`] are dropped, or by [`Client::close`].
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    options: Arc<Options>,
    sends: mpsc::Sender<Send>,
    controls: mpsc::Sender<Control>,
    node: watch::Receiver<Option<Arc<Node>>>,
    closing: CancellationToken,
    closed: CancellationToken,
    subscriptions: AtomicU64,
}

impl Client {
    /// Connects to the first of the nodes that can be reached. Not cancel safe in the sense that
    /// nothing is kept: a dropped attempt is undone.
    ///
    /// # Errors
    /// When the certificates cannot be used, or no node could be connected; each is tried once.
    pub async fn connect(options: Options) -> Result<Self, ConnectError> {
        let options = Arc::new(options);
        let mut connector = Connector::new(options.clone())?;
        let established = connector.connect_once().await?;
        let (sends, sends_to) = mpsc::channel(SEND_QUEUE);
        let (controls, controls_to) = mpsc::channel(MAX_SUBSCRIPTIONS + options.max_unanswered + SEND_QUEUE);
        let (node_to, node) = watch::channel(Some(Arc::new(established.node.clone())));
        let (closing, closed) = (CancellationToken::new(), CancellationToken::new());
        let driver = Driver {
            options: options.clone(),
            connector,
            sends: sends_to,
            controls: controls_to,
            places: controls.clone(),
            node: node_to,
            closing: closing.clone(),
            dispatch: Dispatch::default(),
            connection: 0,
        };
        let ended = closed.clone().drop_guard();
        let task = async move {
            let _ended = ended;
            driver.run(established).await;
        };
        #[expect(clippy::disallowed_methods, reason = "the one task of a client; it ends with its handles")]
        tokio::spawn(task);
        let subscriptions = AtomicU64::new(0);
        Ok(Self(Arc::new(Inner { options, sends, controls, node, closing, closed, subscriptions })))
    }

    /// Subscribes to a topic. Resolves when the node has confirmed that reachable nodes know of
    /// it, so a message sent from now on arrives; see [`Subscription::is_complete`].
    ///
    /// Cancel safe: when the future is dropped, the subscription is withdrawn.
    ///
    /// # Errors
    /// When the topic is not valid, the node refuses it, or nothing confirms it in time.
    pub async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        self.subscribe_all([topic]).await
    }

    /// Subscribes to several topics with one stream; otherwise as [`Client::subscribe`].
    ///
    /// # Errors
    /// As [`Client::subscribe`], and when there is no topic.
    pub async fn subscribe_all<T: AsRef<str>>(
        &self,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<Subscription, SubscribeError> {
        let topics = parse_all(topics)?;
        let place = self.0.controls.clone().try_reserve_owned().map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SubscribeError::TooMany(MAX_SUBSCRIPTIONS),
            mpsc::error::TrySendError::Closed(_) => SubscribeError::Closed,
        })?;
        let id = self.0.subscriptions.fetch_add(1, Ordering::Relaxed);
        let leave = Leave::new(place, id);
        let (queue_to, queue) = mpsc::channel(self.0.options.queue_messages.max(1));
        let meter = Arc::new(Meter::default());
        let sink = Sink {
            subscription: id,
            queue: queue_to,
            meter: meter.clone(),
            max_bytes: self.0.options.queue_bytes,
        };
        // From here on, dropping this withdraws what was asked for.
        let mut subscription = Subscription {
            queue,
            meter,
            topics: topics.clone(),
            complete: false,
            _leave: leave,
            client: self.clone(),
        };
        let bound = self.0.options.subscribe_timeout;
        let confirmed = timeout(bound, self.confirm(sink, topics)).await;
        subscription.complete = confirmed.unwrap_or(Err(SubscribeError::TimedOut(bound)))?;
        Ok(subscription)
    }

    /// Sends a message to every subscriber of a topic. Resolves when at least one was handed it.
    ///
    /// Not cancel safe: when the future is dropped the message may be sent all the same.
    ///
    /// # Errors
    /// When nobody was handed the message, or it is not known whether anybody was; see
    /// [`ErrorKind`](crate::ErrorKind).
    pub async fn publish(&self, topic: &str, payload: impl Into<Bytes>) -> Result<(), PublishError> {
        let options = RequestOptions::default();
        let sent = self.send(Mode::Multicast, topic, payload.into(), options).await;
        Ok(sent.map(drop)?)
    }

    /// Sends a message to one subscriber of a topic and resolves with its answer.
    ///
    /// Not cancel safe: when the future is dropped the message may be handled all the same.
    ///
    /// # Errors
    /// When no subscriber answered; see [`ErrorKind`](crate::ErrorKind).
    pub async fn request(&self, topic: &str, payload: impl Into<Bytes>) -> Result<Bytes, RequestError> {
        self.request_with(topic, payload, RequestOptions::default()).await
    }

    /// As [`Client::request`], with a deadline of its own.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn request_with(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        options: RequestOptions,
    ) -> Result<Bytes, RequestError> {
        Ok(self.send(Mode::Unicast, topic, payload.into(), options).await?)
    }

    /// The node this client is connected to now; `None` while a lost connection is being restored.
    pub fn node(&self) -> Option<Arc<Node>> {
        self.0.node.borrow().clone()
    }

    /// Resolves with the node as soon as one is connected, `None` if the client is closed. Cancel safe.
    pub async fn connected(&self) -> Option<Arc<Node>> {
        self.0.node.clone().wait_for(Option::is_some).await.ok().and_then(|node| node.clone())
    }

    /// Resolves when the connection is lost or the client closed. Cancel safe.
    pub async fn disconnected(&self) {
        // An error means closed, which is disconnected too.
        let _ = self.0.node.clone().wait_for(Option::is_none).await;
    }

    /// Closes the client for all its clones: answers given so far are written, streams end, and
    /// sends without an outcome fail. Resolves when the connection is closed. Cancel safe.
    pub async fn close(&self) {
        self.0.closing.cancel();
        self.0.closed.cancelled().await;
    }

    async fn confirm(&self, sink: Sink, topics: Vec<Topic>) -> Result<bool, SubscribeError> {
        let (reply, confirmed) = oneshot::channel();
        let control = Control::Subscribe { sink, topics, reply };
        self.0.controls.send(control).await.map_err(|_| SubscribeError::Closed)?;
        confirmed.await.unwrap_or(Err(SubscribeError::Closed))
    }

    async fn send(
        &self,
        mode: Mode,
        topic: &str,
        payload: Bytes,
        options: RequestOptions,
    ) -> Result<Bytes, Failure> {
        let topic = Topic::parse(topic)?;
        let message = Message { mode, topic, payload, deadline: options.deadline, wishes: None };
        let (reply, outcome) = oneshot::channel();
        let send = Send { message, reply };
        self.0.sends.send(send).await.map_err(|_| Failure::not_connected())?;
        // Dropped with the queue: it never left.
        outcome.await.unwrap_or(Err(Failure::not_connected()))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("node", &self.node()).finish_non_exhaustive()
    }
}

fn parse_all<T: AsRef<str>>(topics: impl IntoIterator<Item = T>) -> Result<Vec<Topic>, SubscribeError> {
    let mut parsed = Vec::new();
    for name in topics {
        let name = name.as_ref();
        let topic = Topic::parse(name)
            .map_err(|source| SubscribeError::Topic { name: name.chars().take(300).collect(), source })?;
        if !parsed.contains(&topic) {
            parsed.push(topic);
        }
    }
    if parsed.is_empty() { Err(SubscribeError::NoTopic) } else { Ok(parsed) }
}
