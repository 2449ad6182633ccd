//! Multicast at the publisher's node: one copy per link, and again for whom it did not reach.

use std::collections::BTreeMap;

use super::{
    Delivery, Requester,
    detour::detour,
    send::{Progress, Transmissions},
};
use crate::{
    Cause, NodeId, Time,
    broker::{event::AnswerBody, routing::Routing},
    limits::MAX_HOPS,
    mutations::{self, Mutation},
    wire::peer::{Body, MAX_DESTINATIONS, SendRef},
};

/// Nodes a multicast still waits for.
#[derive(Debug, Default)]
pub(super) struct FanOut {
    waiting: BTreeMap<NodeId, Destination>,
    told: bool,
}

#[derive(Debug)]
struct Destination {
    epoch: u64,
    way: u64,
    resends: u32,
    transmissions: Transmissions,
    resend_at: Time,
}

impl FanOut {
    pub(super) fn is_told(&self) -> bool {
        self.told
    }

    /// What is known of the frames for a destination that has not reported for good.
    pub(super) fn transmissions(&mut self, to: &NodeId) -> Option<&mut Transmissions> {
        self.waiting.get_mut(to).map(|destination| &mut destination.transmissions)
    }

    /// Waits for this destination no longer.
    pub(super) fn give_up_on(&mut self, to: &NodeId) {
        self.waiting.remove(to);
    }

    pub(super) fn next_resend(&self) -> Option<Time> {
        self.waiting.values().map(|destination| destination.resend_at).min()
    }
}

impl Delivery {
    /// Sends a new multicast to every node with subscribers, this one included.
    pub(super) fn fan_out(&mut self, now: Time, routing: &Routing, id: u64) {
        let Some(send) = self.sends.get_mut(&id) else { return };
        let resend_at = now + self.config.resend_after(send.publish.payload.len(), 0);
        let Progress::FanOut(fan_out) = &mut send.progress else { return };
        let (mut by_hop, mut none) = (BTreeMap::<NodeId, Vec<NodeId>>::new(), Cause::NoSubscriber);
        let routes = routing.topic(send.publish.topic.as_str());
        for (index, _) in routes.map_or(&[][..], |routes| &routes.nodes) {
            let Some(node) = routing.node(*index).filter(|node| node.hops <= u32::from(MAX_HOPS)) else {
                none = Cause::Unreachable;
                continue;
            };
            let resend_at = if node.id == self.me { send.deadline } else { resend_at };
            let transmissions = Transmissions::first();
            let destination =
                Destination { epoch: node.epoch, way: node.way, resends: 0, transmissions, resend_at };
            fan_out.waiting.insert(node.id, destination);
            by_hop.entry(node.next_hop).or_default().push(node.id);
        }
        if by_hop.is_empty() {
            return self.finish(now, id, none, AnswerBody::default());
        }
        let here = by_hop.remove(&self.me).is_some();
        for destinations in by_hop.into_values() {
            for part in destinations.chunks(MAX_DESTINATIONS) {
                self.send_fan_out(routing, id, part.to_vec(), &[]);
            }
        }
        if here {
            self.fan_out_here(now, routing, id);
        }
        self.arm_send(now, id);
    }

    fn fan_out_here(&mut self, now: Time, routing: &Routing, id: u64) {
        let requester = Requester { node: self.me, send: SendRef { epoch: self.epoch, id } };
        let Some(send) = self.sends.get(&id) else { return };
        let (key, envelope, payload) = (send.key, send.envelope(), send.publish.payload.clone());
        let publisher = Some(send.publish.session);
        self.receive_fan_out(now, routing, key, requester, publisher, &envelope, payload);
    }

    pub(super) fn send_fan_out(
        &mut self,
        routing: &Routing,
        id: u64,
        destinations: Vec<NodeId>,
        path: &[NodeId],
    ) {
        let Some(send) = self.sends.get(&id) else { return };
        let body = Body::FanOut { send: id, envelope: send.envelope() };
        let (flow, payload) = (send.flow(), send.publish.payload.clone());
        self.forward(routing, destinations, path, flow, body, payload);
    }

    /// A destination reports: `[handed, failed]` subscribers, and whether it has done all it can.
    pub(super) fn fan_out_reported(
        &mut self,
        now: Time,
        from: NodeId,
        id: u64,
        [handed, _failed]: [u32; 2],
        _cause: Cause,
        complete: bool,
    ) {
        let Some(send) = self.sends.get_mut(&id) else { return };
        let payload = send.publish.payload.len();
        let Progress::FanOut(fan_out) = &mut send.progress else { return };
        let Some(destination) = fan_out.waiting.get_mut(&from) else {
            self.counters.stale_reports += 1;
            return;
        };
        if complete {
            fan_out.waiting.remove(&from);
        } else if from != self.me {
            let patience = self.config.push_timeout_max + self.config.resend_after(payload, 0);
            destination.resend_at = now + patience;
        }
        if handed > 0 {
            self.tell_handed(id);
        }
        self.finish_fan_out(now, id);
    }

    fn tell_handed(&mut self, id: u64) {
        self.tell_early(id, Cause::Delivered);
        if let Some(send) = self.sends.get_mut(&id)
            && let Progress::FanOut(fan_out) = &mut send.progress
        {
            fan_out.told = true;
        }
    }

    /// Ends a multicast that waits for nobody any longer.
    pub(super) fn finish_fan_out(&mut self, now: Time, id: u64) {
        let Some(send) = self.sends.get(&id) else { return };
        let Progress::FanOut(fan_out) = &send.progress else { return };
        if fan_out.waiting.is_empty() {
            self.end_fan_out(now, id);
        }
    }

    pub(super) fn end_fan_out(&mut self, now: Time, id: u64) {
        let told = self.sends.get(&id).is_some_and(|send| send.is_told());
        let told = told || mutations::on(Mutation::MulticastWithoutRecipient);
        let cause = if told { Cause::Delivered } else { Cause::NoneHanded };
        self.finish(now, id, cause, AnswerBody::default());
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
            self.send_fan_out(routing, id, vec![node], &path);
        }
    }

    /// After a change of routes: destinations that are gone are given up, those with another way
    /// get the message again.
    pub(super) fn reroute_fan_out(&mut self, now: Time, routing: &Routing, id: u64) {
        let Some(send) = self.sends.get_mut(&id) else { return };
        let Progress::FanOut(fan_out) = &mut send.progress else { return };
        let mut again = Vec::new();
        fan_out.waiting.retain(|id, destination| match routing.find(id) {
            Some(node) if node.epoch == destination.epoch => {
                if node.way != destination.way {
                    destination.way = node.way;
                    destination.transmissions.add(&[]);
                    again.push(node.id);
                }
                true
            }
            _ => false,
        });
        for node in again {
            self.counters.resends += 1;
            self.send_fan_out(routing, id, vec![node], &[]);
        }
        self.finish_fan_out(now, id);
    }
}
