//! What nodes say: outcomes, messages for the application, that they shut down.

use std::time::Duration;

use amop_protocol::{
    Cause, Time,
    broker::event::Mode,
    session::{
        client::{Action, Deliver},
        once::{Admission, Answer, Ticket},
    },
    topic::Kind,
};
use bytes::Bytes;
use tokio::time::Instant;

use super::{Driver, Way, in_flight::Next};
use crate::subscription::{REFUSED_BUSY, REFUSED_UNREADABLE, Reply};

/// How long a node that refuses sends because it drains, and has not said so, is heard out.
const SILENT_GRACE: Duration = Duration::from_secs(5);

impl Driver {
    /// Answers a request by all ways it came.
    pub(super) fn answer(&mut self, ticket: Ticket, answer: &Answer) {
        let now = self.connector.clock().now();
        for way in self.once.handle_answer(now, ticket, answer) {
            if let Some(home) = self.homes.iter_mut().find(|home| home.id == way.home) {
                home.answer(&way.push, answer.result, answer.payload.clone());
            }
        }
    }

    pub(super) fn carry_out(&mut self, now: Time, at: usize, action: Action) {
        let home = &mut self.homes[at];
        match action {
            Action::Ended(id, ended) => {
                if self.handle_step(at, id, &ended) {
                    return;
                }
                let home = &mut self.homes[at];
                let drains = ended.cause == Cause::Draining;
                if let Next::Elsewhere = self.in_flight.handle_ended(now, home, id, ended)
                    && drains
                {
                    self.drain(at, SILENT_GRACE);
                }
            }
            Action::Handed(id) => self.in_flight.handle_handed(id),
            Action::Reported { report, refused, complete } => {
                if let Some(revision) = home.reported(report) {
                    self.dispatch.reported(home.id, revision, &refused, complete);
                }
            }
            Action::Deliver(message) => self.deliver(now, at, message),
            Action::Asked(inquiry) => self.handle_inquiry(at, inquiry),
            Action::Drain(grace) => self.drain(at, grace),
        }
    }

    /// A node shuts down: another is looked for while this one finishes.
    fn drain(&mut self, at: usize, grace: Duration) {
        let home = &mut self.homes[at];
        if !home.is_draining() {
            tracing::info!(address = home.node.address, ?grace, "the node drains");
            home.drain(grace);
            self.dispatch.lost(home.id);
            self.seek.hurry(Instant::now(), None);
            self.tell_nodes();
        }
    }

    fn deliver(&mut self, now: Time, at: usize, mut message: Deliver) {
        if message.topic.kind() == Kind::Handshake {
            return self.prove(at, &message);
        }
        let home = &mut self.homes[at];
        if message.mode == Mode::Multicast && message.message.is_some_and(|seq| self.in_flight.is_own(seq)) {
            // Its node is an older one, to which this is another session than the one it was published
            // through, and a report on the recipients would wait for it.
            home.session.received(now, &message.push, Mode::Multicast);
            return;
        }
        let way = Way { home: home.id, push: message.push.clone() };
        match self.once.handle_deliver(now, &message, way) {
            Admission::New(None) => {
                let push = message.push.clone();
                let taken = match self.private.unseal(&message) {
                    None => false,
                    Some(unsealed) => {
                        unsealed.put(&mut message);
                        self.dispatch.deliver(message, None)
                    }
                };
                if taken {
                    home.session.received(now, &push, Mode::Multicast);
                }
            }
            Admission::New(Some(ticket)) => {
                home.session.received(now, &message.push, Mode::Unicast);
                self.ask(ticket, message);
            }
            // The application has it, whichever way it came.
            Admission::Known => home.session.received(now, &message.push, message.mode),
            Admission::Answered(Answer { result, payload }) => home.answer(&message.push, result, payload),
        }
    }

    /// Hands a request to the application.
    fn ask(&mut self, ticket: Ticket, mut message: Deliver) {
        let Some(unsealed) = self.private.unseal(&message) else {
            return self.answer(ticket, &Answer { result: REFUSED_UNREADABLE, payload: Bytes::new() });
        };
        let seal = unsealed.put(&mut message);
        let place = self.places.clone().try_reserve_owned().ok();
        match place.filter(|_| self.once.unanswered() <= self.options.max_unanswered) {
            // If it is not taken, it is refused, which is an answer too.
            Some(place) => drop(self.dispatch.deliver(message, Some(Reply::new(place, ticket, seal)))),
            None => {
                tracing::debug!("too many requests are unanswered: one refused");
                self.answer(ticket, &Answer { result: REFUSED_BUSY, payload: Bytes::new() });
            }
        }
    }
}
