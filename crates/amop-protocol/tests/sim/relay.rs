//! What a node passes on for others, within its limit: as the shell does it.

use amop_protocol::{
    Cause, NodeId, Time,
    broker::{
        bandwidth::{Bandwidth, Refusal},
        deliver::refusal,
        routing::Routing,
    },
    wire::{link::LinkFrame, peer},
};

use crate::{client::number, node::Out};

/// The relay limit of one node.
pub struct Relay {
    limit: Option<Bandwidth>,
    epoch: u64,
}

impl Relay {
    /// `limit` in bytes a second.
    pub fn new(limit: Option<u32>, epoch: u64) -> Self {
        let limit = limit.map(|bytes| Bandwidth::from_mbit(f64::from(bytes) / 131_072.0));
        Self { limit, epoch }
    }

    /// Passes a frame on, or tells its origin that it does not. Reports are only charged.
    pub fn pass(&mut self, now: Time, routing: &Routing, to: NodeId, frame: LinkFrame, out: &mut Vec<Out>) {
        if let Some(limit) = &mut self.limit {
            if let Err(retry_after) = limit.check(now)
                && peer::carries_message(&frame.header)
            {
                return self.refuse(routing, &frame, Refusal { cause: Cause::RelayLimit, retry_after }, out);
            }
            limit.charge(frame.wire_len());
        }
        out.push(Out::Data { to, frame });
    }

    fn refuse(&self, routing: &Routing, frame: &LinkFrame, cause: Refusal, out: &mut Vec<Out>) {
        out.push(Out::RefusedByRelay(number(&frame.payload).unwrap_or_default()));
        let told = refusal(routing, self.epoch, &frame.header, cause);
        out.extend(told.map(|(to, frame)| Out::Data { to, frame }));
    }
}
