//! "Where is my message?": what this node has written down, and what others say when they are asked.
//!
//! `journals` are of what is relayed; delivery has its own. [`Inquiries`] is where the data path puts questions and
//! answers that come in. `answer` decides what is told to whom, `gather` asks around and puts an account together,
//! `account` words it. `export` makes spans of it. The task of [`Desk::run`] is woken by questions and works them off one after the other.
//!
//! **Invariant**: a node is told nothing of a message that its institution has no part in; "not known" and "not for you"
//! are the same answer.

mod account;
mod align;
mod answer;
pub(super) mod export;
mod gather;
mod inquiries;
mod journals;
mod limits;
mod metrics;
mod pace;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use amop_protocol::{
    Seq, SessionId,
    broker::{deliver::Delivery, journal::Entry},
};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

pub(super) use self::{
    inquiries::{Arrivals, Inquiries, channel},
    journals::Relayed,
    limits::limits,
    metrics::Metrics,
    pace::Asker,
};
use super::data_path::DataPath;
use crate::{
    config::Show,
    tasks::Tasks,
    telemetry::trace::{Busy, Seen, Trace, TraceSource},
};

/// Traces this node follows at a time for those who ask its admin port; more are refused.
pub(super) const MAX_TRACES: usize = 8;

/// Answers questions about messages, and asks them.
#[derive(Debug)]
pub(super) struct Desk {
    data: Arc<DataPath>,
    show: Mutex<Show>,
    inquiries: Inquiries,
    permits: Semaphore,
}

impl Desk {
    /// One that tells others as much as `show` says.
    pub(super) fn new(data: Arc<DataPath>, show: Show, inquiries: Inquiries) -> Arc<Self> {
        Arc::new(Self { data, show: Mutex::new(show), inquiries, permits: Semaphore::new(MAX_TRACES) })
    }

    /// Tells others as much as `show` says, from now on.
    pub(super) fn set_show(&self, show: Show) {
        *self.show.lock() = show;
    }

    fn permit(&self) -> Result<SemaphorePermit<'_>, Busy> {
        self.permits.try_acquire().map_err(|_| {
            self.inquiries.metrics.busy.inc();
            Busy
        })
    }

    /// Answers other nodes until the group ends.
    pub(super) async fn run(self: Arc<Self>, mut arrivals: Arrivals, tasks: Tasks) {
        let mut pace = pace::Pace::default();
        loop {
            tokio::select! {
                biased;
                () = tasks.cancelled() => return,
                question = arrivals.next() => {
                    let Some(question) = question else { return };
                    answer::answer(&self, &mut pace, &question);
                }
            }
        }
    }
}

/// The desk, as the admin port asks it.
#[derive(Debug)]
pub(super) struct Traces(pub(super) Arc<Desk>);

impl TraceSource for Traces {
    fn trace(&self, seq: Seq, here: bool) -> BoxFuture<'static, Result<Trace, Busy>> {
        let desk = self.0.clone();
        Box::pin(async move {
            let _permit = desk.permit()?;
            Ok(gather::gather(&desk, seq, here).await)
        })
    }

    fn seen(&self, topic: &str, place: &str) -> BoxFuture<'static, Result<Seen, Busy>> {
        let (desk, topic, place) = (self.0.clone(), topic.to_owned(), place.to_owned());
        Box::pin(async move {
            let _permit = desk.permit()?;
            Ok(gather::seen(&desk, &topic, &place).await)
        })
    }
}

/// The client a step is about: its name where it is known, else the number of its session.
fn who(entry: &Entry, shard: Option<&Delivery>) -> String {
    match entry.session() {
        None | Some(SessionId(0)) => String::new(),
        Some(session) => match shard.and_then(|shard| shard.client_of(session)) {
            Some(client) if !client.name.is_empty() => {
                let cut = client.name.floor_char_boundary(amop_protocol::wire::inquiry::MAX_TEXT);
                client.name[..cut].to_owned()
            }
            _ => format!("session {session}"),
        },
    }
}
