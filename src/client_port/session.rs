//! One client's task.

use std::{
    borrow::Cow,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use amop_protocol::{
    broker::event::{Publish, PushError, PushId, Subscriber},
    session::{
        lanes::Queued,
        server::{self, Acknowledge, Event, Server},
        startup::Facts,
    },
    wire::channel::Encoded,
};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Config, SessionInfo,
    connection::{Connection, Reading, Records, Step},
    end::End,
    metrics::CloseLabels,
    queue::{Item, Queue},
    registry::{Admitted, Disconnect},
    shared::Shared,
};

/// Written in one go, with one flush.
const BATCH: usize = 64 * 1024;
/// Subscriptions of one session that wait to be known everywhere; with more its frames wait.
pub(super) const MAX_SETTLING: usize = 16;
/// Frames handled in one go. Then other tasks have their turn: whoever floods the node with frames
/// may use its share of the time, not more.
pub(super) const TURN: usize = 64;
/// An incomplete frame below this size is not worth counting against the node's room.
const SMALL: usize = 64 * 1024;
/// How long a client may take to hear that the session is over.
const SHUTDOWN: Duration = Duration::from_secs(1);

/// Serves one client whose TLS handshake is done, until either side ends it.
pub(super) async fn run<S>(
    stream: S,
    info: impl FnOnce(amop_protocol::SessionId) -> SessionInfo,
    admitted: Admitted,
    shared: Arc<Shared>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Given back at once: few such guards can be held cheaply.
    let (queued, frame) = {
        let settings = shared.settings();
        (settings.config.max_queued_bytes, settings.config.max_frame)
    };
    let queue = Arc::new(Queue::new(queued));
    let id = shared.registry.register(queue.clone(), admitted);
    let mut session = Session {
        info: Arc::new(info(id)),
        queue,
        server: Server::new(shared.now()),
        connection: Connection::new(stream, frame),
        reporting: None,
        told: None,
        settling: FuturesUnordered::new(),
        batch: Batch::default(),
        input: Input::Handled,
        charged: 0,
        shared,
    };
    session.opened();
    let end = session.serve().await;
    session.closed(&end);
    if matches!(end, End::Node | End::Protocol(_) | End::Untrusted) {
        // Best effort: the session is over either way.
        let _ = tokio::time::timeout(SHUTDOWN, session.connection.shutdown()).await;
    }
}

/// What was read of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// All that can be handled now was.
    Handled,
    /// There is more, and others have their turn first.
    Waiting,
}

/// What is being written.
#[derive(Debug, Default)]
struct Batch {
    pushes: Vec<PushId>,
    /// The client says itself when it has received them.
    extended: bool,
    cost: usize,
    frames: u64,
    bytes: u64,
}

struct Session<S> {
    shared: Arc<Shared>,
    info: Arc<SessionInfo>,
    queue: Arc<Queue>,
    server: Server,
    connection: Connection<S>,
    /// A topic report, or a verdict, that is not in force yet: no frame is handled until it is.
    reporting: Option<(BoxFuture<'static, ()>, Option<Acknowledge>)>,
    /// What the broker was last told of who this is.
    told: Option<Subscriber>,
    /// Subscriptions that other nodes do not all know yet.
    settling: FuturesUnordered<BoxFuture<'static, (Acknowledge, bool)>>,
    batch: Batch,
    input: Input,
    /// What this session holds of the node's room for incomplete frames.
    charged: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    fn opened(&self) {
        let metrics = self.shared.metrics();
        metrics.opened.inc();
        metrics.open.inc();
        let SessionInfo { id, client, institution, .. } = &*self.info;
        tracing::info!(session = %id, client = %client.name, %institution, fingerprint = %client.fingerprint, "client connected");
        self.shared.broker.opened(&self.info);
    }

    async fn serve(&mut self) -> End {
        // One registration for the session's life: all sessions share this token.
        let mut cancelled = Box::pin(self.shared.tasks.token().clone().cancelled_owned());
        let mut timer = Box::pin(tokio::time::sleep(self.shared.settings().config.idle_timeout));
        loop {
            self.fill();
            if self.is_finished() {
                return End::Node;
            }
            if self.input == Input::Waiting {
                tokio::task::yield_now().await;
                if let Err(end) = self.handle_input() {
                    return end;
                }
            }
            let reading = self.reading();
            // The end first; then what is due; then the report that holds frames back; then bytes
            // in both directions; then what others have for this client; and nothing is waited for
            // while frames wait.
            let done = tokio::select! {
                biased;
                () = &mut cancelled => return End::Node,
                () = self.queue.ended() => self.ending(),
                () = &mut timer => self.timeout(timer.as_mut()),
                () = in_force(&mut self.reporting) => self.reported(),
                Some((acknowledge, complete)) = self.settling.next(), if !self.settling.is_empty() => {
                    self.reply(Server::subscribed(acknowledge, complete));
                    self.handle_input()
                }
                step = self.connection.step(reading) => self.stepped(step),
                () = self.queue.filled(), if !self.connection.is_writing() => Ok(()),
                () = std::future::ready(()), if self.input == Input::Waiting => Ok(()),
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    /// Moves a batch from the queue to the connection, once the last one is written.
    fn fill(&mut self) {
        while !self.connection.is_writing() {
            self.connection.expect(self.queue.bytes().min(BATCH));
            let mut taken = 0;
            while taken < BATCH
                && let Some(item) = self.queue.pop()
            {
                taken += item.cost();
                self.write(item);
            }
            if taken == 0 {
                return;
            }
            self.batch.cost += taken;
            self.batch.extended = self.server.is_extended();
            if !self.connection.is_writing() {
                // Nothing that this client reads.
                self.written();
            }
        }
    }

    fn write(&mut self, item: Item) {
        let frame = match item {
            Item::Push(push) => {
                self.batch.pushes.push(push.id);
                let frame = self.server.push(&push);
                return self.submit(frame);
            }
            Item::Outcome(outcome) => Some(self.server.outcome(*outcome)),
            Item::Reply(frame) => Some(*frame),
            Item::Handed(seq) => self.server.handed_over(*seq),
            Item::Goodbye(grace) => self.server.goodbye(grace),
        };
        if let Some(frame) = frame {
            self.submit(Cow::Owned(frame));
        }
    }

    fn submit(&mut self, frame: Cow<'_, Encoded>) {
        self.batch.frames += 1;
        self.batch.bytes += frame.wire_len() as u64;
        let records = if self.server.is_extended() { Records::Coalesced } else { Records::OfOneFrame };
        self.connection.submit(frame, records);
    }

    /// Whether the node asked for an orderly end and all is written.
    fn is_finished(&self) -> bool {
        !self.connection.is_writing() && self.queue.ending() == Some(Disconnect::Finished)
    }

    fn reading(&self) -> Reading {
        if self.is_held_back() || self.input == Input::Waiting { Reading::Paused } else { Reading::Allowed }
    }

    /// Whether frames wait for what earlier ones asked for.
    fn is_held_back(&self) -> bool {
        self.reporting.is_some() || self.settling.len() >= MAX_SETTLING
    }

    fn ending(&self) -> Result<(), End> {
        match self.queue.ending() {
            Some(Disconnect::Slow) => Err(End::Slow),
            Some(Disconnect::Untrusted) => Err(End::Untrusted),
            Some(Disconnect::Finished) | None => Ok(()),
        }
    }

    fn timeout(&mut self, timer: std::pin::Pin<&mut tokio::time::Sleep>) -> Result<(), End> {
        let now = self.shared.now();
        let settings = self.shared.settings();
        self.server.handle_timeout(now, &settings.session)?;
        let wait = self.server.poll_timeout(&settings.session).since(now);
        timer.reset(tokio::time::Instant::now() + wait);
        Ok(())
    }

    fn reported(&mut self) -> Result<(), End> {
        if let Some((_, Some(acknowledge))) = self.reporting.take() {
            let settled = self.shared.broker.settled();
            self.settling.push(Box::pin(async move { (acknowledge, settled.await) }));
        }
        self.handle_input()
    }

    fn stepped(&mut self, step: io::Result<Step>) -> Result<(), End> {
        match step {
            Ok(Step::Read(0)) => Err(End::Client),
            Ok(Step::Read(read)) => {
                self.server.handle_bytes(self.shared.now());
                self.shared.metrics().bytes_received.inc_by(read as u64);
                self.handle_input()
            }
            Ok(Step::Written) => {
                self.server.handle_bytes(self.shared.now());
                self.written();
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(End::Client),
            Err(error) => Err(End::Io(error)),
        }
    }

    fn written(&mut self) {
        let Batch { pushes, extended, cost, frames, bytes } = std::mem::take(&mut self.batch);
        self.queue.release(cost);
        let metrics = self.shared.metrics();
        metrics.frames_sent.inc_by(frames);
        metrics.bytes_sent.inc_by(bytes);
        let broker = &self.shared.broker;
        match (pushes.is_empty(), extended) {
            (true, _) => {}
            (false, true) => broker.written(self.info.id, &pushes),
            (false, false) => broker.pushed(self.info.id, &pushes, Ok(())),
        }
    }

    /// Handles the frames that are there, up to one that must wait for a report, or to the end of
    /// the session's turn.
    fn handle_input(&mut self) -> Result<(), End> {
        self.input = Input::Handled;
        let settings = self.shared.settings();
        let mut handled = 0;
        while !self.is_held_back()
            && let Some(frame) = self.connection.next_frame()?
        {
            self.shared.metrics().frames_received.inc();
            let event = self.server.handle_frame(frame, &settings.session)?;
            self.handle(event, &settings.config);
            handled += 1;
            if handled == TURN {
                self.input = Input::Waiting;
                break;
            }
        }
        self.connection.trim();
        self.charge()
    }

    fn handle(&mut self, event: Event, config: &Config) {
        let broker = &self.shared.broker;
        match event {
            Event::Reply(frame) => self.reply(frame),
            Event::Refused(frame, cause) => {
                self.shared.metrics().count_send_refused(cause);
                self.reply(frame);
            }
            Event::Call { seq, body } => {
                let routing = broker.routing();
                let facts = Facts {
                    config: &config.startup,
                    routing: &routing,
                    listings: &self.shared.listings,
                    session: self.info.id,
                };
                self.reply(Server::answer_call(seq, &body, facts));
            }
            Event::Report(report) => {
                self.shared.metrics().bad_topics.inc_by(report.refused);
                self.introduce();
                let broker = &self.shared.broker;
                let (id, client) = (self.info.id, self.info.client.clone());
                self.reporting = Some((broker.report(id, client, report.topics), report.acknowledge));
            }
            Event::Publish(published) => {
                let server::Published { seq, mode, topic, payload, deadline, wishes } = published;
                let client = self.info.client.clone();
                let session = self.info.id;
                let instance = self.server.instance();
                broker.publish(Publish {
                    session,
                    client,
                    instance,
                    seq,
                    mode,
                    topic,
                    payload,
                    deadline,
                    wishes,
                });
            }
            Event::Answer(push, answer, received) => {
                if !received.is_empty() {
                    broker.pushed(self.info.id, &received, Ok(()));
                }
                broker.answer(self.info.id, push, answer);
            }
            Event::Verdict(verdict) => {
                self.reporting = Some((broker.verdict(self.info.id, verdict), None));
            }
            Event::Received(pushes) => broker.pushed(self.info.id, &pushes, Ok(())),
            Event::Ignored(why) => self.shared.metrics().count_ignored(why),
        }
    }

    /// Tells the broker who this is, unless it knows.
    fn introduce(&mut self) {
        if self.server.is_extended() {
            self.queue.extend();
        }
        let subscriber = Subscriber { client: self.info.client.clone(), instance: self.server.instance() };
        if self.told.as_ref() != Some(&subscriber) {
            self.told = Some(subscriber.clone());
            self.shared.broker.subscriber(self.info.id, subscriber);
        }
    }

    /// Replies share the queue, so that a client which asks without reading is bounded too.
    fn reply(&self, frame: Encoded) {
        let _ = self.queue.offer(Item::Reply(Box::new(frame)));
    }

    /// Counts what is held of an incomplete frame against the node's room.
    fn charge(&mut self) -> Result<(), End> {
        let held = self.connection.held();
        let held = if held < SMALL { 0 } else { held };
        if held == self.charged {
            return Ok(());
        }
        let partial = &self.shared.partial;
        let before = if held > self.charged {
            partial.fetch_add(held - self.charged, Ordering::Relaxed)
        } else {
            partial.fetch_sub(self.charged - held, Ordering::Relaxed)
        };
        let total = before + held - self.charged;
        let grows = held > self.charged;
        self.charged = held;
        self.shared.metrics().partial_bytes.set(i64::try_from(total).unwrap_or(i64::MAX));
        if grows && total > self.shared.settings().config.max_partial_bytes {
            Err(End::Memory)
        } else {
            Ok(())
        }
    }

    fn closed(&self, end: &End) {
        let metrics = self.shared.metrics();
        metrics.closed.get_or_create(&CloseLabels { reason: end.reason() }).inc();
        let (session, client) = (self.info.id, &self.info.client.name);
        let source = std::error::Error::source(end).map(ToString::to_string);
        if end.is_notable() {
            tracing::warn!(%session, client = %client, cause = %end, "client disconnected");
        } else {
            tracing::info!(%session, client = %client, cause = %end, source, "client disconnected");
        }
    }
}

/// However the task ends, every push's fate is told and the session is closed once.
impl<S> Drop for Session<S> {
    fn drop(&mut self) {
        let Shared { broker, registry, partial, .. } = &*self.shared;
        let id = self.info.id;
        let left = self.queue.retire();
        registry.remove(id);
        partial.fetch_sub(self.charged, Ordering::Relaxed);
        if !self.batch.pushes.is_empty() {
            broker.pushed(id, &self.batch.pushes, Err(PushError::WriteFailed));
        }
        let left: Vec<_> = left.filter_map(|item| item.push_id()).collect();
        if !left.is_empty() {
            broker.pushed(id, &left, Err(PushError::Gone));
        }
        broker.closed(id);
        registry.metrics().open.dec();
    }
}

/// Resolves when the report is in force; never without one. Cancel safe.
async fn in_force(reporting: &mut Option<(BoxFuture<'static, ()>, Option<Acknowledge>)>) {
    match reporting {
        Some((report, _)) => report.await,
        None => std::future::pending().await,
    }
}
