//! How sends end, as windows remember it and publishers are told.

use std::time::Duration;

use bytes::Bytes;

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
    /// Absent if there is nothing in it: most messages end without.
    pub(super) detail: Option<Box<Detail>>,
}

/// What else is remembered of a message.
#[derive(Clone, Debug, Default)]
pub(super) struct Detail {
    /// The answer; of a multicast, the recipients, if they were asked for.
    pub(super) body: AnswerBody,
    /// Where it failed.
    pub(super) at: Option<NodeId>,
    pub(super) retry: Retry,
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
        Self { cause, handed, failed, detail: None }
    }

    /// One with a body, which holds on to nothing else.
    pub(super) fn with_body(cause: Cause, counts: [u32; 2], body: &AnswerBody) -> Self {
        let empty = body.prefix.is_empty() && body.payload.is_empty();
        let detail = || Box::new(Detail { body: compact(body), ..Detail::default() });
        Self { detail: (!empty).then(detail), ..Self::plain(cause, counts) }
    }

    /// What is to be remembered of a send that ended so.
    pub(super) fn of_send(ending: &Ending) -> Self {
        let Ending { cause, body, retry, at, .. } = ending;
        let mut ended = Self::with_body(*cause, [0, 0], body);
        if *cause != Cause::Delivered {
            let detail = ended.detail.get_or_insert_default();
            (detail.at, detail.retry) = (*at, *retry);
        }
        ended
    }

    pub(super) fn bytes(&self) -> usize {
        self.detail.as_ref().map_or(0, |detail| detail.body.prefix.len() + detail.body.payload.len())
    }

    pub(super) fn body(&self) -> AnswerBody {
        self.detail.as_ref().map(|detail| detail.body.clone()).unwrap_or_default()
    }

    /// The same once more, for a duplicate.
    pub(super) fn again(&self) -> Ending {
        let mut ending = Ending { body: self.body(), ..self.cause.into() };
        if let Some(detail) = self.detail.as_ref().filter(|_| self.cause != Cause::Delivered) {
            (ending.at, ending.retry) = (detail.at, detail.retry);
        }
        ending
    }
}

/// A copy of a body that holds on to nothing else: a small slice would keep a whole read buffer alive.
fn compact(body: &AnswerBody) -> AnswerBody {
    const SLICE_WORTH_KEEPING: usize = 16 * 1024;
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
        self.actions.push_back(Action::Outcome(Outcome {
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
