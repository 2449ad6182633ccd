//! Data frames that neighbours send: for this node, to be passed on, or both.

use std::time::Duration;

use amop_protocol::{
    Cause, NodeId,
    broker::{
        bandwidth::Refusal,
        dedup::MessageKey,
        deliver::{Delivery, refusal, route_frame},
        event::Mode,
        seal::{self, Unheard},
    },
    wire::{
        link::LinkFrame,
        peer::{self, Body, DataError, Envelope},
    },
};

use super::{DataPath, LARGE, SHARDS};
use crate::{node::trace::Asker, tasks};

/// When to try again if a large frame found no room.
const RELAY_AGAIN: Duration = Duration::from_millis(100);

impl DataPath {
    /// A data frame came over the link from `from`: for this node, to be relayed, or both.
    ///
    /// # Errors
    /// When the frame breaks the protocol.
    pub(in crate::node) fn frame(&self, from: NodeId, frame: LinkFrame) -> Result<(), DataError> {
        let routed = route_frame(&self.routing.load(), from, &frame)?;
        if routed.dropped.is_some() {
            self.metrics.unroutable.inc();
        }
        if let Some(cause) = routed.dropped {
            self.relayed.stopped(self.now(), None, &frame.header, cause);
        }
        for (to, copy) in routed.onwards {
            self.relay(from, to, copy);
        }
        if !routed.here {
            return Ok(());
        }
        if frame.payload.len() > LARGE {
            tasks::at_length(|| self.take(from, frame));
        } else {
            self.take(from, frame);
        }
        Ok(())
    }

    /// A data frame for this node.
    fn take(&self, from: NodeId, frame: LinkFrame) {
        // The neighbour vouches for the route, not for what some other node wrote: what a newer or a
        // faulty origin sends must not cost the link between two that do nothing wrong.
        let message = match seal::open(&self.routing.load(), from, &frame) {
            Ok(message) => message,
            Err(cause) => {
                self.unheard(from, &cause);
                return;
            }
        };
        if let Body::Inquiry { id, is_answer } = message.body {
            let asker = Asker::of(&self.routing.load(), &message.origin);
            return self.inquiries.take(message.origin, asker, id, is_answer, frame.payload);
        }
        let key = self.key_of(&message.body, &frame.payload);
        let shard = match key {
            Some(key) => Delivery::shard_of(key, SHARDS),
            None => shard_of_report(&message.body),
        };
        self.in_shard(shard, |delivery, now, routing| {
            delivery.handle_message_over(now, routing, from, key, message, frame.payload);
        });
    }

    fn unheard(&self, from: NodeId, cause: &Unheard) {
        match cause {
            Unheard::Forged(_) => {
                self.metrics.forged_frames.inc();
            }
            _ => {
                self.metrics.bad_frames.inc();
            }
        }
        tracing::debug!(neighbour = %from, %cause, "data frame ignored");
    }

    /// A large frame from a neighbour found no room while its parts came in.
    pub(in crate::node) fn dropped(&self, head: &LinkFrame) {
        self.relayed.stopped(self.now(), None, &head.header, Cause::NoRoom);
        self.refuse(head, Refusal { cause: Cause::NoRoom, retry_after: RELAY_AGAIN });
    }

    /// Passes a frame on for others. Reports are never refused, only charged: whoever waits for one
    /// would only ask again. Who asks about a message learns of no refusal: it waits, and does without.
    fn relay(&self, from: NodeId, to: NodeId, frame: LinkFrame) {
        if let Some(mut relay) = self.relay.lock() {
            let debt = relay.check(self.now());
            if let Err(retry_after) = debt
                && peer::may_be_refused(&frame.header)
            {
                drop(relay);
                self.metrics.relay_refused.inc();
                self.relayed.stopped(self.now(), Some(to), &frame.header, Cause::RelayLimit);
                return self.refuse(&frame, Refusal { cause: Cause::RelayLimit, retry_after });
            }
            relay.charge(frame.wire_len());
        }
        self.metrics.relayed.inc();
        self.relayed.passed(self.now(), from, to, &frame.header);
        self.forward(to, frame);
    }

    /// Tells the origin of a message that it does not get to its destinations from here.
    fn refuse(&self, frame: &LinkFrame, cause: Refusal) {
        let routing = self.routing.load();
        if let Some((to, report)) = refusal(&routing, self.incarnation, &frame.header, cause) {
            self.forward(to, report);
        }
    }

    fn key_of(&self, body: &Body, payload: &[u8]) -> Option<MessageKey> {
        let key = |Envelope { publisher, topic, seq, .. }: &Envelope, mode| {
            self.keyer.key(&publisher.fingerprint, mode, topic, seq, payload)
        };
        match body {
            Body::Attempt { envelope, .. } => Some(key(envelope, Mode::Unicast)),
            Body::FanOut { envelope, .. } => Some(key(envelope, Mode::Multicast)),
            Body::Handed { .. }
            | Body::Outcome { .. }
            | Body::FanOutReport { .. }
            | Body::Refused { .. }
            | Body::Inquiry { .. } => None,
        }
    }
}

fn shard_of_report(body: &Body) -> usize {
    match body {
        Body::Handed { send, .. }
        | Body::Outcome { send, .. }
        | Body::FanOutReport { send, .. }
        | Body::Refused { send, .. } => Delivery::shard_of_number(send.id),
        Body::Attempt { send, .. } | Body::FanOut { send, .. } => Delivery::shard_of_number(*send),
        // The desk has it.
        Body::Inquiry { .. } => 0,
    }
}
