//! The one task behind a client: owns the connection, restores it, and moves everything through it.
//!
//! Woken by: cancellation, controls (subscriptions, answers), room on the socket, the session's
//! timer, bytes from the node, sends. It waits for nothing else: writing never keeps it from
//! reading. All that is queued goes out in one write.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use amop_protocol::{
    Topic,
    broker::event::Mode,
    session::client::{Action, Deliver, Fault, Message, Push, SendId, Session},
    wire::channel::{Decoder, FrameError},
};
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Node, Options,
    connector::{Connector, Established, READ_ROOM, Stream},
    dispatch::Dispatch,
    error::{Failure, SubscribeError},
    subscription::{REFUSED_BUSY, REFUSED_UNANSWERED, Reply, Sink},
};

/// A message to send and where its outcome goes.
pub(crate) struct Send {
    pub(crate) message: Message,
    pub(crate) reply: oneshot::Sender<Result<Bytes, Failure>>,
}

/// Everything else a client asks of its driver.
#[derive(Debug)]
pub(crate) enum Control {
    Subscribe { sink: Sink, topics: Vec<Topic>, reply: oneshot::Sender<Result<bool, SubscribeError>> },
    Unsubscribe(u64),
    Answer { connection: u64, push: Push, result: i32, payload: Bytes },
}

/// Stop taking sends while this many bytes wait to be written.
const OUTBOUND_FULL: usize = 256 * 1024;
/// An outgoing buffer that grew beyond this is given back when it is empty.
const OUTBOUND_KEPT: usize = 1024 * 1024;
/// Sends and controls taken in one go, so that nothing else starves.
const TURN: usize = 256;
/// Most that is allocated ahead of the bytes of a large frame.
const READ_AHEAD: usize = 1024 * 1024;
/// How long closing may take to write what is queued.
const PARTING: Duration = Duration::from_secs(2);
/// How long after its grace a draining node may take to say how far the rest came. It closes the
/// connection itself when it has; one that does not is left then.
const LAST_OUTCOMES: Duration = Duration::from_secs(2);

pub(crate) struct Driver {
    pub(crate) options: Arc<Options>,
    pub(crate) connector: Connector,
    pub(crate) sends: mpsc::Receiver<Send>,
    pub(crate) controls: mpsc::Receiver<Control>,
    /// Where places for answers are reserved.
    pub(crate) places: mpsc::Sender<Control>,
    pub(crate) node: watch::Sender<Option<Arc<Node>>>,
    pub(crate) closing: CancellationToken,
    pub(crate) dispatch: Dispatch,
    /// Counts connections, so that an answer never goes out on a later one.
    pub(crate) connection: u64,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the client is closed")]
    Closed,
    #[error("the node drained")]
    Drained,
    #[error("the node closed the connection")]
    Hangup,
    #[error("{0}")]
    Fault(#[from] Fault),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Driver {
    pub(crate) async fn run(mut self, first: Established) {
        let mut established = first;
        loop {
            let node = Arc::new(established.node.clone());
            tracing::info!(address = node.address, node = %node.name, extended = node.extended, "connected");
            self.node.send_replace(Some(node));
            let end = self.serve(established).await;
            self.node.send_replace(None);
            tracing::info!(reason = %end, "disconnected");
            if matches!(end, End::Closed) {
                return;
            }
            match self.reconnect().await {
                Some(next) => established = next,
                None => return,
            }
        }
    }

    async fn serve(&mut self, established: Established) -> End {
        self.connection += 1;
        self.dispatch.forget_reports();
        let (mut serving, reader, writer) = Serving::new(self, established);
        let Err(end) = serving.run(reader, writer).await;
        for (_, reply) in serving.replies.drain() {
            // Whoever asked may have gone.
            let _ = reply.send(Err(Failure::lost()));
        }
        end
    }

    /// Connects again. Meanwhile sends fail, and subscriptions are taken down for later.
    async fn reconnect(&mut self) -> Option<Established> {
        let connecting = self.connector.connect();
        tokio::pin!(connecting);
        loop {
            tokio::select! {
                biased;
                () = self.closing.cancelled() => return None,
                established = &mut connecting => return Some(established),
                Some(control) = self.controls.recv() => match control {
                    Control::Subscribe { sink, topics, reply } => self.dispatch.subscribe(&sink, topics, reply),
                    Control::Unsubscribe(subscription) => self.dispatch.unsubscribe(subscription),
                    // Its connection is gone, and with it whoever waited.
                    Control::Answer { .. } => {}
                },
                send = self.sends.recv() => match send {
                    Some(send) => drop(send.reply.send(Err(Failure::not_connected()))),
                    None => return None,
                },
            }
        }
    }
}

/// One connection while it is up.
struct Serving<'a> {
    driver: &'a mut Driver,
    session: Box<Session>,
    decoder: Decoder,
    replies: HashMap<SendId, oneshot::Sender<Result<Bytes, Failure>>>,
    inbound: BytesMut,
    outbound: BytesMut,
    /// Written, but perhaps not yet on its way: the stream has buffers of its own.
    unflushed: bool,
    /// Requests handed to the application that have no answer yet.
    unanswered: usize,
    /// When a draining node is left, finished or not.
    leave_at: Option<Instant>,
    /// Every handle of the client is gone.
    abandoned: bool,
}

/// Never: a connection always ends with a reason.
type Reason = Result<std::convert::Infallible, End>;

impl<'a> Serving<'a> {
    fn new(driver: &'a mut Driver, established: Established) -> (Self, ReadHalf<Stream>, WriteHalf<Stream>) {
        let (reader, writer) = tokio::io::split(established.stream);
        let serving = Self {
            decoder: Decoder::new(driver.options.max_frame),
            driver,
            session: established.session,
            replies: HashMap::new(),
            inbound: established.inbound,
            outbound: BytesMut::new(),
            unflushed: false,
            unanswered: 0,
            leave_at: None,
            abandoned: false,
        };
        (serving, reader, writer)
    }

    async fn run(&mut self, mut reader: ReadHalf<Stream>, mut writer: WriteHalf<Stream>) -> Reason {
        let clock = self.driver.connector.clock();
        let mut armed = Instant::now();
        let timer = sleep_until(armed);
        tokio::pin!(timer);
        self.handle_inbound()?;
        loop {
            self.turn()?;
            let wake = clock.instant(self.session.poll_timeout());
            let wake = self.leave_at.map_or(wake, |leave| leave.min(wake));
            if wake != armed {
                armed = wake;
                timer.as_mut().reset(wake);
            }
            let room = self.has_room();
            let idle = self.outbound.is_empty();
            tokio::select! {
                biased;
                () = self.driver.closing.cancelled() => return Err(self.part(writer).await),
                Some(control) = self.driver.controls.recv() => self.handle_control(control),
                written = write_some(&mut writer, &mut self.outbound), if !idle || self.unflushed => {
                    written?;
                    // A frame that takes more than one write holds back the heartbeats behind it, and
                    // with them the node's answers: that the line takes bytes is the sign of life then.
                    if !self.outbound.is_empty() {
                        self.session.handle_bytes(clock.now());
                    }
                    self.unflushed = !idle;
                }
                () = &mut timer => {
                    armed = Instant::now();
                    self.session.handle_timeout(clock.now())?;
                    if self.leave_at.is_some_and(|leave| leave <= Instant::now()) {
                        return Err(End::Drained);
                    }
                }
                read = reader.read_buf(&mut self.inbound) => {
                    if read? == 0 {
                        return Err(End::Hangup);
                    }
                    self.handle_inbound()?;
                }
                send = self.driver.sends.recv(), if room => match send {
                    Some(send) => self.handle_send(send),
                    None => self.abandoned = true,
                },
            }
        }
    }

    /// Takes what else is queued, carries out what follows from it, and fills the outgoing buffer.
    fn turn(&mut self) -> Result<(), End> {
        for _ in 0..TURN {
            let Ok(control) = self.driver.controls.try_recv() else { break };
            self.handle_control(control);
        }
        for _ in 0..TURN {
            if !self.has_room() {
                break;
            }
            let Ok(send) = self.driver.sends.try_recv() else { break };
            self.handle_send(send);
        }
        while let Some(action) = self.session.poll_action() {
            self.carry_out(action);
        }
        let Self { driver, session, .. } = self;
        driver.dispatch.report(|topics| session.report(topics));
        if self.outbound.is_empty() && self.outbound.capacity() > OUTBOUND_KEPT {
            self.outbound = BytesMut::new();
        }
        while let Some(frame) = self.session.poll_frame() {
            frame.put(&mut self.outbound);
        }
        let finished = self.outbound.is_empty() && !self.unflushed && self.unanswered == 0;
        match (finished, self.abandoned, self.leave_at.is_some() && self.session.in_flight() == 0) {
            (true, true, _) => Err(End::Closed),
            (true, _, true) => Err(End::Drained),
            _ => Ok(()),
        }
    }

    fn has_room(&self) -> bool {
        !self.abandoned
            && self.session.in_flight() < self.driver.options.max_in_flight
            && self.outbound.len() < OUTBOUND_FULL
    }

    fn handle_inbound(&mut self) -> Result<(), End> {
        let now = self.driver.connector.clock().now();
        self.session.handle_bytes(now);
        while let Some(frame) = self.decoder.decode(&mut self.inbound)? {
            self.session.handle_frame(now, frame)?;
            while let Some(action) = self.session.poll_action() {
                self.carry_out(action);
            }
        }
        let missing = self.decoder.missing(&self.inbound)?;
        self.inbound.reserve(missing.clamp(READ_ROOM, READ_AHEAD));
        Ok(())
    }

    fn handle_send(&mut self, send: Send) {
        let result = if self.leave_at.is_some() {
            Err(Failure::draining())
        } else {
            let now = self.driver.connector.clock().now();
            self.session.send(now, send.message).map_err(Failure::from)
        };
        match result {
            Ok(id) => drop(self.replies.insert(id, send.reply)),
            Err(failure) => drop(send.reply.send(Err(failure))),
        }
    }

    fn handle_control(&mut self, control: Control) {
        match control {
            Control::Subscribe { sink, topics, reply } => {
                self.driver.dispatch.subscribe(&sink, topics, reply);
            }
            Control::Unsubscribe(subscription) => self.driver.dispatch.unsubscribe(subscription),
            Control::Answer { connection, push, result, payload } => {
                if connection == self.driver.connection {
                    self.unanswered -= 1;
                    self.answer(&push, result, payload);
                }
            }
        }
    }

    fn answer(&mut self, push: &Push, result: i32, payload: Bytes) {
        if let Err(error) = self.session.answer(push, result, payload) {
            tracing::warn!(%error, "an answer was too large; the request is refused");
            // An empty refusal fits every frame limit that let the request in.
            let _ = self.session.answer(push, REFUSED_UNANSWERED, Bytes::new());
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Ended(id, ended) => {
                let Some(reply) = self.replies.remove(&id) else { return };
                let result = match ended.status {
                    amop_protocol::Status::Success => Ok(ended.payload),
                    _ => Err(Failure::ended(&ended)),
                };
                // Whoever asked may have gone.
                let _ = reply.send(result);
            }
            Action::Handed(_) => {}
            Action::Reported { report, refused, complete } => {
                self.driver.dispatch.reported(report, &refused, complete);
            }
            Action::Deliver(message) => self.deliver(message),
            Action::Drain(grace) => {
                tracing::info!(?grace, "the node drains");
                self.leave_at = Some(Instant::now() + grace + LAST_OUTCOMES);
            }
        }
    }

    fn deliver(&mut self, message: Deliver) {
        let (now, push) = (self.driver.connector.clock().now(), message.push.clone());
        if message.mode == Mode::Multicast {
            if self.driver.dispatch.deliver(message, None) {
                self.session.received(now, &push, Mode::Multicast);
            }
            return;
        }
        let place = self.driver.places.clone().try_reserve_owned().ok();
        match place.filter(|_| self.unanswered < self.driver.options.max_unanswered) {
            Some(place) => {
                self.unanswered += 1;
                let reply = Reply::new(place, self.driver.connection, message.push.clone());
                if self.driver.dispatch.deliver(message, Some(reply)) {
                    self.session.received(now, &push, Mode::Unicast);
                }
            }
            None => {
                tracing::debug!("too many requests are unanswered: one refused");
                self.answer(&message.push, REFUSED_BUSY, Bytes::new());
            }
        }
    }

    /// Writes what is queued, then says goodbye to TLS.
    async fn part(&mut self, mut writer: WriteHalf<Stream>) -> End {
        while let Ok(control) = self.driver.controls.try_recv() {
            self.handle_control(control);
        }
        while let Some(frame) = self.session.poll_frame() {
            frame.put(&mut self.outbound);
        }
        let parting = async {
            writer.write_all(&self.outbound).await?;
            writer.shutdown().await
        };
        match timeout(PARTING, parting).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "closing"),
            Err(_) => tracing::debug!("the node did not take what was left to write"),
        }
        End::Closed
    }
}

/// Writes some of what is queued, or flushes when nothing is. Cancel safe.
async fn write_some(writer: &mut WriteHalf<Stream>, outbound: &mut BytesMut) -> io::Result<()> {
    if outbound.is_empty() { writer.flush().await } else { writer.write_buf(outbound).await.map(drop) }
}
