//! How sends end, as windows remember it and publishers are told.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::Delivery;
use crate::{
    Cause, NodeId, Retry, Seq, SessionId,
    broker::{
        event::{Action, AnswerBody, Hop, Outcome, Publish},
        routing::Routing,
    },
};

/// How a message ended, as the windows remember it.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) cause: Cause,
    pub(super) handed: u32,
    pub(super) failed: u32,
    rest: Rest,
}

/// What else is remembered of a message.
#[derive(Clone, Debug)]
enum Rest {
    Nothing,
    /// A short body in one piece, of which so many bytes are the prefix.
    Short {
        prefix: u16,
        bytes: Bytes,
    },
    Detail(Box<Detail>),
}

#[derive(Clone, Debug, Default)]
struct Detail {
    /// The answer; of a multicast, the recipients, if they were asked for.
    body: AnswerBody,
    /// Where it failed.
    at: Option<NodeId>,
    retry: Retry,
}

/// Where one window's short bodies are kept: one behind the other in large pieces, each of which goes when all
/// in it are forgotten, which a window does in the order in which they came. As allocations of their own they
/// would lie between those of messages under way, and cost more than all else that ends a message.
#[derive(Debug, Default)]
pub(super) struct Pages(BytesMut);

/// Bytes of one piece.
const PAGE: usize = 64 * 1024;

impl Pages {
    fn keep(&mut self, body: &AnswerBody) -> Bytes {
        let len = body.prefix.len() + body.payload.len();
        if self.0.capacity() - self.0.len() < len {
            self.0 = BytesMut::with_capacity(PAGE);
        }
        self.0.put_slice(&body.prefix);
        self.0.put_slice(&body.payload);
        self.0.split().freeze()
    }
}

/// How a send ends, as its publisher is told.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    pub(super) cause: Cause,
    pub(super) body: AnswerBody,
    pub(super) retry_after: Duration,
    pub(super) retry: Retry,
    /// Where it failed; `None`: here, or it did not.
    pub(super) at: Option<NodeId>,
}

impl From<Cause> for Ending {
    fn from(cause: Cause) -> Self {
        let (body, retry_after) = (AnswerBody::default(), Duration::ZERO);
        Self { cause, body, retry_after, retry: cause.retry(), at: None }
    }
}

impl Ended {
    /// One with nothing else to it.
    pub(super) fn plain(cause: Cause, [handed, failed]: [u32; 2]) -> Self {
        Self { cause, handed, failed, rest: Rest::Nothing }
    }

    /// One with a body, which holds on to nothing else.
    pub(super) fn with_body(cause: Cause, counts: [u32; 2], body: &AnswerBody, pages: &mut Pages) -> Self {
        let rest = match (body.prefix.len(), body.prefix.len() + body.payload.len()) {
            (_, 0) => Rest::Nothing,
            (prefix @ ..=MAX_PREFIX, ..SLICE_WORTH_KEEPING) => {
                Rest::Short { prefix: prefix as u16, bytes: pages.keep(body) }
            }
            _ => Rest::Detail(Box::new(Detail { body: compact(body), ..Detail::default() })),
        };
        Self { rest, ..Self::plain(cause, counts) }
    }

    /// What is to be remembered of a send that ended so.
    pub(super) fn of_send(ending: &Ending, pages: &mut Pages) -> Self {
        let Ending { cause, body, retry, at, .. } = ending;
        if *cause == Cause::Delivered {
            return Self::with_body(*cause, [0, 0], body, pages);
        }
        let detail = Detail { body: compact(body), at: *at, retry: *retry };
        Self { rest: Rest::Detail(Box::new(detail)), ..Self::plain(*cause, [0, 0]) }
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.rest {
            Rest::Nothing => 0,
            Rest::Short { bytes, .. } => bytes.len(),
            Rest::Detail(detail) => detail.body.prefix.len() + detail.body.payload.len(),
        }
    }

    /// The body, which keeps no page.
    pub(super) fn body(&self) -> AnswerBody {
        match &self.rest {
            Rest::Nothing => AnswerBody::default(),
            Rest::Short { prefix, bytes } => {
                let mut payload = Bytes::copy_from_slice(bytes);
                AnswerBody { prefix: payload.split_to(usize::from(*prefix)), payload }
            }
            Rest::Detail(detail) => detail.body.clone(),
        }
    }

    /// The same once more, for a duplicate.
    pub(super) fn again(&self) -> Ending {
        let mut ending = Ending { body: self.body(), ..self.cause.into() };
        if let Rest::Detail(detail) = &self.rest
            && self.cause != Cause::Delivered
        {
            (ending.at, ending.retry) = (detail.at, detail.retry);
        }
        ending
    }
}

/// A body of so many bytes keeps its slices: what else they keep alive is little beside it.
const SLICE_WORTH_KEEPING: usize = 16 * 1024;
/// Longest prefix of a short body; those of topic bodies have 256 bytes at most.
const MAX_PREFIX: usize = u16::MAX as usize;

/// A copy of a body that holds on to nothing else: a small slice would keep a whole read buffer alive.
fn compact(body: &AnswerBody) -> AnswerBody {
    let keep = |bytes: &Bytes| {
        if bytes.len() < SLICE_WORTH_KEEPING { Bytes::copy_from_slice(bytes) } else { bytes.clone() }
    };
    AnswerBody { prefix: keep(&body.prefix), payload: keep(&body.payload) }
}

impl Delivery {
    /// Gives one publisher its outcome.
    pub(super) fn tell(
        &mut self,
        routing: &Routing,
        (session, seq): (SessionId, Seq),
        publish: &Publish,
        ending: Ending,
    ) {
        let Ending { cause, body, retry_after, retry, at } = ending;
        let failed = cause != Cause::Delivered;
        let hop = failed.then(|| Box::new(Hop::of(routing, at.unwrap_or(self.me))));
        self.counters.outcomes += 1;
        self.actions.push(Action::Outcome(Outcome {
            session,
            seq,
            mode: publish.mode,
            topic: Some(publish.topic.clone()),
            cause,
            body,
            retry_after,
            retry,
            hop,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(prefix: usize, payload: usize) -> AnswerBody {
        AnswerBody { prefix: vec![1; prefix].into(), payload: vec![2; payload].into() }
    }

    #[test]
    fn a_body_is_remembered_whole_however_long() {
        let mut pages = Pages::default();
        for (prefix, payload) in [(0, 0), (0, 1), (5, 0), (5, 100), (5, PAGE), (70_000, 1), (0, 16_383)] {
            for _ in 0..5 {
                let body = body(prefix, payload);
                let ended = Ended::with_body(Cause::Delivered, [1, 2], &body, &mut pages);
                assert_eq!((ended.bytes(), ended.body()), (prefix + payload, body));
            }
        }
    }

    #[test]
    fn short_bodies_lie_together_and_hold_on_to_nothing_else() {
        let mut pages = Pages::default();
        let source = Bytes::from(vec![7; 1000]);
        let body = AnswerBody { payload: source.slice(..10), ..AnswerBody::default() };
        let kept: Vec<_> =
            (0..100).map(|_| Ended::with_body(Cause::Delivered, [1, 0], &body, &mut pages)).collect();
        drop(body);
        assert!(source.is_unique());
        let at = |ended: &Ended| match &ended.rest {
            Rest::Short { bytes, .. } => bytes.as_ptr() as usize,
            other => panic!("short, not {other:?}"),
        };
        assert!(kept.windows(2).all(|pair| at(&pair[1]) == at(&pair[0]) + 10));
        let told = kept[0].body().payload;
        assert_ne!(told.as_ptr() as usize, at(&kept[0]), "who is told again holds no page");
    }
}
