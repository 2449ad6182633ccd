//! Questions about what became of a message, and what nodes have written down of it: payloads of
//! [`Inquiry`](super::peer::Body::Inquiry).

use bytes::Bytes;
use prost::Message;
use smallvec::smallvec;

use super::{
    generated::{Account, JournalFrame, JournalKind, JournalReason, JournalStep, Question},
    link::LinkFrame,
    peer::{Body, Carries, DataMessage, Route},
};
use crate::{
    NodeId, Seq, Time,
    broker::{
        event::Mode,
        journal::{Brief, Entry, Key, Step, Why},
        routing::Routing,
        seal,
    },
};

/// Most steps of one account.
pub const MAX_STEPS: usize = 512;
/// Longest account and question, in bytes.
pub const MAX_ACCOUNT_BYTES: usize = 256 * 1024;
/// Longest text of a step, in bytes.
pub const MAX_TEXT: usize = 256;

/// Which message is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A send of this node; the key says which.
    Send(NodeId, Key),
    /// What its publisher calls it.
    Seq(Seq),
}

/// A question or an answer that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InquiryError {
    /// It is longer than any can be.
    #[error("it has {0} bytes, and at most {MAX_ACCOUNT_BYTES} can be")]
    TooLong(usize),
    /// It is not the protobuf it should be.
    #[error("it does not decode")]
    Protobuf(#[from] prost::DecodeError),
    /// A field of it has the wrong length or value.
    #[error("it has no valid `{0}`")]
    Field(&'static str),
}

impl Subject {
    /// As a payload.
    pub fn encode(&self) -> Bytes {
        let question = match self {
            Self::Send(origin, key) => Question {
                origin: Bytes::copy_from_slice(origin.as_bytes()),
                epoch: key.epoch,
                send_id: key.send,
                seq: Bytes::new(),
            },
            Self::Seq(seq) => Question { seq: Bytes::copy_from_slice(&seq.0), ..Question::default() },
        };
        question.encode_to_vec().into()
    }

    /// Out of a payload.
    ///
    /// # Errors
    /// When it is no question.
    pub fn decode(payload: &Bytes) -> Result<Self, InquiryError> {
        let question = Question::decode(bounded(payload)?)?;
        if !question.seq.is_empty() {
            let seq = question.seq[..].try_into().map_err(|_| InquiryError::Field("seq"))?;
            return Ok(Self::Seq(Seq(seq)));
        }
        let origin = NodeId::from_slice(&question.origin).ok_or(InquiryError::Field("origin"))?;
        let key = Key { origin: origin.into(), epoch: question.epoch, send: question.send_id };
        Ok(Self::Send(origin, key))
    }
}

/// An account, as a payload. What makes it longer than it may be is left out, the latest steps first.
pub fn encode_account(account: &Account) -> Bytes {
    let mut out = account.encode_to_vec();
    if out.len() > MAX_ACCOUNT_BYTES {
        // A step has some hundred bytes, but for its texts, which are bounded.
        let steps = account.steps[..account.steps.len() / 4].to_vec();
        out = Account { steps, partial: true }.encode_to_vec();
    }
    out.into()
}

/// Reads an account; what is too much of it is refused, never cut.
///
/// # Errors
/// When it is none.
pub fn decode_account(payload: &Bytes) -> Result<Account, InquiryError> {
    let account = Account::decode(bounded(payload)?)?;
    if account.steps.len() > MAX_STEPS {
        return Err(InquiryError::Field("steps"));
    }
    for step in &account.steps {
        let brief = |bytes: &Bytes| bytes.is_empty() || bytes.len() == size_of::<Brief>();
        if ![&step.node, &step.via, &step.origin].into_iter().all(brief) {
            return Err(InquiryError::Field("node"));
        }
        // They are shown to people, at terminals too.
        let shown = |text: &str| text.len() <= MAX_TEXT && !text.contains(char::is_control);
        if !shown(&step.who) || !shown(&step.topic) {
            return Err(InquiryError::Field("who"));
        }
        if ![0, 32].contains(&step.seq.len()) || ![0, 25].contains(&step.context.len()) {
            return Err(InquiryError::Field("seq"));
        }
    }
    Ok(account)
}

fn bounded(payload: &Bytes) -> Result<Bytes, InquiryError> {
    match payload.len() {
        ..=MAX_ACCOUNT_BYTES => Ok(payload.clone()),
        len => Err(InquiryError::TooLong(len)),
    }
}

/// The frame of a question to `to`, or of an answer, and the neighbour it goes to; `None` if there is no way.
pub fn frame(
    routing: &Routing,
    epoch: u64,
    to: NodeId,
    body: Body,
    payload: Bytes,
) -> Option<(NodeId, LinkFrame)> {
    let next = routing.find(&to)?.next_hop;
    let message = DataMessage { origin: routing.me(), origin_epoch: epoch, body };
    let route = Route { destinations: smallvec![to], path: Vec::new() };
    Some((next, seal::seal(routing, next, &message, &route, FLOW, payload)))
}

/// All of these are one flow, so that they share what one publisher's messages would have of a link.
const FLOW: u32 = 0x7472_6163;

/// A step as others are told it, seen from `now`: nothing of clients, topics or names. Whoever may know more adds it.
pub fn step(entry: &Entry, now: Time) -> JournalStep {
    let mut told = JournalStep {
        age_us: u64::try_from(now.since(entry.at()).as_micros()).unwrap_or(u64::MAX),
        attempt: entry.attempt(),
        ..JournalStep::default()
    };
    let kind = at_origin(&entry.step, &mut told)
        .or_else(|| at_destination(&entry.step, &mut told))
        .or_else(|| on_the_way(&entry.step, &mut told));
    told.set_kind(kind.unwrap_or_default());
    told
}

fn at_origin(step: &Step, told: &mut JournalStep) -> Option<JournalKind> {
    let of_node = |told: &mut JournalStep, at: Brief, cause, kind| {
        told.node = node(at);
        told.set_cause(cause);
        kind
    };
    Some(match *step {
        Step::Published { mode, .. } => {
            told.multicast = mode == Mode::Multicast;
            JournalKind::Published
        }
        Step::Repeated { .. } => JournalKind::Repeated,
        Step::AtOnce { cause, .. } => {
            told.set_cause(cause);
            JournalKind::AtOnce
        }
        Step::Sent { to, via, nodes } => {
            (told.node, told.via, told.count) = (node(to), node(via), nodes);
            JournalKind::Sent
        }
        Step::Resent { to, via, why } => {
            (told.node, told.via) = (node(to), node(via));
            told.set_reason(match why {
                Why::Unconfirmed => JournalReason::Unconfirmed,
                Why::Rerouted => JournalReason::Rerouted,
                Why::Refused => JournalReason::Refused,
            });
            JournalKind::Resent
        }
        Step::NoWay { to } => {
            told.node = node(to);
            JournalKind::NoWay
        }
        Step::Confirmed { by } => {
            told.node = node(by);
            JournalKind::Confirmed
        }
        Step::Failed { at, cause } => of_node(told, at, cause, JournalKind::Failed),
        Step::Refused { by, cause } => of_node(told, by, cause, JournalKind::Refused),
        Step::Counted { by, handed, failed, complete } => {
            (told.node, told.count, told.failed, told.complete) = (node(by), handed, failed, complete);
            JournalKind::Counted
        }
        Step::Told { cause, .. } => {
            told.set_cause(cause);
            JournalKind::Told
        }
        Step::Context { .. } => JournalKind::Context,
        _ => return None,
    })
}

fn at_destination(step: &Step, told: &mut JournalStep) -> Option<JournalKind> {
    let ended = |told: &mut JournalStep, cause, kind| {
        told.set_cause(cause);
        kind
    };
    Some(match *step {
        Step::Arrived { over, .. } => {
            told.via = node(over);
            JournalKind::Arrived
        }
        Step::Again { over } => {
            told.via = node(over);
            JournalKind::Again
        }
        Step::Pushed { .. } => {
            told.count = 1;
            JournalKind::Pushed
        }
        Step::PushedAll { sessions } => {
            told.count = sessions;
            JournalKind::Pushed
        }
        Step::Handed { .. } => JournalKind::Handed,
        Step::NotHanded { cause, .. } => ended(told, cause, JournalKind::NotHanded),
        Step::Answered { cause, .. } => ended(told, cause, JournalKind::Answered),
        Step::Reported { cause } => ended(told, cause, JournalKind::Reported),
        _ => return None,
    })
}

fn on_the_way(step: &Step, told: &mut JournalStep) -> Option<JournalKind> {
    Some(match *step {
        Step::Relayed { what, from, to } => {
            (told.node, told.via) = (node(from), node(to));
            told.set_frame(frame_kind(what));
            JournalKind::Relayed
        }
        Step::Stopped { what, to, cause } => {
            told.via = node(to);
            told.set_cause(cause);
            told.set_frame(frame_kind(what));
            JournalKind::Stopped
        }
        _ => return None,
    })
}

fn node(brief: Brief) -> Bytes {
    if brief == Brief::default() { Bytes::new() } else { Bytes::copy_from_slice(&brief.0) }
}

fn frame_kind(what: Carries) -> JournalFrame {
    match what {
        Carries::Attempt => JournalFrame::Attempt,
        Carries::FanOut => JournalFrame::FanOut,
        Carries::Handed => JournalFrame::Handed,
        Carries::Outcome => JournalFrame::Outcome,
        Carries::FanOutReport => JournalFrame::FanOutReport,
        Carries::Refused => JournalFrame::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::peer::SendRef;

    #[test]
    fn a_question_is_read_as_it_was_asked() {
        let origin = NodeId::new([5; 32]);
        let key = Key::new(origin, SendRef { epoch: 9, id: 1 << 40 });
        for subject in [Subject::Send(origin, key), Subject::Seq(Seq([7; 32]))] {
            assert_eq!(Subject::decode(&subject.encode()), Ok(subject));
        }
    }

    #[test]
    fn questions_and_accounts_that_break_the_rules_are_refused() {
        let field = |payload: &[u8]| Subject::decode(&Bytes::copy_from_slice(payload));
        assert_eq!(field(b""), Err(InquiryError::Field("origin")));
        assert_eq!(field(b"\x22\x01a"), Err(InquiryError::Field("seq")));
        assert!(matches!(field(b"\xff"), Err(InquiryError::Protobuf(_))));
        let long = Bytes::from(vec![0; MAX_ACCOUNT_BYTES + 1]);
        assert_eq!(decode_account(&long), Err(InquiryError::TooLong(MAX_ACCOUNT_BYTES + 1)));
        let account = |step: JournalStep, times| {
            let account = Account { steps: vec![step; times], partial: false };
            decode_account(&account.encode_to_vec().into())
        };
        assert!(account(JournalStep::default(), MAX_STEPS).is_ok());
        assert_eq!(account(JournalStep::default(), MAX_STEPS + 1), Err(InquiryError::Field("steps")));
        let named = JournalStep { node: Bytes::from_static(b"short"), ..JournalStep::default() };
        assert_eq!(account(named, 1), Err(InquiryError::Field("node")));
        for text in ["x".repeat(MAX_TEXT + 1), "a\u{1b}[2Jb".to_owned(), "two\nlines".to_owned()] {
            let who = JournalStep { who: text.clone(), ..JournalStep::default() };
            assert_eq!(account(who, 1), Err(InquiryError::Field("who")));
            let topic = JournalStep { topic: text, ..JournalStep::default() };
            assert_eq!(account(topic, 1), Err(InquiryError::Field("who")));
        }
    }

    #[test]
    fn a_step_tells_nothing_of_clients_or_topics() {
        use crate::{Topic, broker::journal::Journal};
        let (seq, topic) = (Seq([7; 32]), crate::broker::journal::Name::of(&Topic::parse("secret").unwrap()));
        let key = Key::new(NodeId::new([5; 32]), SendRef { epoch: 9, id: 1 });
        let mut journal = Journal::new(4);
        journal.note(key, 2, Step::Arrived { seq, topic, over: Brief([3; 8]) });
        let mut told = None;
        journal
            .read(0, 1, |entry| told = Some(step(entry, entry.at() + std::time::Duration::from_micros(8))));
        let expected = JournalStep {
            kind: JournalKind::Arrived.into(),
            age_us: 8,
            attempt: 2,
            via: Bytes::from_static(&[3; 8]),
            ..JournalStep::default()
        };
        assert_eq!(told, Some(expected));
    }
}
