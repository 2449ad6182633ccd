//! What is sent: how much, how fast, by and to how many.

use std::time::Duration;

use crate::{payload, work::Error};

/// Clients, topics and messages under way that one work takes at most: each costs memory and, in part, a file descriptor here.
pub(crate) const MOST: usize = 100_000;
/// Messages a second that can be asked for.
const MOST_RATE: f64 = 10_000_000.0;
/// Warm-up and measuring together.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Messages, and who sends them to whom. Start with [`Traffic::default`] and change what does not suit.
#[derive(Clone, Debug, PartialEq)]
pub struct Traffic {
    /// Bytes of each message: [`payload::HEADER`] to [`payload::MOST`].
    pub payload: usize,
    /// When messages are sent.
    pub pacing: Pacing,
    /// Name of the topic; further ones have a number behind it. Choose one that nobody uses.
    pub topic: String,
    /// How many topics; each needs a publisher and a subscriber.
    pub topics: usize,
    /// Clients that send: requesters or publishers, all at the first node, topics in turn.
    pub publishers: usize,
    /// Clients that receive, topics in turn: responders, at the last node; or subscribers, at all nodes in turn.
    pub subscribers: usize,
    /// Load before measuring.
    pub warm_up: Duration,
    /// How long is measured; more than nothing.
    pub duration: Duration,
    /// From the first message that gets through to the warm-up: routes of some systems still change then.
    pub settle: Duration,
    /// How long a message may take until it counts as failed, and what is under way at the end is waited for.
    pub patience: Duration,
}

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pacing {
    /// Closed loop.
    Closed {
        /// So many under way at a time, at least 1, shared out among the publishers; in a fan-out: so many ahead of the slowest subscriber,
        /// on each topic.
        in_flight: usize,
    },
    /// Open loop.
    Open {
        /// Messages due in a second, all publishers together.
        rate: f64,
        /// At most so many under way; what is due beyond that is not sent, and counted.
        in_flight: usize,
    },
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            payload: 1024,
            pacing: Pacing::Closed { in_flight: 1 },
            topic: "amop/bench".into(),
            topics: 1,
            publishers: 1,
            subscribers: 1,
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(5),
            settle: Duration::from_millis(800),
            patience: Duration::from_secs(15),
        }
    }
}

impl Traffic {
    /// Whether it can be.
    ///
    /// # Errors
    /// What cannot, and what can be instead.
    pub fn check(&self) -> Result<(), Error> {
        if !(payload::HEADER..=payload::MOST).contains(&self.payload) {
            let (least, most) = (payload::HEADER, payload::MOST);
            return wrong(format!(
                "a payload of {} bytes cannot be measured; use {least} to {most}",
                self.payload
            ));
        }
        let in_flight = match self.pacing {
            Pacing::Closed { in_flight } => in_flight,
            Pacing::Open { rate, in_flight } => {
                // Written so that what is no number is refused too.
                if !(rate > 0.0 && rate <= MOST_RATE) {
                    return wrong(format!(
                        "a rate of {rate} messages a second cannot be kept; use more than 0, {MOST_RATE} at most"
                    ));
                }
                in_flight
            }
        };
        let numbers = [
            ("topics", self.topics),
            ("publishers", self.publishers),
            ("subscribers", self.subscribers),
            ("in flight", in_flight),
        ];
        for (what, number) in numbers {
            if !(1..=MOST).contains(&number) {
                return wrong(format!("{what}: {number} cannot be; use 1 to {MOST}"));
            }
        }
        if self.topics > self.publishers.min(self.subscribers) {
            let Self { topics, publishers, subscribers, .. } = self;
            return wrong(format!(
                "{topics} topics need as many publishers and subscribers each, not {publishers} and {subscribers}"
            ));
        }
        if self.duration.is_zero() || self.warm_up.saturating_add(self.duration) > LONGEST {
            return wrong("measure for more than nothing, and a day at most".into());
        }
        Ok(())
    }

    /// The topic of a client of this number: topics in turn.
    pub(crate) fn topic(&self, client: usize) -> String {
        match self.topics {
            0 | 1 => self.topic.clone(),
            topics => format!("{}/{}", self.topic, client % topics),
        }
    }
}

fn wrong(text: String) -> Result<(), Error> {
    Err(Error::Setting(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        let usual = Traffic::default();
        assert!(usual.check().is_ok());
        let open = |rate| Pacing::Open { rate, in_flight: 10 };
        for (traffic, words) in [
            (Traffic { payload: 0, ..usual.clone() }, "use 16 to 16777216"),
            (Traffic { payload: payload::MOST + 1, ..usual.clone() }, "use 16 to 16777216"),
            (Traffic { pacing: open(0.0), ..usual.clone() }, "more than 0"),
            (Traffic { pacing: open(f64::NAN), ..usual.clone() }, "more than 0"),
            (Traffic { pacing: open(f64::INFINITY), ..usual.clone() }, "more than 0"),
            (Traffic { pacing: Pacing::Closed { in_flight: 0 }, ..usual.clone() }, "in flight: 0"),
            (Traffic { subscribers: MOST + 1, ..usual.clone() }, "subscribers: 100001"),
            (Traffic { topics: 2, publishers: 2, ..usual.clone() }, "2 topics need"),
            (Traffic { duration: Duration::ZERO, ..usual.clone() }, "more than nothing"),
            (Traffic { warm_up: Duration::MAX, ..usual.clone() }, "a day at most"),
        ] {
            let error = traffic.check().expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn clients_take_topics_in_turn() {
        let traffic = Traffic { topics: 2, topic: "t".into(), ..Traffic::default() };
        assert_eq!([0, 1, 2].map(|client| traffic.topic(client)), ["t/0", "t/1", "t/0"]);
        assert_eq!(Traffic { topic: "t".into(), ..Traffic::default() }.topic(7), "t");
    }
}
