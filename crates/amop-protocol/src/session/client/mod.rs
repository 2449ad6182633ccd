//! The client's end of a session.
//!
//! [`Greeting`] asks for the extensions; the node's reply makes it a [`Session`], which speaks
//! extension frames with a node that grants them and plain 2.x frames with any other. A session
//! names what it sends, matches answers to it, keeps the connection alive and notices a dead node.
//!
//! The driver hands in frames and time, writes what [`Session::poll_frame`] gives, carries out
//! [`Session::poll_action`] and comes back at [`Session::poll_timeout`]. Invariant: every
//! [`Session::send`] that succeeded ends in exactly one [`Action::Ended`], unless the session is
//! dropped; then [`Session::into_unfinished`] names the rest.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;

use crate::{
    Cause, Seq, Status, Time, Topic,
    broker::event::{Mode, Sender},
    limits::MAX_CHANNEL_FRAME,
    wire::{
        channel::{Encoded, Frame, TopicBody, Type},
        extension::{ExtensionError, FromClient, FromNode},
    },
};

mod greeting;

pub use greeting::{Greeting, GreetingError, Step};

/// Topic reports of which an acknowledgement is awaited; beyond this the oldest is forgotten,
/// since a later acknowledgement covers it.
const MAX_REPORTS: usize = 1024;

/// What a session needs to know beforehand.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the client calls itself: `clientType` in the handshake.
    pub client_type: String,
    /// The same for all connections of one client, so that a message reaches it once.
    pub instance: u128,
    /// How often the node is asked for a sign of life.
    pub heartbeat: Duration,
    /// A node that sends nothing for this long is dead.
    pub silence: Duration,
    /// How long a send waits for its outcome when it names no deadline of its own.
    pub patience: Duration,
    /// Largest frame that is sent.
    pub max_frame: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            client_type: concat!("amop-rust/", env!("CARGO_PKG_VERSION")).into(),
            instance: 0,
            heartbeat: Duration::from_secs(3),
            silence: Duration::from_secs(10),
            patience: Duration::from_secs(35),
            max_frame: MAX_CHANNEL_FRAME,
        }
    }
}

/// How much longer than the node's own deadline its outcome is waited for.
const MARGIN: Duration = Duration::from_secs(1);

/// Which frames a node understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The 2.x frames, with this protocol version (1 to 3).
    Plain(u8),
    /// Extension frames.
    Extended,
}

/// One send, by the seq of its message: the same for all connections it is sent through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SendId(pub Seq);

/// A message to send.
#[derive(Clone, Debug)]
pub struct Message {
    /// To one or to all.
    pub mode: Mode,
    /// Where to.
    pub topic: Topic,
    /// The message.
    pub payload: Bytes,
    /// How long its outcome may take; `None`: as long as the node allows.
    pub deadline: Option<Duration>,
}

/// How a send ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The documented code.
    pub status: Status,
    /// Why; unspecified if the node did not say.
    pub cause: Cause,
    /// With 103: when to try again.
    pub retry_after: Option<Duration>,
    /// The answer to a unicast.
    pub payload: Bytes,
}

/// Names a delivery that awaits an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    seq: Seq,
    topic: Topic,
}

impl Push {
    /// The push in the frame with this seq.
    pub fn new(seq: Seq, topic: Topic) -> Self {
        Self { seq, topic }
    }
}

/// A message that came for this client.
#[derive(Clone, Debug)]
pub struct Deliver {
    /// For [`Session::answer`], if it is a unicast.
    pub push: Push,
    /// Whether an answer is expected.
    pub mode: Mode,
    /// The topic it was sent to.
    pub topic: Topic,
    /// Who sent it, as its node verified it; a plain node does not say.
    pub sender: Option<Sender>,
    /// How long the node waits for an answer, if it says.
    pub answer_within: Option<Duration>,
    /// The seq its publisher gave it, if the node says.
    pub message: Option<Seq>,
    /// The message.
    pub payload: Bytes,
}

/// What the session asks its driver to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Tell the publisher how its send ended.
    Ended(SendId, Ended),
    /// The topics of this report, and of all before it, are in force.
    Reported {
        /// From [`Session::report`].
        report: ReportId,
        /// Names the node did not accept.
        refused: Vec<String>,
        /// Whether all reachable nodes know them; never from a plain node.
        complete: bool,
    },
    /// Hand this to its subscriber.
    Deliver(Deliver),
    /// The node drains: finish within this time, then connect elsewhere.
    Drain(Duration),
}

/// One report of the whole topic set; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReportId(u64);

/// The node broke the protocol or died: close the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// An extension frame that cannot be read.
    #[error("the node sent an extension frame that cannot be read")]
    Extension(#[from] ExtensionError),
    /// Nothing came for too long.
    #[error("the node sent nothing for {0:?}, not even an answer to a heartbeat")]
    Silent(Duration),
}

/// A message does not fit a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message takes a frame of {len} bytes, the largest allowed is {max}; send it in pieces")]
pub struct TooLarge {
    /// What it would take.
    pub len: usize,
    /// What is allowed.
    pub max: usize,
}

/// An established session.
#[derive(Debug)]
pub struct Session {
    config: Config,
    dialect: Dialect,
    /// Upper half of every seq: makes them unique among all clients.
    base: u64,
    counter: u64,
    /// When each unfinished send is given up.
    pending: BTreeMap<Seq, Time>,
    /// No pending send expires before this.
    earliest: Time,
    reports: BTreeMap<u64, ReportId>,
    frames: VecDeque<Encoded>,
    actions: VecDeque<Action>,
    heard: Time,
    next_beat: Time,
    ignored: u64,
}

impl Session {
    fn new(now: Time, config: Config, base: u64, dialect: Dialect) -> Self {
        Self {
            next_beat: now + config.heartbeat,
            config,
            dialect,
            base,
            counter: 1, // 0 was the greeting
            pending: BTreeMap::new(),
            earliest: NEVER,
            reports: BTreeMap::new(),
            frames: VecDeque::new(),
            actions: VecDeque::new(),
            heard: now,
            ignored: 0,
        }
    }

    /// Which frames are spoken.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Sends that have no outcome yet.
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Frames that made no sense here and were passed over.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When it does not fit a frame.
    pub fn send(&mut self, now: Time, message: Message) -> Result<SendId, TooLarge> {
        let id = self.next_id();
        let id = SendId(self.seq(id));
        self.send_as(now, id, message).map(|()| id)
    }

    /// Sends a message that was named elsewhere: it is the same one, to nodes and subscribers, as
    /// what was sent under this name through another connection.
    ///
    /// # Errors
    /// When it does not fit a frame.
    pub fn send_as(&mut self, now: Time, id: SendId, message: Message) -> Result<(), TooLarge> {
        let patience = message.deadline.map_or(self.config.patience, |deadline| match self.dialect {
            Dialect::Extended => deadline.saturating_add(MARGIN),
            // The node knows of no deadline; this end keeps it.
            Dialect::Plain(_) => deadline,
        });
        let frame = self.encode(id.0, message);
        if frame.wire_len() > self.config.max_frame {
            return Err(TooLarge { len: frame.wire_len(), max: self.config.max_frame });
        }
        self.frames.push_back(frame);
        let expires = now + patience;
        self.pending.insert(id.0, expires);
        self.earliest = self.earliest.min(expires);
        Ok(())
    }

    /// Replaces the set of topics this client is subscribed to.
    pub fn report<'a>(&mut self, topics: impl Iterator<Item = &'a Topic>) -> ReportId {
        let id = self.next_id();
        let seq = self.seq(id);
        let topics: Vec<String> = topics.map(Topic::to_string).collect();
        match self.dialect {
            Dialect::Extended => self.frames.push_back(FromClient::Subscribe { topics }.encode(seq)),
            Dialect::Plain(_) => {
                let list = serde_json::Value::from(topics).to_string();
                self.frames.push_back(Encoded::new(Type::TOPICS, seq, 0, &[], list.into()));
                // A report has no reply; the heartbeat behind it does.
                self.frames.push_back(self.beat(seq));
            }
        }
        let report = ReportId(id);
        self.reports.insert(id, report);
        if self.reports.len() > MAX_REPORTS {
            self.reports.pop_first();
        }
        report
    }

    /// Answers a delivery: 0 and an answer, or a refusal and nothing.
    ///
    /// # Errors
    /// When the answer does not fit a frame; the requester is then told nothing yet.
    pub fn answer(&mut self, push: &Push, result: i32, payload: Bytes) -> Result<(), TooLarge> {
        let frame = match self.dialect {
            Dialect::Extended => FromClient::Answer { result, payload }.encode(push.seq),
            Dialect::Plain(_) if result != 0 => Encoded::empty(Type::ANSWER, push.seq, result),
            Dialect::Plain(_) => Encoded::with_topic(Type::ANSWER, push.seq, 0, &push.topic, payload),
        };
        if frame.wire_len() > self.config.max_frame {
            return Err(TooLarge { len: frame.wire_len(), max: self.config.max_frame });
        }
        self.frames.push_back(frame);
        Ok(())
    }

    /// Takes a frame from the node. Unknown ones are counted and passed over.
    ///
    /// # Errors
    /// When the node broke the protocol.
    pub fn handle_frame(&mut self, now: Time, frame: Frame) -> Result<(), Fault> {
        self.heard = now;
        match (self.dialect, frame.kind) {
            (_, Type::HEARTBEAT) => self.handle_heartbeat(&frame),
            (Dialect::Extended, kind) if kind.is_extension() => return self.handle_extension(&frame),
            (Dialect::Plain(_), Type::ANSWER) => self.handle_answer(frame),
            (Dialect::Plain(_), Type::UNICAST) => self.handle_push(frame, Mode::Unicast),
            (Dialect::Plain(_), Type::MULTICAST) => self.handle_push(frame, Mode::Multicast),
            _ => self.ignored += 1,
        }
        Ok(())
    }

    /// Notes bytes that are not a whole frame yet, so that a large frame on a slow line does not
    /// look like a dead node.
    pub fn handle_bytes(&mut self, now: Time) {
        self.heard = now;
    }

    /// Sends a heartbeat if it is time, and gives up what has waited too long.
    ///
    /// # Errors
    /// When the node has been silent for too long.
    pub fn handle_timeout(&mut self, now: Time) -> Result<(), Fault> {
        if now.since(self.heard) >= self.config.silence {
            return Err(Fault::Silent(self.config.silence));
        }
        if now >= self.next_beat {
            self.next_beat = now + self.config.heartbeat;
            let seq = self.next_id();
            self.frames.push_back(self.beat(self.seq(seq)));
        }
        if now >= self.earliest {
            self.give_up(now);
        }
        Ok(())
    }

    /// When [`Session::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Time {
        self.next_beat.min(self.earliest).min(self.heard + self.config.silence)
    }

    /// The next frame to write.
    pub fn poll_frame(&mut self) -> Option<Encoded> {
        self.frames.pop_front()
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Ends the session: the sends that never got an outcome.
    pub fn into_unfinished(self) -> impl Iterator<Item = SendId> {
        self.pending.into_keys().map(SendId)
    }

    fn encode(&self, seq: Seq, message: Message) -> Encoded {
        let Message { mode, topic, payload, deadline } = message;
        match (self.dialect, mode) {
            (Dialect::Extended, _) => FromClient::Publish { mode, topic, deadline, payload }.encode(seq),
            (Dialect::Plain(_), Mode::Unicast) => Encoded::with_topic(Type::UNICAST, seq, 0, &topic, payload),
            (Dialect::Plain(_), Mode::Multicast) => {
                Encoded::with_topic(Type::MULTICAST, seq, 0, &topic, payload)
            }
        }
    }

    fn handle_extension(&mut self, frame: &Frame) -> Result<(), Fault> {
        let message = match FromNode::decode(frame) {
            Ok(message) => message,
            // A newer node may say things this version does not know.
            Err(ExtensionError::Unknown(_)) => {
                self.ignored += 1;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        match message {
            FromNode::Subscribed { refused, complete, .. } => {
                self.reported(frame.seq, refused, complete);
            }
            FromNode::PublishResult { status, cause, retry_after, payload } => {
                self.ended(frame.seq, Ended { status, cause, retry_after, payload });
            }
            FromNode::Deliver { mode, topic, sender, answer_within, message, payload } => {
                self.actions.push_back(Action::Deliver(Deliver {
                    push: Push { seq: frame.seq, topic: topic.clone() },
                    mode,
                    topic,
                    sender: Some(sender),
                    answer_within: (mode == Mode::Unicast).then_some(answer_within),
                    message,
                    payload,
                }));
            }
            FromNode::Goodbye { grace } => self.actions.push_back(Action::Drain(grace)),
        }
        Ok(())
    }

    fn handle_heartbeat(&mut self, frame: &Frame) {
        // Whatever asks is answered; whatever answers may be the acknowledgement of a report.
        if matches!(&frame.body[..], b"0" | b"{\"heartBeat\":0}") {
            let body: &[u8] = if frame.body.len() == 1 { b"1" } else { b"{\"heartBeat\":1}" };
            self.frames.push_back(Encoded::new(Type::HEARTBEAT, frame.seq, 0, body, Bytes::new()));
        } else if self.dialect != Dialect::Extended {
            self.reported(frame.seq, Vec::new(), false);
        }
    }

    fn handle_answer(&mut self, frame: Frame) {
        let (status, cause) = match Status::from_code(frame.result) {
            Some(Status::Success) => (Status::Success, Cause::Delivered),
            Some(status) => (status, Cause::Unspecified),
            // A plain node passes on whatever the subscriber answered, and has codes of its own.
            None => (Status::NotHanded, Cause::SubscriberRefused),
        };
        let payload = match TopicBody::parse(frame.body) {
            Ok(body) if status == Status::Success => body.payload,
            _ => Bytes::new(),
        };
        self.ended(frame.seq, Ended { status, cause, retry_after: None, payload });
    }

    fn handle_push(&mut self, frame: Frame, mode: Mode) {
        let body = TopicBody::parse(frame.body).ok();
        let Some((topic, body)) = body.and_then(|body| Some((body.topic().ok()?, body))) else {
            self.ignored += 1;
            return;
        };
        self.actions.push_back(Action::Deliver(Deliver {
            push: Push { seq: frame.seq, topic: topic.clone() },
            mode,
            topic,
            sender: None,
            answer_within: None,
            message: None,
            payload: body.payload,
        }));
    }

    fn reported(&mut self, seq: Seq, refused: Vec<String>, complete: bool) {
        let Some(report) = self.id(seq).and_then(|id| self.reports.remove(&id)) else { return };
        // Earlier reports are covered by this one.
        self.reports = self.reports.split_off(&report.0);
        self.actions.push_back(Action::Reported { report, refused, complete });
    }

    fn ended(&mut self, seq: Seq, ended: Ended) {
        match self.pending.remove(&seq) {
            Some(_) => self.actions.push_back(Action::Ended(SendId(seq), ended)),
            None => self.ignored += 1,
        }
    }

    fn give_up(&mut self, now: Time) {
        let overdue: Vec<Seq> =
            self.pending.iter().filter(|(_, expires)| **expires <= now).map(|(id, _)| *id).collect();
        for id in overdue {
            self.pending.remove(&id);
            let ended = Ended {
                status: Status::TimedOut,
                cause: Cause::Deadline,
                retry_after: None,
                payload: Bytes::new(),
            };
            self.actions.push_back(Action::Ended(SendId(id), ended));
        }
        self.earliest = self.pending.values().min().copied().unwrap_or(NEVER);
    }

    fn beat(&self, seq: Seq) -> Encoded {
        let body: &[u8] = match self.dialect {
            Dialect::Plain(1) => b"0",
            _ => b"{\"heartBeat\":0}",
        };
        Encoded::new(Type::HEARTBEAT, seq, 0, body, Bytes::new())
    }

    fn next_id(&mut self) -> u64 {
        let id = self.counter;
        self.counter += 1;
        id
    }

    fn seq(&self, id: u64) -> Seq {
        Seq::from_u128(u128::from(self.base) << 64 | u128::from(id))
    }

    fn id(&self, seq: Seq) -> Option<u64> {
        let value = seq.to_u128()?;
        ((value >> 64) as u64 == self.base).then_some(value as u64)
    }
}

/// Later than any moment a driver reaches.
const NEVER: Time = Time::from_start(Duration::MAX);

#[cfg(test)]
mod tests;
