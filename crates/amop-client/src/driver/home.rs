//! One connection to a node: bytes to frames and back, as long as it is up.

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use amop_protocol::{
    Time, Topic,
    session::{
        client::{Action, Fault, Message, Push, ReportId, SendError, SendId, Session},
        lanes,
    },
    wire::channel::{Decoder, FrameError},
};
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout},
};
use tokio_util::io::poll_read_buf;

use super::outbound::{Outbound, PARTS};
use crate::{
    Node, Options,
    connector::{Established, READ_ROOM, Stream},
    subscription::REFUSED_UNANSWERED,
};

/// Stop taking sends while this many bytes wait to be written.
const OUTBOUND_FULL: usize = 256 * 1024;
/// A large frame is placed when less than this waits to be written, so that what is small and comes
/// next waits for one large frame at most.
const OUTBOUND_LOW: usize = 64 * 1024;
/// Written before others have their turn.
const WRITE_TURN: usize = 256 * 1024;
/// Read before what has come is looked at.
const READ_TURN: usize = 64 * 1024;
/// With less room than this a read is not worth it.
const READ_LEAST: usize = 4 * 1024;
/// Most that is allocated ahead of the bytes of a large frame.
const READ_AHEAD: usize = 1024 * 1024;
/// How long closing may take to write what is queued.
const PARTING: Duration = Duration::from_secs(2);
/// How long after its grace a draining node may take to say how far the rest came. It closes the
/// connection itself when it has; one that does not is left then.
const LAST_OUTCOMES: Duration = Duration::from_secs(2);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
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

/// One connection, established.
pub(crate) struct Home {
    pub(crate) id: u64,
    /// Which of the nodes that are known this is.
    pub(crate) seat: usize,
    pub(crate) node: Arc<Node>,
    pub(crate) session: Box<Session>,
    pub(crate) since: Instant,
    stream: Stream,
    decoder: Decoder,
    inbound: BytesMut,
    outbound: Outbound,
    /// Large answers that wait for their turn.
    answers: VecDeque<(Push, Bytes)>,
    /// A large send was placed since the last large answer: the next turn is an answer's.
    sent_large: bool,
    /// Large sends wait for room here.
    sends_wait: bool,
    /// Written, but perhaps not yet on its way: the stream has buffers of its own.
    unflushed: bool,
    /// When a draining node is left, finished or not.
    leave_at: Option<Instant>,
    /// The state of the subscriptions that was reported last.
    reported: u64,
    reports: BTreeMap<ReportId, u64>,
    end: Option<End>,
}

impl Home {
    pub(crate) fn new(id: u64, seat: usize, established: Established, options: &Options) -> Self {
        let Established { stream, inbound, session, node } = established;
        Self {
            id,
            seat,
            node: Arc::new(node),
            session,
            since: Instant::now(),
            stream,
            decoder: Decoder::new(options.max_frame),
            inbound,
            outbound: Outbound::default(),
            answers: VecDeque::new(),
            sent_large: false,
            sends_wait: false,
            unflushed: false,
            leave_at: None,
            reported: 0,
            reports: BTreeMap::new(),
            end: None,
        }
    }

    /// Whether it takes new sends and subscriptions.
    pub(crate) fn is_usable(&self) -> bool {
        self.end.is_none() && !self.is_draining()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.leave_at.is_some()
    }

    /// The node shuts down: it is left when all is finished, at the latest after its grace.
    pub(crate) fn drain(&mut self, grace: Duration) {
        self.leave_at.get_or_insert(Instant::now() + grace + LAST_OUTCOMES);
        self.sends_wait = false;
    }

    /// Why the connection has ended, if it has.
    pub(crate) fn end(&mut self) -> Option<End> {
        self.end.take()
    }

    /// Ends the connection.
    pub(crate) fn leave(&mut self) {
        self.end.get_or_insert(End::Drained);
    }

    /// Whether another send may be queued.
    pub(crate) fn has_room(&self) -> bool {
        self.outbound.len() < if self.answers.is_empty() { OUTBOUND_FULL } else { OUTBOUND_LOW }
    }

    /// Whether a large send may be placed. Large answers and large sends take turns.
    pub(crate) fn has_large_room(&self) -> bool {
        self.outbound.len() < OUTBOUND_LOW && (self.answers.is_empty() || !self.sent_large)
    }

    /// Sends a message that was named elsewhere, and puts it behind what waits to be written.
    pub(crate) fn send_as(&mut self, now: Time, id: SendId, message: Message) -> Result<(), SendError> {
        let is_large = message.payload.len() > lanes::SMALL;
        self.session.send_as(now, id, message)?;
        self.sent_large |= is_large;
        self.drain_session();
        Ok(())
    }

    /// Whether large sends wait for room here: then large answers wait for them in turn.
    pub(crate) fn expect_large(&mut self, wait: bool) {
        self.sends_wait = wait;
    }

    /// Whether all that was queued is on its way.
    pub(crate) fn is_written(&self) -> bool {
        self.outbound.is_empty() && self.answers.is_empty() && !self.unflushed
    }

    /// When [`Home::handle_timeout`] wants to be called, as the session and the grace have it.
    pub(crate) fn wake(&self) -> (Time, Option<Instant>) {
        (self.session.poll_timeout(), self.leave_at)
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) {
        if self.session.poll_timeout() <= now {
            self.check(|home| Ok(home.session.handle_timeout(now)?));
        }
        if self.leave_at.is_some_and(|leave| leave <= Instant::now()) {
            self.leave();
        }
    }

    /// Writes and reads what the connection takes and gives now. Ready when something has happened.
    pub(crate) fn poll_io(&mut self, cx: &mut Context<'_>, now: Time) -> Poll<()> {
        if self.end.is_some() {
            return Poll::Ready(());
        }
        let mut progress = false;
        self.check(|home| {
            progress |= home.poll_write(cx, now)?;
            progress |= home.poll_read(cx, now)?;
            Ok(())
        });
        if progress || self.end.is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// What the session asks for next, out of the frames that have come.
    pub(crate) fn next_action(&mut self, now: Time) -> Option<Action> {
        loop {
            if let Some(action) = self.session.poll_action() {
                return Some(action);
            }
            let mut more = false;
            self.check(|home| {
                let frame = home.decoder.decode(&mut home.inbound)?;
                more = frame.is_some();
                Ok(frame.map_or(Ok(()), |frame| home.session.handle_frame(now, frame))?)
            });
            if !more {
                self.make_room();
                return self.session.poll_action();
            }
        }
    }

    /// Whether the topics have changed since the last report.
    pub(crate) fn lacks(&self, revision: u64) -> bool {
        self.reported < revision
    }

    /// Reports the topics.
    pub(crate) fn report<'a>(&mut self, revision: u64, topics: impl Iterator<Item = &'a Topic>) {
        self.reported = revision;
        let report = self.session.report(topics);
        self.reports.insert(report, revision);
    }

    /// Whether the node was told of any topics.
    pub(crate) fn has_reported(&self) -> bool {
        self.reported > 0
    }

    /// The state of the subscriptions that a report told of.
    pub(crate) fn reported(&mut self, report: ReportId) -> Option<u64> {
        let later = self.reports.split_off(&report);
        self.reports = later;
        self.reports.remove(&report)
    }

    /// Answers a request; a large answer waits for its turn.
    pub(crate) fn answer(&mut self, push: &Push, result: i32, payload: Bytes) {
        if result == 0 && payload.len() > lanes::SMALL {
            self.answers.push_back((push.clone(), payload));
        } else {
            self.answer_now(push, result, payload);
        }
    }

    fn answer_now(&mut self, push: &Push, result: i32, payload: Bytes) {
        if let Err(error) = self.session.answer(push, result, payload) {
            tracing::warn!(%error, "an answer was too large; the request is refused");
            // An empty refusal fits every frame limit that let the request in.
            let _ = self.session.answer(push, REFUSED_UNANSWERED, Bytes::new());
        }
    }

    /// Puts what the session wants written into the outgoing buffer, and a large answer whose turn it is.
    pub(crate) fn fill(&mut self) {
        self.drain_session();
        if self.outbound.len() < OUTBOUND_LOW
            && (self.sent_large || !self.sends_wait)
            && let Some((push, payload)) = self.answers.pop_front()
        {
            self.sent_large = false;
            self.answer_now(&push, 0, payload);
            self.drain_session();
        }
    }

    fn drain_session(&mut self) {
        while let Some(frame) = self.session.poll_frame() {
            self.outbound.put(&frame);
        }
    }

    /// Writes what is queued, then says goodbye to TLS.
    pub(crate) async fn part(mut self) {
        while let Some((push, payload)) = self.answers.pop_front() {
            self.answer_now(&push, 0, payload);
        }
        self.drain_session();
        let parting = async {
            let Self { stream, outbound, .. } = &mut self;
            while !outbound.is_empty() {
                let written = poll_fn(|cx| poll_write_some(stream, outbound, cx)).await?;
                outbound.advance(written);
            }
            stream.shutdown().await
        };
        match timeout(PARTING, parting).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "closing"),
            Err(_) => tracing::debug!("the node did not take what was left to write"),
        }
    }

    fn check(&mut self, run: impl FnOnce(&mut Self) -> Result<(), End>) {
        if let Err(end) = run(self) {
            self.end.get_or_insert(end);
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, now: Time) -> Result<bool, End> {
        let mut turn = 0;
        while !self.outbound.is_empty() && turn < WRITE_TURN {
            let Poll::Ready(written) = poll_write_some(&mut self.stream, &self.outbound, cx) else {
                break;
            };
            let written = written?;
            self.outbound.advance(written);
            turn += written;
            self.unflushed = true;
        }
        let mut progress = turn > 0;
        if !self.outbound.is_empty() && !progress {
            return Ok(false);
        }
        if !self.outbound.is_empty() {
            // A frame that takes more than one write holds back the heartbeats behind it, and with
            // them the node's answers: that the line takes bytes is the sign of life then.
            self.session.handle_bytes(now);
        } else if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(cx)
        {
            flushed?;
            (progress, self.unflushed) = (true, false);
        }
        Ok(progress)
    }

    /// Reads what is there, up to a turn's worth, so that the node is told once of all that came together.
    fn poll_read(&mut self, cx: &mut Context<'_>, now: Time) -> Result<bool, End> {
        let mut progress = false;
        while let Poll::Ready(read) = poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.inbound) {
            if read? == 0 {
                return Err(End::Hangup);
            }
            progress = true;
            self.session.handle_bytes(now);
            if self.inbound.len() >= READ_TURN {
                break;
            }
            if self.inbound.capacity() - self.inbound.len() < READ_LEAST {
                let missing = self.decoder.missing(&self.inbound)?;
                self.inbound.reserve(missing.clamp(READ_TURN, READ_AHEAD));
            }
        }
        Ok(progress)
    }

    fn make_room(&mut self) {
        self.check(|home| {
            let missing = home.decoder.missing(&home.inbound)?;
            let room = home.inbound.capacity() - home.inbound.len();
            // The end of a large frame does not move all of it to make room for what follows.
            if home.inbound.len() < READ_ROOM || room < missing {
                home.inbound.reserve(missing.clamp(READ_ROOM, READ_AHEAD));
            }
            Ok(())
        });
    }
}

/// Writes what the stream takes now, 1 byte at least.
fn poll_write_some(
    stream: &mut Stream,
    outbound: &Outbound,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut room = [IoSlice::new(&[]); PARTS];
    let parts = outbound.parts(&mut room);
    match ready!(Pin::new(stream).poll_write_vectored(cx, &room[..parts]))? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        written => Poll::Ready(Ok(written)),
    }
}
