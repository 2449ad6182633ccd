//! A transfer that was accepted: chunks come, are verified and written, until the file is complete.
//!
//! Woken by: the end, the application, frames, chunks that are stored, and its own clock.

use std::{path::PathBuf, sync::Arc, time::Duration};

use amop_protocol::wire::files::{Reason, State, Step};
use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    ReceivePhase, ReceiveProgress,
    landing::{Landing, Refused},
    transfer::{Incoming, Room, TELL_AGAIN, TELL_MOST, Told, Transfer, tell},
};
use crate::{
    Delivery,
    files::{blocking, error::FileError},
};

/// Chunks verified and written at once.
const MAX_STORING: usize = 4;
/// Chunks that are no part of the file, after which it is given up.
const MAX_BAD: u32 = 16;
/// When nothing has come for this long, the sender is told again what is missing.
const QUIET: Duration = Duration::from_secs(5);

/// A transfer that was accepted.
pub(super) struct Receiving<'a> {
    transfer: &'a Transfer,
    landing: Arc<Landing>,
    incoming: mpsc::Receiver<Incoming>,
    progress: watch::Sender<ReceiveProgress>,
    storing: JoinSet<Result<(), Refused>>,
    /// The sender is being told what is missing.
    telling: JoinSet<Told>,
    /// When it was last heard of, and when it last did something about the file.
    heard: Instant,
    served: Instant,
    tell_at: Option<Instant>,
    tell_again: Duration,
    bad: u32,
}

impl<'a> Receiving<'a> {
    pub(super) fn new(
        transfer: &'a Transfer,
        landing: Arc<Landing>,
        incoming: mpsc::Receiver<Incoming>,
        progress: watch::Sender<ReceiveProgress>,
    ) -> Self {
        let now = Instant::now();
        let (storing, telling) = (JoinSet::new(), JoinSet::new());
        let (tell_at, tell_again) = (Some(now), TELL_AGAIN);
        Self {
            transfer,
            landing,
            incoming,
            progress,
            storing,
            telling,
            heard: now,
            served: now,
            tell_at,
            tell_again,
            bad: 0,
        }
    }
}

impl Receiving<'_> {
    /// Until the file is in its place.
    pub(super) async fn run(mut self, cancelled: &CancellationToken) -> Result<PathBuf, FileError> {
        self.tell_progress();
        let ended = self.fill(cancelled).await;
        self.storing.shutdown().await;
        ended?;
        self.progress.send_modify(|progress| progress.phase = ReceivePhase::Finishing);
        self.finish().await
    }

    /// Until all is there.
    async fn fill(&mut self, cancelled: &CancellationToken) -> Result<(), FileError> {
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
                () = self.transfer.make_way.cancelled() => return Err(FileError::Stopped {
                    reason: Reason::Busy,
                    why: "the same file was offered anew".into(),
                }),
                Some(stored) = self.storing.join_next(), if !self.storing.is_empty() => self.stored(stored)?,
                Some(told) = self.telling.join_next(), if !self.telling.is_empty() => {
                    self.told(told.unwrap_or(Told::Nothing))?;
                }
                incoming = self.incoming.recv(), if room => match incoming {
                    Some(incoming) => self.handle(incoming)?,
                    None => return Err(FileError::Closed),
                },
                () = sleep_until(tell_at), if self.telling.is_empty() => self.tell(),
                () = sleep_until(self.served + patience) => return Err(FileError::Stalled(patience)),
            }
        }
    }

    fn handle(&mut self, incoming: Incoming) -> Result<(), FileError> {
        let (frame, delivery, room) = match incoming {
            Incoming::Frame(arrived) => *arrived,
            Incoming::Offered => {
                self.tell_at = Some(Instant::now());
                return Ok(());
            }
        };
        let Some(step) = self.transfer.channel.open(frame) else { return Ok(()) };
        self.heard = Instant::now();
        self.served = self.heard;
        match step {
            Step::Chunk { index, proof, data } => self.store(index, proof, data, (delivery, room)),
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
    fn store(&mut self, index: u64, proof: Bytes, data: Bytes, (delivery, room): (Delivery, Room)) {
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
            drop((data, room));
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
        let Transfer { client, channel, directory, sender, .. } = self.transfer;
        let step = Step::Accept { receiver: directory.receiver(), missing: self.landing.missing().to_wire() };
        let (client, channel, sender) = (client.clone(), channel.clone(), *sender);
        self.telling.spawn(async move { tell(&client, &channel, sender, step).await });
        self.tell_at = Some(Instant::now());
    }

    fn told(&mut self, told: Told) -> Result<(), FileError> {
        let now = Instant::now();
        match told {
            Told::Noted => {
                (self.tell_at, self.tell_again) = (None, TELL_AGAIN);
                // It is there; that it has nothing to say for a while is another matter.
                self.heard = now;
            }
            Told::Over(reason, why) => return Err(FileError::Stopped { reason, why }),
            Told::Nothing => {
                self.tell_at = Some(now + self.tell_again);
                self.tell_again = (self.tell_again * 2).min(TELL_MOST);
            }
        }
        Ok(())
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
                    Incoming::Frame(arrived) => {
                        let (frame, delivery, _) = *arrived;
                        let step = match self.transfer.channel.open(frame) {
                            Some(Step::Ask) => Step::State(State::Working),
                            // It is here already: everything is.
                            Some(Step::Chunk { index, .. }) => Step::Stored { index },
                            _ => continue,
                        };
                        self.transfer.answer(delivery, step);
                    }
                    Incoming::Offered => {}
                },
            }
        }
    }
}
