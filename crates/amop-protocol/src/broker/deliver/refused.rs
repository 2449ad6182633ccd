//! What a node on the way refused to pass on: another way, or no more of that destination.
//!
//! Anybody on the way could drop a message as well; so a refusal can do no more than that. Each
//! counts for one transmission that whoever refuses may have met, and that nothing else is known
//! of: who refuses many times over, or what was sent around him, ends nothing.

use std::time::Duration;

use super::{
    Delivery,
    send::{Failed, Progress, Transmissions},
};
use crate::{
    Cause, NodeId, Status, Time,
    broker::{
        journal::{Step, Why},
        routing::Routing,
    },
    limits::MAX_HOPS,
};

/// Nodes that are gone around for one destination; with more, nobody's limit is to blame.
pub(crate) const MAX_AROUND: usize = 8;

/// A refusal, as a node on the way reported it.
pub(super) struct Refused {
    pub(super) number: u32,
    pub(super) destinations: Vec<NodeId>,
    pub(super) cause: Cause,
    pub(super) retry_after: Duration,
}

/// What to do about one.
enum Next {
    Around(Vec<NodeId>),
    Wait,
    Ignore,
    Fail,
}

impl Delivery {
    pub(super) fn refused_on_the_way(
        &mut self,
        now: Time,
        routing: &Routing,
        from: NodeId,
        id: u64,
        refused: Refused,
    ) {
        let Some(send) = self.sends.get(&id) else { return };
        if refused.cause.status() != Status::Refused {
            self.counters.stale_reports += 1;
            return;
        }
        let is_unicast = matches!(send.progress, Progress::Unicast(_));
        self.note_send(id, refused.number, Step::Refused { by: from.into(), cause: refused.cause });
        match is_unicast {
            true => self.attempt_refused(now, routing, from, id, &refused),
            false => self.fan_out_refused(now, routing, from, id, &refused),
        }
    }

    fn attempt_refused(&mut self, now: Time, routing: &Routing, from: NodeId, id: u64, refused: &Refused) {
        let retry_after = refused.retry_after.min(self.config.max_deadline);
        let Some(send) = self.sends.get_mut(&id) else { return };
        let Progress::Unicast(unicast) = &mut send.progress else { return };
        let current = unicast.attempts == refused.number;
        let Some((to, transmissions)) = unicast.unconfirmed_attempt().filter(|_| current) else {
            self.counters.stale_reports += 1;
            return;
        };
        if !refused.destinations.contains(&to) {
            return;
        }
        match transmissions.refused(routing, from, to) {
            Next::Around(path) => {
                self.counters.resends += 1;
                self.send_attempt(routing, id, &path, Some(Why::Refused));
            }
            Next::Wait => {}
            Next::Ignore => self.counters.stale_reports += 1,
            Next::Fail => {
                let failures = &mut unicast.failures;
                failures.retry_after = failures.retry_after.max(retry_after);
                let failed = Failed { cause: refused.cause, at: from, spent: true };
                self.attempt_failed(now, routing, id, failed);
            }
        }
    }

    fn fan_out_refused(&mut self, now: Time, routing: &Routing, from: NodeId, id: u64, refused: &Refused) {
        for to in &refused.destinations {
            let Some(send) = self.sends.get_mut(&id) else { return };
            let Progress::FanOut(fan_out) = &mut send.progress else { return };
            let Some(transmissions) = fan_out.transmissions(to) else { continue };
            match transmissions.refused(routing, from, *to) {
                Next::Around(path) => {
                    self.counters.resends += 1;
                    self.send_fan_out(routing, id, vec![*to], &path, Some(Why::Refused));
                }
                Next::Wait => {}
                Next::Ignore => self.counters.stale_reports += 1,
                Next::Fail => {
                    fan_out.give_up_on(to, refused.cause);
                    self.note_send(id, 0, Step::Failed { at: (*to).into(), cause: refused.cause });
                }
            }
        }
        self.finish_fan_out(now, routing, id);
    }
}

impl Transmissions {
    /// Of a message that has just been sent by table.
    pub(super) fn first() -> Self {
        Self { by_table: 1, ..Self::default() }
    }

    /// The message is sent again; by table if the path is empty.
    pub(super) fn add(&mut self, path: &[NodeId]) {
        match path {
            [] => self.by_table += 1,
            path => self.by_path.push(path.to_vec()),
        }
    }

    /// Whether another one than the one that was answered may have arrived, before the destination restarted.
    pub(super) fn are_several(&self) -> bool {
        self.by_table as usize + self.by_path.len() > 1
    }

    fn refused(&mut self, routing: &Routing, from: NodeId, to: NodeId) -> Next {
        if !self.remove_met_by(&from) {
            return Next::Ignore;
        }
        if self.around.len() < MAX_AROUND && !self.around.contains(&from) {
            self.around.push(from);
            if let Some(path) = way_around(routing, to, &self.around) {
                self.add(&path);
                return Next::Around(path);
            }
        }
        // Another transmission may still arrive.
        if self.by_table > 0 || !self.by_path.is_empty() { Next::Wait } else { Next::Fail }
    }

    /// Strikes out one that this node may have met, if there is one.
    fn remove_met_by(&mut self, node: &NodeId) -> bool {
        if let Some(at) = self.by_path.iter().position(|path| path.contains(node)) {
            self.by_path.swap_remove(at);
            return true;
        }
        let met = self.by_table > 0;
        self.by_table = self.by_table.saturating_sub(1);
        met
    }
}

/// A way to `to` that leads through none of these nodes.
fn way_around(routing: &Routing, to: NodeId, around: &[NodeId]) -> Option<Vec<NodeId>> {
    let path = routing.graph().path(&routing.me(), &to, around)?;
    let clear = !path.iter().any(|node| around.contains(node)) && path.len() <= usize::from(MAX_HOPS);
    clear.then_some(path)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::{
        ClientIdentity, Fingerprint, Seq, SessionId,
        broker::{
            dedup::Keyer,
            deliver::Config,
            event::{Action, Mode, Outcome, Publish},
            testing::{id, routing, topic},
        },
        wire::{
            link::LinkFrame,
            peer::{self, Body, DataMessage, SendRef},
        },
    };

    /// Node 1 sends; 4 and, over 4, 5 have subscribers; 2 and 3 lie between.
    const DIAMOND: [(u8, u8); 5] = [(1, 2), (1, 3), (2, 4), (3, 4), (4, 5)];
    const EPOCH: u64 = 1;

    struct Origin {
        delivery: Delivery,
        routing: Routing,
        sent: Vec<(NodeId, LinkFrame)>,
        outcomes: Vec<Outcome>,
    }

    impl Origin {
        fn new(wants: &[(u8, u32)], mode: Mode) -> Self {
            let delivery = Delivery::new(Config::default(), id(1), EPOCH, 0);
            let routing = routing(1, &DIAMOND, wants, &[]);
            let mut origin = Self { delivery, routing, sent: Vec::new(), outcomes: Vec::new() };
            let client = ClientIdentity { fingerprint: Fingerprint::new([5; 32]), name: "p".into() };
            let publish = Publish {
                session: SessionId(1),
                client: Arc::new(client),
                instance: None,
                seq: Seq::from_u128(7),
                mode,
                topic: topic(),
                payload: Bytes::from_static(b"hello"),
                deadline: None,
                wishes: None,
            };
            let key = Keyer::new([1, 2]).key(
                &publish.client.fingerprint,
                mode,
                &topic(),
                &publish.seq,
                &publish.payload,
            );
            origin.delivery.handle_publish(Time::ZERO, &origin.routing, key, publish);
            origin.collect();
            origin
        }

        fn collect(&mut self) {
            while let Some(action) = self.delivery.poll_action() {
                match action {
                    Action::Forward { to, frame } => self.sent.push((to, frame)),
                    Action::Outcome(outcome) => self.outcomes.push(outcome),
                    Action::Push(_) => unreachable!("nobody here is subscribed"),
                    Action::Handed { .. } => unreachable!("nobody asked"),
                }
            }
        }

        /// The node that the last frame went to refuses it.
        fn refuse(&mut self, cause: Cause) -> NodeId {
            let (relay, frame) = self.sent.last().expect("a frame").clone();
            self.refuse_as(relay, &frame, cause);
            relay
        }

        fn refuse_as(&mut self, relay: NodeId, frame: &LinkFrame, cause: Cause) {
            let message = peer::decode(&frame.header).expect("valid");
            let (send, number) = match message.body {
                Body::Attempt { send, number, .. } => (send, number),
                Body::FanOut { send, .. } => (send, 0),
                other => panic!("{other:?} is no message"),
            };
            let body = Body::Refused {
                send: SendRef { epoch: EPOCH, id: send },
                number,
                destinations: peer::decode_route(&frame.header).expect("valid").destinations.into_vec(),
                cause,
                retry_after_ms: 250,
            };
            let report = DataMessage { origin: relay, origin_epoch: 9, body };
            self.delivery.handle_message(Time::ZERO, &self.routing, None, report, Bytes::new());
            self.collect();
        }
    }

    #[test]
    fn another_way_is_taken_and_without_one_it_is_103_with_the_time_to_wait() {
        let mut origin = Origin::new(&[(4, 1)], Mode::Unicast);
        let first = origin.refuse(Cause::RelayLimit);
        let second = origin.sent[1].0;
        assert_ne!(first, second, "around the node that refused");
        origin.refuse(Cause::RelayLimit);
        let outcome = &origin.outcomes[0];
        assert_eq!((outcome.cause, outcome.retry_after), (Cause::RelayLimit, Duration::from_millis(250)));
        assert_eq!((origin.sent.len(), origin.outcomes.len()), (2, 1));
    }

    #[test]
    fn who_refuses_again_what_went_around_it_ends_nothing() {
        for mode in [Mode::Unicast, Mode::Multicast] {
            let mut origin = Origin::new(&[(4, 1)], mode);
            let (relay, frame) = origin.sent[0].clone();
            for _ in 0..20 {
                origin.refuse_as(relay, &frame, Cause::RelayLimit);
            }
            // Nor does a node that is not on the way, and made the number up.
            origin.refuse_as(id(5), &frame, Cause::RelayLimit);
            assert_eq!((origin.sent.len(), origin.outcomes.len()), (2, 0), "around it, and no more");
            assert_eq!(origin.delivery.counters().stale_reports, 20);
        }
    }

    #[test]
    fn a_node_on_no_way_costs_no_more_than_a_resend() {
        let mut origin = Origin::new(&[(4, 1)], Mode::Unicast);
        let frame = origin.sent[0].1.clone();
        for _ in 0..20 {
            origin.refuse_as(id(5), &frame, Cause::RelayLimit);
        }
        assert_eq!((origin.sent.len(), origin.outcomes.len()), (2, 0));
    }

    #[test]
    fn the_destination_itself_has_no_other_way_but_another_candidate_has() {
        let mut origin = Origin::new(&[(4, 1), (5, 1)], Mode::Unicast);
        let frame = origin.sent[0].1.clone();
        let to = peer::decode_route(&frame.header).unwrap().destinations[0];
        origin.refuse_as(to, &frame, Cause::NoRoom);
        let next = peer::decode_route(&origin.sent[1].1.header).unwrap().destinations[0];
        assert_ne!(next, to, "the other one's turn");
        assert_eq!(origin.outcomes.len(), 0);
    }

    #[test]
    fn a_multicast_goes_around_too_and_ends_when_nobody_can_be_reached() {
        let mut origin = Origin::new(&[(4, 1), (5, 1)], Mode::Multicast);
        assert_eq!(origin.sent.len(), 1, "one copy");
        origin.refuse(Cause::RelayLimit);
        assert_eq!(origin.sent.len(), 3, "each around the node that refused");
        for at in [1, 2] {
            let (relay, frame) = origin.sent[at].clone();
            origin.refuse_as(relay, &frame, Cause::RelayLimit);
        }
        assert_eq!(origin.outcomes.iter().map(|o| o.cause).collect::<Vec<_>>(), [Cause::NoneHanded]);
    }

    #[test]
    fn what_is_no_refusal_or_comes_too_late_changes_nothing() {
        let mut origin = Origin::new(&[(4, 1)], Mode::Unicast);
        let (relay, frame) = origin.sent[0].clone();
        for cause in [Cause::Delivered, Cause::NoSubscriber, Cause::Unspecified] {
            origin.refuse_as(relay, &frame, cause);
        }
        assert_eq!((origin.sent.len(), origin.outcomes.len()), (1, 0));
        let Body::Attempt { send, number, .. } = peer::decode(&frame.header).unwrap().body else { panic!() };
        let handed = Body::Handed { send: SendRef { epoch: EPOCH, id: send }, number };
        let report = DataMessage { origin: id(4), origin_epoch: 4, body: handed };
        origin.delivery.handle_message(Time::ZERO, &origin.routing, None, report, Bytes::new());
        origin.refuse_as(relay, &frame, Cause::RelayLimit);
        assert_eq!((origin.sent.len(), origin.outcomes.len()), (1, 0), "it has arrived");
    }
}
