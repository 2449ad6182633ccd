//! Questions about what became of a message, and what nodes have written down of it: payloads of
//! [`Inquiry`](super::peer::Body::Inquiry).

use bytes::Bytes;
use prost::Message;

use super::generated::{Account, Question};
use crate::{NodeId, Seq};

/// Most steps of one account.
pub const MAX_STEPS: usize = 512;
/// Longest account and question, in bytes.
pub const MAX_ACCOUNT_BYTES: usize = 256 * 1024;
/// Longest text of a step, in bytes.
pub const MAX_TEXT: usize = 256;
/// How many of the first bytes of a node's id stand for it in a step.
pub const BRIEF_BYTES: usize = 8;

/// Which message is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A send of a node.
    Send {
        /// The publisher's node.
        origin: NodeId,
        /// The low bits of the epoch in which that node began it.
        epoch: u32,
        /// Its number there.
        send: u64,
    },
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
            Self::Send { origin, epoch, send } => Question {
                origin: Bytes::copy_from_slice(origin.as_bytes()),
                epoch: *epoch,
                send_id: *send,
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
        Ok(Self::Send { origin, epoch: question.epoch, send: question.send_id })
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
        let brief = |bytes: &Bytes| bytes.is_empty() || bytes.len() == BRIEF_BYTES;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::generated::JournalStep;

    #[test]
    fn a_question_is_read_as_it_was_asked() {
        let send = Subject::Send { origin: NodeId::new([5; 32]), epoch: 9, send: 1 << 40 };
        for subject in [send, Subject::Seq(Seq([7; 32]))] {
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
}
