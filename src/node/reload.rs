//! Certificates that change while the node runs.
//!
//! One task looks at their files every second, and at once when it is asked. What has changed is put in
//! force by [`Store`], all or nothing; then whoever is connected is judged again: sessions and links of
//! those who are no longer believed end, others notice nothing. It also warns of what will expire.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use time::OffsetDateTime;
use tokio::{
    sync::{mpsc, oneshot},
    time::MissedTickBehavior,
};

use super::{certificate_metrics::Metrics, certificates::Certificates, control};
use crate::{
    client_port::Registry,
    identity::{Changes, Credentials, Fact, Files, Of, Refused, Store},
    overlay::Overlay,
    tasks::{self, Tasks},
};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Requests to reload that may wait. Policy: whoever asks waits.
pub(super) const REQUESTS: usize = 8;
/// Seconds of a day.
const DAY: i64 = 86_400;

/// What a reload has come to.
pub type Reloaded = Result<Changes, Refused>;

/// Asks for certificates to be loaded again. Clones ask the same task; it outlives the task harmlessly.
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

/// The task's state.
pub(super) struct ReloadTask {
    store: Store,
    around: Around,
    /// Of each certificate warned of: how many days were left, as the warnings have it.
    warned: BTreeMap<String, i64>,
}

/// Who is to know of new certificates, and how.
pub(super) struct Around {
    pub(super) credentials: Credentials,
    pub(super) control: control::Handle,
    pub(super) clients: Arc<Registry>,
    pub(super) overlay: Overlay,
    pub(super) metrics: Metrics,
    /// Those in force, for whoever asks.
    pub(super) certificates: Arc<Certificates>,
    /// Days before the end at which there is a warning, in ascending order.
    pub(super) warnings: Vec<usize>,
}

/// A queue of requests, and its other end for the task.
pub(super) fn requests() -> (Handle, mpsc::Receiver<oneshot::Sender<Reloaded>>) {
    let (send, receive) = mpsc::channel(REQUESTS);
    (Handle(send), receive)
}

impl ReloadTask {
    pub(super) fn new(files: Files, around: Around) -> Self {
        let store = Store::new(around.credentials.clone(), files);
        let mut task = Self { store, around, warned: BTreeMap::new() };
        task.show();
        task
    }

    /// Serves until the group ends. Woken by requests and once a second.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<oneshot::Sender<Reloaded>>, tasks: Tasks) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // The end first, then requests.
            let done = tokio::select! {
                biased;
                () = tasks.cancelled() => return,
                Some(done) = requests.recv() => Some(done),
                _ = look.tick() => None,
            };
            let loaded = match done {
                Some(_) => tasks::at_length(|| self.store.load()),
                None => tasks::at_length(|| self.store.look()),
            };
            self.loaded(&loaded, done.is_some()).await;
            if let Some(done) = done {
                // Whoever asked may have gone.
                let _ = done.send(loaded);
            }
            self.show();
        }
    }

    async fn loaded(&mut self, loaded: &Reloaded, asked: bool) {
        match loaded {
            Ok(changes) if changes.is_empty() => {
                if asked {
                    self.around.metrics.unchanged();
                    tracing::info!("told to load certificates again: none has changed");
                }
            }
            Ok(changes) => {
                self.around.metrics.changed();
                log_changes(changes);
                self.judge_again(changes).await;
            }
            Err(refused) => {
                self.around.metrics.refused();
                log_refused(refused);
            }
        }
    }

    /// Tells others of a new chain, and ends what is not believed any more.
    async fn judge_again(&self, changes: &Changes) {
        let chain = self.around.credentials.chain();
        let chain = changes.own_chain.then(|| chain.iter().map(|der| Bytes::copy_from_slice(der)).collect());
        let believed: BTreeSet<_> = self.around.control.certificates(chain).await.into_iter().collect();
        self.around.overlay.judge_again(believed).await;
        let ended = tasks::at_length(|| self.around.clients.judge_again());
        if ended > 0 {
            tracing::warn!(sessions = ended, "sessions of clients that are no longer believed have ended");
        }
    }

    /// Shows what is in force in the metrics, and warns of what will expire.
    fn show(&mut self) {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let facts = self.store.facts();
        if facts != **self.around.certificates.in_force() {
            self.around.metrics.forget();
            self.around.certificates.set(facts.clone());
        }
        self.around.metrics.show(&facts, now);
        self.warned.retain(|id, _| facts.iter().any(|fact| fact.id == *id));
        for fact in &facts {
            let left = fact.not_after.saturating_sub(now);
            let Some(days) = self.due(fact, left) else { continue };
            let before = self.warned.insert(fact.id.clone(), days);
            if before.is_none_or(|before| days < before) {
                warn(fact, left);
            }
        }
    }

    /// The warning that is due for what has so many seconds left: by its days, -1 once it has expired.
    /// Lists are replaced so often that only their last day is worth one.
    fn due(&self, fact: &Fact, left: i64) -> Option<i64> {
        if left < 0 {
            return Some(-1);
        }
        let is_list = fact.of == Of::RevocationList;
        let days = self.around.warnings.iter().filter_map(|days| i64::try_from(*days).ok());
        days.filter(|days| !is_list || *days <= 1).find(|days| left <= days.saturating_mul(DAY))
    }
}

fn warn(fact: &Fact, left: i64) {
    let Fact { of, subject, issuer, serial, .. } = fact;
    let (of, days_left) = (of.as_str(), left.div_euclid(DAY));
    match (fact.of, left < 0) {
        (Of::RevocationList, true) => {
            tracing::error!(
                issuer,
                "a revocation list is out of date: what it revokes stays revoked, what came after is not known; get a newer one"
            );
        }
        (Of::RevocationList, false) => {
            tracing::warn!(issuer, "a revocation list is to be replaced within a day; get a newer one");
        }
        (_, true) => {
            tracing::error!(
                of,
                subject,
                serial,
                issuer,
                "a certificate has expired; renew it (docs/operations.md)"
            );
        }
        (_, false) => {
            tracing::warn!(
                of,
                subject,
                serial,
                issuer,
                days_left,
                "a certificate expires soon; renew it (docs/operations.md)"
            );
        }
    }
}

fn log_changes(changes: &Changes) {
    for (facts, what) in [(&changes.added, "in force"), (&changes.removed, "no longer in force")] {
        for Fact { of, subject, issuer, serial, .. } in facts {
            let of = of.as_str();
            tracing::info!(of, subject, serial, issuer, "certificates loaded: {what}");
        }
    }
}

fn log_refused(refused: &Refused) {
    let offered = refused.offered.as_ref();
    let (subject, serial, issuer) = (
        offered.map(|leaf| leaf.subject.as_str()),
        offered.map(|leaf| leaf.serial.as_str()),
        offered.map(|leaf| leaf.issuer.as_str()),
    );
    tracing::error!(cause = %refused, subject, serial, issuer, "certificates are not loaded; those in force stay");
}
