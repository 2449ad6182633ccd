//! Which message a data frame is about, as a relay may read it: nothing is verified, nothing is copied.

use super::{ATTEMPT, DESTINATIONS, FAN_OUT, FAN_OUT_REPORT, HANDED, INQUIRY, OUTCOME, REFUSED, SendRef};
use crate::{NodeId, Topic, TraceContext, wire::fields::read_varint};

/// What a data frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// A message for one subscriber.
    Attempt,
    /// A message for all subscribers.
    FanOut,
    /// The word that an attempt was handed over.
    Handed,
    /// The end of an attempt, perhaps with its answer.
    Outcome,
    /// How a multicast fares somewhere.
    FanOutReport,
    /// The word that a node on the way passes something not on.
    Refused,
}

/// Which message a data frame is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The node whose send it is.
    pub origin: NodeId,
    /// The send there.
    pub send: SendRef,
    /// The attempt; 0 of a multicast.
    pub number: u32,
    /// What is said of it.
    pub what: Carries,
    /// The trace it is part of, where the message itself passes and says so.
    pub context: Option<TraceContext>,
}

/// Fields of an envelope.
const TOPIC: u64 = 3;
const TRACE_CONTEXT: u64 = 7;
/// How the last field of an envelope that has a trace begins: tag and length.
const CONTEXT: [u8; 2] = [(TRACE_CONTEXT << 3 | 2) as u8, TraceContext::BYTES as u8];

/// What this header is about; `None` if that cannot be read, or it is about no message.
pub fn subject(header: &[u8]) -> Option<Subject> {
    let (mut origin, mut epoch, mut destination) = (None, 0, None);
    let mut fields = Fields(header);
    while let Some((tag, number, value)) = fields.next()? {
        match tag {
            1 => origin = NodeId::from_slice(value),
            2 => epoch = number,
            tag if tag == u64::from(DESTINATIONS) => destination = destination.or(Some(value)),
            tag @ ATTEMPT..=INQUIRY => {
                let what = carried(tag)?;
                let told = Told::read(tag, value)?;
                return match what {
                    Carries::Attempt | Carries::FanOut => {
                        let context = told.next.and_then(context);
                        Some(Subject { context, ..told.about(origin?, epoch, what) })
                    }
                    // A report is about a send of whoever is told.
                    _ => Some(told.about(NodeId::from_slice(destination?)?, told.epoch, what)),
                };
            }
            _ => {}
        }
    }
    None
}

/// Where the message goes whose header this is; `None` if that cannot be read, or it is about one only.
pub fn topic(header: &[u8]) -> Option<Topic> {
    let body = field(header, |tag| [ATTEMPT, FAN_OUT].contains(&tag))?;
    // An envelope is the first field of either that has a length.
    let envelope = field(body, |tag| tag > 1)?;
    Topic::parse(std::str::from_utf8(field(envelope, |tag| tag == TOPIC)?).ok()?).ok()
}

/// The trace that an envelope names. Of nearly all, which name none, two bytes are looked at.
fn context(envelope: &[u8]) -> Option<TraceContext> {
    let (rest, _) = envelope.split_at_checked(envelope.len().checked_sub(TraceContext::BYTES)?)?;
    if !rest.ends_with(&CONTEXT) {
        return None;
    }
    // It could be the end of something else.
    TraceContext::from_slice(field(envelope, |tag| tag == TRACE_CONTEXT)?)
}

/// The value of the first such field that has bytes.
fn field(message: &[u8], is_meant: impl Fn(u64) -> bool) -> Option<&[u8]> {
    let mut fields = Fields(message);
    while let Some((tag, _, value)) = fields.next()? {
        if is_meant(tag) && !value.is_empty() {
            return Some(value);
        }
    }
    None
}

/// The fields of a message, read with less ado than [`skim`](crate::wire::fields::skim): nothing here is told on.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Tag, number and value of the next field, of which it has one; `Some(None)` at the end, `None` if it cannot be
    /// read. Numbers of fixed length have no business here.
    #[inline]
    fn next(&mut self) -> Option<Option<(u64, u64, &'a [u8])>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let (key, rest) = read_varint(self.0)?;
        let (number, rest) = read_varint(rest)?;
        let len = match key & 7 {
            0 => 0,
            2 => usize::try_from(number).ok()?,
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some(Some((key >> 3, number, value)))
    }
}

fn carried(tag: u64) -> Option<Carries> {
    Some(match tag {
        ATTEMPT => Carries::Attempt,
        HANDED => Carries::Handed,
        OUTCOME => Carries::Outcome,
        FAN_OUT => Carries::FanOut,
        FAN_OUT_REPORT => Carries::FanOutReport,
        REFUSED => Carries::Refused,
        _ => return None,
    })
}

/// The numbers at the beginning of a body, and the value that follows them: of a message its envelope.
#[derive(Default)]
struct Told<'a> {
    send: u64,
    number: u64,
    epoch: u64,
    next: Option<&'a [u8]>,
}

impl<'a> Told<'a> {
    fn read(tag: u64, body: &'a [u8]) -> Option<Self> {
        let (number, epoch) = match tag {
            ATTEMPT => (2, 0),
            HANDED => (2, 3),
            OUTCOME => (2, 7),
            FAN_OUT_REPORT => (0, 2),
            REFUSED => (3, 2),
            _ => (0, 0),
        };
        let last = number.max(epoch).max(1);
        let mut told = Self::default();
        let mut fields = Fields(body);
        while let Some((tag, value, bytes)) = fields.next()? {
            match tag {
                // Fields are in order, and what follows may be long.
                tag if tag > last => {
                    told.next = Some(bytes);
                    break;
                }
                1 => told.send = value,
                tag if tag == number => told.number = value,
                tag if tag == epoch => told.epoch = value,
                _ => {}
            }
        }
        Some(told)
    }

    fn about(&self, origin: NodeId, epoch: u64, what: Carries) -> Subject {
        let send = SendRef { epoch, id: self.send };
        Subject { origin, send, number: self.number as u32, what, context: None }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::{
        Cause, ClientIdentity, Fingerprint, Seq,
        wire::peer::{Audience, Body, DataMessage, Envelope, Route, encode},
    };

    fn id(n: u8) -> NodeId {
        NodeId::new([n; 32])
    }

    fn header_of(body: Body) -> Bytes {
        let message = DataMessage { origin: id(1), origin_epoch: 9, body };
        let route = Route { destinations: vec![id(2), id(3)].into(), path: vec![id(4)] };
        encode(&message, &route, 0, Bytes::new()).header
    }

    fn subject_of(body: Body) -> Option<Subject> {
        subject(&header_of(body))
    }

    #[test]
    fn reports_are_about_the_send_of_whom_they_go_to() {
        let send = SendRef { epoch: 5, id: 77 };
        let about = |number, what| Some(Subject { origin: id(2), send, number, what, context: None });
        assert_eq!(subject_of(Body::Handed { send, number: 3 }), about(3, Carries::Handed));
        let outcome = Body::Outcome {
            send,
            number: 4,
            cause: Cause::QueueFull,
            is_final: true,
            exhausted: true,
            answer_prefix: Bytes::from_static(b"\x01"),
        };
        assert_eq!(subject_of(outcome), about(4, Carries::Outcome));
        let report =
            Body::FanOutReport { send, handed: 1, failed: 2, cause: Cause::Delivered, complete: true };
        assert_eq!(subject_of(report), about(0, Carries::FanOutReport));
        let (destinations, cause) = (vec![id(8)], Cause::RelayLimit);
        let refused = Body::Refused { send, number: 6, destinations, cause, retry_after_ms: 1 };
        assert_eq!(subject_of(refused), about(6, Carries::Refused));
    }

    fn envelope(topic: &str, context: Option<TraceContext>) -> Envelope {
        let identity =
            ClientIdentity { fingerprint: Fingerprint::from_slice(&[3; 32]).unwrap(), name: "a".into() };
        Envelope {
            publisher: Arc::new(identity),
            seq: Seq([5; 32]),
            topic: Topic::parse(topic).unwrap(),
            client: Fingerprint::from_slice(&[4; 32]),
            audience: vec![Audience { node: id(2), epoch: 1, sessions: vec![crate::SessionId(7)] }],
            instance: Some(9),
            context,
        }
    }

    /// Whatever else an envelope has: if this fails because there is a field behind the trace, it is to be looked for.
    #[test]
    fn the_trace_and_topic_of_a_message_are_found() {
        let traced = TraceContext::from_slice(&[9; 25]);
        for context in [None, traced] {
            let attempt = |topic| Body::Attempt {
                send: 6,
                number: 2,
                envelope: envelope(topic, context),
                push_timeout_ms: 1000,
            };
            let fan_out =
                |topic| Body::FanOut { send: 6, envelope: envelope(topic, context), recipients: true };
            for (body, number, what) in
                [(attempt("orders"), 2, Carries::Attempt), (fan_out("orders"), 0, Carries::FanOut)]
            {
                let send = SendRef { epoch: 9, id: 6 };
                let expected = Subject { origin: id(1), send, number, what, context };
                assert_eq!(subject_of(body.clone()), Some(expected));
                assert_eq!(topic(&header_of(body)), Topic::parse("orders").ok());
            }
        }
        // What only looks like a trace is none.
        let mut bare = envelope("orders", None);
        let mut fingerprint = [9; 32];
        fingerprint[5..7].copy_from_slice(&CONTEXT);
        (bare.client, bare.instance) = (Fingerprint::from_slice(&fingerprint), None);
        bare.audience.clear();
        let body = Body::FanOut { send: 1, envelope: bare, recipients: false };
        assert_eq!(subject_of(body).map(|subject| subject.context), Some(None));
        let handed = Body::Handed { send: SendRef { epoch: 1, id: 1 }, number: 1 };
        assert_eq!(topic(&header_of(handed)), None);
        assert_eq!(topic(b"\xff"), None);
    }

    #[test]
    fn what_cannot_be_read_is_about_nothing() {
        assert_eq!(subject(b""), None);
        assert_eq!(subject(b"\xff\xff"), None);
        assert_eq!(subject_of(Body::Inquiry { id: 1, is_answer: false }), None);
    }
}
