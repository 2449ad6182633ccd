//! Which subscription gets what, and who waits for a subscription to take effect.
//!
//! Outlives connections: every connection reports the same topics, and a new one all of them anew.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::Ordering,
    time::Duration,
};

use amop_protocol::{Topic, broker::event::Mode, session::client::Deliver};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    driver::{Home, Private},
    error::SubscribeError,
    subscription::{Delivery, REFUSED_BUSY, Reply, Sink},
};

/// How long further nodes may take to confirm a subscription that one has confirmed.
const FURTHER_NODES: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(crate) struct Dispatch {
    topics: HashMap<Topic, Subscribers>,
    waiting: BTreeMap<u64, Waiting>,
    /// Counts changes of the topics.
    revision: u64,
}

#[derive(Default)]
struct Subscribers {
    sinks: Vec<Sink>,
    next: usize,
}

/// Somebody awaits the confirmation of a subscription.
struct Waiting {
    topics: Vec<Topic>,
    /// The first revision with the topics.
    revision: u64,
    /// The connections whose nodes have confirmed it, and whether so had all nodes they reach.
    confirmed: Vec<(u64, bool)>,
    /// When the others are not waited for any longer.
    until: Option<Instant>,
    reply: oneshot::Sender<Result<bool, SubscribeError>>,
}

impl Waiting {
    fn reply(self, result: Result<bool, SubscribeError>) {
        // Whoever asked may have gone.
        let _ = self.reply.send(result);
    }
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
        self.revision += 1;
        let waiting = Waiting { topics, revision: self.revision, confirmed: Vec::new(), until: None, reply };
        self.waiting.insert(sink.subscription, waiting);
    }

    pub(crate) fn unsubscribe(&mut self, subscription: u64) {
        self.waiting.remove(&subscription);
        let before = self.topics.len();
        self.topics.retain(|_, subscribers| {
            subscribers.sinks.retain(|sink| sink.subscription != subscription);
            !subscribers.sinks.is_empty()
        });
        self.revision += u64::from(self.topics.len() != before);
    }

    /// What is reported beside the topics has changed.
    pub(crate) fn changed(&mut self) {
        self.revision += 1;
    }

    /// Has a connection report the topics, if they changed since its last report.
    pub(crate) fn report(&self, home: &mut Home, private: &mut Private) {
        if (!self.topics.is_empty() || home.has_reported()) && home.lacks(self.revision) {
            let channels = private.channels(home.id, self.topics.keys());
            home.report(self.revision, self.topics.keys().chain(&channels));
        }
    }

    /// A node confirmed the topics as they were in a revision.
    pub(crate) fn reported(&mut self, home: u64, revision: u64, refused: &[String], complete: bool) {
        let concerned = |waiting: &Waiting| waiting.revision <= revision;
        let mut bad = Vec::new();
        for (id, waiting) in self.waiting.iter_mut().filter(|(_, waiting)| concerned(waiting)) {
            if waiting.topics.iter().any(|topic| refused.iter().any(|name| name == topic.as_str())) {
                bad.push(*id);
            } else if waiting.confirmed.iter().all(|(known, _)| *known != home) {
                waiting.confirmed.push((home, complete));
                waiting.until.get_or_insert_with(|| Instant::now() + FURTHER_NODES);
            }
        }
        for waiting in bad.into_iter().filter_map(|id| self.waiting.remove(&id)) {
            let topic = waiting.topics.iter().find(|topic| refused.iter().any(|name| name == topic.as_str()));
            let name = topic.map(Topic::to_string).unwrap_or_default();
            waiting.reply(Err(SubscribeError::Refused(name)));
        }
    }

    /// A connection is gone, and what was confirmed through it with it.
    pub(crate) fn lost(&mut self, home: u64) {
        for waiting in self.waiting.values_mut() {
            waiting.confirmed.retain(|(known, _)| *known != home);
            if waiting.confirmed.is_empty() {
                waiting.until = None;
            }
        }
    }

    /// Tells those whose subscription all these connections have confirmed, or one has and the
    /// others take too long.
    pub(crate) fn settle(&mut self, now: Instant, homes: impl Iterator<Item = u64> + Clone) {
        let done = |waiting: &Waiting| {
            let confirmed = |home| waiting.confirmed.iter().any(|(known, _)| *known == home);
            waiting.until.is_some_and(|until| until <= now || homes.clone().all(confirmed))
        };
        for (_, waiting) in self.waiting.extract_if(.., |_, waiting| done(waiting)) {
            let all = homes.clone().all(|home| waiting.confirmed.contains(&(home, true)));
            waiting.reply(Ok(all));
        }
    }

    /// When [`Dispatch::settle`] has something to do without anything being confirmed.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.waiting.values().filter_map(|waiting| waiting.until).min()
    }

    /// Hands a message to its subscribers; whether one took it. `reply` is there if it is a request.
    pub(crate) fn deliver(&mut self, message: Deliver, reply: Option<Reply>) -> bool {
        let Deliver { mode, topic, sender, answer_within, context, payload, .. } = message;
        let delivery = Delivery { topic, payload, mode, sender, answer_within, context, reply };
        let subscribers = self.topics.get_mut(&delivery.topic);
        match (mode, subscribers) {
            (Mode::Multicast, Some(subscribers)) => subscribers.multicast(delivery),
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
    fn multicast(&self, delivery: Delivery) -> bool {
        let Some((last, others)) = self.sinks.split_last() else { return false };
        let mut taken = false;
        for sink in others {
            let copy = Delivery {
                topic: delivery.topic.clone(),
                payload: delivery.payload.clone(),
                sender: delivery.sender.clone(),
                reply: None,
                ..delivery
            };
            taken |= is_taken(sink, copy);
        }
        taken | is_taken(last, delivery)
    }
}

/// Whether this subscription has room for a message to all; counts it if not.
fn is_taken(sink: &Sink, delivery: Delivery) -> bool {
    let Some(dropped) = sink.offer(delivery) else { return true };
    sink.meter.dropped.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(topic = %dropped.topic, "subscription full: message dropped");
    false
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::*;

    /// A subscription to "t", and what its subscriber is told.
    fn subscribed(dispatch: &mut Dispatch) -> oneshot::Receiver<Result<bool, SubscribeError>> {
        let (queue, _) = mpsc::channel(1);
        let sink = Sink { subscription: 1, queue, meter: Arc::default(), max_bytes: 1 };
        let (reply, told) = oneshot::channel();
        dispatch.subscribe(&sink, vec![Topic::parse("t").unwrap()], reply);
        told
    }

    #[test]
    fn all_nodes_are_waited_for_but_not_for_ever() {
        for (later, expected) in [(Duration::ZERO, None), (FURTHER_NODES * 2, Some(Ok(false)))] {
            let mut dispatch = Dispatch::default();
            let mut told = subscribed(&mut dispatch);
            dispatch.settle(Instant::now() + FURTHER_NODES * 2, [7, 8].into_iter());
            assert!(told.try_recv().is_err(), "none has confirmed it");
            dispatch.reported(7, 1, &[], true);
            dispatch.settle(Instant::now() + later, [7, 8].into_iter());
            assert_eq!(told.try_recv().ok(), expected);
        }
    }

    #[test]
    fn what_a_lost_node_confirmed_counts_for_nothing() {
        let mut dispatch = Dispatch::default();
        let mut told = subscribed(&mut dispatch);
        dispatch.reported(7, 1, &[], true);
        dispatch.lost(7);
        dispatch.settle(Instant::now(), [].into_iter());
        dispatch.settle(Instant::now(), [8].into_iter());
        assert!(told.try_recv().is_err());
        dispatch.reported(8, 1, &[], true);
        dispatch.settle(Instant::now(), [8].into_iter());
        assert_eq!(told.try_recv(), Ok(Ok(true)));
    }
}
