//! Named, tracked, cancellable tasks: the only caller of `tokio::spawn`.

use std::future::Future;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

/// Does something that takes long, perhaps milliseconds, while other threads take over the tasks that
/// wait for this one's: otherwise those it has woken last would wait.
pub fn at_length<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Spawns tasks that end together. Clones belong to the same group; a [`Tasks::child`] can be
/// cancelled on its own and is cancelled with its parent.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    cancelled: CancellationToken,
    failed: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks {
    /// An empty group.
    pub fn new() -> Self {
        Self::default()
    }

    /// A group that is cancelled with this one, and that this one waits for.
    pub fn child(&self) -> Self {
        Self { cancelled: self.cancelled.child_token(), ..self.clone() }
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

    /// Spawns a task that the node cannot do without: if it ends unasked, [`Tasks::failed`] resolves.
    pub fn spawn_vital<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = Vital { name, tasks: self.clone() };
        self.spawn(name, async move {
            let _guard = guard;
            task.await;
        });
    }

    /// Resolves when a vital task has ended unasked. Cancel safe.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
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

/// Dropped when a vital task ends, by a panic too.
struct Vital {
    name: &'static str,
    tasks: Tasks,
}

impl Drop for Vital {
    fn drop(&mut self) {
        if !self.tasks.cancelled.is_cancelled() {
            tracing::error!(task = self.name, "a vital task has ended by itself");
            self.tasks.failed.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_vital_task_that_ends_unasked_is_a_failure() {
        let tasks = Tasks::new();
        tasks.child().spawn_vital("ends", async {});
        tasks.failed().await;
        tasks.finish().await;
    }

    #[tokio::test]
    async fn a_vital_task_that_ends_when_told_is_none() {
        let tasks = Tasks::new();
        let child = tasks.child();
        let until = child.clone();
        child.spawn_vital("waits", async move { until.cancelled().await });
        tasks.finish().await;
        assert!(!tasks.failed.is_cancelled());
    }
}
