//! Where a node is between its start and its end, for those who ask and those who wait.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Report;
use crate::telemetry::status::Phase;

/// How long the admin port stays for whoever follows a node's end to read how it went.
const LAST_READ: Duration = Duration::from_secs(2);
/// Whoever has asked so recently is still following.
const FOLLOWING: Duration = Duration::from_secs(3);

/// One for each node. Phases follow each other and never go back.
#[derive(Debug)]
pub(super) struct Lifecycle {
    state: Mutex<State>,
    /// Cancelled when somebody asks the node to stop.
    asked: CancellationToken,
    /// Told when somebody has read the end.
    read: Notify,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    grace: Duration,
    /// When the grace period is over, once it has begun.
    until: Option<Instant>,
    report: Option<Report>,
    followed: Option<Instant>,
}

/// What is known at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) phase: Phase,
    /// What is left of the grace period.
    pub(super) grace: Duration,
    /// How it ended, if it has.
    pub(super) report: Option<Report>,
}

impl Lifecycle {
    /// A node that serves, and will have so much time to finish.
    pub(super) fn new(grace: Duration) -> Self {
        let state = State { phase: Phase::Serving, grace, until: None, report: None, followed: None };
        Self { state: Mutex::new(state), asked: CancellationToken::new(), read: Notify::new() }
    }

    /// Changes how much time the node will have to finish, unless it is finishing.
    pub(super) fn set_grace(&self, grace: Duration) {
        let mut state = self.state.lock();
        if state.phase == Phase::Serving {
            state.grace = grace;
        }
    }

    /// How much time the node has to finish.
    pub(super) fn grace(&self) -> Duration {
        self.state.lock().grace
    }

    /// Somebody wants the node to stop. It is not ready from now on.
    pub(super) fn ask(&self) {
        self.begin();
        self.asked.cancel();
    }

    /// Resolves when somebody wants the node to stop. Cancel safe.
    pub(super) async fn asked(&self) {
        self.asked.cancelled().await;
    }

    /// The node finishes what it has.
    pub(super) fn begin(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Serving {
            state.phase = Phase::Draining;
            state.until = Some(Instant::now() + state.grace);
        }
    }

    /// The node is done.
    pub(super) fn finish(&self, report: Report) {
        let mut state = self.state.lock();
        state.phase = Phase::Stopped;
        state.report = Some(report);
    }

    /// Waits until whoever follows the end has read it, if there is anybody, and not for long.
    pub(super) async fn read_to_the_end(&self) {
        let followed = self.state.lock().followed;
        if followed.is_some_and(|at| at.elapsed() < FOLLOWING) {
            let _ = tokio::time::timeout(LAST_READ, self.read.notified()).await;
        }
    }

    /// Whether the node takes nothing new.
    pub(super) fn is_over(&self) -> bool {
        self.state.lock().phase != Phase::Serving
    }

    /// Somebody who follows the end wants to know.
    pub(super) fn follow(&self) -> Moment {
        let mut state = self.state.lock();
        state.followed = Some(Instant::now());
        let State { phase, report, .. } = *state;
        let grace = match state.until {
            None => state.grace,
            Some(until) => until.saturating_duration_since(Instant::now()),
        };
        drop(state);
        if phase == Phase::Stopped {
            self.read.notify_one();
        }
        Moment { phase, grace, report }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: Report = Report { cut: 0, clients_closed: true };

    #[tokio::test]
    async fn whoever_follows_the_end_reads_it() {
        let node = Lifecycle::new(Duration::from_secs(600));
        assert_eq!(node.follow().phase, Phase::Serving);
        assert!(!node.is_over());
        node.ask();
        node.asked().await;
        assert!(node.is_over());
        assert_eq!(node.follow().phase, Phase::Draining);
        node.finish(REPORT);
        let end = node.follow();
        assert_eq!((end.phase, end.report), (Phase::Stopped, Some(REPORT)));
        node.read_to_the_end().await;
        node.begin();
        assert_eq!(node.follow().phase, Phase::Stopped, "it never goes back");
    }

    #[tokio::test]
    async fn nobody_is_waited_for_who_does_not_follow() {
        let node = Lifecycle::new(Duration::ZERO);
        node.finish(REPORT);
        assert!(futures::FutureExt::now_or_never(node.read_to_the_end()).is_some());
        let _ = node.follow();
        assert!(futures::FutureExt::now_or_never(node.read_to_the_end()).is_some(), "it has been read");
        let _ = node.follow();
        node.read_to_the_end().await;
        assert!(
            futures::FutureExt::now_or_never(node.read_to_the_end()).is_none(),
            "perhaps there is another"
        );
    }
}
