//! The TLS port that SDKs connect to.
//!
//! It has one or more listeners, each with certificates of one kind, and one task per client; a session's protocol is the core's
//! ([`amop_protocol::session`]), and what becomes of messages is its [`Broker`]'s affair. Nothing
//! here knows the overlay.
//!
//! A session's task is woken by bytes to read, room to write, its queue, its idle timer and the
//! end of the port. It waits on nothing else: a slow writer delays neither reading nor anybody
//! else. Whoever has frames for a client puts them on its queue in the [`Registry`], which is
//! bounded in bytes; who does not read is disconnected.
//!
//! Invariants: a session's topics are in force before its next frame is read; to a 2.x client
//! two frames never share a TLS record; [`Broker::closed`] comes exactly once for each
//! [`Broker::opened`], after the fate of every queued push was told.

mod config;
mod connection;
mod end;
mod limits;
mod listener;
mod listings;
mod metrics;
mod queue;
mod registry;
mod session;
mod shared;
mod sparing;

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use amop_protocol::{
    ClientIdentity, SessionId, Topic,
    broker::{
        event::{Answer, Publish, PushError, PushId, Subscriber},
        routing::Routing,
    },
    session::verification::Verdict,
};
use futures::future::BoxFuture;

use crate::{identity::ClientTls, tasks::Tasks};

pub(crate) use self::limits::limits;
pub use self::{
    config::Config,
    listener::StartError,
    metrics::Metrics,
    registry::{Disconnect, Registry},
};
use self::{listener::Listener, shared::Shared};

/// What the client port needs of the node around it.
pub trait Broker: Send + Sync + 'static {
    /// A session is up. Must not block. Called before any of its frames is handled.
    fn opened(&self, session: &Arc<SessionInfo>);
    /// Replaces the session's topics; resolves once the routing snapshot has them.
    fn report(
        &self,
        session: SessionId,
        client: Arc<ClientIdentity>,
        topics: Vec<Topic>,
    ) -> BoxFuture<'static, ()>;
    /// A publisher's verdict on a question it was asked; resolves once it is in force.
    fn verdict(&self, session: SessionId, verdict: Verdict) -> BoxFuture<'static, ()>;
    /// Resolves true once all reachable nodes hold our current topics, false if a bound passed first.
    fn settled(&self) -> BoxFuture<'static, bool>;
    /// Who is at the other end of the session, as far as its messages are concerned: told before the
    /// first report of topics, and again if a handshake changes it.
    fn subscriber(&self, session: SessionId, subscriber: Subscriber);
    /// Sends a message; its outcome comes through the registry, now or later.
    fn publish(&self, publish: Publish);
    /// Takes a subscriber's answer to a push.
    fn answer(&self, session: SessionId, push: PushId, answer: Answer);
    /// All bytes of these pushes were written to an extension client; it says itself when it has
    /// received them.
    fn written(&self, session: SessionId, pushes: &[PushId]);
    /// The session was handed these pushes, or never will be.
    fn pushed(&self, session: SessionId, pushes: &[PushId], result: Result<(), PushError>);
    /// The session is gone. Exactly once per `opened`.
    fn closed(&self, session: SessionId);
    /// What is known now of nodes and topics; for what SDKs ask at start-up.
    fn routing(&self) -> Arc<Routing>;
}

/// Who is at the other end of a session, as TLS verified it.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// Numbers the session.
    pub id: SessionId,
    /// The client.
    pub client: Arc<ClientIdentity>,
    /// The institution whose CA issued its certificate.
    pub institution: Arc<str>,
    /// Where it connects from.
    pub address: SocketAddr,
    /// When it connected.
    pub since: Instant,
}

/// A running client port. Dropping it does not stop it; its [`Tasks`] do.
pub struct ClientPort {
    addresses: Vec<SocketAddr>,
    accepting: Tasks,
    shared: Arc<Shared>,
}

impl fmt::Debug for ClientPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientPort").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl ClientPort {
    /// Binds all listeners, and starts to accept clients.
    ///
    /// # Errors
    /// When an address cannot be bound; then there is no listener at all.
    pub async fn start(
        tasks: &Tasks,
        config: Config,
        listeners: Vec<(SocketAddr, ClientTls)>,
        broker: Arc<dyn Broker>,
        registry: Arc<Registry>,
    ) -> Result<Self, StartError> {
        let mut bound = Vec::new();
        for (address, tls) in listeners {
            bound.push(Listener::bind(address, tls).await?);
        }
        let addresses = bound.iter().map(Listener::address).collect();
        let accepting = tasks.child();
        let shared = Arc::new(Shared::new(config, broker, registry, tasks.clone()));
        for listener in bound {
            let stop = accepting.token().clone();
            accepting.spawn_vital("client listener", listener.run(shared.clone(), stop));
        }
        Ok(Self { addresses, accepting, shared })
    }

    /// Where clients connect, in the order the listeners were given.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Puts another configuration in force for everything that comes from now on, running sessions included: a
    /// session keeps the size of its queue. Nobody is disconnected at once for a bound that has become lower.
    pub fn configure(&self, config: Config) {
        self.shared.configure(config);
    }

    /// Stops accepting, and tells extension clients to go elsewhere within `grace`. Sessions
    /// stay up until [`ClientPort::close`].
    pub fn drain(&self, grace: Duration) {
        self.accepting.cancel();
        self.shared.registry.goodbye(grace);
    }

    /// Ends all sessions in order, each once its queue is written; true if all were within `limit`.
    /// Cancel safe.
    pub async fn close(&self, limit: Duration) -> bool {
        self.accepting.cancel();
        self.shared.registry.close_all();
        tokio::time::timeout(limit, self.shared.registry.emptied()).await.is_ok()
    }
}

#[cfg(test)]
mod tests;
