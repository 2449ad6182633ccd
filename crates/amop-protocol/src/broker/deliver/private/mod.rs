//! Reserved names: to whom a message on a private topic, or a challenge, goes.
//!
//! **Invariant**: an attempt or a fan-out on such a name goes to sessions that a [`Recipient`] names,
//! one by one, and there is none without a verified exchange or an open question.

use std::collections::BTreeMap;

use super::{
    Preference,
    candidates::{Candidate, Choice, pick},
    send::{Send, Unicast},
};
use crate::{
    Cause, NodeId, SessionId,
    broker::{
        event::{Mode, Publish},
        private::{Holder, Recipient, topic_of_channel},
        routing::{Node, Routing},
    },
    limits::MAX_HOPS,
    wire::peer::{Audience, MAX_DESTINATIONS},
};

/// Most bytes of the header that destinations and audiences of one fan-out may take.
const AUDIENCE_BYTES: usize = 48 * 1024;
/// What one destination takes of it: its id three times, a MAC, an epoch; and each of its sessions.
const DESTINATION_BYTES: usize = 128;
const SESSION_BYTES: usize = 10;

/// Why a message to a name of the handshake is not even tried, if so.
pub(super) fn challenge_refusal(publish: &Publish) -> Option<Cause> {
    match (topic_of_channel(&publish.topic), publish.mode) {
        (None, _) => Some(Cause::ReservedTopic),
        (Some(_), Mode::Multicast) => Some(Cause::NotVerified),
        (Some(_), Mode::Unicast) => None,
    }
}

/// Everybody a send on a reserved name may go to, with the nodes as they can be reached now, or why
/// there is nobody.
fn reached<'a>(routing: &'a Routing, send: &Send) -> Result<Vec<(&'a Node, Recipient)>, Cause> {
    let Publish { session, topic, .. } = &send.publish;
    let mut none = Cause::NotVerified;
    let mut reached = Vec::new();
    for recipient in routing.private().recipients(*session, topic) {
        let Holder { node, epoch, .. } = recipient.holder();
        let Some(node) = routing.find(&node).filter(|node| node.epoch == epoch) else {
            none = if none == Cause::NotVerified { Cause::Unreachable } else { none };
            continue;
        };
        let wanted = send.address().is_none_or(|address| {
            let client = address.client.as_ref();
            address.admits(node) && client.is_none_or(|client| *client == recipient.client().fingerprint)
        });
        if !wanted {
            continue;
        }
        if node.hops > u32::from(MAX_HOPS) {
            none = Cause::HopLimit;
        } else {
            reached.push((node, recipient));
        }
    }
    if reached.is_empty() { Err(none) } else { Ok(reached) }
}

/// Picks the next candidate of a unicast: one session, each as likely as the other.
pub(super) fn choose(
    routing: &Routing,
    send: &Send,
    unicast: &Unicast,
    preference: Preference,
) -> Result<Choice, Cause> {
    let mut left = reached(routing, send)?;
    left.retain(|(node, to)| !unicast.is_out(node, Some(to.holder().session)));
    if preference == Preference::Nearest {
        let nearest = left.iter().map(|(node, _)| node.hops).min().unwrap_or(0);
        left.retain(|(node, _)| node.hops == nearest);
    }
    let candidates = left.into_iter().map(|(node, to)| Candidate { node, weight: 1, to: Some(to) });
    pick(&candidates.collect::<Vec<_>>(), send, unicast.attempts - unicast.found_nobody)
        .ok_or(Cause::NotVerified)
}

/// The sessions that a multicast goes to, node by node.
pub(super) fn audience(routing: &Routing, send: &Send) -> Result<BTreeMap<NodeId, Vec<SessionId>>, Cause> {
    let mut nodes = BTreeMap::<NodeId, Vec<SessionId>>::new();
    for (node, to) in reached(routing, send)? {
        nodes.entry(node.id).or_default().push(to.holder().session);
    }
    Ok(nodes)
}

/// What a frame for these sessions says: those that are still trusted. Trust may have ended since a
/// message was sent for the first time.
pub(super) fn still_allowed(
    routing: &Routing,
    send: &Send,
    (node, epoch): (NodeId, u64),
    sessions: &[SessionId],
) -> Audience {
    let Publish { session: publisher, topic, .. } = &send.publish;
    let allowed = |session: &&SessionId| {
        let to = Holder { node, epoch, session: **session };
        routing.private().allows(*publisher, topic, to)
    };
    Audience { node, epoch, sessions: sessions.iter().filter(allowed).copied().collect() }
}

/// Destinations in portions that one frame can name; each with how many sessions it names there.
pub(super) fn portions(destinations: &[(NodeId, usize)]) -> Vec<Vec<NodeId>> {
    let (mut portions, mut bytes) = (Vec::<Vec<NodeId>>::new(), usize::MAX);
    for (node, sessions) in destinations {
        let more = match sessions {
            0 => 0,
            sessions => DESTINATION_BYTES + sessions * SESSION_BYTES,
        };
        let full = portions.last().is_none_or(|portion| portion.len() >= MAX_DESTINATIONS);
        if full || bytes.saturating_add(more) > AUDIENCE_BYTES {
            portions.push(Vec::new());
            bytes = 0;
        }
        bytes += more;
        portions.last_mut().into_iter().for_each(|portion| portion.push(*node));
    }
    portions
}

#[cfg(test)]
mod tests;
