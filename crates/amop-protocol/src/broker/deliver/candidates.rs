//! Which subscriber's node a unicast tries next.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::{
    Preference,
    reception::Own,
    send::{Send, Unicast},
    subscribers::Subscribers,
};
use crate::{
    Cause, NodeId,
    broker::routing::{Node, Routing, TopicRoutes},
    limits::MAX_HOPS,
    mutations::{self, Mutation},
};

/// Where the next attempt goes.
pub(super) struct Choice {
    pub(super) to: NodeId,
    pub(super) epoch: u64,
    pub(super) way: u64,
    /// Candidates left, this one included.
    pub(super) candidates: u32,
    pub(super) own: Own,
}

/// Picks the next candidate: each subscriber is equally likely, and two nodes that are given the same
/// message pick the same one, so that the copies meet there, also if their tables differ in others.
pub(super) fn choose(
    routing: &Routing,
    send: &Send,
    unicast: &Unicast,
    preference: Preference,
    subscribers: &Subscribers,
) -> Result<Choice, Cause> {
    let routes = routing.topic(send.publish.topic.as_str()).ok_or(Cause::NoSubscriber)?;
    let publisher_subscribed = routes.sessions.binary_search(&send.publish.session).is_ok();
    let mut none = Cause::NoSubscriber;
    let mut candidates: Vec<(&Node, u32)> = Vec::with_capacity(routes.nodes.len());
    for (index, count) in &routes.nodes {
        let Some(node) = routing.node(*index) else {
            none = none_of(none, Cause::Unreachable);
            continue;
        };
        if send.address().is_some_and(|address| !address.admits(node)) {
            continue;
        }
        let is_me = node.id == routing.me();
        let weight = if is_me { here(routes, send, subscribers) } else { *count };
        if node.hops > u32::from(MAX_HOPS) {
            none = none_of(none, Cause::HopLimit);
        } else if weight > 0 && !unicast.is_out(node) {
            candidates.push((node, weight));
        }
    }
    if preference == Preference::Nearest {
        let nearest = candidates.iter().map(|(node, _)| node.hops).min().unwrap_or(0);
        candidates.retain(|(node, _)| node.hops == nearest);
    }
    pick(&candidates, send, unicast.attempts - unicast.found_nobody)
        .map(|(node, candidates)| Choice {
            to: node.id,
            epoch: node.epoch,
            way: node.way,
            candidates,
            own: Own::Not(send.publish.session),
        })
        .or_else(|| itself(routing, send, unicast, subscribers).filter(|_| publisher_subscribed))
        .ok_or(none)
}

/// Subscribers at this node, but for the publishing session and others of its application.
fn here(routes: &TopicRoutes, send: &Send, subscribers: &Subscribers) -> u32 {
    let mut own = subscribers.of_application(&send.publish.client, send.publish.instance);
    if !own.contains(&send.publish.session) {
        own.push(send.publish.session);
    }
    match send.address().and_then(|address| address.client) {
        None => {
            let own = own.iter().filter(|session| routes.sessions.binary_search(session).is_ok());
            (routes.sessions.len() - own.count()) as u32
        }
        Some(client) => {
            let others = routes.sessions.iter().filter(|session| !own.contains(session));
            others.filter(|session| subscribers.has_certificate(session, &client)).count() as u32
        }
    }
}

/// The publishing session, if it is the only subscriber: nobody else was a candidate, or those who
/// were had nobody but, perhaps, other sessions of the publisher.
fn itself(routing: &Routing, send: &Send, unicast: &Unicast, subscribers: &Subscribers) -> Option<Choice> {
    let me = routing.find(&routing.me())?;
    let address = send.address().filter(|address| !address.is_any());
    let client = address.and_then(|address| address.client);
    let meant = client.is_none_or(|client| subscribers.has_certificate(&send.publish.session, &client));
    let sole = unicast.attempts == unicast.found_nobody && !unicast.asked.contains(&me.id);
    (meant && sole && address.is_none_or(|address| address.admits(me))).then_some(Choice {
        to: me.id,
        epoch: me.epoch,
        way: me.way,
        candidates: 1,
        own: Own::Only(send.publish.session),
    })
}

/// Rendezvous hashing: every candidate draws a number, and the lowest wins. A node that comes or goes
/// changes nothing between the others: a publisher that has lost its node, whose subscribers are no
/// candidates any more, sends the same message through another one to where the first copy went.
fn pick<'a>(candidates: &[(&'a Node, u32)], send: &Send, attempts: u32) -> Option<(&'a Node, u32)> {
    let total: u64 = candidates.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let node = match candidates {
        [(only, _)] => only,
        several => {
            let message = spread(send, attempts);
            let drawn = several.iter().map(|(node, weight)| (draw(message, &node.id, *weight), node));
            drawn.min_by(|(a, _), (b, _)| a.total_cmp(b))?.1
        }
    };
    Some((node, u32::try_from(total).unwrap_or(u32::MAX)))
}

/// Exponentially distributed with the weight as its rate, so that the lowest of several draws is each
/// one's as often as its weight says.
fn draw(message: u64, node: &NodeId, weight: u32) -> f64 {
    let mut hasher = SipHasher13::new_with_keys(message, 0);
    hasher.write(node.as_bytes());
    let uniform = ((hasher.finish() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    -uniform.ln() / f64::from(weight)
}

/// Depends on the message only, not on the node: no secret in it, and none needed.
fn spread(send: &Send, attempts: u32) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(send.publish.client.fingerprint.as_bytes());
    hasher.write(&send.publish.seq.0);
    hasher.write_u32(if mutations::on(Mutation::RetryPicksTheFailed) { 0 } else { attempts });
    hasher.finish()
}

fn none_of(known: Cause, found: Cause) -> Cause {
    if known == Cause::NoSubscriber { found } else { known }
}
