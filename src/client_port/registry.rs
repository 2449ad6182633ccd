//! The sessions that are up, and how to reach each: where many tasks look up what others register.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use amop_protocol::{
    Seq, SessionId,
    broker::{
        event::{Outcome, Push, PushError},
        private::Ask,
        routing::IdState,
    },
    certificate::Description,
    session::server::Server,
};
use dashmap::DashMap;
use rustls_pki_types::CertificateDer;
use tokio::sync::Notify;

use super::{
    metrics::Metrics,
    queue::{Item, Queue},
};
use crate::identity::{ClientTls, Serving};

/// Why the node ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// It does not read what it is sent; ends at once.
    Slow,
    /// Its certificate is no longer believed; ends at once.
    Untrusted,
    /// The node is done with it; ends once its queue is written.
    Finished,
}

/// How the client of a session came to be believed.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    /// What it presented and TLS verified, leaf first.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// The listener's certificates.
    pub(super) tls: ClientTls,
    /// Those that were in force.
    pub(super) serving: Serving,
}

/// A session that is up.
#[derive(Debug)]
struct Session {
    queue: Arc<Queue>,
    admitted: Arc<Admitted>,
}

/// All sessions of a node. Made by the node, filled by the client port.
#[derive(Debug, Default)]
pub struct Registry {
    sessions: DashMap<SessionId, Session, IdState>,
    next: AtomicU64,
    closing: AtomicBool,
    emptied: Notify,
    metrics: Metrics,
}

impl Registry {
    /// An empty registry that counts in `metrics`.
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics, ..Self::default() }
    }

    /// What the client port counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// How many sessions are up.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether no session is up.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Bytes that wait to be written to a session, and whether it was granted extensions; `None` if it
    /// is gone.
    pub fn glance(&self, session: SessionId) -> Option<(usize, bool)> {
        let queue = self.queue(session)?;
        Some((queue.bytes(), queue.is_extended()))
    }

    /// Queues a message for its session, whose end of it comes through `Broker::pushed`.
    ///
    /// # Errors
    /// When the session is gone, or its queue is full; a multicast that does not fit also ends
    /// the session. `Broker::pushed` is then not called.
    pub fn push(&self, push: Push) -> Result<(), PushError> {
        // No queue calls back into the registry, so its shard may stay locked meanwhile.
        let queued = match self.sessions.get(&push.session) {
            Some(session) => session.queue.offer(Item::Push(push)),
            None => Err(PushError::Gone),
        };
        if queued == Err(PushError::Full) {
            self.metrics.pushes_refused.inc();
        }
        queued
    }

    /// Queues an outcome for its publisher. If its queue is full the session ends; if it is gone
    /// already, nobody is left to tell.
    pub fn outcome(&self, outcome: Outcome) {
        if let Some(queue) = self.queue(outcome.session) {
            let _ = queue.offer(Item::Outcome(Box::new(outcome)));
        }
    }

    /// Queues word for a publisher that a subscriber was handed its message. If its queue is full the
    /// session ends; if it is gone already, nobody is left to tell.
    pub fn handed(&self, publisher: SessionId, seq: Seq) {
        if let Some(queue) = self.queue(publisher) {
            let _ = queue.offer(Item::Handed(Box::new(seq)));
        }
    }

    /// Queues a question for a publisher. If its queue is full the session ends; if it is gone already,
    /// nobody is left to ask.
    pub fn ask(&self, ask: &Ask) {
        if let Some(queue) = self.queue(ask.publisher) {
            let _ = queue.offer(Item::Reply(Box::new(Server::question(ask))));
        }
    }

    /// Ends one session.
    pub fn disconnect(&self, session: SessionId, how: Disconnect) {
        if let Some(queue) = self.queue(session) {
            queue.end(how);
        }
    }

    pub(super) fn goodbye(&self, grace: Duration) {
        for session in &self.sessions {
            let _ = session.queue.offer(Item::Goodbye(grace));
        }
    }

    /// Ends all sessions in order, also those whose handshake is still under way.
    pub(super) fn close_all(&self) {
        self.closing.store(true, Ordering::SeqCst);
        for session in &self.sessions {
            session.queue.end(Disconnect::Finished);
        }
    }

    /// Resolves when no session is up. Cancel safe.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Ends all sessions whose clients are no longer believed, or served, after a change of certificates or of
    /// the configuration; gives how many.
    pub fn judge_again(&self) -> usize {
        // No shard may stay locked while chains are verified.
        let all: Vec<_> = self.sessions.iter().map(|entry| (*entry.key(), entry.admitted.clone())).collect();
        all.into_iter().filter(|(id, admitted)| self.is_rejected(*id, admitted)).count()
    }

    /// Ends the session of a client that is no longer believed.
    fn is_rejected(&self, session: SessionId, admitted: &Admitted) -> bool {
        let Admitted { chain, tls, serving } = admitted;
        if tls.serves(serving) {
            return false;
        }
        let Err(cause) = tls.still_believes(chain) else { return false };
        if let Some(Ok(leaf)) = chain.first().map(|leaf| Description::parse(leaf)) {
            let Description { subject, serial, issuer, .. } = leaf;
            tracing::warn!(subject, serial, issuer, %cause, "a client's certificate is no longer believed; its session ends");
        }
        self.disconnect(session, Disconnect::Untrusted);
        true
    }

    pub(super) fn register(&self, queue: Arc<Queue>, admitted: Admitted) -> SessionId {
        let id = SessionId(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        let admitted = Arc::new(admitted);
        self.sessions.insert(id, Session { queue: queue.clone(), admitted: admitted.clone() });
        if self.closing.load(Ordering::SeqCst) {
            queue.end(Disconnect::Finished);
        }
        // Certificates may have changed since the handshake; from here on others look.
        self.is_rejected(id, &admitted);
        id
    }

    pub(super) fn remove(&self, session: SessionId) {
        self.sessions.remove(&session);
        self.emptied.notify_waiters();
    }

    fn queue(&self, session: SessionId) -> Option<Arc<Queue>> {
        self.sessions.get(&session).map(|session| session.queue.clone())
    }
}
