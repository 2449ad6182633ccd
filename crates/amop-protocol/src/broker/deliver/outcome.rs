//! How sends end, as windows remember it and publishers are told.

use std::time::Duration;

use bytes::Bytes;

use crate::{Cause, broker::event::AnswerBody};

/// How a message ended, as the windows remember it.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) cause: Cause,
    pub(super) handed: u32,
    pub(super) failed: u32,
    pub(super) body: Option<Box<AnswerBody>>,
}

/// How a send ends, as its publisher is told.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    pub(super) cause: Cause,
    pub(super) body: AnswerBody,
    pub(super) retry_after: Duration,
}

impl From<Cause> for Ending {
    fn from(cause: Cause) -> Self {
        Self { cause, body: AnswerBody::default(), retry_after: Duration::ZERO }
    }
}

impl Ended {
    pub(super) fn bytes(&self) -> usize {
        self.body.as_ref().map_or(0, |body| body.prefix.len() + body.payload.len())
    }

    pub(super) fn body(&self) -> AnswerBody {
        self.body.as_deref().cloned().unwrap_or_default()
    }
}

/// A copy of a body that holds on to nothing else: a small slice would keep a whole read buffer alive.
pub(super) fn compact(body: &AnswerBody) -> Option<Box<AnswerBody>> {
    const SLICE_WORTH_KEEPING: usize = 16 * 1024;
    let keep = |bytes: &Bytes| {
        if bytes.len() < SLICE_WORTH_KEEPING { Bytes::copy_from_slice(bytes) } else { bytes.clone() }
    };
    let body = AnswerBody { prefix: keep(&body.prefix), payload: keep(&body.payload) };
    (!body.prefix.is_empty() || !body.payload.is_empty()).then(|| Box::new(body))
}
