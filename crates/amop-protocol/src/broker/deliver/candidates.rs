//! Which subscriber's node a unicast tries next.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

use super::{
    Preference, private,
    reception::Own,
    send::{Send, Unicast},
    subscribers::Subscribers,
};
use crate::{
    Cause, NodeId,
    broker::{
        private::Recipient,
        routing::{Node, Routing, TopicRoutes},
    },
    limits::MAX_HOPS,
    mutations::{self, Mutation},
};

/// Where the next attempt goes.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) to: NodeId,
    pub(super) epoch: u64,
    pub(super) way: u64,
    /// Candidates left, this one included.
    pub(super) candidates: u32,
    pub(super) own: Own,
    /// Of a reserved name: the very session it is for.
    pub(super) recipient: Option<Recipient>,
}

/// A node that could take the message, or for a reserved name one session there.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) node: &'a Node,
    /// Subscribers it stands for.
    pub(super) weight: u32,
    pub(super) to: Option<Recipient>,
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
    if send.publish.topic.is_reserved() {
        return private::choose(routing, send, unicast, preference);
    }
    let routes = routing.topic(send.publish.topic.as_str()).ok_or(Cause::NoSubscriber)?;
    let publisher_subscribed = routes.sessions.binary_search(&send.publish.session).is_ok();
    let mut none = Cause::NoSubscriber;
    let mut candidates: SmallVec<[Candidate<'_>; 4]> = SmallVec::new();
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
        } else if weight > 0 && !unicast.is_out(node, None) {
            candidates.push(Candidate { node, weight, to: None });
        }
    }
    if preference == Preference::Nearest {
        let nearest = candidates.iter().map(|candidate| candidate.node.hops).min().unwrap_or(0);
        candidates.retain(|candidate| candidate.node.hops == nearest);
    }
    pick(&candidates, send, unicast.attempts - unicast.found_nobody)
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
        recipient: None,
    })
}

/// Rendezvous hashing: every candidate draws a number, and the lowest wins. A node that comes or goes
/// changes nothing between the others: a publisher that has lost its node, whose subscribers are no
/// candidates any more, sends the same message through another one to where the first copy went.
pub(super) fn pick(candidates: &[Candidate<'_>], send: &Send, attempts: u32) -> Option<Choice> {
    let total: u64 = candidates.iter().map(|candidate| u64::from(candidate.weight)).sum();
    let Candidate { node, to, .. } = match candidates {
        [only] => only,
        several => {
            let message = spread(send, attempts);
            let drawn = several.iter().map(|candidate| (draw(message, candidate), candidate));
            drawn.min_by(|(a, _), (b, _)| a.total_cmp(b))?.1
        }
    };
    Some(Choice {
        to: node.id,
        epoch: node.epoch,
        way: node.way,
        candidates: u32::try_from(total).unwrap_or(u32::MAX),
        own: Own::Not(send.publish.session),
        recipient: to.clone(),
    })
}

/// Exponentially distributed with the weight as its rate, so that the lowest of several draws is each
/// one's as often as its weight says.
fn draw(message: u64, Candidate { node, weight, to }: &Candidate<'_>) -> f64 {
    let session = to.as_ref().map_or(0, |to| to.holder().session.0);
    let mut hasher = SipHasher13::new_with_keys(message, session);
    hasher.write(node.id.as_bytes());
    let uniform = ((hasher.finish() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    -uniform.ln() / f64::from(*weight)
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
