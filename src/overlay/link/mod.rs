//! One link: hellos, then frames both ways until either side ends it.
//!
//! A link is two ordered byte streams to one peer, control and data. Nothing here knows what
//! carries them; whatever gives a verified identity, a [`LinkStream`] and a [`DataSource`] will do.
//!
//! Tasks per link: `link` (hellos, then control reader and the end), and once it is up
//! `link-writer` twice and `link-reader` for data, so that neither direction nor stream
//! waits for another. They wake on bytes, on queued frames, and on the link's end; they may wait
//! on the stream and (control reader) on the node's event queue.
//!
//! Invariants: `LinkUp` comes before anything else of the link, `LinkDown` after everything,
//! exactly once each; no frame reaches the router before both hellos were accepted.

mod greet;
mod handle;
mod pump;
mod reason;
mod turn;

use std::{io, net::SocketAddr, sync::Arc};

use amop_protocol::{
    NodeId, NodeKey,
    certificate::Subject,
    limits::{MAX_CONTROL_FRAME, MAX_LINK_FRAME},
    wire::interleave::{Assembler, Budget},
};
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
};
use tracing::Instrument;

use self::{greet::Greeted, pump::Flow};
use super::{Config, Event, Metrics, Router};
use crate::tasks::Tasks;

pub use self::{
    greet::Incompatible,
    handle::{Link, LinkId, Passed, Peer},
    reason::{DownReason, Failure, PeerFault},
    turn::Turn,
};

/// What a link runs on: an ordered, encrypted stream of bytes to a verified peer.
pub trait LinkStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> LinkStream for S {}

/// Brings about the data stream of a link, between the hellos and the link's life.
pub(super) trait DataSource: Send + 'static {
    /// What it gives.
    type Stream: LinkStream;

    /// What our hello names, for the peer to show; empty if we show something.
    fn ticket(&self) -> Bytes;

    /// Gives the stream; `shown` is what the peer's hello named. Bounded in time by the caller.
    ///
    /// # Errors
    /// When it cannot be had.
    fn open(self, shown: Bytes) -> impl Future<Output = io::Result<Self::Stream>> + Send;
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
pub(super) struct Candidate<S, D> {
    pub(super) link: Link,
    pub(super) key: NodeKey,
    pub(super) subject: Arc<Subject>,
    pub(super) address: SocketAddr,
    pub(super) control: S,
    pub(super) data: D,
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

/// Runs a candidate to its end; tells the driver when it is over.
pub(super) async fn run<S: LinkStream, D: DataSource>(candidate: Candidate<S, D>, context: Arc<Context>) {
    let link = candidate.link.clone();
    let failure = attempt(candidate, &context).await.err();
    let report = Report::Ended { link: link.id(), failure };
    // The driver may be gone; then nobody needs to know.
    let _ = context.reports.send(report).await;
}

async fn attempt<S: LinkStream, D: DataSource>(
    candidate: Candidate<S, D>,
    context: &Arc<Context>,
) -> Result<(), Failure> {
    let Candidate { link, key, subject, address, mut control, data } = candidate;
    let limit = context.config.handshake_timeout;
    let greeting = async {
        let greeted = greet::exchange(&mut control, data.ticket(), context, link.peer()).await?;
        let data = data.open(greeted.ticket.clone()).await.map_err(Failure::Data)?;
        Ok::<_, Failure>((greeted, data))
    };
    let greeted = link.0.end.cut.run_until_cancelled(tokio::time::timeout(limit, greeting)).await;
    let (Greeted { epoch, version, rest, .. }, data) = match greeted {
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
    let peer = Peer { id: link.peer(), key, epoch, version, subject, address };
    live(peer, &link, control, rest, data, context).await;
    Ok(())
}

/// The link's life, from `LinkUp` to `LinkDown`.
async fn live<S: LinkStream, D: LinkStream>(
    peer: Peer,
    link: &Link,
    control: S,
    rest: BytesMut,
    data: D,
    context: &Arc<Context>,
) {
    let Peer { id, version, address, ref subject, .. } = peer;
    let Subject { name, institution, .. } = &**subject;
    tracing::info!(%name, %institution, %address, version, "link up");
    let up = context.events.send(Event::LinkUp { peer, link: link.clone() });
    if !matches!(link.0.end.cut.run_until_cancelled(up).await, Some(Ok(()))) {
        return;
    }
    context.metrics.links.inc();
    context.metrics.links_opened.inc();
    pump(link, control, rest, data, context).await;
    let reason = link.0.end.reason.lock().take().unwrap_or(DownReason::ClosedByPeer);
    note_end(link, &reason, &context.metrics);
    log_end(&reason);
    let down = Event::LinkDown { peer: id, link: link.id(), reason };
    if let Err(TrySendError::Full(down)) = context.events.try_send(down) {
        // Nobody hears it only if the node is gone, or everything is being cut.
        let _ = context.tasks.token().run_until_cancelled(context.events.send(down)).await;
    }
}

async fn pump<S: LinkStream, D: LinkStream>(
    link: &Link,
    control: S,
    rest: BytesMut,
    data: D,
    context: &Arc<Context>,
) {
    let (control_in, control_out) = tokio::io::split(control);
    let (data_in, data_out) = tokio::io::split(data);
    let control_assembler = Assembler::new(context.control_budget.clone(), MAX_CONTROL_FRAME);
    let data_assembler = Assembler::new(context.data_budget.clone(), MAX_LINK_FRAME);
    // Held by each task; closed when the last has ended.
    let (alive, mut ended) = mpsc::channel::<()>(1);
    let span = tracing::Span::current();
    let spawn = |name, task: BoxFuture<'static, ()>| {
        let alive = alive.clone();
        let task = async move {
            task.await;
            drop(alive);
        };
        context.tasks.spawn(name, task.instrument(span.clone()));
    };
    spawn("link-writer", Box::pin(pump::write(link.clone(), control_out, Flow::Control)));
    spawn("link-writer", Box::pin(pump::write(link.clone(), data_out, Flow::Data)));
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
    metrics.count_closed(reason);
    match reason {
        DownReason::Fault(_) => metrics.peer_faults.inc(),
        DownReason::Silent(_) => metrics.silent_links.inc(),
        DownReason::Overflow => metrics.control_overflows.inc(),
        _ => 0,
    };
}

/// The link's span says whose it was.
fn log_end(cause: &DownReason) {
    match cause {
        DownReason::Replaced => tracing::debug!(%cause, "link down"),
        DownReason::ClosedByPeer
        | DownReason::Disconnected
        | DownReason::NotAllowed
        | DownReason::NotConfigured
        | DownReason::Shutdown => {
            tracing::info!(%cause, "link down");
        }
        _ => tracing::warn!(%cause, "link down"),
    }
}

#[cfg(test)]
mod tests;
