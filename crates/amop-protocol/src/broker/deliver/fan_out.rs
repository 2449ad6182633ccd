//! Multicast at the publisher's node: one copy per link, and again for whom it did not reach.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    Delivery, Requester,
    audience::Ask,
    detour::detour,
    ledger::Ledger,
    outcome::Ending,
    private,
    reception::Own,
    send::{Progress, Send, Transmissions},
};
use crate::{
    Cause, NodeId, Retry, SessionId, Time,
    broker::{
        event::AnswerBody,
        journal::{Brief, Step, Why},
        routing::{Node, Routing},
    },
    limits::MAX_HOPS,
    mutations::{self, Mutation},
    wire::peer::{Audience, Body, SendRef},
};

/// Nodes a multicast still waits for, and what the others said.
#[derive(Debug, Default)]
pub(super) struct FanOut {
    waiting: BTreeMap<NodeId, Destination>,
    told: bool,
    /// Somebody was handed the message.
    handed: bool,
    /// Somebody could not be, or it is not known of everybody.
    failed: bool,
    /// Some node may have handed it over, and then restarted.
    may_have_run: bool,
    /// Some node had the message before, and has forgotten what became of it.
    forgotten: bool,
    /// What becomes the publisher's list of recipients, if it asked for one.
    ledger: Option<Box<Ledger>>,
}

#[derive(Debug)]
struct Destination {
    epoch: u64,
    way: u64,
    resends: u32,
    transmissions: Transmissions,
    resend_at: Time,
    /// Subscribers that it said were handed the message, and that could not be.
    counts: [u32; 2],
    /// Of a reserved name: whom there it is for.
    sessions: Vec<SessionId>,
}

/// How a multicast fares at one node, as it says itself.
pub(super) struct NodeReport {
    pub(super) counts: [u32; 2],
    pub(super) cause: Cause,
    pub(super) complete: bool,
    /// Its recipients, if they were asked for.
    pub(super) roster: Bytes,
}

impl NodeReport {
    /// That of a node which hands the message to nobody.
    pub(super) fn complete(cause: Cause) -> Self {
        Self { counts: [0, 0], cause, complete: true, roster: Bytes::new() }
    }
}

impl FanOut {
    pub(super) fn new(recipients: bool) -> Self {
        Self { ledger: recipients.then(Box::default), ..Self::default() }
    }

    pub(super) fn is_told(&self) -> bool {
        self.told
    }

    /// What is known of the frames for a destination that has not reported for good.
    pub(super) fn transmissions(&mut self, to: &NodeId) -> Option<&mut Transmissions> {
        self.waiting.get_mut(to).map(|destination| &mut destination.transmissions)
    }

    /// Waits for this destination no longer.
    pub(super) fn give_up_on(&mut self, to: &NodeId, cause: Cause) {
        let Some(destination) = self.waiting.remove(to) else { return };
        self.failed = true;
        if let Some(ledger) = &mut self.ledger {
            ledger.missing(*to, destination.counts, cause);
        }
    }

    /// A node with subscribers is beyond the hop limit.
    fn too_far(&mut self, node: NodeId) {
        if let Some(ledger) = &mut self.ledger {
            ledger.missing(node, [0, 0], Cause::HopLimit);
        }
    }

    pub(super) fn next_resend(&self) -> Option<Time> {
        self.waiting.values().map(|destination| destination.resend_at).min()
    }

    /// How it ends when nobody is waited for any longer.
    fn ending(&self, routing: &Routing) -> Ending {
        let cause = match (self.handed || mutations::on(Mutation::MulticastWithoutRecipient), self.failed) {
            (true, _) => Cause::Delivered,
            (false, true) if self.forgotten => Cause::OutcomeLost,
            (false, true) => Cause::NoneHanded,
            (false, false) => Cause::NoSubscriber,
        };
        let payload = self.ledger.as_ref().map(|ledger| ledger.write(routing)).unwrap_or_default();
        let retry = match cause.retry() {
            Retry::Safe if self.may_have_run => Retry::MayRepeat,
            retry => retry,
        };
        Ending { body: AnswerBody { payload, ..AnswerBody::default() }, retry, ..cause.into() }
    }
}

/// The nodes a multicast goes to, and of a reserved name whom there; and why there is none, if so.
fn destinations<'a>(routing: &'a Routing, send: &Send) -> (Vec<(&'a Node, Vec<SessionId>)>, Cause) {
    let topic = &send.publish.topic;
    if topic.is_reserved() {
        return match private::audience(routing, send) {
            Err(none) => (Vec::new(), none),
            Ok(to) => {
                let node = |(node, sessions)| Some((routing.find(&node)?, sessions));
                (to.into_iter().filter_map(node).collect(), Cause::NotVerified)
            }
        };
    }
    let (mut to, mut none) = (Vec::new(), Cause::NoSubscriber);
    for (index, _) in routing.topic(topic.as_str()).map_or(&[][..], |routes| &routes.nodes) {
        match routing.node(*index) {
            None => none = Cause::Unreachable,
            Some(node) if send.address().is_some_and(|address| !address.admits(node)) => {}
            Some(node) => to.push((node, Vec::new())),
        }
    }
    (to, none)
}

/// Of a reserved name: who may have the message at these destinations.
fn audience_of(routing: &Routing, send: &Send, destinations: &[NodeId]) -> Vec<Audience> {
    let Progress::FanOut(fan_out) = &send.progress else { return Vec::new() };
    if !send.publish.topic.is_reserved() {
        return Vec::new();
    }
    let waiting = destinations.iter().filter_map(|node| Some((*node, fan_out.waiting.get(node)?)));
    waiting.map(|(node, to)| private::still_allowed(routing, send, (node, to.epoch), &to.sessions)).collect()
}

impl Delivery {
    /// Sends a new multicast to every node with subscribers, this one included.
    pub(super) fn fan_out(&mut self, now: Time, routing: &Routing, id: u64) {
        let Some(send) = self.sends.get(&id) else { return };
        let (to, mut none) = destinations(routing, send);
        let Some(send) = self.sends.get_mut(&id) else { return };
        let resend_at = now + self.config.resend_after(send.publish.payload.len(), 0);
        let Progress::FanOut(fan_out) = &mut send.progress else { return };
        let mut by_hop = BTreeMap::<NodeId, Vec<(NodeId, usize)>>::new();
        for (node, sessions) in to {
            if node.hops > u32::from(MAX_HOPS) {
                none = Cause::HopLimit;
                fan_out.too_far(node.id);
                continue;
            }
            let resend_at = if node.id == self.me { send.deadline } else { resend_at };
            let transmissions = Transmissions::first();
            by_hop.entry(node.next_hop).or_default().push((node.id, sessions.len()));
            let (epoch, way) = (node.epoch, node.way);
            let destination =
                Destination { epoch, way, resends: 0, transmissions, resend_at, counts: [0, 0], sessions };
            fan_out.waiting.insert(node.id, destination);
        }
        if by_hop.is_empty() {
            let ending = Ending { cause: none, retry: none.retry(), ..fan_out.ending(routing) };
            return self.finish(now, routing, id, ending);
        }
        let here = by_hop.remove(&self.me).is_some();
        for destinations in by_hop.into_values() {
            for part in private::portions(&destinations) {
                self.send_fan_out(routing, id, part, &[], None);
            }
        }
        if here {
            self.fan_out_here(now, routing, id);
        }
        self.arm_send(now, id);
    }

    fn fan_out_here(&mut self, now: Time, routing: &Routing, id: u64) {
        let send = SendRef { epoch: self.epoch, id };
        let requester = Requester { node: self.me, send, over: None };
        let Some(send) = self.sends.get(&id) else { return };
        let envelope = send.envelope(audience_of(routing, send, &[self.me]));
        let (key, payload) = (send.key, send.publish.payload.clone());
        let recipients = send.publish.wants_recipients();
        let ask = Ask { requester, own: Own::Not(send.publish.session), recipients };
        let here = Brief::from(self.me);
        self.note_send(id, 0, Step::Sent { to: here, via: here, nodes: 1 });
        self.receive_fan_out(now, routing, key, ask, &envelope, payload);
    }

    pub(super) fn send_fan_out(
        &mut self,
        routing: &Routing,
        id: u64,
        destinations: Vec<NodeId>,
        path: &[NodeId],
        again: Option<Why>,
    ) {
        let Some(send) = self.sends.get(&id) else { return };
        let recipients = send.publish.wants_recipients();
        let envelope = send.envelope(audience_of(routing, send, &destinations));
        let body = Body::FanOut { send: id, envelope, recipients };
        let (flow, payload) = (send.flow(), send.publish.payload.clone());
        let (first, nodes) = (destinations.first().copied(), destinations.len());
        let via = self.forward(routing, destinations.into(), path, flow, body, payload);
        self.note_sent((id, 0), (first, nodes), via, again);
    }

    /// A destination reports.
    pub(super) fn fan_out_reported(
        &mut self,
        now: Time,
        routing: &Routing,
        from: NodeId,
        id: u64,
        report: NodeReport,
    ) {
        let Some(send) = self.sends.get_mut(&id) else { return };
        let payload = send.publish.payload.len();
        let Progress::FanOut(fan_out) = &mut send.progress else { return };
        let Some(destination) = fan_out.waiting.get_mut(&from) else {
            self.counters.stale_reports += 1;
            return;
        };
        // Asked again, it may have forgotten what it has said.
        let [handed, failed] = report.counts;
        let counts = [destination.counts[0].max(handed), destination.counts[1].max(failed)];
        destination.counts = counts;
        fan_out.handed |= handed > 0;
        fan_out.failed |= failed > 0 || handed == 0 && report.cause != Cause::NoSubscriber;
        fan_out.forgotten |= report.cause == Cause::OutcomeLost;
        fan_out.may_have_run |= destination.transmissions.are_several();
        if report.complete {
            fan_out.waiting.remove(&from);
            if let Some(ledger) = &mut fan_out.ledger {
                ledger.complete(from, NodeReport { counts, ..report }, &self.budget);
            }
        } else if from != self.me {
            let patience = self.config.push_timeout_max + self.config.resend_after(payload, 0);
            destination.resend_at = now + patience;
        }
        let complete = report.complete;
        self.note_send(id, 0, Step::Counted { by: from.into(), handed, failed, complete });
        if handed > 0 {
            self.tell_handed(routing, id);
        }
        self.finish_fan_out(now, routing, id);
    }

    /// The publisher has its outcome now, unless it waits for that of every recipient.
    fn tell_handed(&mut self, routing: &Routing, id: u64) {
        let Some(send) = self.sends.get(&id) else { return };
        if send.publish.wants_recipients() {
            return self.note_handed(id);
        }
        self.tell_early(routing, id, Cause::Delivered);
        if let Some(send) = self.sends.get_mut(&id)
            && let Progress::FanOut(fan_out) = &mut send.progress
        {
            fan_out.told = true;
        }
    }

    /// Ends a multicast that waits for nobody any longer.
    pub(super) fn finish_fan_out(&mut self, now: Time, routing: &Routing, id: u64) {
        let Some(send) = self.sends.get(&id) else { return };
        let Progress::FanOut(fan_out) = &send.progress else { return };
        if fan_out.waiting.is_empty() {
            let ending = fan_out.ending(routing);
            self.finish(now, routing, id, ending);
        }
    }

    /// The deadline, or the node's own end: who has not reported is waited for no longer.
    pub(super) fn fan_out_given_up(&mut self, now: Time, routing: &Routing, id: u64) {
        let Some(send) = self.sends.get_mut(&id) else { return };
        let Progress::FanOut(fan_out) = &mut send.progress else { return };
        let left: Vec<NodeId> = fan_out.waiting.keys().copied().collect();
        left.iter().for_each(|node| fan_out.give_up_on(node, Cause::Deadline));
        self.note_given_up(id, &left, Cause::Deadline);
        self.finish_fan_out(now, routing, id);
    }

    pub(super) fn fan_out_overdue(&mut self, now: Time, routing: &Routing, id: u64) {
        let Some(send) = self.sends.get_mut(&id) else { return };
        let payload = send.publish.payload.len();
        let Progress::FanOut(fan_out) = &mut send.progress else { return };
        let mut overdue = Vec::new();
        for (node, destination) in fan_out.waiting.iter_mut().filter(|(_, d)| d.resend_at <= now) {
            destination.resends += 1;
            destination.resend_at = now + self.config.resend_after(payload, destination.resends);
            let path = detour(routing, *node, destination.resends);
            destination.transmissions.add(&path);
            overdue.push((*node, path));
        }
        for (node, path) in overdue {
            self.counters.resends += 1;
            self.send_fan_out(routing, id, vec![node], &path, Some(Why::Unconfirmed));
        }
    }

    /// After a change of routes: destinations that are gone are given up, those with another way
    /// get the message again.
    pub(super) fn reroute_fan_out(&mut self, now: Time, routing: &Routing, id: u64) {
        let me = self.me;
        let Some(send) = self.sends.get_mut(&id) else { return };
        let Progress::FanOut(fan_out) = &mut send.progress else { return };
        let (mut again, mut gone) = (Vec::new(), Vec::new());
        // No way leads to this node itself, and it is here whatever epoch it has risen to.
        for (id, destination) in fan_out.waiting.iter_mut().filter(|(id, _)| **id != me) {
            match routing.find(id) {
                Some(node) if node.epoch == destination.epoch => {
                    if node.way != destination.way {
                        destination.way = node.way;
                        destination.transmissions.add(&[]);
                        again.push(node.id);
                    }
                }
                _ => gone.push(*id),
            }
        }
        gone.iter().for_each(|node| fan_out.give_up_on(node, Cause::Unreachable));
        self.note_given_up(id, &gone, Cause::Unreachable);
        for node in again {
            self.counters.resends += 1;
            self.send_fan_out(routing, id, vec![node], &[], Some(Why::Rerouted));
        }
        self.finish_fan_out(now, routing, id);
    }
}
