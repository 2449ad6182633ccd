//! A message given to sessions of this node, and what becomes of it there.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, BytesMut};

use super::{
    Delivery, Wake,
    outcome::Ended,
    reception::{ActivePush, Reception, Stage, To},
    tell::Verdict,
};
use crate::{
    Cause, NodeId, SessionId, Time, Topic,
    broker::{
        dedup::MessageKey,
        event::{Action, Answer, AnswerBody, Handout, Mode, Push, PushError, PushId, Sender},
        journal::Step,
        routing::Routing,
    },
};

impl Delivery {
    /// Pushes the message of a reception.
    pub(super) fn give(&mut self, now: Time, routing: &Routing, key: MessageKey, wait: Duration, to: To) {
        let id = PushId(self.number());
        let Some(reception) = self.received.running(key) else { return };
        reception.push = Some(id);
        let step = match &to {
            To::One { session, .. } => Step::Pushed { session: *session },
            To::All(recipients) => Step::PushedAll { sessions: recipients.left() as u32 },
        };
        for waiting in &reception.requesters {
            self.journal.note(waiting.key(), waiting.number, step);
        }
        let deadline = now + wait + self.config.transfer(reception.payload.len());
        let handout = |mode| handout_of(reception, self.me, routing, id, mode, wait);
        match &to {
            To::One { session, .. } => {
                let push = Push { session: *session, handout: Arc::new(handout(Mode::Unicast)) };
                self.counters.pushes += 1;
                self.actions.push(Action::Push(push));
            }
            To::All(recipients) => {
                let mut handout = handout(Mode::Multicast);
                handout.frame = (recipients.left() > 1).then(|| handout.to_frame().into_owned());
                self.counters.pushes += recipients.left() as u64;
                self.actions.hand(handout, recipients.sessions());
            }
        }
        self.pushes.insert(id, ActivePush { key, deadline, to });
        self.wheel.arm(now, deadline, Wake::Push(id));
    }

    /// A session was handed a push, or could not be.
    pub(super) fn push_written(
        &mut self,
        now: Time,
        routing: &Routing,
        session: SessionId,
        id: PushId,
        result: Result<(), PushError>,
    ) {
        let Some(push) = self.pushes.get_mut(&id) else { return };
        let key = push.key;
        match (&mut push.to, result) {
            (To::One { session: asked, .. }, _) if *asked != session => {}
            (To::One { stage, .. }, Ok(())) => {
                *stage = Stage::Handed;
                self.tell_handed_to(routing, key, session);
            }
            (To::One { stage, .. }, Err(error)) => {
                let stage = *stage;
                let cause = if stage == Stage::Handed { Cause::AnswerLost } else { cause_of(error) };
                self.pushes.remove(&id);
                self.push_failed(now, routing, key, (session, stage), cause);
            }
            (To::All(recipients), Ok(())) => {
                let is_news = recipients.hand(session);
                // Of most it is enough that they are counted.
                let matters = recipients.handed() == 1 || recipients.is_empty() || recipients.are_named;
                if is_news && matters {
                    self.recipient_handed(now, routing, (session, id));
                }
            }
            (To::All(_), Err(error)) => self.recipient_failed(now, routing, (session, id), error),
        }
    }

    /// The first recipient of a multicast was handed it, or the last, or one whose name is wanted.
    fn recipient_handed(&mut self, now: Time, routing: &Routing, (session, id): (SessionId, PushId)) {
        let Some(ActivePush { key, to: To::All(recipients), .. }) = self.pushes.get(&id) else { return };
        let (key, is_first, is_named) = (*key, recipients.handed() == 1, recipients.are_named);
        let is_last = recipients.is_empty();
        if is_first && let Some(reception) = self.received.running(key) {
            for waiting in &reception.requesters {
                self.journal.note(waiting.key(), 0, Step::Handed { session });
            }
        }
        if is_named {
            self.name_recipient(key, session, Cause::Delivered);
        }
        if is_last {
            self.fan_out_done(now, routing, id);
        } else if is_first {
            self.tell_first_handed(routing, key);
        }
    }

    /// One recipient of a multicast could not be handed it; perhaps it has another session.
    fn recipient_failed(
        &mut self,
        now: Time,
        routing: &Routing,
        (session, id): (SessionId, PushId),
        error: PushError,
    ) {
        let Some(ActivePush { key, to: To::All(sessions), .. }) = self.pushes.get_mut(&id) else { return };
        let Some(stage) = sessions.remove(session) else { return };
        let key = *key;
        let spare = match stage {
            Stage::Queued => self.spare(routing, key, session),
            // It may have arrived.
            _ => None,
        };
        let Some(ActivePush { to: To::All(sessions), .. }) = self.pushes.get_mut(&id) else { return };
        if let Some(spare) = spare
            && let Some(reception) = self.received.running(key)
        {
            sessions.insert(spare);
            let wait = self.config.push_timeout_max;
            let handout = handout_of(reception, self.me, routing, id, Mode::Multicast, wait);
            self.counters.pushes += 1;
            self.actions.push(Action::Push(Push { session: spare, handout: Arc::new(handout) }));
            return;
        }
        let is_last = sessions.is_empty();
        self.recipient_lost(key, session, cause_of(error));
        if is_last {
            self.fan_out_done(now, routing, id);
        }
    }

    /// Whether a request was written to a session here that has not said that it received it.
    pub(super) fn is_written_here(&mut self, key: MessageKey) -> bool {
        let push = self.received.running(key).and_then(|reception| reception.push);
        let push = push.and_then(|id| self.pushes.get(&id));
        push.is_some_and(|push| matches!(push.to, To::One { stage: Stage::Written, .. }))
    }

    fn tell_handed_to(&mut self, routing: &Routing, key: MessageKey, session: SessionId) {
        let Some(reception) = self.received.running(key) else { return };
        for waiting in reception.requesters.clone() {
            self.note_for(&waiting.requester, waiting.number, Step::Handed { session });
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
            self.note_for(&waiting.requester, waiting.number, Step::Answered { session, cause });
            self.report_outcome(routing, waiting, cause, Verdict::Final, &body);
        }
        let ended = Ended::with_body(cause, [1, 0], &body, &mut self.received_pages);
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
            To::One { session, stage } => {
                self.push_failed(now, routing, key, (session, stage), stage.timed_out());
            }
            To::All(sessions) => {
                for (session, stage) in sessions.iter() {
                    self.recipient_lost(key, session, stage.timed_out());
                }
                self.fan_out_over(now, routing, key, sessions.handed());
            }
        }
    }
}

/// The message of a reception, as sessions are handed it.
fn handout_of(
    reception: &Reception,
    me: NodeId,
    routing: &Routing,
    id: PushId,
    mode: Mode,
    wait: Duration,
) -> Handout {
    let origin = reception.requesters.first().map_or(me, |waiting| waiting.requester.node);
    Handout {
        id,
        mode,
        topic: reception.envelope.topic.clone(),
        payload: reception.payload.clone(),
        sender: Sender {
            institution: routing.find(&origin).map_or_else(|| "".into(), |node| node.institution.clone()),
            node: origin,
            client: reception.envelope.publisher.clone(),
        },
        answer_within: wait,
        message: reception.envelope.seq,
        context: reception.envelope.context,
        frame: None,
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
