//! Frames that need nothing of the session: what each says.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{
    Acknowledge, Close, Config, Event, Ignored, Report,
    topics::{TopicList, TopicListError},
};
use crate::{
    Seq, Topic,
    broker::{
        event::{Answer, AnswerBody, PushId},
        private::Ask,
    },
    session::verification::Verdict,
    topic::MAX_TOPIC_BYTES,
    wire::channel::Encoded,
    wire::channel::{Frame, TopicBody, Type},
};

/// How many refused names an acknowledgement repeats.
pub(crate) const MAX_REFUSED_NAMED: usize = 64;

pub(super) fn reply(kind: Type, seq: Seq, body: Bytes) -> Event {
    Event::Reply(Encoded::new(kind, seq, 0, &[], body))
}

/// The answer to whoever wants events of a group: it does not exist.
pub(super) fn no_such_group(frame: &Frame) -> Event {
    reply(frame.kind, frame.seq, Bytes::from_static(b"\x01{\"result\":-41002}\n"))
}

pub(super) fn answer(frame: Frame) -> Event {
    let body = match TopicBody::parse(frame.body.clone()) {
        Ok(body) => AnswerBody { prefix: body.prefix().clone(), payload: body.payload },
        // Empty, or malformed: then it is the payload, under a prefix that whoever writes it adds.
        Err(_) => AnswerBody { prefix: Bytes::new(), payload: frame.body },
    };
    answered(frame.seq, frame.result, body)
}

pub(super) fn answered(seq: Seq, result: i32, body: AnswerBody) -> Event {
    let Some(push) = PushId::from_seq(seq) else {
        // go-sdk acknowledges a question so.
        let why = if Ask::is_seq(seq) { Ignored::Verification } else { Ignored::UnknownAnswer };
        return Event::Ignored(why);
    };
    let body = if result == 0 { body } else { AnswerBody::default() };
    Event::Answer(push, Answer { result, body }, Vec::new())
}

pub(super) fn verdict(frame: &Frame) -> Event {
    Verdict::decode(&frame.body).map_or(Event::Ignored(Ignored::Malformed), Event::Verdict)
}

pub(super) fn report(frame: &Frame, config: &Config) -> Result<Event, Close> {
    match TopicList::from_json(&frame.body, config.max_topics) {
        Ok(TopicList { topics, refused }) => {
            let topics = topics.into_iter().collect();
            Ok(Event::Report(Report { topics, refused, acknowledge: None }))
        }
        Err(TopicListError::NotAList) => Ok(Event::Ignored(Ignored::Malformed)),
        Err(TopicListError::TooMany) => Err(Close::TooManyTopics(config.max_topics)),
    }
}

pub(super) fn subscribe(seq: Seq, names: Vec<String>, config: &Config) -> Result<Event, Close> {
    let mut topics = BTreeSet::new();
    let mut bad = Vec::new();
    let mut refused = 0;
    for name in names {
        match Topic::parse(&name) {
            Ok(topic) => drop(topics.insert(topic)),
            Err(_) => {
                refused += 1;
                if bad.len() < MAX_REFUSED_NAMED {
                    bad.push(name[..name.floor_char_boundary(MAX_TOPIC_BYTES)].to_owned());
                }
            }
        }
    }
    if topics.len() > config.max_topics {
        return Err(Close::TooManyTopics(config.max_topics));
    }
    let accepted = u32::try_from(topics.len()).unwrap_or(u32::MAX);
    let acknowledge = Some(Acknowledge { seq, accepted, refused: bad });
    Ok(Event::Report(Report { topics: topics.into_iter().collect(), refused, acknowledge }))
}
