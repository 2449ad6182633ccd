//! A request under way.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    RequestError,
    error::Failure,
    private::publisher::{Publisher, Sealed},
};

/// A request that was sent. Await it for its answer; [`PendingRequest::handed`] says, before that,
/// when a subscriber has the message.
///
/// Dropping it gives up the answer, not the request.
#[must_use = "await it for the answer"]
pub struct PendingRequest {
    pub(crate) outcome: oneshot::Receiver<Result<Bytes, Failure>>,
    pub(crate) handed: oneshot::Receiver<()>,
    pub(crate) was_handed: Option<bool>,
    /// On a private topic: what opens the answer.
    pub(crate) opens: Option<(Arc<Publisher>, Sealed)>,
}

impl PendingRequest {
    /// Resolves true as soon as a subscriber was handed the message, false if the request failed
    /// without that being known. After true the request may still fail. With a node that speaks
    /// plain 2.x frames it resolves with the answer. Cancel safe.
    pub async fn handed(&mut self) -> bool {
        if let Some(known) = self.was_handed {
            return known;
        }
        let handed = (&mut self.handed).await.is_ok();
        self.was_handed = Some(handed);
        handed
    }
}

impl Future for PendingRequest {
    type Output = Result<Bytes, RequestError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.outcome).poll(cx));
        // Dropped with the queue: it never left.
        let answer = outcome.unwrap_or(Err(Failure::not_connected()))?;
        Poll::Ready(match &self.opens {
            Some((publisher, sealed)) => Ok(publisher.open(sealed, answer).map_err(Failure::unreadable)?),
            None => Ok(answer),
        })
    }
}

impl fmt::Debug for PendingRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingRequest").field("handed", &self.was_handed).finish_non_exhaustive()
    }
}
