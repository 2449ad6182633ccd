//! How far a work is, for whoever shows it.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What a work is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Clients connect. Done and total are clients.
    #[default]
    Connecting,
    /// The first message is waited for.
    Reaching,
    /// Under load, not measured. Done and total are milliseconds.
    WarmUp,
    /// Under load, measured. Done and total are milliseconds, or what is to be done.
    Measuring,
    /// What is under way is waited for.
    Finishing,
}

const PHASES: [Phase; 5] =
    [Phase::Connecting, Phase::Reaching, Phase::WarmUp, Phase::Measuring, Phase::Finishing];

/// How far a work is. Shared with the work; read at any time.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// What it is doing.
    pub fn phase(&self) -> Phase {
        PHASES.get(usize::from(self.phase.load(Ordering::Relaxed))).copied().unwrap_or_default()
    }

    /// How much of the phase is done, and how much there is; 0 if it is not known.
    pub fn done(&self) -> (u64, u64) {
        let total = self.total.load(Ordering::Relaxed);
        (self.done.load(Ordering::Relaxed).min(total), total)
    }

    pub(crate) fn enter(&self, phase: Phase, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Measuring begins, of something that ends when so much is done.
    pub fn measuring(&self, total: u64) {
        self.enter(Phase::Measuring, total);
    }

    /// So much of it is done.
    pub fn set(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }

    pub(crate) fn advance(&self, by: u64) {
        self.done.fetch_add(by, Ordering::Relaxed);
    }
}
