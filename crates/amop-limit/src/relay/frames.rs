//! Frames: all that goes between two relays shares one connection.

use std::{io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};

use super::{Ends, Settings, listen, spawn};
use crate::{
    frame::{Kind, Role, bodies},
    stream::{Gather, write_queue},
};

/// Runs that wait for a connection to be written; more wait with the one they came from.
const QUEUE: usize = 64;

type Queue = mpsc::Sender<Bytes>;

pub(super) async fn run(ends: Ends, settings: &Settings) -> io::Result<()> {
    let state = Arc::<State>::default();
    if let Some(peers) = settings.peers {
        spawn(accept_peers(ends.clone(), state.clone(), peers));
    }
    if let Some(to) = settings.dial {
        let (ends, state) = (ends.clone(), state.clone());
        spawn(async move { serve(state, ends.dial(to).await, Side::Before).await });
    }
    let clients = listen(settings.clients)?;
    loop {
        let (tcp, _) = clients.accept().await?;
        let (ends, state) = (ends.clone(), state.clone());
        spawn(async move { serve(state, ends.accept(tcp).await?, Side::Client).await });
    }
}

async fn accept_peers(ends: Ends, state: Arc<State>, at: SocketAddr) -> io::Result<()> {
    let peers = listen(at)?;
    loop {
        let (tcp, _) = peers.accept().await?;
        let stream = ends.accept(tcp).await?;
        spawn(serve(state.clone(), stream, Side::After));
    }
}

/// Who is connected. Each is written by a task of its own.
#[derive(Default)]
struct State {
    before: Mutex<Option<Queue>>,
    after: Mutex<Option<Queue>>,
    requester: Mutex<Option<Queue>>,
    responder: Mutex<Option<Queue>>,
    subscribers: Mutex<Arc<Vec<Queue>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    /// The relay towards requesters.
    Before,
    /// The relay towards responders.
    After,
}

async fn serve<S>(state: Arc<State>, stream: S, side: Side) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (from, to) = tokio::io::split(stream);
    let (own, queue) = mpsc::channel(QUEUE);
    spawn(write_queue(to, queue));
    match side {
        Side::Client => {}
        Side::Before => *state.before.lock() = Some(own.clone()),
        Side::After => *state.after.lock() = Some(own.clone()),
    }
    let mut from = Gather::new(from);
    while let Some((kind, run)) = from.run().await? {
        match kind {
            Kind::Hello => {
                for role in bodies(run) {
                    state.join(Role::parse(&role)?, &own);
                }
            }
            Kind::Request => state.on_the_way(&state.after, &state.responder, run).await,
            Kind::Answer => state.on_the_way(&state.before, &state.requester, run).await,
            Kind::Multicast => state.multicast(side, run).await,
        }
    }
    Ok(())
}

impl State {
    fn join(&self, role: Role, queue: &Queue) {
        match role {
            Role::Requester => *self.requester.lock() = Some(queue.clone()),
            Role::Responder => *self.responder.lock() = Some(queue.clone()),
            Role::Subscriber => {
                let mut subscribers = self.subscribers.lock();
                let mut more = (**subscribers).clone();
                more.push(queue.clone());
                *subscribers = Arc::new(more);
            }
            Role::Other => {}
        }
    }

    /// To the next relay, or at the end of the line to the client. Nobody there: lost.
    async fn on_the_way(&self, relay: &Mutex<Option<Queue>>, client: &Mutex<Option<Queue>>, run: Bytes) {
        let next = relay.lock().clone();
        let next = next.or_else(|| client.lock().clone());
        if let Some(next) = next {
            // A connection that has just ended takes nothing.
            let _ = next.send(run).await;
        }
    }

    async fn multicast(&self, from: Side, run: Bytes) {
        for (side, relay) in [(Side::Before, &self.before), (Side::After, &self.after)] {
            let relay = relay.lock().clone();
            if let Some(relay) = relay.filter(|_| side != from) {
                let _ = relay.send(run.clone()).await;
            }
        }
        let subscribers = self.subscribers.lock().clone();
        for subscriber in subscribers.iter() {
            let _ = subscriber.send(run.clone()).await;
        }
    }
}
