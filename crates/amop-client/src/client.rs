//! The handle an application holds.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use amop_auth::{PrivateKey, PublicKey};
use amop_protocol::{
    Fingerprint, Topic,
    broker::{event::Mode, wishes::Wishes},
    session::client::Message,
    topic::PRIVATE_PREFIX,
    wire::recipients::Recipients,
};
use bytes::Bytes;
use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Compatibility, ConnectError, Node, Options, PendingRequest, PrivateError, PrivateTopic, PublishError,
    PublishOptions, RequestError, RequestOptions, SubscribeError, Subscription,
    admission::Admission,
    connector::Connector,
    driver::{Control, Driver, Ends, Send},
    error::Failure,
    private::{
        holder::Holder,
        private,
        publisher::{Publisher, Sealed},
        push_channel,
        topic::{self, check},
    },
    subscription::{Leave, Meter, Sink},
};

/// Subscriptions one client may hold; also what a node allows in topics.
const MAX_SUBSCRIPTIONS: usize = 10_000;
/// Sends handed over to the driver; more wait.
const SEND_QUEUE: usize = 256;

/// Connections to AMOP through one node or several, restored by themselves when lost. Clones share it; it is closed when the last
/// clone and the last [`Subscription`] are dropped, or by [`Client::close`].
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    options: Arc<Options>,
    /// This client's certificate.
    fingerprint: Fingerprint,
    sends: mpsc::Sender<Send>,
    admission: Admission,
    controls: mpsc::Sender<Control>,
    nodes: watch::Receiver<Arc<[Arc<Node>]>>,
    closing: CancellationToken,
    closed: CancellationToken,
    subscriptions: AtomicU64,
}

impl Client {
    /// Connects to as many of the nodes as [`Options::homes`] says, in their order. Resolves when
    /// they are connected, or at least one is and the others cannot be, or take longer than a
    /// second; those are tried further on. Not cancel safe in the sense that nothing is kept: a
    /// dropped attempt is undone.
    ///
    /// # Errors
    /// When the certificates cannot be used, or no node could be connected; each is tried once.
    pub async fn connect(options: Options) -> Result<Self, ConnectError> {
        let options = Arc::new(options);
        let connector = Connector::new(options.clone())?;
        let fingerprint = connector.fingerprint();
        let (sends, sends_to) = mpsc::channel(SEND_QUEUE);
        let (controls, controls_to) = mpsc::channel(MAX_SUBSCRIPTIONS + options.max_unanswered + SEND_QUEUE);
        let (nodes_to, nodes) = watch::channel(Arc::default());
        let (started_to, started) = oneshot::channel();
        let (closing, closed) = (CancellationToken::new(), CancellationToken::new());
        let ends = Ends {
            sends: sends_to,
            controls: controls_to,
            places: controls.clone(),
            nodes: nodes_to,
            closing: closing.clone(),
            started: started_to,
        };
        let driver = Driver::new(options.clone(), connector, ends);
        let ended = closed.clone().drop_guard();
        let task = async move {
            let _ended = ended;
            driver.run().await;
        };
        #[expect(clippy::disallowed_methods, reason = "the one task of a client; it ends with its handles")]
        tokio::spawn(task);
        started.await.unwrap_or(Err(ConnectError::Failed(Vec::new())))?;
        let subscriptions = AtomicU64::new(0);
        Ok(Self(Arc::new(Inner {
            admission: Admission::new(&options),
            options,
            fingerprint,
            sends,
            controls,
            nodes,
            closing,
            closed,
            subscriptions,
        })))
    }

    /// Subscribes to a topic. Resolves when every node that is connected has confirmed that reachable
    /// nodes know of it, or one has and the others take longer than 5 s; a message sent from now on arrives; see [`Subscription::is_complete`].
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
        self.subscribe_as(parse_all(topics)?, None).await
    }

    /// Subscribes to a private topic, which may be named with its prefix or without. Publishers that name
    /// the public half of `key` have this client prove that it holds the key, which goes by itself and takes
    /// a few round trips from when both are there; nothing comes before. Otherwise as [`Client::subscribe`].
    ///
    /// The key decides who may read, not who may write: any client of the consortium may publish the
    /// topic, so look at [`Delivery::sender`](crate::Delivery::sender).
    ///
    /// # Errors
    /// As [`Client::subscribe`], and when this client has subscribed to the topic with another key.
    pub async fn subscribe_private(
        &self,
        topic: &str,
        key: PrivateKey,
        compatibility: Compatibility,
    ) -> Result<Subscription, SubscribeError> {
        let topic = private(topic).map_err(PrivateError::from)?;
        let (reply, held) = oneshot::channel();
        let holder = Box::new(Holder::new(topic.clone(), key, compatibility));
        let control = Control::Hold { holder, reply };
        self.0.controls.send(control).await.map_err(|_| SubscribeError::Closed)?;
        let holder = held.await.unwrap_or(Err(PrivateError::Closed))?;
        self.subscribe_as(vec![topic], Some(holder)).await
    }

    /// Publishes a private topic, which may be named with its prefix or without, to subscribers that
    /// hold the private half of one of `keys`. Resolves when the nodes connected have confirmed that
    /// they will ask about subscribers; whoever is there already is verified within a few round trips
    /// from now, see [`PrivateTopic::verified`].
    ///
    /// # Errors
    /// When the topic is not valid, there are too many keys, this client publishes it already, or no
    /// node confirms it.
    pub async fn private_topic(
        &self,
        topic: &str,
        keys: impl IntoIterator<Item = PublicKey>,
        compatibility: Compatibility,
    ) -> Result<PrivateTopic, PrivateError> {
        let topic = private(topic)?;
        let channel = push_channel(&topic)?;
        let publisher = Publisher::new(topic, self.0.fingerprint, check(keys)?, compatibility)?;
        let publisher = Arc::new(publisher);
        let (reply, known) = oneshot::channel();
        let control = Control::Publish { publisher: publisher.clone(), reply };
        self.0.controls.send(control).await.map_err(|_| PrivateError::Closed)?;
        known.await.unwrap_or(Err(PrivateError::Closed))?;
        let announced = self.subscribe_as(vec![channel], None).await;
        let push_channel = announced.map_err(|error| PrivateError::Unannounced(Box::new(error)))?;
        Ok(PrivateTopic(Arc::new(topic::Inner {
            client: self.clone(),
            publisher,
            _push_channel: push_channel,
            changing: Mutex::default(),
        })))
    }

    async fn subscribe_as(
        &self,
        topics: Vec<Topic>,
        holder: Option<Arc<Holder>>,
    ) -> Result<Subscription, SubscribeError> {
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
            _holder: holder,
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
        self.publish_with(topic, payload, PublishOptions::default()).await.map(drop)
    }

    /// As [`Client::publish`], with options. The report is empty unless
    /// [`PublishOptions::report`] asks for one.
    ///
    /// # Errors
    /// As [`Client::publish`]; [`PublishError::recipients`] has the report then.
    pub async fn publish_with(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        options: PublishOptions,
    ) -> Result<Recipients, PublishError> {
        not_private(topic)?;
        self.publish_to(topic, payload.into(), options).await
    }

    /// As [`Client::publish_with`], to a private topic too.
    pub(crate) async fn publish_to(
        &self,
        topic: &str,
        payload: Bytes,
        options: PublishOptions,
    ) -> Result<Recipients, PublishError> {
        let PublishOptions { deadline, to, report, context } = options;
        let wishes = Wishes { recipients: report, address: to, context, ..Wishes::default() };
        let sent = self.send(Mode::Multicast, topic, payload, deadline, wishes, None).await?;
        let payload = sent.await.unwrap_or(Err(Failure::not_connected()))?;
        // What cannot be read says nothing; the message was delivered all the same.
        Ok(if report { Recipients::decode(payload).unwrap_or_default() } else { Recipients::default() })
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

    /// As [`Client::request`], with options.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn request_with(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        options: RequestOptions,
    ) -> Result<Bytes, RequestError> {
        not_private(topic)?;
        self.request_to(topic, payload.into(), options).await
    }

    /// As [`Client::request_with`], to a private topic too.
    pub(crate) async fn request_to(
        &self,
        topic: &str,
        payload: Bytes,
        options: RequestOptions,
    ) -> Result<Bytes, RequestError> {
        let RequestOptions { deadline, to, context } = options;
        let wishes = Wishes { address: to, context, ..Wishes::default() };
        let sent = self.send(Mode::Unicast, topic, payload, deadline, wishes, None).await?;
        Ok(sent.await.unwrap_or(Err(Failure::not_connected()))?)
    }

    /// As [`Client::request_with`], and resolves when the message is on its way: with a handle that
    /// tells when a subscriber was handed it, and is awaited for the answer.
    ///
    /// # Errors
    /// When the topic is not valid, or the client is closed.
    pub async fn start_request(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        options: RequestOptions,
    ) -> Result<PendingRequest, RequestError> {
        not_private(topic)?;
        self.start_request_to(topic, payload.into(), options, None).await
    }

    /// As [`Client::start_request`], to a private topic too; `opens` is what opens the answer.
    pub(crate) async fn start_request_to(
        &self,
        topic: &str,
        payload: Bytes,
        options: RequestOptions,
        opens: Option<(Arc<Publisher>, Sealed)>,
    ) -> Result<PendingRequest, RequestError> {
        let RequestOptions { deadline, to, context } = options;
        let wishes = Wishes { address: to, tell_handed: true, context, ..Wishes::default() };
        let (told, handed) = oneshot::channel();
        let outcome = self.send(Mode::Unicast, topic, payload, deadline, wishes, Some(told)).await?;
        Ok(PendingRequest { outcome, handed, was_handed: None, opens })
    }

    /// The node that messages are sent through now; `None` while no node is connected.
    pub fn node(&self) -> Option<Arc<Node>> {
        self.0.nodes.borrow().first().cloned()
    }

    /// All nodes this client is connected to now. Messages are sent through the first; those that
    /// shut down come last.
    pub fn nodes(&self) -> Arc<[Arc<Node>]> {
        self.0.nodes.borrow().clone()
    }

    /// Resolves with a node as soon as one is connected, `None` if the client is closed. Cancel safe.
    pub async fn connected(&self) -> Option<Arc<Node>> {
        let mut nodes = self.0.nodes.clone();
        nodes.wait_for(|nodes| !nodes.is_empty()).await.ok().and_then(|nodes| nodes.first().cloned())
    }

    /// Resolves when no node is connected any more, or the client is closed. Cancel safe.
    pub async fn disconnected(&self) {
        // An error means closed, which is disconnected too.
        let _ = self.0.nodes.clone().wait_for(|nodes| nodes.is_empty()).await;
    }

    /// Resolves when the nodes that this client is connected to have changed, with those it is
    /// connected to then; `None` if the client is closed. Cancel safe, but changes between two calls
    /// may be missed: look at [`Client::nodes`] in between.
    pub async fn nodes_changed(&self) -> Option<Arc<[Arc<Node>]>> {
        let mut nodes = self.0.nodes.clone();
        nodes.changed().await.ok()?;
        Some(nodes.borrow().clone())
    }

    /// Closes the client for all its clones: answers given so far are written, streams end, and
    /// sends without an outcome fail. Resolves when the connection is closed. Cancel safe.
    pub async fn close(&self) {
        self.0.closing.cancel();
        self.0.closed.cancelled().await;
    }

    /// Has other keys count for a private topic.
    pub(crate) async fn change_keys(
        &self,
        publisher: Arc<Publisher>,
        keys: Vec<PublicKey>,
        reply: oneshot::Sender<Result<(), PrivateError>>,
    ) -> Result<(), PrivateError> {
        let control = Control::ChangeKeys { publisher, keys, reply };
        self.0.controls.send(control).await.map_err(|_| PrivateError::Closed)
    }

    /// The largest frame that may be sent, in bytes.
    pub(crate) fn max_frame(&self) -> usize {
        self.0.options.max_frame
    }

    /// Resolves when the client is closed.
    pub(crate) async fn closed(&self) {
        self.0.closed.cancelled().await;
    }

    async fn confirm(&self, sink: Sink, topics: Vec<Topic>) -> Result<bool, SubscribeError> {
        let (reply, confirmed) = oneshot::channel();
        let control = Control::Subscribe { sink, topics, reply };
        self.0.controls.send(control).await.map_err(|_| SubscribeError::Closed)?;
        confirmed.await.unwrap_or(Err(SubscribeError::Closed))
    }

    /// Hands a send to the driver; a reply that never comes means that it never left.
    async fn send(
        &self,
        mode: Mode,
        topic: &str,
        payload: Bytes,
        deadline: Option<Duration>,
        wishes: Wishes,
        handed: Option<oneshot::Sender<()>>,
    ) -> Result<oneshot::Receiver<Result<Bytes, Failure>>, Failure> {
        let topic = Topic::parse(topic)?;
        let wishes = (wishes != Wishes::default()).then(|| Box::new(wishes));
        let message = Message { mode, topic, payload, deadline, wishes };
        let (reply, outcome) = oneshot::channel();
        let room = self.0.admission.admit(message.payload.len()).await;
        let send = Send { message, reply, handed, _room: room };
        self.0.sends.send(send).await.map_err(|_| Failure::not_connected())?;
        Ok(outcome)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("nodes", &self.nodes()).finish_non_exhaustive()
    }
}

/// A private topic is published by its [`PrivateTopic`] only: from here it would go out unencrypted.
fn not_private(topic: &str) -> Result<(), Failure> {
    if topic.starts_with(PRIVATE_PREFIX) { Err(Failure::private()) } else { Ok(()) }
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
