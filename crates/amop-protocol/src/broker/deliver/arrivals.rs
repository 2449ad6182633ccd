//! Data messages from other nodes: attempts, fan-outs, and what is reported of this node's own.

use std::time::Duration;

use bytes::Bytes;

use super::{
    Delivery, Requester, audience,
    reception::{self, Own},
};
use crate::{
    NodeId, Time,
    broker::{dedup::MessageKey, routing::Routing},
    mutations::{self, Mutation},
    wire::peer::{Body, DataMessage, SendRef},
};

impl Delivery {
    /// A data message for this node. `key` is the carried message's, for attempts and fan-outs.
    pub fn handle_message(
        &mut self,
        now: Time,
        routing: &Routing,
        key: Option<MessageKey>,
        message: DataMessage,
        payload: Bytes,
    ) {
        self.take(now, routing, None, key, message, payload);
    }

    /// As [`Delivery::handle_message`]. What is reported about it goes back over `neighbour`, which brought it.
    pub fn handle_message_over(
        &mut self,
        now: Time,
        routing: &Routing,
        neighbour: NodeId,
        key: Option<MessageKey>,
        message: DataMessage,
        payload: Bytes,
    ) {
        self.take(now, routing, Some(neighbour), key, message, payload);
    }

    fn take(
        &mut self,
        now: Time,
        routing: &Routing,
        over: Option<NodeId>,
        key: Option<MessageKey>,
        message: DataMessage,
        payload: Bytes,
    ) {
        let from = message.origin;
        self.journal.set_now(now);
        if self.is_from_before(now, routing, key, &message) {
            self.counters.stale_messages += 1;
            return;
        }
        let key = match key {
            Some(key) if mutations::on(Mutation::TwiceThroughTwoNodes) => Some(key.mixed_with(&from)),
            key => key,
        };
        let requester =
            |id| Requester { node: from, send: SendRef { epoch: message.origin_epoch, id }, over };
        match (message.body, key) {
            (Body::Attempt { send, number, envelope, push_timeout_ms }, Some(key)) => {
                let attempt = reception::Attempt {
                    requester: requester(send),
                    number,
                    push_timeout: Duration::from_millis(push_timeout_ms.into())
                        .min(self.config.push_timeout_max),
                    own: Own::Elsewhere,
                    recipients: false,
                };
                self.receive_attempt(now, routing, key, attempt, &envelope, payload);
            }
            (Body::FanOut { send, envelope, recipients }, Some(key)) => {
                let ask = audience::Ask { requester: requester(send), own: Own::Elsewhere, recipients };
                self.receive_fan_out(now, routing, key, ask, &envelope, payload);
            }
            (report, _) => self.handle_report(now, routing, from, report, payload),
        }
        self.settle(now, routing);
    }

    /// Whether a message is neither remembered nor new: somebody kept it for long.
    fn is_from_before(
        &mut self,
        now: Time,
        routing: &Routing,
        key: Option<MessageKey>,
        message: &DataMessage,
    ) -> bool {
        let (Some(key), Body::Attempt { send, .. } | Body::FanOut { send, .. }) = (key, &message.body) else {
            return false;
        };
        let origin = (message.origin, message.origin_epoch);
        let old = self.numbers.is_stale(now, self.config.retention(), routing, origin, *send);
        old && self.received.get(key).is_none()
    }
}
