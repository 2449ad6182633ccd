//! What the node holds of a link: its sending end.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use amop_protocol::{
    NodeId, NodeKey,
    certificate::Subject,
    wire::{
        generated,
        interleave::{Full, Interleaver},
        link::{Kind, LinkFrame},
    },
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{DownReason, pump::Flow};
use crate::overlay::{Config, Metrics};

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

/// The sending end of a link. Clones share its queues; it may outlive the link.
#[derive(Clone)]
pub struct Link(pub(super) Arc<Shared>);

/// What a link's tasks and handles share.
pub(super) struct Shared {
    pub(super) id: LinkId,
    pub(super) peer: NodeId,
    pub(super) control: Outgoing,
    pub(super) data: Outgoing,
    pub(super) end: End,
    pub(super) metrics: Metrics,
    pub(super) passed: Passed,
    pub(super) started: Instant,
    /// Milliseconds from `started` to the last sign of life.
    pub(super) heard: AtomicU64,
}

/// What has passed on one link: written where it passes, read by whoever asks.
#[derive(Debug, Default)]
pub struct Passed {
    /// Frames received whole.
    pub frames_received: AtomicU64,
    /// Bytes received.
    pub bytes_received: AtomicU64,
    /// Frames queued to be sent.
    pub frames_queued: AtomicU64,
    /// Bytes sent.
    pub bytes_sent: AtomicU64,
}

/// A bounded queue towards the wire, and the call to its writer.
pub(super) struct Outgoing {
    pub(super) queue: Mutex<Interleaver>,
    pub(super) wake: Notify,
    /// Cancelled when its stream is found broken, or the peer gone: nobody reads what is written there.
    pub(super) dead: CancellationToken,
}

/// The link's end: first reason given wins.
#[derive(Default)]
pub(super) struct End {
    pub(super) cut: CancellationToken,
    pub(super) drain: CancellationToken,
    /// Cancelled when both readers have come to their end.
    pub(super) all_read: CancellationToken,
    pub(super) readers_done: AtomicU8,
    pub(super) reason: Mutex<Option<DownReason>>,
}

impl Link {
    pub(in crate::overlay) fn new(id: LinkId, peer: NodeId, config: &Config, metrics: Metrics) -> Self {
        let outgoing = |bytes| Outgoing {
            queue: Mutex::new(Interleaver::new(bytes)),
            wake: Notify::new(),
            dead: CancellationToken::new(),
        };
        Self(Arc::new(Shared {
            id,
            peer,
            control: outgoing(config.control_queue),
            data: outgoing(config.data_queue),
            end: End::default(),
            metrics,
            passed: Passed::default(),
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

    /// Queues a frame for the stream its kind names.
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
        let outgoing = self.outgoing(match frame.kind {
            Kind::Control => Flow::Control,
            Kind::Data | Kind::Fragment => Flow::Data,
        });
        let is_control = frame.kind == Kind::Control;
        if let Err(full) = outgoing.queue.lock().push(frame) {
            if is_control {
                self.close(DownReason::Overflow);
            }
            return refuse(full);
        }
        shared.passed.frames_queued.fetch_add(1, Ordering::Relaxed);
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

    /// What has passed on it.
    pub fn passed(&self) -> &Passed {
        &self.0.passed
    }

    /// Bytes queued, on both streams together.
    pub fn queued(&self) -> usize {
        [&self.0.control, &self.0.data].map(|outgoing| outgoing.queue.lock().queued()).iter().sum()
    }

    /// Ends the link now; what is queued is lost.
    pub(in crate::overlay) fn close(&self, reason: DownReason) {
        self.0.end.give(reason);
        self.0.end.drain.cancel();
        self.0.end.cut.cancel();
    }

    /// Ends the link once what is queued is written. Takes no more frames.
    pub(in crate::overlay) fn drain(&self, reason: DownReason) {
        self.0.end.give(reason);
        self.0.end.drain.cancel();
    }

    /// Ends the link once what had come is read: the peer is gone, or has all it wanted. Takes no more frames.
    pub(in crate::overlay) fn hang_up(&self, reason: DownReason) {
        self.drain(reason);
        self.0.control.dead.cancel();
        self.0.data.dead.cancel();
    }

    /// Whether its end has been decided.
    pub(in crate::overlay) fn is_ending(&self) -> bool {
        self.0.end.drain.is_cancelled()
    }

    pub(super) fn outgoing(&self, flow: Flow) -> &Outgoing {
        match flow {
            Flow::Control => &self.0.control,
            Flow::Data => &self.0.data,
        }
    }

    /// Notes a sign of life.
    pub(in crate::overlay) fn hear(&self) {
        let now = u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.heard.store(now, Ordering::Relaxed);
    }

    /// Time since the last sign of life.
    pub(in crate::overlay) fn silence(&self) -> Duration {
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

    /// One of the two readers is done.
    pub(super) fn reader_done(&self) {
        if self.readers_done.fetch_add(1, Ordering::AcqRel) == 1 {
            self.all_read.cancel();
        }
    }

    /// Whether the peer, not we, ended the link.
    pub(super) fn is_by_peer(&self) -> bool {
        matches!(*self.reason.lock(), Some(DownReason::ClosedByPeer))
    }
}
