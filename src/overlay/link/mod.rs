//! One link: hellos, then frames both ways until either side ends it.
//!
//! A link is two ordered byte streams to one peer, control and data. Nothing here knows what
//! carries them; whatever gives a verified identity and two [`LinkStream`]s will do.
//!
//! Tasks per link: `link` (hellos, then control reader and the end), and once it is up
//! `link-writer` twice and `link-reader` for data, so that neither direction nor substream
//! waits for another. They wake on bytes, on queued frames, and on the link's end; they may wait
//! on the stream and (control reader) on the node's event queue.
//!
//! Invariants: `LinkUp` comes before anything else of the link, `LinkDown` after everything,
//! exactly once each; no frame reaches the router before both hellos were accepted.

mod greet;
mod pump;

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use amop_protocol::{
    NodeId, NodeKey,
    certificate::Subject,
    limits::{MAX_CONTROL_FRAME, MAX_LINK_FRAME},
    wire::{
        generated,
        interleave::{Assembler, Budget, Full, Interleaver},
        link::{Kind, LinkFrame},
    },
};
use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{
        Notify,
        mpsc::{self, error::TrySendError},
        oneshot,
    },
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use self::pump::Flow;
use super::{Config, Event, Metrics, Router};
use crate::tasks::Tasks;

pub use self::greet::Incompatible;

/// What a link runs on: an ordered, encrypted stream of bytes to a verified peer.
pub trait LinkStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> LinkStream for S {}

/// Names one link; never used twice by an overlay.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "l{}", self.0)
    }
}

impl fmt::Debug for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A neighbour: verified by its certificate, greeted.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its id.
    pub id: NodeId,
    /// Its full public key.
    pub key: NodeKey,
    /// Its current epoch.
    pub epoch: u64,
    /// What its certificate says.
    pub subject: Arc<Subject>,
    /// Where the connection comes from, or goes to.
    pub address: SocketAddr,
}

/// Why a link went down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownReason {
    /// The other side closed it in order.
    #[error("the peer closed the link")]
    ClosedByPeer,
    /// The connection broke.
    #[error("the connection was lost: {0}")]
    Lost(#[source] io::Error),
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Fault(#[from] PeerFault),
    /// Nothing was heard of the peer for too long.
    #[error("nothing was heard of the peer for {0:?}")]
    Silent(Duration),
    /// A better connection to the same peer, or its newer epoch, took over.
    #[error("a newer connection to the same peer took its place")]
    Replaced,
    /// The peer takes control frames more slowly than they come.
    #[error("the control queue is full: the peer is too slow")]
    Overflow,
    /// We disconnected it.
    #[error("disconnected on request")]
    Disconnected,
    /// The overlay is shutting down.
    #[error("this node is shutting down")]
    Shutdown,
}

/// How a peer broke the protocol; its link is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerFault {
    /// A frame cannot be read.
    #[error(transparent)]
    Frame(#[from] amop_protocol::wire::link::FrameFault),
    /// Fragments do not fit together.
    #[error(transparent)]
    Fragment(#[from] amop_protocol::wire::interleave::Fault),
    /// A control frame on the data substream, or the reverse.
    #[error("a {0:?} frame came on the other substream")]
    WrongSubstream(Kind),
    /// A control frame that is no `Control` message.
    #[error("a control frame cannot be decoded")]
    Control,
    /// A hello on a link that is up, or something else where a hello must stand.
    #[error("a hello came late, or something else in its place")]
    Hello,
    /// The hello names another node than the certificate.
    #[error("the hello names node {claimed}, but the certificate belongs to {verified}")]
    WrongNode {
        /// The hello's.
        claimed: NodeId,
        /// The certificate's.
        verified: NodeId,
    },
}

/// The sending end of a link. Clones share its queues; it may outlive the link.
#[derive(Clone)]
pub struct Link(Arc<Shared>);

/// What a link's tasks and handles share.
struct Shared {
    id: LinkId,
    peer: NodeId,
    control: Outgoing,
    data: Outgoing,
    end: End,
    metrics: Metrics,
    started: Instant,
    /// Milliseconds from `started` to the last sign of life.
    heard: AtomicU64,
}

/// A bounded queue towards the wire, and the call to its writer.
struct Outgoing {
    queue: Mutex<Interleaver>,
    wake: Notify,
}

/// The link's end: first reason given wins.
#[derive(Default)]
struct End {
    cut: CancellationToken,
    drain: CancellationToken,
    reason: Mutex<Option<DownReason>>,
}

impl Link {
    pub(super) fn new(id: LinkId, peer: NodeId, config: &Config, metrics: Metrics) -> Self {
        let outgoing = |bytes| Outgoing { queue: Mutex::new(Interleaver::new(bytes)), wake: Notify::new() };
        Self(Arc::new(Shared {
            id,
            peer,
            control: outgoing(config.control_queue),
            data: outgoing(config.data_queue),
            end: End::default(),
            metrics,
            started: Instant::now(),
            heard: AtomicU64::new(0),
        }))
    }

    /// Which link this is.
    pub fn id(&self) -> LinkId {
        self.0.id
    }

    /// The neighbour at its other end.
    pub fn peer(&self) -> NodeId {
        self.0.peer
    }

    /// Queues a frame for the substream its kind names.
    ///
    /// # Errors
    ///
    /// Gives the frame back if the queue is full, the link is down, or the frame is larger than
    /// any link carries. A control queue that is full also closes the link: a peer that does
    /// not keep up with gossip is as good as gone.
    pub fn try_send(&self, frame: LinkFrame) -> Result<(), Full> {
        let shared = &*self.0;
        let refuse = |full| {
            shared.metrics.frames_refused.inc();
            Err(full)
        };
        if shared.end.drain.is_cancelled() || frame.prefix().is_err() {
            return refuse(Full(frame));
        }
        let outgoing = match frame.kind {
            Kind::Control => &shared.control,
            Kind::Data | Kind::Fragment => &shared.data,
        };
        let is_control = frame.kind == Kind::Control;
        if let Err(full) = outgoing.queue.lock().push(frame) {
            if is_control {
                self.close(DownReason::Overflow);
            }
            return refuse(full);
        }
        outgoing.wake.notify_one();
        Ok(())
    }

    /// Queues a control message of any size up to the control limit.
    ///
    /// # Errors
    ///
    /// As [`Link::try_send`].
    pub fn send_control(&self, message: generated::control::Message) -> Result<(), Full> {
        self.try_send(LinkFrame::control(message))
    }

    /// Bytes queued on the data substream.
    pub fn queued(&self) -> usize {
        self.0.data.queue.lock().queued()
    }

    /// Ends the link now; what is queued is lost.
    pub(super) fn close(&self, reason: DownReason) {
        self.0.end.give(reason);
        self.0.end.drain.cancel();
        self.0.end.cut.cancel();
    }

    /// Ends the link once what is queued is written. Takes no more frames.
    pub(super) fn drain(&self, reason: DownReason) {
        self.0.end.give(reason);
        self.0.end.drain.cancel();
    }

    /// Whether its end has been decided.
    pub(super) fn is_ending(&self) -> bool {
        self.0.end.drain.is_cancelled()
    }

    /// Notes a sign of life.
    pub(super) fn hear(&self) {
        let now = u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.heard.store(now, Ordering::Relaxed);
    }

    /// Time since the last sign of life.
    pub(super) fn silence(&self) -> Duration {
        let heard = Duration::from_millis(self.0.heard.load(Ordering::Relaxed));
        self.0.started.elapsed().saturating_sub(heard)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.0.id, self.0.peer)
    }
}

impl End {
    fn give(&self, reason: DownReason) {
        self.reason.lock().get_or_insert(reason);
    }
}

/// Everything a link needs beside its streams; one for all links.
pub(super) struct Context {
    pub(super) own: NodeId,
    pub(super) epoch: u64,
    pub(super) config: Config,
    pub(super) router: Arc<dyn Router>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) reports: mpsc::Sender<Report>,
    pub(super) tasks: Tasks,
    pub(super) metrics: Metrics,
    pub(super) data_budget: Arc<Budget>,
    pub(super) control_budget: Arc<Budget>,
}

/// A connection with a verified identity that may become a link.
pub(super) struct Candidate<S> {
    pub(super) link: Link,
    pub(super) key: NodeKey,
    pub(super) subject: Arc<Subject>,
    pub(super) address: SocketAddr,
    pub(super) control: S,
    pub(super) data: S,
}

/// What a link tells the driver.
pub(super) enum Report {
    /// The peer's hello is good; shall the link come up?
    Greeted { link: LinkId, epoch: u64, verdict: oneshot::Sender<Verdict> },
    /// The link, or the attempt at one, is over.
    Ended { link: LinkId, failure: Option<Failure> },
}

/// The driver's answer.
pub(super) enum Verdict {
    /// There is no better one.
    ComeUp,
    /// There is.
    Yield,
}

/// Why a candidate did not become a link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The hellos were not exchanged in time.
    #[error("no hello came within {0:?}")]
    Slow(Duration),
    /// The stream ended or broke.
    #[error("the connection was lost during the hellos: {0}")]
    Lost(#[source] io::Error),
    /// The peer's hello breaks the protocol.
    #[error(transparent)]
    Fault(#[from] PeerFault),
    /// The peer speaks other versions.
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
    /// Another connection to the peer is better.
    #[error("another connection to the same peer is kept")]
    Duplicate,
}

/// Runs a candidate to its end; tells the driver when it is over.
pub(super) async fn run<S: LinkStream>(candidate: Candidate<S>, context: Arc<Context>) {
    let link = candidate.link.clone();
    let failure = attempt(candidate, &context).await.err();
    let report = Report::Ended { link: link.id(), failure };
    // The driver may be gone; then nobody needs to know.
    let _ = context.reports.send(report).await;
}

async fn attempt<S: LinkStream>(candidate: Candidate<S>, context: &Arc<Context>) -> Result<(), Failure> {
    let Candidate { link, key, subject, address, mut control, data } = candidate;
    let limit = context.config.handshake_timeout;
    let greeting = greet::exchange(&mut control, context, link.peer());
    let greeted = link.0.end.cut.run_until_cancelled(tokio::time::timeout(limit, greeting)).await;
    let (epoch, rest) = match greeted {
        None => return Err(Failure::Duplicate),
        Some(Err(_)) => {
            context.metrics.handshake_timeouts.inc();
            return Err(Failure::Slow(limit));
        }
        Some(Ok(result)) => result?,
    };
    let (verdict, answer) = oneshot::channel();
    let report = Report::Greeted { link: link.id(), epoch, verdict };
    if context.reports.send(report).await.is_err() {
        return Err(Failure::Duplicate);
    }
    let answer = link.0.end.cut.run_until_cancelled(answer).await;
    if !matches!(answer, Some(Ok(Verdict::ComeUp))) {
        return Err(Failure::Duplicate);
    }
    let peer = Peer { id: link.peer(), key, epoch, subject, address };
    live(peer, &link, control, rest, data, context).await;
    Ok(())
}

/// The link's life, from `LinkUp` to `LinkDown`.
async fn live<S: LinkStream>(
    peer: Peer,
    link: &Link,
    control: S,
    rest: BytesMut,
    data: S,
    context: &Arc<Context>,
) {
    let id = peer.id;
    let up = context.events.send(Event::LinkUp { peer, link: link.clone() });
    if !matches!(link.0.end.cut.run_until_cancelled(up).await, Some(Ok(()))) {
        return;
    }
    context.metrics.links.inc();
    context.metrics.links_opened.inc();
    pump(link, control, rest, data, context).await;
    let reason = link.0.end.reason.lock().take().unwrap_or(DownReason::ClosedByPeer);
    note_end(link, &reason, &context.metrics);
    let down = Event::LinkDown { peer: id, link: link.id(), reason };
    if let Err(TrySendError::Full(down)) = context.events.try_send(down) {
        // Nobody hears it only if the node is gone, or everything is being cut.
        let _ = context.tasks.token().run_until_cancelled(context.events.send(down)).await;
    }
}

async fn pump<S: LinkStream>(link: &Link, control: S, rest: BytesMut, data: S, context: &Arc<Context>) {
    let (control_in, control_out) = tokio::io::split(control);
    let (data_in, data_out) = tokio::io::split(data);
    let control_assembler = Assembler::new(context.control_budget.clone(), MAX_CONTROL_FRAME);
    let data_assembler = Assembler::new(context.data_budget.clone(), MAX_LINK_FRAME);
    // Held by each task; closed when the last has ended.
    let (alive, mut ended) = mpsc::channel::<()>(1);
    let span = tracing::Span::current();
    let spawn = |name, task: futures::future::BoxFuture<'static, ()>| {
        let alive = alive.clone();
        let task = async move {
            task.await;
            drop(alive);
        };
        context.tasks.spawn(name, task.instrument(span.clone()));
    };
    let writer = |out, flow| Box::pin(pump::write(link.clone(), out, flow));
    spawn("link-writer", writer(control_out, Flow::Control));
    spawn("link-writer", writer(data_out, Flow::Data));
    let reader = pump::read_data(link.clone(), data_in, data_assembler, context.clone());
    spawn("link-reader", Box::pin(reader));
    drop(alive);
    let end = async {
        pump::read_control(link, control_in, rest, control_assembler, context).await;
        ended.recv().await;
    };
    // Both sides get this long to finish what they had queued when the end was decided.
    let linger = async {
        link.0.end.drain.cancelled().await;
        tokio::time::sleep(context.config.flush_timeout).await;
    };
    tokio::select! {
        () = end => {}
        () = linger => {
            link.0.end.cut.cancel();
            ended.recv().await;
        }
    }
}

fn note_end(link: &Link, reason: &DownReason, metrics: &Metrics) {
    // After this every send is refused.
    link.0.end.drain.cancel();
    link.0.end.cut.cancel();
    metrics.links.dec();
    metrics.links_closed.inc();
    match reason {
        DownReason::Fault(_) => metrics.peer_faults.inc(),
        DownReason::Silent(_) => metrics.silent_links.inc(),
        DownReason::Overflow => metrics.control_overflows.inc(),
        _ => 0,
    };
}

#[cfg(test)]
mod tests;
