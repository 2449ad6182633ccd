//! Named, tracked, cancellable tasks: the only caller of `tokio::spawn`.

use std::future::Future;

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

/// Spawns tasks that end together. Clones belong to the same group; a [`Tasks::child`] can be
/// cancelled on its own and is cancelled with its parent.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    cancelled: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks {
    /// An empty group.
    pub fn new() -> Self {
        Self::default()
    }

    /// A group that is cancelled with this one, and that this one waits for.
    pub fn child(&self) -> Self {
        Self { cancelled: self.cancelled.child_token(), tracker: self.tracker.clone() }
    }

    /// Spawns a task, its log lines in a span of that name. It must end soon after
    /// [`Tasks::cancelled`] resolves.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let span = tracing::debug_span!("task", name);
        #[expect(clippy::disallowed_methods, reason = "the one place that may spawn")]
        tokio::spawn(self.tracker.track_future(task.instrument(span)));
    }

    /// The token that ends this group's tasks.
    pub fn token(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// Resolves when the group is to end. Cancel safe.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// Tells this group's tasks to end.
    pub fn cancel(&self) {
        self.cancelled.cancel();
    }

    /// Cancels, and waits until every task of the whole tree has ended.
    pub async fn finish(&self) {
        self.cancelled.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}
