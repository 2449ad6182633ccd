//! The task that exports.

use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use tokio::{sync::mpsc, time::sleep};

use super::{
    Dropped, Metrics, Queued, Settings, encode,
    post::{self, Unread},
    wire,
};
use crate::tasks::Tasks;

/// Spans of one request.
pub(super) const BATCH: usize = 512;
/// Their bytes; one alone may have more.
pub(super) const BATCH_BYTES: usize = 1024 * 1024;
/// The longest wait before a repetition, whatever the collector asks for.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);
/// Bytes of what a collector says that are logged.
const MAX_SAID: usize = 200;

/// Takes spans off the queue and posts them.
#[derive(Debug)]
pub struct Exporter {
    settings: Settings,
    spans: mpsc::Receiver<Queued>,
    /// One that did not fit into the batch before.
    next: Option<Queued>,
    /// Spans of the batch that is being posted.
    in_hand: u64,
    /// The last batch was not taken: said once, not with every batch.
    is_failing: bool,
    /// The collector said what is not OTLP to what it took: said once.
    is_unread: bool,
    metrics: Metrics,
}

/// What came of one attempt.
enum Posted {
    Taken {
        rejected: u64,
    },
    Refused,
    /// Not now; it wants to be left alone for so long, if it says so.
    Later(Option<Duration>),
}

impl Exporter {
    pub(super) fn new(settings: Settings, spans: mpsc::Receiver<Queued>, metrics: Metrics) -> Self {
        Self { settings, spans, next: None, in_hand: 0, is_failing: false, is_unread: false, metrics }
    }

    /// Exports until nobody has spans any more. When the group ends, what is left has a moment more.
    pub async fn run(mut self, tasks: Tasks) {
        let (flush, until) = (self.settings.pace.flush, tasks.clone());
        let over = async move {
            until.cancelled().await;
            sleep(flush).await;
        };
        tokio::select! {
            biased;
            () = self.export(&tasks) => {}
            () = over => {}
        }
        self.spans.close();
        let waiting = u64::from(self.next.is_some()) + self.spans.len() as u64;
        let left = self.in_hand + waiting;
        if left > 0 {
            self.metrics.drop(Dropped::Shutdown, left);
            tracing::warn!(
                spans = left,
                "not exported: the collector did not take them before the node's end"
            );
        }
    }

    async fn export(&mut self, tasks: &Tasks) {
        while let Some(spans) = self.gather(tasks).await {
            self.in_hand = spans.len() as u64;
            let body = encode::request(&self.settings.resource, spans);
            self.deliver(body, tasks).await;
            self.in_hand = 0;
        }
    }

    /// The next batch; `None` when there will be none.
    async fn gather(&mut self, tasks: &Tasks) -> Option<Vec<wire::Span>> {
        let first = match self.next.take() {
            Some(first) => first,
            None => self.spans.recv().await?,
        };
        let enough = sleep(self.settings.pace.gather);
        tokio::pin!(enough);
        let (mut bytes, mut batch, mut is_ending) = (first.bytes, vec![take(first)], false);
        while batch.len() < BATCH {
            tokio::select! {
                biased;
                next = self.spans.recv() => match next {
                    Some(next) if bytes + next.bytes > BATCH_BYTES => {
                        self.next = Some(next);
                        break;
                    }
                    Some(next) => {
                        bytes += next.bytes;
                        batch.push(take(next));
                    }
                    None => break,
                },
                // From now on there is no time to lose; the end of the queue comes soon.
                () = tasks.cancelled(), if !is_ending => is_ending = true,
                () = &mut enough, if !is_ending => break,
            }
        }
        Some(batch)
    }

    /// Posts a batch until it is taken or refused, or has been tried often enough.
    async fn deliver(&mut self, body: Bytes, tasks: &Tasks) {
        let mut back_off = self.settings.pace.back_off;
        for attempt in 1.. {
            let after = match self.attempt(body.clone()).await {
                Posted::Taken { rejected } => {
                    self.metrics.drop(Dropped::Rejected, rejected);
                    self.metrics.exported.inc_by(self.in_hand - rejected);
                    return;
                }
                Posted::Refused => return self.metrics.drop(Dropped::Refused, self.in_hand),
                Posted::Later(after) => after.unwrap_or_default(),
            };
            if attempt >= self.settings.pace.attempts || tasks.token().is_cancelled() {
                return self.metrics.drop(Dropped::Unreachable, self.in_hand);
            }
            // Nodes that lost their collector together do not come back together.
            let wait = after.max(back_off.mul_f64(0.5 + share())).min(LONGEST_BACK_OFF);
            back_off *= 2;
            tokio::select! {
                biased;
                () = tasks.cancelled() => {}
                () = sleep(wait) => {}
            }
            self.metrics.retries.inc();
        }
    }

    async fn attempt(&mut self, body: Bytes) -> Posted {
        let Settings { endpoint, tls, pace, .. } = &self.settings;
        let answer = match post::post(endpoint, tls.as_ref(), body, pace.patience).await {
            Ok(answer) => answer,
            Err(cause) => {
                self.fail(&describe(&cause));
                return Posted::Later(None);
            }
        };
        if answer.status.is_success() {
            return Posted::Taken { rejected: self.rejected(answer.body) };
        }
        let is_for_later = answer.is_for_later();
        self.fail(&format!("it answers {}: {}", answer.status, shown(&answer.body.unwrap_or_default())));
        if is_for_later { Posted::Later(answer.retry_after) } else { Posted::Refused }
    }

    /// How many of the batch a collector that has taken it did not take after all. What cannot be read rejects
    /// none: to send them again would have those twice that it took.
    fn rejected(&mut self, body: Result<Bytes, Unread>) -> u64 {
        let said = match body {
            Ok(body) => encode::rejected(&body).map_err(|error| describe(&error)),
            Err(unread) => Err(describe(&unread)),
        };
        let (rejected, said) = said.unwrap_or_else(|cause| {
            self.wonder(&cause);
            (0, String::new())
        });
        let rejected = rejected.min(self.in_hand);
        match rejected {
            0 => self.succeed(),
            _ => self.fail(&format!("it took not all of them: {}", shown(said.as_bytes()))),
        }
        rejected
    }

    fn wonder(&mut self, cause: &str) {
        self.metrics.answers_unread.inc();
        let endpoint = &self.settings.endpoint;
        if !std::mem::replace(&mut self.is_unread, true) {
            tracing::warn!(%endpoint, cause, "the collector took spans, but what it says to them cannot be read; amop_otlp_answers_unread_total counts on");
        }
    }

    fn fail(&mut self, cause: &str) {
        let endpoint = &self.settings.endpoint;
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(%endpoint, cause, "spans are not exported; amop_otlp_dropped_total counts those that get lost");
        }
    }

    fn succeed(&mut self) {
        if std::mem::take(&mut self.is_failing) {
            tracing::info!(endpoint = %self.settings.endpoint, "spans are exported again");
        }
    }
}

/// The span, which from now on is in a batch.
fn take(mut queued: Queued) -> wire::Span {
    std::mem::take(&mut queued.span)
}

/// A number from 0 to 1.
fn share() -> f64 {
    f64::from(rand::rng().next_u32()) / f64::from(u32::MAX)
}

/// An error with what is behind it.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// What somebody else says, as far as a log can show it. Protobuf is not for people, so only its letters are.
fn shown(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    text.chars().filter(|c| !c.is_control() && *c != char::REPLACEMENT_CHARACTER).take(MAX_SAID).collect()
}
