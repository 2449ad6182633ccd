//! A message given to sessions of this node, and what becomes of it there.

use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::{
    Delivery, Wake,
    outcome::{Ended, compact},
    reception::{ActivePush, To},
    tell::Verdict,
};
use crate::{
    Cause, SessionId, Time, Topic,
    broker::{
        dedup::MessageKey,
        event::{Action, Answer, AnswerBody, Mode, Push, PushError, PushId, Sender},
        routing::Routing,
    },
};

impl Delivery {
    /// Pushes the message of a reception.
    pub(super) fn give(&mut self, now: Time, routing: &Routing, key: MessageKey, wait: Duration, to: To) {
        let id = PushId(self.number());
        let Some(reception) = self.received.running(key) else { return };
        reception.push = Some(id);
        let deadline = now + wait + self.config.transfer(reception.payload.len());
        let (mode, sessions) = match &to {
            To::One { session, .. } => (Mode::Unicast, vec![*session]),
            To::All(sessions) => (Mode::Multicast, sessions.iter().copied().collect()),
        };
        let origin = reception.requesters.first().map_or(self.me, |waiting| waiting.requester.node);
        let sender = Sender {
            institution: routing.find(&origin).map_or_else(|| "".into(), |node| node.institution.clone()),
            node: origin,
            client: reception.envelope.publisher.clone(),
        };
        for session in sessions {
            self.counters.pushes += 1;
            self.actions.push_back(Action::Push(Push {
                id,
                session,
                mode,
                topic: reception.envelope.topic.clone(),
                payload: reception.payload.clone(),
                sender: sender.clone(),
                answer_within: wait,
                message: reception.envelope.seq,
            }));
        }
        self.pushes.insert(id, ActivePush { key, deadline, to });
        self.wheel.arm(now, deadline, Wake::Push(id));
    }

    pub(super) fn push_written(
        &mut self,
        now: Time,
        routing: &Routing,
        session: SessionId,
        id: PushId,
        result: Result<(), PushError>,
    ) {
        let Some(push) = self.pushes.get_mut(&id).filter(|push| push.concerns(session)) else { return };
        let key = push.key;
        match (&mut push.to, result) {
            (To::One { handed, .. }, Ok(())) => {
                *handed = true;
                self.tell_handed_to(routing, key);
            }
            (To::One { handed, .. }, Err(error)) => {
                let cause = if *handed { Cause::AnswerLost } else { cause_of(error) };
                self.pushes.remove(&id);
                self.push_failed(now, routing, key, cause);
            }
            (To::All(sessions), result) => {
                sessions.remove(&session);
                let over = sessions.is_empty();
                self.fan_out_progress(now, routing, key, result.err().map(cause_of), over.then_some(id));
            }
        }
    }

    fn tell_handed_to(&mut self, routing: &Routing, key: MessageKey) {
        let Some(reception) = self.received.running(key) else { return };
        reception.handed += 1;
        for waiting in reception.requesters.clone() {
            self.report_handed(routing, waiting);
        }
    }

    pub(super) fn push_answered(
        &mut self,
        now: Time,
        routing: &Routing,
        session: SessionId,
        id: PushId,
        answer: Answer,
    ) {
        let key = match self.pushes.get(&id) {
            Some(ActivePush { key, to: To::One { session: asked, .. }, .. }) if *asked == session => *key,
            // SDKs answer multicasts too; nobody waits for that.
            _ => {
                self.counters.late_answers += 1;
                return;
            }
        };
        self.pushes.remove(&id);
        let Some(reception) = self.received.running(key) else { return };
        let (cause, body) = if answer.result == 0 {
            (Cause::Delivered, well_formed(&reception.envelope.topic, answer.body))
        } else {
            (Cause::SubscriberRefused, AnswerBody::default())
        };
        for waiting in std::mem::take(&mut reception.requesters) {
            self.report_outcome(routing, waiting, cause, Verdict::Final, &body);
        }
        let ended = Ended { cause, handed: 1, failed: 0, body: compact(&body) };
        let bytes = ended.bytes();
        self.received.end(key, ended, bytes, now + self.config.retention());
    }

    pub(super) fn push_woken(&mut self, now: Time, routing: &Routing, id: PushId) {
        let Some(push) = self.pushes.get(&id) else { return };
        if push.deadline > now {
            self.wheel.arm(now, push.deadline, Wake::Push(id));
            return;
        }
        let key = push.key;
        let Some(push) = self.pushes.remove(&id) else { return };
        match push.to {
            To::One { handed: true, .. } => self.push_failed(now, routing, key, Cause::PushTimeout),
            To::One { handed: false, .. } => self.push_failed(now, routing, key, Cause::WriteFailed),
            To::All(sessions) => {
                if let Some(reception) = self.received.running(key) {
                    reception.lost += sessions.len() as u32;
                    reception.worst = reception.worst.worse(Cause::WriteFailed);
                }
                self.fan_out_over(now, routing, key);
            }
        }
    }
}

fn cause_of(error: PushError) -> Cause {
    match error {
        PushError::Gone => Cause::SessionGone,
        PushError::Full => Cause::QueueFull,
        PushError::WriteFailed => Cause::WriteFailed,
    }
}

/// An answer that is not a topic body becomes the payload of one: a malformed body crashes some SDKs.
fn well_formed(topic: &Topic, body: AnswerBody) -> AnswerBody {
    if !body.prefix.is_empty() || body.payload.is_empty() {
        return body;
    }
    let name = topic.as_str().as_bytes();
    let mut prefix = BytesMut::with_capacity(name.len() + 1);
    prefix.put_u8(name.len() as u8 + 1);
    prefix.put_slice(name);
    AnswerBody { prefix: prefix.freeze(), payload: body.payload }
}
