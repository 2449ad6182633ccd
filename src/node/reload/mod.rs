//! What changes while the node runs: its configuration, and its certificates.
//!
//! One task loads both when it is asked, the configuration first, and all or nothing: if anything in either
//! is wrong, both stay. The files of certificates it also looks at every second, since other programs renew
//! them; a configuration is written by hand, and counts when its writer says that it is done.

mod certificates;
mod configuration;
mod metrics;
mod parts;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::MissedTickBehavior,
};

use self::{certificates::Certificates, configuration::Configuration};
pub(super) use self::{configuration::Settings, metrics::Metrics, parts::Parts};
use crate::{
    config::{self, Change, Config},
    identity,
    tasks::{self, Tasks},
};

/// How often the files of certificates are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Requests to reload that may wait. Policy: whoever asks waits.
pub(super) const REQUESTS: usize = 8;

/// What a reload has come to.
pub type Reloaded = Result<Changes, Refused>;

/// What a reload has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Certificates and revocation lists.
    pub certificates: identity::Changes,
    /// Keys of the configuration that have another value now.
    pub configuration: Vec<Change>,
    /// Keys whose new values count once the node is started again.
    pub at_restart: Vec<Change>,
}

/// Why a reload has changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The configuration cannot be used.
    #[error("{}", .0.in_one_line())]
    Configuration(#[from] config::Problems),
    /// The certificates cannot be used.
    #[error(transparent)]
    Certificates(#[from] identity::Refused),
}

/// Asks for a reload. Clones ask the same task; it outlives the task harmlessly.
#[derive(Clone, Debug)]
pub(super) struct Handle(mpsc::Sender<oneshot::Sender<Reloaded>>);

impl Handle {
    /// Loads what is in the files, and says what came of it; nothing if the node is ending. Cancel safe:
    /// what was asked for is done all the same.
    pub(super) async fn reload(&self) -> Reloaded {
        let (done, wait) = oneshot::channel();
        match self.0.send(done).await {
            Ok(()) => wait.await.unwrap_or_else(|_| Ok(Changes::default())),
            Err(_) => Ok(Changes::default()),
        }
    }
}

/// Has what changes be loaded when it is asked for, from now on: in a node that has started with this configuration.
pub(super) fn start(tasks: &Tasks, config: &Config, parts: Parts) -> Handle {
    let (handle, task) = ReloadTask::new(config, parts);
    tasks.spawn_vital("reload", task.run(tasks.clone()));
    handle
}

/// The task's state.
struct ReloadTask {
    configuration: Configuration,
    certificates: Certificates,
    requests: mpsc::Receiver<oneshot::Sender<Reloaded>>,
}

impl ReloadTask {
    fn new(config: &Config, parts: Parts) -> (Handle, Self) {
        let (send, requests) = mpsc::channel(REQUESTS);
        let parts = Arc::new(parts);
        let certificates = Certificates::new(config, parts.clone());
        let configuration = Configuration::new(config.clone(), parts);
        (Handle(send), Self { configuration, certificates, requests })
    }

    /// Serves until the group ends. Woken by requests and once a second.
    async fn run(mut self, tasks: Tasks) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // The end first, then requests.
            tokio::select! {
                biased;
                () = tasks.cancelled() => return,
                Some(done) = self.requests.recv() => {
                    let reloaded = self.reload().await;
                    // Whoever asked may have gone.
                    let _ = done.send(reloaded);
                }
                _ = look.tick() => self.certificates.look().await,
            }
            self.certificates.show();
        }
    }

    async fn reload(&mut self) -> Reloaded {
        let new = tasks::at_length(|| self.configuration.load())?;
        let files = new.as_ref().map(|new| &new.config);
        let certificates = self.certificates.load(files).await.inspect_err(|_| {
            if new.is_some() {
                self.configuration.refused("the certificates cannot be used");
            }
        })?;
        let (configuration, at_restart) = match new {
            Some(new) => self.configuration.put_in_force(new, &mut self.certificates).await,
            None => Default::default(),
        };
        Ok(Changes { certificates, configuration, at_restart })
    }
}
