//! One transfer at its receiver: decided on, checked, [received](super::receiving), and its sender told
//! of its end.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use amop_protocol::{
    Fingerprint,
    wire::files::{Frame, Reason, State, Step},
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Decision, ReceiveOptions, ReceiveProgress,
    directory::{Claim, Directory},
    landing::{About, Landing, Refused},
    receiving::Receiving,
};
use crate::{
    Address, Client, Delivery, RequestOptions,
    files::{blocking, channel::Channel, error::FileError},
};

/// How long a request to the sender may take.
const TELL: Duration = Duration::from_secs(10);
/// From one try to tell the sender something to the next: at first, and at most.
pub(super) const TELL_AGAIN: Duration = Duration::from_millis(200);
pub(super) const TELL_MOST: Duration = Duration::from_secs(10);
/// How long a sender is tried to be told that it is over; that it is done, which it may also ask later.
const LAST_WORDS: Duration = Duration::from_secs(10);
const DONE: Duration = Duration::from_secs(2);

/// What comes to a transfer.
pub(super) enum Incoming {
    /// It was offered again.
    Offered,
    Frame(Box<(Frame, Delivery, Room)>),
}

/// A part of the memory for chunks that wait to be stored.
pub(super) type Room = OwnedSemaphorePermit;

/// A transfer that nobody has decided on yet.
pub(super) struct Transfer {
    pub(super) client: Client,
    pub(super) directory: Arc<Directory>,
    pub(super) channel: Channel,
    pub(super) sender: Fingerprint,
    pub(super) about: About,
    pub(super) options: ReceiveOptions,
    pub(super) stop: CancellationToken,
    /// Its sender offers the same file anew, and the application has accepted that.
    pub(super) make_way: CancellationToken,
}

/// What a sender answers that is told something.
#[derive(Debug)]
pub(super) enum Told {
    /// It has understood.
    Noted,
    /// It is over: somebody else has the file, say.
    Over(Reason, String),
    /// It was not reached, or did not understand.
    Nothing,
}

/// Tells the sender something, and nobody else who subscribes its inbox.
pub(super) async fn tell(client: &Client, channel: &Channel, sender: Fingerprint, step: Step) -> Told {
    let Ok(payload) = channel.encode(step) else { return Told::Nothing };
    let inbox = channel.transfer.inbox();
    let options = RequestOptions::default().deadline(TELL).to(Address::default().of_client(sender));
    let Ok(answer) = client.request_to(&inbox, payload, options).await else { return Told::Nothing };
    match channel.decode(&answer) {
        Some(Step::Noted) => Told::Noted,
        Some(Step::Stop { reason, why, .. }) => Told::Over(reason, why),
        _ => Told::Nothing,
    }
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
                let left = ended.as_ref().err().is_some_and(|error| !self.is_to_be_discarded(error))
                    && !self.make_way.is_cancelled();
                let reason = ended.as_ref().err().and_then(reason_of);
                // Whoever asked may have gone.
                let _ = result.send(ended);
                if let Some(reason) = reason {
                    self.say_last(self.stopped(reason), LAST_WORDS).await;
                }
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
                    Incoming::Frame(arrived) => {
                        let (frame, delivery, _) = *arrived;
                        match self.channel.open(frame) {
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
                        }
                    }
                },
            }
        }
    }

    async fn receive(
        &self,
        mut incoming: mpsc::Receiver<Incoming>,
        progress: watch::Sender<ReceiveProgress>,
        cancelled: &CancellationToken,
    ) -> Result<PathBuf, FileError> {
        let ended = match self.open(&mut incoming, &progress, cancelled).await {
            Ok(landing) => self.fill(landing, incoming, progress, cancelled).await,
            Err(error) => {
                drop(incoming);
                if self.is_to_be_discarded(&error) {
                    self.discard().await;
                }
                Err(error)
            }
        };
        if ended.is_ok() {
            // Before the application knows, which may end then.
            let done = Step::State(State::Done { receiver: self.directory.receiver() });
            self.say_last(done, DONE).await;
        }
        ended
    }

    /// Until the file is there. Whatever waits for that is let go of at the end.
    async fn fill(
        &self,
        landing: Landing,
        incoming: mpsc::Receiver<Incoming>,
        progress: watch::Sender<ReceiveProgress>,
        cancelled: &CancellationToken,
    ) -> Result<PathBuf, FileError> {
        let landing = Arc::new(landing);
        let ended = Receiving::new(self, landing.clone(), incoming, progress).run(cancelled).await;
        if ended.as_ref().is_err_and(|error| self.is_to_be_discarded(error)) {
            // Nothing is lost if that fails but space, for a while.
            let _ = blocking(move || landing.discard()).await;
        }
        ended
    }

    /// Claims what is on disk of the file and checks it; a sender that asks is told that there is work
    /// being done.
    async fn open(
        &self,
        incoming: &mut mpsc::Receiver<Incoming>,
        progress: &watch::Sender<ReceiveProgress>,
        cancelled: &CancellationToken,
    ) -> Result<Landing, FileError> {
        let (directory, about, progress) = (self.directory.clone(), self.about.clone(), progress.clone());
        // A large file takes minutes, and nobody is to wait so long for the end.
        let halt = self.stop.child_token();
        let halted = halt.clone();
        let checked = move |bytes| {
            progress.send_modify(|progress| progress.bytes += bytes);
            if halted.is_cancelled() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
        };
        let opening = async {
            let claim = self.claim().await?;
            blocking(move || Landing::open(directory, about, claim, checked)).await?
        };
        tokio::pin!(opening);
        let mut stopped = None;
        loop {
            tokio::select! {
                // What it holds is let go of if it is over meanwhile.
                opened = &mut opening => return stopped.map_or(opened, Err),
                () = self.stop.cancelled(), if stopped.is_none() => stopped = Some(FileError::Closed),
                () = cancelled.cancelled(), if stopped.is_none() => {
                    stopped = Some(FileError::Cancelled);
                    halt.cancel();
                }
                Some(incoming) = incoming.recv() => {
                    // What else comes, comes again.
                    let Incoming::Frame(arrived) = incoming else { continue };
                    let (frame, delivery, _) = *arrived;
                    match self.channel.open(frame) {
                        Some(Step::Ask) => self.answer(delivery, Step::State(State::Working)),
                        Some(Step::Stop { reason, why, .. }) => {
                            self.answer(delivery, Step::Noted);
                            stopped.get_or_insert(FileError::Stopped { reason, why });
                            halt.cancel();
                        }
                        _ => {}
                    }
                },
            }
        }
    }

    /// Whoever else receives the same file makes way: its sender has begun anew, and knows nothing of
    /// the transfer before.
    async fn claim(&self) -> Result<Claim, FileError> {
        let key = self.about.key();
        loop {
            let holder = match self.directory.claim(&key, &self.make_way) {
                Ok(claim) => return Ok(claim),
                Err(holder) => holder,
            };
            holder.make_way.cancel();
            tokio::select! {
                () = self.stop.cancelled() => return Err(FileError::Closed),
                () = holder.gone.cancelled() => {}
            }
        }
    }

    fn is_to_be_discarded(&self, error: &FileError) -> bool {
        match error {
            FileError::Cancelled | FileError::WrongContent => true,
            FileError::Closed | FileError::Stalled(_) => false,
            // Whoever comes next goes on with it.
            _ if self.make_way.is_cancelled() => false,
            FileError::Stopped { reason: Reason::Cancelled | Reason::Changed, .. } => true,
            _ => self.options.discard,
        }
    }

    /// Removes what is there of a file that is not received by this transfer, unless another one receives
    /// it.
    async fn discard(&self) {
        let (directory, key) = (self.directory.clone(), self.about.key());
        let Ok(claim) = directory.claim(&key, &CancellationToken::new()) else { return };
        // Nothing is lost if that fails but space, for a while.
        let _ = blocking(move || {
            directory.discard(&key);
            drop(claim);
        })
        .await;
    }

    fn stopped(&self, reason: Reason) -> Step {
        Step::Stop { reason, why: String::new(), receiver: Some(self.directory.receiver()) }
    }

    /// Tries for a while to tell the sender that it is over here.
    async fn say_last(&self, step: Step, within: Duration) {
        let telling = async {
            let mut again = TELL_AGAIN;
            while let Told::Nothing = tell(&self.client, &self.channel, self.sender, step.clone()).await {
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

    pub(super) fn answer(&self, delivery: Delivery, step: Step) {
        if let Ok(payload) = self.channel.encode(step) {
            delivery.answer(payload);
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
