//! Which subscription gets what, and who waits for a subscription to take effect.
//!
//! Outlives connections: after a loss the same topics are reported anew.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::Ordering,
};

use amop_protocol::{
    Topic,
    broker::event::Mode,
    session::client::{Deliver, ReportId},
};
use tokio::sync::oneshot;

use crate::{
    error::SubscribeError,
    subscription::{Delivery, REFUSED_BUSY, Reply, Sink},
};

#[derive(Default)]
pub(crate) struct Dispatch {
    topics: HashMap<Topic, Subscribers>,
    waiting: BTreeMap<u64, Waiting>,
    changed: bool,
}

#[derive(Default)]
struct Subscribers {
    sinks: Vec<Sink>,
    next: usize,
}

/// Somebody awaits the confirmation of a subscription.
struct Waiting {
    topics: Vec<Topic>,
    /// The report that holds the topics; `None` until it is made.
    report: Option<ReportId>,
    reply: oneshot::Sender<Result<bool, SubscribeError>>,
}

impl Dispatch {
    pub(crate) fn subscribe(
        &mut self,
        sink: &Sink,
        topics: Vec<Topic>,
        reply: oneshot::Sender<Result<bool, SubscribeError>>,
    ) {
        for topic in &topics {
            self.topics.entry(topic.clone()).or_default().sinks.push(sink.clone());
        }
        self.waiting.insert(sink.subscription, Waiting { topics, report: None, reply });
        self.changed = true;
    }

    pub(crate) fn unsubscribe(&mut self, subscription: u64) {
        self.waiting.remove(&subscription);
        let before = self.topics.len();
        self.topics.retain(|_, subscribers| {
            subscribers.sinks.retain(|sink| sink.subscription != subscription);
            !subscribers.sinks.is_empty()
        });
        self.changed |= self.topics.len() != before;
    }

    /// A new connection knows nothing of our topics.
    pub(crate) fn forget_reports(&mut self) {
        for waiting in self.waiting.values_mut() {
            waiting.report = None;
        }
        self.changed = !self.topics.is_empty();
    }

    /// Makes a report if the topics changed since the last.
    pub(crate) fn report<'a>(
        &'a mut self,
        make: impl FnOnce(&mut dyn Iterator<Item = &'a Topic>) -> ReportId,
    ) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let report = make(&mut self.topics.keys());
        for waiting in self.waiting.values_mut() {
            waiting.report.get_or_insert(report);
        }
    }

    pub(crate) fn reported(&mut self, report: ReportId, refused: &[String], complete: bool) {
        let done = |waiting: &Waiting| waiting.report.is_some_and(|own| own <= report);
        for (_, waiting) in self.waiting.extract_if(.., |_, waiting| done(waiting)) {
            let bad = waiting.topics.iter().find(|t| refused.iter().any(|name| name == t.as_str()));
            let result = bad.map_or(Ok(complete), |t| Err(SubscribeError::Refused(t.to_string())));
            // Whoever asked may have gone.
            let _ = waiting.reply.send(result);
        }
    }

    /// Hands a message to its subscribers; whether one took it. `reply` is there if it is a request.
    pub(crate) fn deliver(&mut self, message: Deliver, reply: Option<Reply>) -> bool {
        let Deliver { mode, topic, sender, answer_within, payload, .. } = message;
        let delivery = Delivery { topic, payload, mode, sender, answer_within, reply };
        let subscribers = self.topics.get_mut(&delivery.topic);
        match (mode, subscribers) {
            (Mode::Multicast, Some(subscribers)) => subscribers.multicast(&delivery),
            (Mode::Unicast, Some(subscribers)) => {
                let Some(delivery) = subscribers.unicast(delivery) else { return true };
                tracing::debug!(topic = %delivery.topic, "subscription full: request refused");
                delivery.refuse(REFUSED_BUSY);
                false
            }
            // Just unsubscribed: dropping a request refuses it.
            (_, None) => false,
        }
    }
}

impl Subscribers {
    /// To the next subscription with room; gives it back if there is none.
    fn unicast(&mut self, mut delivery: Delivery) -> Option<Delivery> {
        for _ in 0..self.sinks.len() {
            self.next = (self.next + 1) % self.sinks.len();
            delivery = self.sinks[self.next].offer(delivery)?;
        }
        Some(delivery)
    }

    /// To all with room; whether there is one.
    fn multicast(&self, delivery: &Delivery) -> bool {
        let mut taken = false;
        for sink in &self.sinks {
            let copy = Delivery {
                topic: delivery.topic.clone(),
                payload: delivery.payload.clone(),
                mode: delivery.mode,
                sender: delivery.sender.clone(),
                answer_within: None,
                reply: None,
            };
            if sink.offer(copy).is_some() {
                sink.meter.dropped.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(topic = %delivery.topic, "subscription full: message dropped");
            } else {
                taken = true;
            }
        }
        taken
    }
}
