//! What publishers ask for beside their messages: drawn apart, so that older seeds keep their plans.

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Generator, Limits};
use crate::wants::{INSTITUTIONS, LEAST_BYTES, Wants};

/// Limits that are seldom reached: of relays, and of room for payloads.
pub(super) fn seldom_limited(seed: u64, limits: Limits) -> Limits {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x7e1a_7e1a);
    // One that refuses for its quota, too, would make it hard to say which refusal is whose.
    let roomy = limits.in_flight >= 1_024;
    let (relay, room) = match rng.random_range(0..12) {
        0 if roomy => (Some(rng.random_range(300..10_000)), None),
        1 if roomy => (None, Some(rng.random_range(4_000..60_000))),
        _ => (None, None),
    };
    Limits { relay, room, ..limits }
}

impl Generator {
    /// The same for all copies of one message.
    pub(super) fn wants(&mut self, message: u64) -> Wants {
        if let Some(known) = self.wanted.get(&message) {
            return *known;
        }
        let mut rng = StdRng::seed_from_u64(self.seed.rotate_left(20) ^ message);
        let mut wants =
            Wants { report: rng.random_bool(0.3), handed: rng.random_bool(0.2), ..Wants::default() };
        if rng.random_bool(0.1) {
            wants.bytes = rng.random_range(LEAST_BYTES..4_000);
        }
        let someone = rng.random_range(0..self.clients.len().max(1));
        let someone = self.clients.get(someone).map(|client| (client.node, client.certificate));
        match (rng.random_range(0..16), someone) {
            (0, _) => wants.institution = Some(rng.random_range(0..=INSTITUTIONS)),
            (1, Some((node, _))) => wants.node = Some(node),
            (2, Some((_, certificate))) => wants.certificate = Some(certificate),
            (3, Some((node, certificate))) => {
                wants.node = rng.random_bool(0.5).then_some(node);
                wants.institution = Some((node % usize::from(INSTITUTIONS)) as u8);
                wants.certificate = Some(certificate);
            }
            _ => {}
        }
        self.wanted.insert(message, wants);
        wants
    }
}
