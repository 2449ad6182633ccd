//! One transfer at its receiver: decided on, received, finished.
//!
//! Woken by: the end, the application, frames, chunks that are stored, and its own clock.

use std::{path::PathBuf, sync::Arc, time::Duration};

use amop_protocol::wire::files::{Frame, Reason, State, Step};
use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Decision, ReceiveOptions, ReceivePhase, ReceiveProgress,
    directory::Directory,
    landing::{About, Landing, Refused},
};
use crate::{
    Client, Delivery, RequestError, RequestOptions,
    files::{blocking, channel::Channel, error::FileError},
};

/// Chunks verified and written at once.
const MAX_STORING: usize = 4;
/// Chunks that are no part of the file, after which it is given up.
const MAX_BAD: u32 = 16;
/// How long a request to the sender may take.
const TELL: Duration = Duration::from_secs(10);
/// From one try to tell the sender something to the next: at first, and at most.
const TELL_AGAIN: Duration = Duration::from_millis(200);
const TELL_MOST: Duration = Duration::from_secs(10);
/// When nothing has come for this long, the sender is told again what is missing.
const QUIET: Duration = Duration::from_secs(5);
/// How long a sender is tried to be told that it is over; that it is done, which it may also ask later.
const LAST_WORDS: Duration = Duration::from_secs(10);
const DONE: Duration = Duration::from_secs(2);

/// What comes to a transfer.
pub(super) enum Incoming {
    /// It was offered again.
    Offered,
    Frame(Frame, Delivery),
}

/// A transfer that nobody has decided on yet.
pub(super) struct Transfer {
    pub(super) client: Client,
    pub(super) directory: Arc<Directory>,
    pub(super) channel: Channel,
    pub(super) about: About,
    pub(super) options: ReceiveOptions,
    pub(super) stop: CancellationToken,
}

/// Tells the sender something; true if it has understood.
pub(super) async fn tell(client: &Client, channel: &Channel, step: Step) -> Result<bool, RequestError> {
    let Ok(payload) = channel.encode(step) else { return Ok(false) };
    let inbox = channel.transfer.inbox();
    let answer = client.request_to(&inbox, payload, RequestOptions::default().deadline(TELL)).await?;
    Ok(channel.decode(&answer) == Some(Step::Noted))
}

impl Transfer {
    /// To its end; gives the record of what is left on disk to go on with, if anything is.
    pub(super) async fn run(
        self,
        decision: oneshot::Receiver<Decision>,
        mut incoming: mpsc::Receiver<Incoming>,
    ) -> Option<About> {
        match self.decide(decision, &mut incoming).await {
            Some(Decision::Accept { progress, result, cancelled }) => {
                let ended = self.receive(incoming, progress, &cancelled).await;
                if let Err(error) = &ended {
                    tracing::debug!(transfer = %self.channel.transfer, %error, "a file was not received");
                }
                let left = ended.as_ref().err().is_some_and(|error| !self.is_to_be_discarded(error));
                // Whoever asked may have gone.
                let _ = result.send(ended);
                left.then_some(self.about)
            }
            Some(Decision::Decline(why)) => {
                self.discard().await;
                self.say_last(Step::Decline { receiver: self.directory.receiver(), why }, LAST_WORDS).await;
                None
            }
            None => None,
        }
    }

    /// Waits for the application; `None` if the transfer is over before.
    async fn decide(
        &self,
        mut decision: oneshot::Receiver<Decision>,
        incoming: &mut mpsc::Receiver<Incoming>,
    ) -> Option<Decision> {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                decided = &mut decision => {
                    return Some(decided.unwrap_or(Decision::Decline("nobody wanted it".into())));
                }
                incoming = incoming.recv() => match incoming? {
                    Incoming::Offered => {}
                    Incoming::Frame(frame, delivery) => match self.channel.open(frame) {
                        Some(Step::Ask) => self.answer(delivery, Step::State(State::Working)),
                        Some(Step::Stop { reason, why, .. }) => {
                            self.answer(delivery, Step::Noted);
                            if self.is_to_be_discarded(&FileError::Stopped { reason, why }) {
                                self.discard().await;
                            }
                            return None;
                        }
                        // Chunks come again.
                        _ => {}
                    },
                },
            }
        }
    }

    async fn receive(
        &self,
        incoming: mpsc::Receiver<Incoming>,
        progress: watch::Sender<ReceiveProgress>,
        cancelled: &CancellationToken,
    ) -> Result<PathBuf, FileError> {
        let landing = match self.open(&progress).await {
            Ok(landing) => Arc::new(landing),
            Err(error) => {
                let reason = match &error {
                    FileError::Stopped { reason, .. } => *reason,
                    FileError::Directory { source, .. } => Refused::reason_of(source),
                    _ => Reason::Disk,
                };
                self.say_last(self.stopped(reason), LAST_WORDS).await;
                return Err(error);
            }
        };
        let now = Instant::now();
        let mut receiving = Receiving {
            transfer: self,
            landing: landing.clone(),
            incoming,
            progress,
            storing: JoinSet::new(),
            telling: JoinSet::new(),
            heard: now,
            tell_at: Some(now),
            tell_again: TELL_AGAIN,
            bad: 0,
        };
        receiving.tell_progress();
        let ended = receiving.run(cancelled).await;
        receiving.storing.shutdown().await;
        let ended = match ended {
            Ok(()) => {
                receiving.progress.send_modify(|progress| progress.phase = ReceivePhase::Finishing);
                receiving.finish().await
            }
            Err(error) => Err(error),
        };
        let Err(error) = ended else {
            // Before the application knows, which may end then.
            let done = Step::State(State::Done { receiver: self.directory.receiver() });
            self.say_last(done, DONE).await;
            return ended;
        };
        if self.is_to_be_discarded(&error) {
            self.discard().await;
        }
        if let Some(reason) = reason_of(&error) {
            self.say_last(self.stopped(reason), LAST_WORDS).await;
        }
        Err(error)
    }

    async fn open(&self, progress: &watch::Sender<ReceiveProgress>) -> Result<Landing, FileError> {
        let (directory, about, progress) = (self.directory.clone(), self.about.clone(), progress.clone());
        let checked = move |bytes| progress.send_modify(|progress| progress.bytes += bytes);
        blocking(move || Landing::open(directory, about, checked)).await?
    }

    fn is_to_be_discarded(&self, error: &FileError) -> bool {
        match error {
            FileError::Cancelled | FileError::WrongContent => true,
            FileError::Closed | FileError::Stalled(_) => false,
            FileError::Stopped { reason: Reason::Cancelled | Reason::Changed, .. } => true,
            _ => self.options.discard,
        }
    }

    /// Removes what has come.
    async fn discard(&self) {
        let (directory, key) = (self.directory.clone(), self.about.key());
        // Nothing is lost if that fails but space, for a while.
        let _ = blocking(move || directory.discard(&key)).await;
    }

    fn stopped(&self, reason: Reason) -> Step {
        Step::Stop { reason, why: String::new(), receiver: Some(self.directory.receiver()) }
    }

    /// Tries for a while to tell the sender that it is over here.
    async fn say_last(&self, step: Step, within: Duration) {
        let telling = async {
            let mut again = TELL_AGAIN;
            while !matches!(tell(&self.client, &self.channel, step.clone()).await, Ok(true)) {
                sleep(again).await;
                again = (again * 2).min(TELL_MOST);
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => {}
            // It will ask, and be told that nothing is known of it.
            _ = timeout(within, telling) => {}
        }
    }

    fn answer(&self, delivery: Delivery, step: Step) {
        if let Ok(payload) = self.channel.encode(step) {
            delivery.answer(payload);
        }
    }
}

/// A transfer that was accepted.
struct Receiving<'a> {
    transfer: &'a Transfer,
    landing: Arc<Landing>,
    incoming: mpsc::Receiver<Incoming>,
    progress: watch::Sender<ReceiveProgress>,
    storing: JoinSet<Result<(), Refused>>,
    /// The sender is being told what is missing.
    telling: JoinSet<bool>,
    heard: Instant,
    tell_at: Option<Instant>,
    tell_again: Duration,
    bad: u32,
}

impl Receiving<'_> {
    /// Until all is there.
    async fn run(&mut self, cancelled: &CancellationToken) -> Result<(), FileError> {
        let patience = self.transfer.options.patience;
        loop {
            if self.landing.is_complete() && self.storing.is_empty() {
                return Ok(());
            }
            let room = self.storing.len() < MAX_STORING;
            let tell_at = self.tell_at.unwrap_or_else(|| self.heard + QUIET);
            tokio::select! {
                biased;
                () = self.transfer.stop.cancelled() => return Err(FileError::Closed),
                () = cancelled.cancelled() => return Err(FileError::Cancelled),
                Some(stored) = self.storing.join_next(), if !self.storing.is_empty() => self.stored(stored)?,
                Some(told) = self.telling.join_next(), if !self.telling.is_empty() => self.told(matches!(told, Ok(true))),
                incoming = self.incoming.recv(), if room => match incoming {
                    Some(incoming) => self.handle(incoming)?,
                    None => return Err(FileError::Closed),
                },
                () = sleep_until(tell_at), if self.telling.is_empty() => self.tell(),
                () = sleep_until(self.heard + patience) => return Err(FileError::Stalled(patience)),
            }
        }
    }

    fn handle(&mut self, incoming: Incoming) -> Result<(), FileError> {
        let (frame, delivery) = match incoming {
            Incoming::Frame(frame, delivery) => (frame, delivery),
            Incoming::Offered => {
                self.tell_at = Some(Instant::now());
                return Ok(());
            }
        };
        let Some(step) = self.transfer.channel.open(frame) else { return Ok(()) };
        self.heard = Instant::now();
        match step {
            Step::Chunk { index, proof, data } => self.store(index, proof, data, delivery),
            Step::Ask => self.transfer.answer(delivery, Step::State(self.state())),
            Step::Stop { reason, why, .. } => {
                self.transfer.answer(delivery, Step::Noted);
                return Err(FileError::Stopped { reason, why });
            }
            _ => {}
        }
        Ok(())
    }

    fn state(&self) -> State {
        let missing = self.landing.missing();
        if missing.is_empty() { State::Working } else { State::Missing(missing.to_wire()) }
    }

    /// Verifies and writes a chunk, and answers then.
    fn store(&mut self, index: u64, proof: Bytes, data: Bytes, delivery: Delivery) {
        let (landing, channel) = (self.landing.clone(), self.transfer.channel.clone());
        let receiver = self.transfer.directory.receiver();
        self.storing.spawn_blocking(move || {
            let stored = landing.store(index, &data, &proof);
            let step = match &stored {
                Ok(_) => Step::Stored { index },
                Err(refused) => {
                    Step::Stop { reason: refused.reason(), why: String::new(), receiver: Some(receiver) }
                }
            };
            if let Ok(payload) = channel.encode(step) {
                delivery.answer(payload);
            }
            stored.map(drop)
        });
    }

    fn stored(
        &mut self,
        stored: Result<Result<(), Refused>, tokio::task::JoinError>,
    ) -> Result<(), FileError> {
        match stored {
            Ok(Ok(())) => {}
            Ok(Err(Refused::Bad)) => {
                self.bad += 1;
                tracing::warn!(transfer = %self.transfer.channel.transfer, "a chunk is not what was offered");
                if self.bad >= MAX_BAD {
                    return Err(FileError::WrongContent);
                }
            }
            Ok(Err(Refused::Disk(source))) => {
                let path = self.transfer.directory.path().to_owned();
                return Err(FileError::Directory { path, source });
            }
            Err(_) => return Err(FileError::Closed),
        }
        self.tell_progress();
        Ok(())
    }

    fn tell_progress(&self) {
        let bytes = self.landing.verified();
        self.progress.send_replace(ReceiveProgress { phase: ReceivePhase::Receiving, bytes });
    }

    /// Tells the sender what is missing.
    fn tell(&mut self) {
        let Transfer { client, channel, directory, .. } = self.transfer;
        let step = Step::Accept { receiver: directory.receiver(), missing: self.landing.missing().to_wire() };
        let (client, channel) = (client.clone(), channel.clone());
        self.telling.spawn(async move { tell(&client, &channel, step).await.unwrap_or(false) });
        self.tell_at = Some(Instant::now());
    }

    fn told(&mut self, understood: bool) {
        let now = Instant::now();
        if understood {
            (self.tell_at, self.tell_again) = (None, TELL_AGAIN);
            // It is there; that it has nothing to say for a while is another matter.
            self.heard = now;
        } else {
            self.tell_at = Some(now + self.tell_again);
            self.tell_again = (self.tell_again * 2).min(TELL_MOST);
        }
    }

    /// Checks the whole and gives it its name, and answers those who ask meanwhile.
    async fn finish(&mut self) -> Result<PathBuf, FileError> {
        let landing = self.landing.clone();
        let finishing = blocking(move || landing.finish());
        tokio::pin!(finishing);
        loop {
            tokio::select! {
                biased;
                finished = &mut finishing => return finished?,
                Some(incoming) = self.incoming.recv() => match incoming {
                    Incoming::Frame(frame, delivery) => match self.transfer.channel.open(frame) {
                        Some(Step::Ask) => self.transfer.answer(delivery, Step::State(State::Working)),
                        Some(Step::Chunk { index, .. }) => self.transfer.answer(delivery, Step::Stored { index }),
                        _ => {}
                    },
                    Incoming::Offered => {}
                },
            }
        }
    }
}

/// What the sender is told of an error here; nothing of one that it told itself, or that passes.
fn reason_of(error: &FileError) -> Option<Reason> {
    match error {
        FileError::Cancelled => Some(Reason::Cancelled),
        FileError::WrongContent => Some(Reason::BadChunk),
        FileError::Directory { source, .. } => Some(Refused::reason_of(source)),
        _ => None,
    }
}
