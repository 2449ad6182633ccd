//! Closed and open loop: when the next message is sent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Semaphore,
    task::{JoinSet, coop::consume_budget},
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    clock,
    record::Latencies,
    system::Failure,
    work::{
        Traffic,
        pacer::{Pacer, Timeline},
        tally::{Tally, UnderWay},
    },
};

/// After a failure, so that nobody hammers at what is gone.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);
/// What is under way at the end is waited for so long at most.
const DRAIN: Duration = Duration::from_secs(5);
/// Due messages that are taken at once.
const BATCH: usize = 256;

/// How far a work is, for those who send.
#[derive(Debug, Default)]
pub(crate) struct Stage(AtomicU8);

impl Stage {
    pub(crate) fn measure(&self) {
        self.0.store(1, Ordering::Release);
    }

    pub(crate) fn end(&self) {
        self.0.store(2, Ordering::Release);
    }

    pub(crate) fn is_warming_up(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }

    pub(crate) fn is_measuring(&self) -> bool {
        self.0.load(Ordering::Acquire) == 1
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire) == 2
    }
}

/// Sends messages.
pub(crate) trait Sender: Clone + Send + Sync + 'static {
    /// Sends one that was due at this moment; resolves with its outcome.
    fn send(&self, due: u64, measured: bool) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What sends, and what came of it.
pub(crate) struct Senders {
    tasks: JoinSet<()>,
    tallies: Vec<Arc<Mutex<Tally>>>,
    outcome: Arc<Mutex<Opened>>,
    drain: Duration,
}

/// What only open loops have.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    /// Due, and not sent.
    pub(crate) not_sent: u64,
    /// From when a message was due until it was handed to the system's client.
    pub(crate) sent_late: Latencies,
}

/// How long what is under way at the end is waited for.
pub(crate) fn drain(traffic: &Traffic) -> Duration {
    DRAIN.min(traffic.patience)
}

impl Senders {
    /// `in_flight` loops, senders in turn, until the stage is over.
    pub(crate) fn closed<S: Sender>(
        senders: &[S],
        in_flight: usize,
        traffic: &Traffic,
        stage: &Arc<Stage>,
    ) -> Self {
        let mut all = Self::new(traffic);
        for sender in senders.iter().cycle().take(in_flight) {
            let tally = all.tally();
            all.tasks.spawn(turn(sender.clone(), stage.clone(), tally, traffic.patience));
        }
        all
    }

    /// One message each time that one is due, senders in turn.
    pub(crate) fn open<S: Sender>(
        senders: Vec<S>,
        in_flight: usize,
        traffic: &Traffic,
        stage: &Arc<Stage>,
        pacer: Pacer,
        timeline: Timeline,
    ) -> Self {
        let mut all = Self::new(traffic);
        let dispatch = Dispatch {
            senders,
            room: Arc::new(Semaphore::new(in_flight)),
            timeline,
            stage: stage.clone(),
            tally: all.tally(),
            outcome: all.outcome.clone(),
            patience: traffic.patience,
            drain: all.drain,
        };
        // The dispatcher waits for what it has sent; a little more, so that it can tell what is unfinished.
        all.drain += Duration::from_secs(1);
        all.tasks.spawn(dispatch.run(pacer));
        all
    }

    /// Waits, not for long, until everything under way has ended; what has not is unfinished.
    pub(crate) async fn finish(mut self) -> (Tally, Opened) {
        let deadline = Instant::now() + self.drain;
        while let Ok(Some(_)) = timeout_at(deadline, self.tasks.join_next()).await {}
        self.tasks.shutdown().await;
        let mut tally = Tally::default();
        self.tallies.iter().for_each(|part| tally.merge(&part.lock()));
        let opened = std::mem::take(&mut *self.outcome.lock());
        (tally, opened)
    }

    fn new(traffic: &Traffic) -> Self {
        let (tasks, tallies, outcome) = (JoinSet::new(), Vec::new(), Arc::default());
        Self { tasks, tallies, outcome, drain: drain(traffic) }
    }

    /// Histograms are large, so that not each of many loops can have its own.
    fn tally(&mut self) -> Arc<Mutex<Tally>> {
        const MOST: usize = 64;
        if self.tallies.len() < MOST {
            self.tallies.push(Arc::default());
        }
        self.tallies.rotate_left(1);
        self.tallies.last().cloned().unwrap_or_default()
    }
}

/// One loop of a closed loop.
async fn turn<S: Sender>(sender: S, stage: Arc<Stage>, tally: Arc<Mutex<Tally>>, patience: Duration) {
    while !stage.is_over() {
        // A system that never waits must not keep others from running.
        consume_budget().await;
        let (due, measured) = (clock::now(), stage.is_measuring());
        let under_way = UnderWay::new(due, measured, tally.clone());
        let outcome = send(&sender, due, measured, patience).await;
        let failed = outcome.is_err();
        under_way.ended(outcome, stage.is_measuring());
        if failed {
            sleep(PAUSE).await;
        }
    }
}

async fn send<S: Sender>(sender: &S, due: u64, measured: bool, patience: Duration) -> Result<(), Failure> {
    let late = || Failure::new("no_outcome", format!("no outcome within {patience:?}"));
    timeout(patience, sender.send(due, measured)).await.unwrap_or_else(|_| Err(late()))
}

/// Sends what is due.
struct Dispatch<S> {
    senders: Vec<S>,
    room: Arc<Semaphore>,
    timeline: Timeline,
    stage: Arc<Stage>,
    tally: Arc<Mutex<Tally>>,
    outcome: Arc<Mutex<Opened>>,
    patience: Duration,
    drain: Duration,
}

impl<S: Sender> Dispatch<S> {
    async fn run(self, mut pacer: Pacer) {
        let (mut tasks, mut batch) = (JoinSet::new(), Vec::with_capacity(BATCH));
        let mut senders = self.senders.iter().cycle();
        while pacer.due.recv_many(&mut batch, BATCH).await > 0 {
            for due in batch.drain(..) {
                if let Some(sender) = senders.next() {
                    self.dispatch(sender, due, &mut tasks);
                }
            }
            while tasks.try_join_next().is_some() {}
        }
        self.outcome.lock().not_sent += pacer.missed.load(Ordering::Relaxed);
        let deadline = Instant::now() + self.drain;
        while let Ok(Some(_)) = timeout_at(deadline, tasks.join_next()).await {}
        tasks.shutdown().await;
    }

    fn dispatch(&self, sender: &S, due: u64, tasks: &mut JoinSet<()>) {
        let measured = due >= self.timeline.from;
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            self.outcome.lock().not_sent += u64::from(measured);
            return;
        };
        if measured {
            self.outcome.lock().sent_late.record(clock::since(due));
        }
        let under_way = UnderWay::new(due, measured, self.tally.clone());
        let (sender, stage, patience) = (sender.clone(), self.stage.clone(), self.patience);
        tasks.spawn(async move {
            let outcome = send(&sender, due, measured, patience).await;
            under_way.ended(outcome, stage.is_measuring());
            drop(room);
        });
    }
}
