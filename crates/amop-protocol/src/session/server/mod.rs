//! One client's session as its node sees it: frames in, events out, and back.
//!
//! It owns what belongs to the session alone: the version spoken, whether extensions were
//! granted, which sends have no outcome yet, and when bytes last passed. It neither routes nor
//! writes; every frame leads to exactly one [`Event`], and its driver carries that out.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use bytes::Bytes;

use super::{
    handshake::{self, HandshakeError, Protocol},
    heartbeat,
    startup::{self, Facts},
    verification::Inquiry,
};
use crate::{
    Cause, Seq, Status, Time,
    broker::{
        event::{AnswerBody, Mode, Outcome, Push, PushId},
        private::Ask,
    },
    topic::{Kind, MAX_TOPIC_BYTES},
    wire::{
        channel::{Encoded, Frame, TopicBody, Type},
        extension::{ExtensionError, FromClient, FromNode},
    },
};

mod event;
mod frames;
mod outcome;
mod topics;
mod unreceived;

pub use event::{Acknowledge, Close, Config, Event, Ignored, Published, Report};

pub(crate) use frames::MAX_REFUSED_NAMED;
use frames::{answer, answered, no_such_group, reply, report, subscribe, verdict};
use outcome::{extended_outcome, plain_outcome};
pub(crate) use unreceived::MAX_UNRECEIVED;
use unreceived::Unreceived;

/// The state of one session.
#[derive(Debug)]
pub struct Server {
    protocol: Protocol,
    /// The instance of an extension client; 0 if it named none.
    extension: Option<u128>,
    /// Sends without an outcome, by seq: one seq may name several, on different topics.
    in_flight: BTreeMap<Seq, usize>,
    in_flight_total: usize,
    last_byte: Time,
    /// What an extension client was sent and has not said to have received.
    unreceived: Unreceived,
}

impl Server {
    /// A session that has just come up.
    pub fn new(now: Time) -> Self {
        Self {
            protocol: Protocol::V1,
            extension: None,
            in_flight: BTreeMap::new(),
            in_flight_total: 0,
            last_byte: now,
            unreceived: Unreceived::default(),
        }
    }

    /// The version agreed on; 1 without a handshake.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether the client was granted extension frames.
    pub fn is_extended(&self) -> bool {
        self.extension.is_some()
    }

    /// The running application that an extension client named.
    pub fn instance(&self) -> Option<u128> {
        self.extension.filter(|instance| *instance != 0)
    }

    /// Sends that have no outcome yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight_total
    }

    /// Bytes passed, in whichever direction.
    pub fn handle_bytes(&mut self, now: Time) {
        self.last_byte = now;
    }

    /// When [`Server::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self, config: &Config) -> Time {
        self.last_byte + config.idle
    }

    /// Time passed.
    ///
    /// # Errors
    /// When the session is to be closed because nothing happened for too long.
    pub fn handle_timeout(&mut self, now: Time, config: &Config) -> Result<(), Close> {
        if now >= self.poll_timeout(config) { Err(Close::Idle(config.idle)) } else { Ok(()) }
    }

    /// Takes one frame of the client.
    ///
    /// # Errors
    /// When the session is to be closed.
    pub fn handle_frame(&mut self, frame: Frame, config: &Config) -> Result<Event, Close> {
        match frame.kind {
            Type::UNICAST => Ok(self.publish(frame, Mode::Unicast, config)),
            Type::MULTICAST => Ok(self.publish(frame, Mode::Multicast, config)),
            Type::ANSWER => Ok(answer(frame)),
            Type::HEARTBEAT => Ok(self.heartbeat(&frame)),
            Type::JSON_RPC => Ok(Event::Call { seq: frame.seq, body: frame.body }),
            Type::HANDSHAKE => self.handshake(&frame, config),
            Type::TOPICS => report(&frame, config),
            Type::EVENT_REGISTER | Type::EVENT_UNREGISTER => Ok(no_such_group(&frame)),
            Type::VERIFIED => Ok(verdict(&frame)),
            // The acknowledgement of a question.
            Type::VERIFY => Ok(Event::Ignored(Ignored::Verification)),
            kind if kind.is_extension() && self.is_extended() => self.handle_extension(&frame, config),
            _ => Ok(Event::Ignored(Ignored::UnknownType)),
        }
    }

    /// Answers a JSON-RPC call.
    pub fn answer_call(seq: Seq, body: &[u8], facts: Facts<'_>) -> Encoded {
        let (head, rest) = startup::answer(body, facts);
        Encoded::new(Type::JSON_RPC, seq, 0, &head, rest)
    }

    /// The frame that acknowledges a subscription; `complete` if all reachable nodes know of it.
    pub fn subscribed(acknowledge: Acknowledge, complete: bool) -> Encoded {
        let Acknowledge { seq, accepted, refused } = acknowledge;
        FromNode::Subscribed { accepted, refused, complete }.encode(seq)
    }

    /// The frame that hands a message to this client.
    pub fn push<'a>(&mut self, push: &'a Push) -> Cow<'a, Encoded> {
        if self.is_extended() {
            self.unreceived.sent(push.id, push.mode);
            return push.to_frame();
        }
        let kind = match push.mode {
            Mode::Unicast => Type::UNICAST,
            Mode::Multicast => Type::MULTICAST,
        };
        Cow::Owned(Encoded::with_topic(kind, push.id.to_seq(), 0, &push.topic, push.payload.clone()))
    }

    /// The frame that puts a question to a publisher.
    pub fn question(ask: &Ask) -> Encoded {
        let (topic, channel) = (ask.topic.clone(), ask.channel.clone());
        let body = Inquiry { question: ask.question.to_hex(), topic, channel }.encode();
        Encoded::new(Type::VERIFY, ask.to_seq(), 0, &[], body)
    }

    /// The frame that tells this client how its send ended.
    pub fn outcome(&mut self, outcome: Outcome) -> Encoded {
        self.settle(outcome.seq);
        if self.is_extended() { extended_outcome(outcome) } else { plain_outcome(outcome) }
    }

    /// The frame that tells an extension client that a subscriber was handed its message.
    pub fn handed_over(&self, seq: Seq) -> Option<Encoded> {
        self.is_extended().then(|| FromNode::HandedOver.encode(seq))
    }

    /// The frame that tells an extension client to go elsewhere; 2.x clients know no such thing.
    pub fn goodbye(&self, grace: Duration) -> Option<Encoded> {
        self.is_extended().then(|| FromNode::Goodbye { grace }.encode(Seq([b'0'; 32])))
    }

    fn heartbeat(&self, frame: &Frame) -> Event {
        match heartbeat::reply(self.protocol, &frame.body) {
            Some(body) => reply(Type::HEARTBEAT, frame.seq, Bytes::from_static(body)),
            None => Event::Ignored(Ignored::Heartbeat),
        }
    }

    fn handshake(&mut self, frame: &Frame, config: &Config) -> Result<Event, Close> {
        let agreed = match handshake::negotiate(&frame.body) {
            Ok(agreed) => agreed,
            Err(HandshakeError::NotJson) => return Ok(Event::Ignored(Ignored::Malformed)),
            Err(error @ HandshakeError::NoOverlap { .. }) => return Err(Close::Incompatible(error)),
        };
        self.protocol = agreed.protocol;
        self.extension = agreed.extension;
        self.unreceived.clear();
        let body = handshake::reply(&config.startup.version, &agreed, &config.about);
        Ok(reply(Type::HANDSHAKE, frame.seq, body))
    }

    fn publish(&mut self, frame: Frame, mode: Mode, config: &Config) -> Event {
        let seq = frame.seq;
        let parsed =
            TopicBody::parse(frame.body).ok().and_then(|body| Some((body.topic().ok()?, body.payload)));
        match parsed {
            Some((topic, payload)) => {
                self.admit(Published { seq, mode, topic, payload, deadline: None, wishes: None }, config)
            }
            None => self.refuse(seq, Cause::BadTopic, config),
        }
    }

    /// Checks what depends on the session; what depends on the network is for delivery to say.
    fn admit(&mut self, published: Published, config: &Config) -> Event {
        let Published { seq, ref topic, .. } = published;
        // go-sdk has no handler for these, and a message on one ends the client.
        if topic.kind() == Kind::BlockNotify {
            return self.refuse(seq, Cause::ReservedTopic, config);
        }
        if self.in_flight_total >= config.max_in_flight {
            return self.refuse(seq, Cause::ClientQuota, config);
        }
        *self.in_flight.entry(seq).or_default() += 1;
        self.in_flight_total += 1;
        Event::Publish(published)
    }

    /// One of the sends with this seq has its outcome.
    fn settle(&mut self, seq: Seq) {
        let Some(sends) = self.in_flight.get_mut(&seq) else { return };
        *sends -= 1;
        self.in_flight_total -= 1;
        if *sends == 0 {
            self.in_flight.remove(&seq);
        }
    }

    fn refuse(&self, seq: Seq, cause: Cause, config: &Config) -> Event {
        let status = cause.status();
        let frame = if self.is_extended() {
            let retry_after = (status == Status::Refused).then_some(QUOTA_RETRY);
            let hop = Some(Box::new(config.about.hop()));
            let (retry, payload) = (cause.retry(), Bytes::new());
            FromNode::PublishResult { status, cause, retry_after, retry, hop, payload }.encode(seq)
        } else {
            Encoded::empty(Type::ANSWER, seq, status.code())
        };
        Event::Refused(frame, cause)
    }

    fn received(&mut self, seq: Seq) -> Event {
        let received = PushId::from_seq(seq).map(|push| self.unreceived.received(push)).unwrap_or_default();
        match received.is_empty() {
            true => Event::Ignored(Ignored::UnknownAnswer),
            false => Event::Received(received),
        }
    }

    fn answered(&mut self, seq: Seq, result: i32, body: AnswerBody) -> Event {
        match answered(seq, result, body) {
            Event::Answer(push, answer, _) => Event::Answer(push, answer, self.unreceived.answered(push)),
            other => other,
        }
    }

    fn handle_extension(&mut self, frame: &Frame, config: &Config) -> Result<Event, Close> {
        // Longer than the longest topics are: whatever it holds, there are too many.
        let longest = config.max_topics.saturating_mul(MAX_TOPIC_BYTES + 3) + 2;
        if frame.kind == Type::SUBSCRIBE && frame.body.len() > longest {
            return Err(Close::TooManyTopics(config.max_topics));
        }
        Ok(match FromClient::decode(frame) {
            Ok(FromClient::Subscribe { topics }) => return subscribe(frame.seq, topics, config),
            Ok(FromClient::Publish { mode, topic, deadline, wishes, payload }) => {
                self.admit(Published { seq: frame.seq, mode, topic, payload, deadline, wishes }, config)
            }
            Ok(FromClient::Received) => self.received(frame.seq),
            Ok(FromClient::Answer { result, payload }) => {
                self.answered(frame.seq, result, AnswerBody { prefix: Bytes::new(), payload })
            }
            Err(ExtensionError::Unknown(_)) => Event::Ignored(Ignored::UnknownType),
            // Every send gets an outcome, also one that cannot be read.
            Err(_) if frame.kind == Type::PUBLISH => self.refuse(frame.seq, Cause::BadTopic, config),
            Err(_) => Event::Ignored(Ignored::Malformed),
        })
    }
}

/// What a client whose quota is used up is told to wait.
const QUOTA_RETRY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
