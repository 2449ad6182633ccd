//! Member nodes of another institution, with valid certificates and no manners.

mod data;
mod gossip;
mod lists;
mod relays;

use amop::overlay::Link;
use amop_protocol::NodeId;
use amop_testkit::{ca::Leaf, wait};

use crate::{net::Target, node::Relay};

/// Bytes that the attacker lets wait in its own queue.
const AHEAD: usize = 4 << 20;

/// A hostile node, linked to the attacked one.
pub(crate) struct Mallory {
    pub(crate) relay: Relay,
    /// The attacked node.
    pub(crate) victim: NodeId,
}

impl Mallory {
    /// Starts it, and waits until it is linked.
    pub(crate) async fn join(target: &Target) -> Self {
        Self::join_as(target, &target.nodes[0]).await
    }

    /// The same with this certificate.
    pub(crate) async fn join_as(target: &Target, leaf: &Leaf) -> Self {
        let relay = Relay::start(leaf, &[target.overlay]).await;
        wait::until("a link to the victim", async || !relay.links().is_empty()).await;
        let victim = relay.links()[0].peer();
        wait::until("a way to both nodes", async || relay.known().len() >= 3).await;
        Self { relay, victim }
    }

    /// The other node that clients use.
    pub(crate) fn bystander(&self) -> NodeId {
        let others = self.relay.known().into_iter().filter(|node| *node != self.relay.id());
        others.into_iter().find(|node| *node != self.victim).expect("three nodes")
    }

    /// Sends what `next` gives, again and again: so much at a time, and then a breath, because its own
    /// queue is bounded too. A link that the victim closes is dialled anew.
    pub(crate) async fn flood(&self, at_a_time: usize, mut next: impl FnMut(&Link) -> bool) {
        loop {
            for link in self.relay.links() {
                for _ in 0..at_a_time {
                    if !next(&link) {
                        break;
                    }
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
}
