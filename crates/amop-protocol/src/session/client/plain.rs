//! Frames of a node that speaks plain 2.x frames.

use bytes::Bytes;

use super::{Action, Deliver, Ended, Push, Session};
use crate::{
    Cause, Retry, Status,
    broker::event::Mode,
    wire::channel::{Frame, TopicBody},
};

impl Session {
    pub(super) fn handle_answer(&mut self, frame: Frame) {
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
        let retry = if status == Status::NotHanded { Retry::MayRepeat } else { cause.retry() };
        self.ended(frame.seq, Ended { status, cause, retry_after: None, retry, hop: None, payload });
    }

    pub(super) fn handle_push(&mut self, frame: Frame, mode: Mode) {
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
            context: None,
            payload: body.payload,
        }));
    }
}
