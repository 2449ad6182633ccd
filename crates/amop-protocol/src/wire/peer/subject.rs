//! Which message a data frame is about, as a relay may read it: nothing is verified, nothing is copied.

use super::{ATTEMPT, DESTINATIONS, FAN_OUT, FAN_OUT_REPORT, HANDED, INQUIRY, OUTCOME, REFUSED, SendRef};
use crate::{NodeId, wire::fields::read_varint};

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
}

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
                    Carries::Attempt | Carries::FanOut => told.about(origin?, epoch, what),
                    // A report is about a send of whoever is told.
                    _ => told.about(NodeId::from_slice(destination?)?, told.epoch, what),
                };
            }
            _ => {}
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

/// The numbers at the beginning of a body.
#[derive(Default)]
struct Told {
    send: u64,
    number: u64,
    epoch: u64,
}

impl Told {
    fn read(tag: u64, body: &[u8]) -> Option<Self> {
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
        while let Some((tag, value, _)) = fields.next()? {
            match tag {
                // Fields are in order, and what follows may be long.
                tag if tag > last => break,
                1 => told.send = value,
                tag if tag == number => told.number = value,
                tag if tag == epoch => told.epoch = value,
                _ => {}
            }
        }
        Some(told)
    }

    fn about(&self, origin: NodeId, epoch: u64, what: Carries) -> Option<Subject> {
        let send = SendRef { epoch, id: self.send };
        Some(Subject { origin, send, number: self.number as u32, what })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        Cause,
        wire::peer::{Body, DataMessage, Route, encode},
    };

    fn id(n: u8) -> NodeId {
        NodeId::new([n; 32])
    }

    fn subject_of(body: Body) -> Option<Subject> {
        let message = DataMessage { origin: id(1), origin_epoch: 9, body };
        let route = Route { destinations: vec![id(2), id(3)], path: vec![id(4)] };
        subject(&encode(&message, &route, 0, Bytes::new()).header)
    }

    #[test]
    fn reports_are_about_the_send_of_whom_they_go_to() {
        let send = SendRef { epoch: 5, id: 77 };
        let about = |number, what| Some(Subject { origin: id(2), send, number, what });
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

    #[test]
    fn what_cannot_be_read_is_about_nothing() {
        assert_eq!(subject(b""), None);
        assert_eq!(subject(b"\xff\xff"), None);
        assert_eq!(subject_of(Body::Inquiry { id: 1, is_answer: false }), None);
    }
}
