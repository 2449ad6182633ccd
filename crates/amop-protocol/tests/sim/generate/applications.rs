//! What applications with two sessions publish: drawn apart, so that older seeds keep their plans.

use std::time::Duration;

use amop_protocol::broker::event::Mode;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Act, Generator, QUIET, Step, TOPICS, Wants, micros};

/// Their messages are numbered above all others.
const FIRST_MESSAGE: u64 = 1_000_000;

/// An application with sessions at two nodes.
pub(super) struct Application {
    pub(super) sessions: Vec<usize>,
    pub(super) certificate: u8,
    pub(super) topics: Vec<u32>,
    pub(super) since: Duration,
}

impl Generator {
    /// In three seeds of ten; none of those that found something before is among them. `heals`: when
    /// everything is repaired.
    pub(super) fn applications_publish(&mut self, heals: Duration) {
        if !matches!(self.seed % 10, 3..=5) {
            return;
        }
        let mut rng = StdRng::seed_from_u64(self.seed ^ 0x000a_9911);
        for application in std::mem::take(&mut self.applications) {
            for _ in 0..rng.random_range(0..8) {
                let at = if rng.random_bool(0.2) {
                    heals + QUIET + micros(&mut rng, 1_500_000..1_600_000)
                } else {
                    let span = heals.saturating_sub(application.since).as_micros() as u64;
                    application.since + micros(&mut rng, 0..span.max(1))
                };
                self.publish_by(&mut rng, &application, at);
            }
        }
    }

    /// Through either session; now and then through all, the one after the other.
    fn publish_by(&mut self, rng: &mut StdRng, application: &Application, mut at: Duration) {
        let mode = if rng.random_bool(0.5) { Mode::Unicast } else { Mode::Multicast };
        let own = application.topics.get(rng.random_range(0..TOPICS as usize)).copied();
        let topic = own.unwrap_or_else(|| rng.random_range(0..TOPICS));
        let deadline = rng.random_bool(0.3).then(|| micros(rng, 500_000..60_000_000));
        self.own_messages += 1;
        let message = FIRST_MESSAGE + self.own_messages;
        if rng.random_bool(0.1) {
            let wants = Wants { certificate: Some(application.certificate), ..self.wants(message) };
            self.wanted.insert(message, wants);
        }
        let wants = self.wants(message);
        let first = rng.random_range(0..application.sessions.len());
        let copies = if rng.random_bool(0.3) { application.sessions.len() } else { 1 };
        for client in application.sessions.iter().cycle().skip(first).take(copies).copied() {
            self.steps.push(Step { at, act: Act::Publish { client, message, mode, topic, deadline, wants } });
            at += micros(rng, 0..100_000);
        }
    }
}
