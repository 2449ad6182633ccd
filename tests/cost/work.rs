//! What the nodes are given to do.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use amop_client::{Client, Subscription};
use amop_testkit::wait;
use futures::{StreamExt, future};

/// Not counted: buffers grow, routes are looked up for the first time.
const WARM_UP: u64 = 1_024;
/// Messages that are counted.
const REQUESTS: u64 = 4_096;
const MULTICASTS: u64 = 1_024;
pub(crate) const PAYLOAD: usize = 128;
pub(crate) const ANSWER: usize = 32;
const SUBSCRIBERS: u64 = 20;
pub(crate) const TOPIC: &str = "cost";

/// The sender is at the first node of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) kind: Kind,
    /// Nodes in the line.
    pub(crate) nodes: usize,
    /// Messages on their way at once.
    in_flight: u64,
}

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Requests, answered at the last node.
    Request,
    /// To subscribers, as many at the first node as at the last.
    Multicast,
}

impl Work {
    pub(crate) const fn request(nodes: usize, in_flight: u64) -> Self {
        Self { kind: Kind::Request, nodes, in_flight }
    }

    pub(crate) const fn multicast(nodes: usize, in_flight: u64) -> Self {
        Self { kind: Kind::Multicast, nodes, in_flight }
    }

    /// Does it once to warm up, and once between `begin` and `end`, which count.
    pub(crate) async fn run<C>(
        self,
        client: impl AsyncFn(usize) -> Client,
        begin: impl AsyncFnOnce() -> C,
        end: impl AsyncFnOnce(C),
    ) {
        let (sender, messages) = (client(0).await, self.messages());
        let received = Arc::new(AtomicU64::new(0));
        let mut receivers = Vec::new();
        for index in 0..self.nodes {
            for _ in 0..self.receivers_at(index) {
                let receiver = client(index).await;
                receive(receiver.subscribe(TOPIC).await.expect("subscribed"), self.kind, received.clone());
                receivers.push(receiver);
            }
        }
        let receive_all = async |sent: u64| {
            let all = sent * receivers.len() as u64;
            wait::until("all deliveries", async || received.load(Ordering::Relaxed) == all).await;
        };
        self.send(&sender, WARM_UP).await;
        receive_all(WARM_UP).await;
        let counting = begin().await;
        self.send(&sender, messages).await;
        receive_all(WARM_UP + messages).await;
        end(counting).await;
    }

    /// What figures of the node at `index` are per: a delivery counts where it is made; a message where there is none.
    pub(crate) fn units(self, index: usize) -> u64 {
        self.messages() * if self.kind == Kind::Request { 1 } else { self.receivers_at(index).max(1) }
    }

    async fn send(self, sender: &Client, messages: u64) {
        let loops = (0..self.in_flight).map(async |_| {
            for _ in 0..messages / self.in_flight {
                match self.kind {
                    Kind::Request => drop(sender.request(TOPIC, vec![7; PAYLOAD]).await.expect("an answer")),
                    Kind::Multicast => sender.publish(TOPIC, vec![7; PAYLOAD]).await.expect("delivered"),
                }
            }
        });
        future::join_all(loops).await;
    }

    fn messages(self) -> u64 {
        match self.kind {
            Kind::Request => REQUESTS,
            Kind::Multicast => MULTICASTS,
        }
    }

    /// Receivers at the node at `index` of the line.
    pub(crate) fn receivers_at(self, index: usize) -> u64 {
        let is_last = index == self.nodes - 1;
        match self.kind {
            Kind::Request => is_last.into(),
            Kind::Multicast if is_last || index == 0 => SUBSCRIBERS / 2,
            Kind::Multicast => 0,
        }
    }

    /// Deliveries of one message.
    pub(crate) fn deliveries(self) -> u64 {
        (0..self.nodes).map(|index| self.receivers_at(index)).sum()
    }
}

#[expect(clippy::disallowed_methods, reason = "it ends with its client")]
fn receive(mut subscription: Subscription, kind: Kind, received: Arc<AtomicU64>) {
    tokio::spawn(async move {
        while let Some(delivery) = subscription.next().await {
            if kind == Kind::Request {
                let answer = delivery.payload.slice(..ANSWER);
                delivery.answer(answer);
            }
            received.fetch_add(1, Ordering::Relaxed);
        }
    });
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, nodes, in_flight } = self;
        match kind {
            Kind::Request => write!(f, "request")?,
            Kind::Multicast => write!(f, "multicast to {SUBSCRIBERS}")?,
        }
        write!(f, " over {nodes} nodes, {in_flight} in flight")
    }
}
