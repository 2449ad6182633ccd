//! Sends that have no outcome yet, whichever connection they went out on.
//!
//! A send whose connection is lost waits here for another and goes out again as the same message:
//! nodes and subscribers know it again, so it is not handled twice.
//!
//! **Invariant**: every send that was begun has its reply once, or nobody waits for it any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use amop_protocol::{
    Cause, Seq, Status, Time, Topic,
    session::{
        client::{Ended, SendId},
        lanes::{self, Lanes, Queued},
    },
};
use bytes::Bytes;

use super::{Send, home::Home};
use crate::error::Failure;

/// How long a send that names no deadline may be sent anew: what nodes allow it by default.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);
/// What the smallest send counts for in line.
const LEAST: usize = 256;
/// Places in line of sends that wait no more, beyond as many as wait.
const STALE: usize = 64;
/// Later than any moment a client lives to see.
const NEVER: Time = Time::from_start(Duration::MAX);

pub(super) struct InFlight {
    /// Upper half of every seq: makes them unique among all clients.
    base: u64,
    next: u64,
    sends: BTreeMap<u64, Pending>,
    /// Those that wait for a connection, or for room on it.
    parked: BTreeSet<u64>,
    /// The order in which they go out; may name some that wait no more.
    line: Lanes<Place>,
    /// How many it names.
    in_line: usize,
    /// Some came back, and are older than what is in line.
    is_mixed: bool,
    /// When there was a connection last.
    connected: Time,
    /// None of those parked is given up before.
    earliest: Time,
    /// Of payloads that are small.
    small_bytes: usize,
}

/// A send's place in line.
#[derive(Debug)]
struct Place {
    number: u64,
    topic: Topic,
    bytes: usize,
}

impl Queued for Place {
    type Flow = Topic;

    fn cost(&self) -> usize {
        self.bytes.max(LEAST)
    }

    fn flow(&self) -> Topic {
        self.topic.clone()
    }

    fn is_ordered(&self) -> bool {
        true
    }
}

struct Pending {
    send: Send,
    /// Once some node may have it; until then only the time without a connection counts.
    expires: Time,
    /// The connection it went out on last.
    home: Option<u64>,
    /// Whether some node may have it.
    reached: bool,
    /// What a node that shuts down said of it, in case nobody else can be asked.
    told: Option<Failure>,
}

/// What is to become of a send that a home cannot finish.
pub(super) enum Next {
    /// It waits for another connection.
    Elsewhere,
    Finished,
}

impl InFlight {
    /// Nothing yet. `base` is drawn at random.
    pub(super) fn new(base: u64) -> Self {
        Self {
            base,
            next: 0,
            sends: BTreeMap::new(),
            parked: BTreeSet::new(),
            line: Lanes::default(),
            in_line: 0,
            is_mixed: false,
            connected: Time::default(),
            earliest: NEVER,
            small_bytes: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.sends.len()
    }

    /// Whether nothing waits for a connection or for room on it.
    pub(super) fn is_placed(&self) -> bool {
        self.parked.is_empty()
    }

    /// Bytes of small payloads that are kept, for sending them again.
    pub(super) fn small_bytes(&self) -> usize {
        self.small_bytes
    }

    /// Whether this names a message of this client.
    pub(super) fn is_own(&self, message: Seq) -> bool {
        message.to_u128().is_some_and(|seq| (seq >> 64) as u64 == self.base)
    }

    /// Takes a send; it waits for [`InFlight::place`].
    pub(super) fn begin(&mut self, now: Time, send: Send) {
        let number = self.next;
        self.next += 1;
        self.small_bytes += small(&send);
        let expires = now + patience(&send);
        self.earliest = self.earliest.min(expires);
        self.line.push(Place::of(number, &send));
        self.in_line += 1;
        self.sends.insert(number, Pending { send, expires, home: None, reached: false, told: None });
        self.parked.insert(number);
    }

    /// Sends what waits through this home while it has room: small ones first, large ones when hardly
    /// anything else waits to be written, those on one topic in order.
    pub(super) fn place(&mut self, now: Time, home: &mut Home) {
        self.connected = now;
        if std::mem::take(&mut self.is_mixed) {
            self.line_up();
        }
        while home.has_room()
            && let Some(place) = self.line.first()
        {
            let number = place.number;
            let is_large = place.bytes > lanes::SMALL;
            if self.parked.contains(&number) && is_large && !home.has_large_room() {
                break;
            }
            self.line.pop();
            self.in_line -= 1;
            if self.parked.remove(&number) {
                self.send(now, home, number);
            }
        }
        home.expect_large(self.line.has_large());
    }

    fn send(&mut self, now: Time, home: &mut Home, number: u64) {
        let id = self.id(number);
        let Some(pending) = self.sends.get_mut(&number) else { return };
        if pending.reached && !home.node.extended {
            // A node without extensions would take it for another message.
            return self.finish(number, Err(Failure::lost()));
        }
        let mut message = pending.send.message.clone();
        if pending.reached {
            message.deadline = Some(pending.expires.since(now));
        } else {
            pending.expires = now + patience(&pending.send);
        }
        pending.home = Some(home.id);
        match home.send_as(now, id, message) {
            Ok(()) => pending.reached = true,
            Err(error) => self.finish(number, Err(error.into())),
        }
    }

    /// Has all that waits stand in line by age.
    fn line_up(&mut self) {
        self.line = Lanes::default();
        for number in &self.parked {
            if let Some(pending) = self.sends.get(number) {
                self.line.push(Place::of(*number, &pending.send));
            }
        }
        self.in_line = self.parked.len();
    }

    /// A home told how a send ended. A node that shuts down may not have been able to finish it.
    pub(super) fn handle_ended(&mut self, now: Time, home: &Home, id: SendId, ended: Ended) -> Next {
        let number = self.number(id);
        let Some(pending) = self.sends.get_mut(&number).filter(|pending| pending.home == Some(home.id))
        else {
            return Next::Finished;
        };
        let result = match ended.status {
            Status::Success => Ok(ended.payload),
            _ => Err(Failure::ended(&ended)),
        };
        let cut_short = match ended.status {
            Status::NoNode => home.node.extended,
            _ => home.is_draining() && may_end_otherwise(ended.status, ended.cause),
        };
        match result {
            Err(failure) if cut_short && pending.expires > now => {
                pending.told = Some(failure);
                self.park(number);
                Next::Elsewhere
            }
            result => {
                self.finish(number, result);
                Next::Finished
            }
        }
    }

    /// A subscriber was handed the message of a send, says a node.
    pub(super) fn handle_handed(&mut self, id: SendId) {
        let number = self.number(id);
        let handed = self.sends.get_mut(&number).and_then(|pending| pending.send.handed.take());
        // Whoever asked may have gone.
        handed.map(|handed| handed.send(()));
    }

    /// A connection is gone. What went out on it waits for another, within its deadline.
    pub(super) fn handle_lost(&mut self, now: Time, home: &Home) {
        let theirs = self.sends.iter().filter(|(_, pending)| pending.home == Some(home.id));
        let theirs: Vec<u64> = theirs.map(|(number, _)| *number).collect();
        for number in theirs {
            let expires = self.sends.get(&number).map_or(now, |pending| pending.expires);
            if home.node.extended && expires > now {
                self.park(number);
            } else {
                self.finish(number, Err(Failure::lost()));
            }
        }
    }

    /// Gives up what has waited too long for a connection; without `hope` of one, also what no node
    /// can have.
    pub(super) fn give_up(&mut self, now: Time, hope: bool, draining: bool) {
        if hope && now < self.earliest {
            return;
        }
        self.earliest = NEVER;
        let parked: Vec<u64> = self.parked.iter().copied().collect();
        for number in parked {
            let Some(pending) = self.sends.get_mut(&number) else { continue };
            // What a node has said is final when nobody else can be asked.
            let hopeless = !hope && (!pending.reached || pending.told.is_some());
            let expires = pending.gives_up(self.connected);
            if expires > now && !hopeless {
                self.earliest = self.earliest.min(expires);
                continue;
            }
            let told = pending.told.take();
            let failure = told.unwrap_or_else(|| match (pending.reached, draining) {
                (true, _) => Failure::lost(),
                (false, true) => Failure::draining(),
                (false, false) => Failure::not_connected(),
            });
            self.finish(number, Err(failure));
        }
        if self.in_line > 2 * self.parked.len() + STALE {
            self.line_up();
        }
    }

    /// When [`InFlight::give_up`] may have something to do, with hope.
    pub(super) fn next_expiry(&self) -> Option<Time> {
        (!self.parked.is_empty()).then_some(self.earliest)
    }

    fn park(&mut self, number: u64) {
        if let Some(pending) = self.sends.get_mut(&number) {
            pending.home = None;
            self.earliest = self.earliest.min(pending.expires);
            self.parked.insert(number);
            self.is_mixed = true;
        }
    }

    fn finish(&mut self, number: u64, result: Result<Bytes, Failure>) {
        self.parked.remove(&number);
        if let Some(Pending { mut send, .. }) = self.sends.remove(&number) {
            // Who answered was handed it, and nobody may have said so before.
            if let Some(handed) = send.handed.take_if(|_| result.is_ok()) {
                let _ = handed.send(());
            }
            self.small_bytes -= small(&send);
            // Whoever asked may have gone.
            let _ = send.reply.send(result);
        }
    }

    fn id(&self, number: u64) -> SendId {
        SendId(Seq::from_u128(u128::from(self.base) << 64 | u128::from(number)))
    }

    fn number(&self, SendId(seq): SendId) -> u64 {
        seq.to_u128().map_or(u64::MAX, |seq| seq as u64)
    }
}

impl Place {
    fn of(number: u64, send: &Send) -> Self {
        Self { number, topic: send.message.topic.clone(), bytes: send.message.payload.len() }
    }
}

impl Pending {
    /// When this is given up while it is parked. `connected`: when there was a connection last.
    fn gives_up(&self, connected: Time) -> Time {
        if self.reached { self.expires } else { self.expires.max(connected + patience(&self.send)) }
    }
}

/// How long a send may wait for a connection, and then for its outcome.
fn patience(send: &Send) -> Duration {
    send.message.deadline.unwrap_or(DEFAULT_DEADLINE)
}

/// What a send counts for among the small ones.
fn small(send: &Send) -> usize {
    Some(send.message.payload.len()).filter(|bytes| *bytes <= lanes::SMALL).unwrap_or(0)
}

/// Whether a failure may be due to the node that told of it, rather than to the message or its subscriber.
fn may_end_otherwise(status: Status, cause: Cause) -> bool {
    let of_the_message = matches!(
        cause,
        Cause::BadTopic | Cause::ReservedTopic | Cause::NotVerified | Cause::SubscriberRefused
    );
    matches!(status, Status::NoPath | Status::NotHanded | Status::TimedOut) && !of_the_message
}

#[cfg(test)]
mod tests {
    use amop_protocol::{broker::event::Mode, session::client::Message};
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn what_is_given_up_leaves_the_line_also_while_nobody_is_connected() {
        let mut in_flight = InFlight::new(1);
        for _ in 0..10_000 {
            let (reply, mut answer) = oneshot::channel();
            let topic = Topic::parse("t").expect("a topic");
            let payload = Bytes::from_static(b"x");
            let message = Message { mode: Mode::Unicast, topic, payload, deadline: None, wishes: None };
            in_flight.begin(Time::ZERO, Send { message, reply, handed: None, _room: None });
            in_flight.give_up(Time::ZERO, false, false);
            assert!(answer.try_recv().expect("a reply").is_err());
            assert!(in_flight.in_line <= STALE + 1);
        }
        assert!(in_flight.is_placed() && in_flight.len() == 0 && in_flight.small_bytes() == 0);
    }
}
