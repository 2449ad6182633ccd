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
    broker::event::Mode,
    session::verification::{Inquiry, Verdict},
    wire::{
        channel::{Encoded, Frame, Type},
        extension::{ExtensionError, FromClient, FromNode, Recent},
    },
};

mod event;
mod greeting;
mod plain;
mod receipts;

pub use event::{
    Action, Config, Deliver, Dialect, Ended, Fault, Message, Push, ReportId, SendError, SendId, TooLarge,
};
pub use greeting::{Greeting, GreetingError, Step};

/// Topic reports of which an acknowledgement is awaited; beyond this the oldest is forgotten,
/// since a later acknowledgement covers it.
const MAX_REPORTS: usize = 1024;

/// How much longer than the node's own deadline its outcome is waited for.
const MARGIN: Duration = Duration::from_secs(1);

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
    /// What the node is yet to be told to have arrived.
    receipt: Option<receipts::Receipt>,
    recent: Recent,
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
            receipt: None,
            recent: Recent::default(),
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
    /// When it does not fit a frame, or is for certain subscribers and the node is a plain one.
    pub fn send(&mut self, now: Time, message: Message) -> Result<SendId, SendError> {
        let id = self.next_id();
        let id = SendId(self.seq(id));
        self.send_as(now, id, message).map(|()| id)
    }

    /// Sends a message that was named elsewhere: it is the same one, to nodes and subscribers, as
    /// what was sent under this name through another connection.
    ///
    /// # Errors
    /// As [`Session::send`].
    pub fn send_as(&mut self, now: Time, id: SendId, message: Message) -> Result<(), SendError> {
        let addressed = message.wishes.as_ref().is_some_and(|wishes| !wishes.address.is_any());
        if addressed && self.dialect != Dialect::Extended {
            return Err(SendError::NotAddressable);
        }
        let patience = message.deadline.map_or(self.config.patience, |deadline| match self.dialect {
            Dialect::Extended => deadline.saturating_add(MARGIN),
            // The node knows of no deadline; this end keeps it.
            Dialect::Plain(_) => deadline,
        });
        let frame = self.encode(id.0, message);
        if frame.wire_len() > self.config.max_frame {
            return Err(TooLarge { len: frame.wire_len(), max: self.config.max_frame }.into());
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
        self.receipt_by_answer(push.seq);
        Ok(())
    }

    /// Says whether a subscriber of a private topic may have it. The node puts this in force before
    /// it handles what is sent next.
    pub fn decide(&mut self, verdict: &Verdict) {
        let id = self.next_id();
        let body = verdict.encode();
        self.frames.push_back(Encoded::new(Type::VERIFIED, self.seq(id), 0, &body, Bytes::new()));
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
            (_, Type::VERIFY) => self.handle_inquiry(&frame),
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
        self.receipt_timeout(now);
        Ok(())
    }

    /// When [`Session::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Time {
        let receipt = self.receipt_due().unwrap_or(NEVER);
        self.next_beat.min(self.earliest).min(receipt).min(self.heard + self.config.silence)
    }

    /// The next frame to write.
    pub fn poll_frame(&mut self) -> Option<Encoded> {
        self.frames.pop_front().or_else(|| self.receipt_frame())
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
        let Message { mode, topic, payload, deadline, wishes } = message;
        match (self.dialect, mode) {
            (Dialect::Extended, _) => {
                FromClient::Publish { mode, topic, deadline, wishes, payload }.encode(seq)
            }
            (Dialect::Plain(_), Mode::Unicast) => Encoded::with_topic(Type::UNICAST, seq, 0, &topic, payload),
            (Dialect::Plain(_), Mode::Multicast) => {
                Encoded::with_topic(Type::MULTICAST, seq, 0, &topic, payload)
            }
        }
    }

    fn handle_extension(&mut self, frame: &Frame) -> Result<(), Fault> {
        let message = match FromNode::decode_after(frame, &mut self.recent) {
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
            FromNode::PublishResult { status, cause, retry_after, retry, hop, payload } => {
                self.ended(frame.seq, Ended { status, cause, retry_after, retry, hop, payload });
            }
            FromNode::HandedOver => self.handed_over(frame.seq),
            FromNode::Deliver { mode, topic, sender, answer_within, message, context, payload } => {
                self.actions.push_back(Action::Deliver(Deliver {
                    push: Push { seq: frame.seq, topic: topic.clone() },
                    mode,
                    topic,
                    sender: Some(sender),
                    answer_within: (mode == Mode::Unicast).then_some(answer_within),
                    message,
                    context,
                    payload,
                }));
            }
            FromNode::Goodbye { grace } => self.actions.push_back(Action::Drain(grace)),
        }
        Ok(())
    }

    fn handle_inquiry(&mut self, frame: &Frame) {
        let Some(inquiry) = Inquiry::decode(&frame.body) else {
            self.ignored += 1;
            return;
        };
        self.frames.push_back(Encoded::empty(Type::VERIFY, frame.seq, 0));
        self.actions.push_back(Action::Asked(inquiry));
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

    fn handed_over(&mut self, seq: Seq) {
        match self.pending.contains_key(&seq) {
            true => self.actions.push_back(Action::Handed(SendId(seq))),
            false => self.ignored += 1,
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
                retry: Cause::Deadline.retry(),
                hop: None,
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
