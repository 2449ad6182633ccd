//! What all sessions of a port share: the settings in force, and what is counted against them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use amop_protocol::{Time, session::server};
use arc_swap::{ArcSwap, Guard};

use super::{Broker, Config, Metrics, Registry, listings::Kept};
use crate::{
    identity::{Handshakes, Throttle},
    tasks::Tasks,
};

/// One for each port, for all its listeners and sessions.
pub(super) struct Shared {
    settings: ArcSwap<Settings>,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) registry: Arc<Registry>,
    pub(super) tasks: Tasks,
    pub(super) handshakes: Arc<Handshakes>,
    /// Lines in the log about clients that do not get in.
    pub(super) refusals: Throttle,
    /// Sessions that have a place.
    clients: Arc<AtomicUsize>,
    /// Bytes of partly received frames.
    pub(super) partial: AtomicUsize,
    pub(super) listings: Kept,
    started: Instant,
}

/// How the port behaves at the moment.
pub(super) struct Settings {
    pub(super) config: Config,
    /// The part of it that sessions' protocol needs.
    pub(super) session: server::Config,
}

/// A session's place among those there may be; free again when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Settings {
    fn new(config: Config) -> Self {
        Self { session: config.session(), config }
    }
}

impl Shared {
    pub(super) fn new(
        config: Config,
        broker: Arc<dyn Broker>,
        registry: Arc<Registry>,
        tasks: Tasks,
    ) -> Self {
        Self {
            handshakes: Arc::new(Handshakes::new(config.max_handshakes)),
            settings: ArcSwap::from_pointee(Settings::new(config)),
            refusals: Throttle::default(),
            clients: Arc::default(),
            broker,
            registry,
            tasks,
            partial: AtomicUsize::new(0),
            listings: Kept::default(),
            started: Instant::now(),
        }
    }

    /// Those in force.
    pub(super) fn settings(&self) -> Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// Puts others in force, for everything that comes from now on.
    pub(super) fn configure(&self, config: Config) {
        self.handshakes.set_max(config.max_handshakes);
        self.settings.store(Arc::new(Settings::new(config)));
    }

    /// A place for one more session, or how many there are in all.
    pub(super) fn place(&self) -> Result<Place, usize> {
        let max = self.settings().config.max_clients;
        let one_more = |taken: usize| (taken < max).then(|| taken + 1);
        match self.clients.try_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(Place(self.clients.clone())),
            Err(_) => Err(max),
        }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        self.registry.metrics()
    }

    pub(super) fn now(&self) -> Time {
        Time::from_start(self.started.elapsed())
    }
}
