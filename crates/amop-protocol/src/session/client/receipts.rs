//! When a client tells its node that messages have arrived.
//!
//! One word is for a message and all before it, and an answer is a word as well. So a request waits
//! a moment for its answer; a multicast, which gets none, does not.

use std::time::Duration;

use super::Session;
use crate::{
    Seq, Time,
    broker::event::Mode,
    wire::{channel::Encoded, extension::FromClient},
};

/// How long the word for a request waits for its answer.
const WAITS_FOR_ANSWER: Duration = Duration::from_millis(2);

/// What is yet to be said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receipt {
    /// The newest message that has arrived.
    seq: Seq,
    due: Due,
}

#[derive(Clone, Copy, Debug)]
enum Due {
    Now,
    At(Time),
}

impl Session {
    /// A message is where the application finds it: its node is told before long, or with the answer.
    pub fn received(&mut self, now: Time, push: &super::Push, mode: Mode) {
        if self.dialect != super::Dialect::Extended {
            return;
        }
        let due = match (self.receipt.map(|receipt| receipt.due), mode) {
            (Some(Due::Now), _) | (_, Mode::Multicast) => Due::Now,
            (Some(due), Mode::Unicast) => due,
            (None, Mode::Unicast) => Due::At(now + WAITS_FOR_ANSWER),
        };
        self.receipt = Some(Receipt { seq: push.seq, due });
    }

    /// An answer goes out; it says as much of its message, and of all before it.
    pub(super) fn receipt_by_answer(&mut self, seq: Seq) {
        self.receipt = self.receipt.filter(|receipt| receipt.seq != seq);
    }

    pub(super) fn receipt_due(&self) -> Option<Time> {
        match self.receipt?.due {
            Due::Now => None,
            Due::At(at) => Some(at),
        }
    }

    pub(super) fn receipt_timeout(&mut self, now: Time) {
        if let Some(receipt) = &mut self.receipt
            && let Due::At(at) = receipt.due
            && at <= now
        {
            receipt.due = Due::Now;
        }
    }

    pub(super) fn receipt_frame(&mut self) -> Option<Encoded> {
        let receipt = self.receipt.take_if(|receipt| matches!(receipt.due, Due::Now))?;
        Some(FromClient::Received.encode(receipt.seq))
    }
}
