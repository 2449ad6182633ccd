//! Questions about what became of a message: the frames they travel in, and what a journal's steps tell.

use bytes::Bytes;
use smallvec::smallvec;

use super::{
    event::Mode,
    journal::{Brief, Entry, Step, Why},
    routing::Routing,
    seal,
};
use crate::{
    NodeId, Time,
    wire::{
        generated::{JournalFrame, JournalKind, JournalReason, JournalStep},
        link::LinkFrame,
        peer::{Body, Carries, DataMessage, Route},
    },
};

/// All of these are one flow, so that they share what one publisher's messages would have of a link.
const FLOW: u32 = 0x7472_6163;

/// The frame of a question to `to`, or of an answer, and the neighbour it goes to; `None` if there is no way.
pub fn frame(
    routing: &Routing,
    epoch: u64,
    to: NodeId,
    body: Body,
    payload: Bytes,
) -> Option<(NodeId, LinkFrame)> {
    let next = routing.find(&to)?.next_hop;
    let message = DataMessage { origin: routing.me(), origin_epoch: epoch, body };
    let route = Route { destinations: smallvec![to], path: Vec::new() };
    Some((next, seal::seal(routing, next, &message, &route, FLOW, payload)))
}

/// A step as others are told it, seen from `now`: nothing of clients, topics or names. Whoever may know more adds it.
pub fn step(entry: &Entry, now: Time) -> JournalStep {
    let mut told = JournalStep {
        age_us: u64::try_from(now.since(entry.at()).as_micros()).unwrap_or(u64::MAX),
        attempt: entry.attempt(),
        ..JournalStep::default()
    };
    let kind = at_origin(&entry.step, &mut told)
        .or_else(|| at_destination(&entry.step, &mut told))
        .or_else(|| on_the_way(&entry.step, &mut told));
    told.set_kind(kind.unwrap_or_default());
    told
}

fn at_origin(step: &Step, told: &mut JournalStep) -> Option<JournalKind> {
    let of_node = |told: &mut JournalStep, at: Brief, cause, kind| {
        told.node = node(at);
        told.set_cause(cause);
        kind
    };
    Some(match *step {
        Step::Published { mode, .. } => {
            told.multicast = mode == Mode::Multicast;
            JournalKind::Published
        }
        Step::Repeated { .. } => JournalKind::Repeated,
        Step::AtOnce { cause, .. } => {
            told.set_cause(cause);
            JournalKind::AtOnce
        }
        Step::Sent { to, via, nodes } => {
            (told.node, told.via, told.count) = (node(to), node(via), nodes);
            JournalKind::Sent
        }
        Step::Resent { to, via, why } => {
            (told.node, told.via) = (node(to), node(via));
            told.set_reason(match why {
                Why::Unconfirmed => JournalReason::Unconfirmed,
                Why::Rerouted => JournalReason::Rerouted,
                Why::Refused => JournalReason::Refused,
            });
            JournalKind::Resent
        }
        Step::NoWay { to } => {
            told.node = node(to);
            JournalKind::NoWay
        }
        Step::Confirmed { by } => {
            told.node = node(by);
            JournalKind::Confirmed
        }
        Step::Failed { at, cause } => of_node(told, at, cause, JournalKind::Failed),
        Step::Refused { by, cause } => of_node(told, by, cause, JournalKind::Refused),
        Step::Counted { by, handed, failed, complete } => {
            (told.node, told.count, told.failed, told.complete) = (node(by), handed, failed, complete);
            JournalKind::Counted
        }
        Step::Told { cause, .. } => {
            told.set_cause(cause);
            JournalKind::Told
        }
        Step::Context { .. } => JournalKind::Context,
        _ => return None,
    })
}

fn at_destination(step: &Step, told: &mut JournalStep) -> Option<JournalKind> {
    let ended = |told: &mut JournalStep, cause, kind| {
        told.set_cause(cause);
        kind
    };
    Some(match *step {
        Step::Arrived { over, .. } => {
            told.via = node(over);
            JournalKind::Arrived
        }
        Step::Again { over } => {
            told.via = node(over);
            JournalKind::Again
        }
        Step::Pushed { .. } => {
            told.count = 1;
            JournalKind::Pushed
        }
        Step::PushedAll { sessions } => {
            told.count = sessions;
            JournalKind::Pushed
        }
        Step::Handed { .. } => JournalKind::Handed,
        Step::NotHanded { cause, .. } => ended(told, cause, JournalKind::NotHanded),
        Step::Answered { cause, .. } => ended(told, cause, JournalKind::Answered),
        Step::Reported { cause } => ended(told, cause, JournalKind::Reported),
        _ => return None,
    })
}

fn on_the_way(step: &Step, told: &mut JournalStep) -> Option<JournalKind> {
    Some(match *step {
        Step::Relayed { what, from, to } => {
            (told.node, told.via) = (node(from), node(to));
            told.set_frame(frame_kind(what));
            JournalKind::Relayed
        }
        Step::Stopped { what, to, cause } => {
            told.via = node(to);
            told.set_cause(cause);
            told.set_frame(frame_kind(what));
            JournalKind::Stopped
        }
        _ => return None,
    })
}

fn node(brief: Brief) -> Bytes {
    if brief == Brief::default() { Bytes::new() } else { Bytes::copy_from_slice(&brief.0) }
}

fn frame_kind(what: Carries) -> JournalFrame {
    match what {
        Carries::Attempt => JournalFrame::Attempt,
        Carries::FanOut => JournalFrame::FanOut,
        Carries::Handed => JournalFrame::Handed,
        Carries::Outcome => JournalFrame::Outcome,
        Carries::FanOutReport => JournalFrame::FanOutReport,
        Carries::Refused => JournalFrame::Refused,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        Seq, Topic,
        broker::journal::{Journal, Key, Name},
        wire::peer::SendRef,
    };

    #[test]
    fn a_step_tells_nothing_of_clients_or_topics() {
        let (seq, topic) = (Seq([7; 32]), Name::of(&Topic::parse("secret").unwrap()));
        let key = Key::new(NodeId::new([5; 32]), SendRef { epoch: 9, id: 1 });
        let mut journal = Journal::new(4);
        journal.note(key, 2, Step::Arrived { seq, topic, over: Brief([3; 8]) });
        let mut told = None;
        journal.read(0, 1, |entry| told = Some(step(entry, entry.at() + Duration::from_micros(8))));
        let expected = JournalStep {
            kind: JournalKind::Arrived.into(),
            age_us: 8,
            attempt: 2,
            via: Bytes::from_static(&[3; 8]),
            ..JournalStep::default()
        };
        assert_eq!(told, Some(expected));
    }
}
