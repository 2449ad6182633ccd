//! The frame that tells a publisher how its send ended.

use bytes::Bytes;

use crate::{
    Status,
    broker::event::{Mode, Outcome},
    wire::{
        channel::{Encoded, Type, topic_prefix},
        extension::FromNode,
    },
};

pub(super) fn extended_outcome(outcome: Outcome) -> Encoded {
    let status = outcome.cause.status();
    let retry_after = (status == Status::Refused).then_some(outcome.retry_after);
    let Outcome { seq, cause, retry, hop, body, .. } = outcome;
    FromNode::PublishResult { status, cause, retry_after, retry, hop, payload: body.payload }.encode(seq)
}

pub(super) fn plain_outcome(outcome: Outcome) -> Encoded {
    let Outcome { seq, mode, topic, cause, body, .. } = outcome;
    let status = cause.status();
    if status != Status::Success {
        return Encoded::empty(Type::ANSWER, seq, status.code());
    }
    match (mode, topic) {
        (Mode::Multicast, Some(topic)) => Encoded::with_topic(Type::ANSWER, seq, 0, &topic, Bytes::new()),
        // An answer without a prefix of its own goes under the request's topic: SDKs read a
        // topic body here, and some do not survive anything else.
        (Mode::Unicast, topic) if body.prefix.is_empty() && !body.payload.is_empty() => {
            let prefix = topic.as_ref().map_or(Bytes::from_static(b"\x01"), topic_prefix);
            Encoded::new(Type::ANSWER, seq, 0, &prefix, body.payload)
        }
        _ => Encoded::new(Type::ANSWER, seq, 0, &body.prefix, body.payload),
    }
}
