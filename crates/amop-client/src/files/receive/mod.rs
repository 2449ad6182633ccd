//! Receiving: offers that come to topics, and what becomes of those that are accepted.
//!
//! One task, the [`desk`], reads the topics and the receiver's inbox and gives each frame to the task
//! of its [`transfer`]. What is on disk is the [`landing`]'s affair, and the [`directory`]'s.

mod desk;
pub(super) mod directory;
mod landing;
mod receiving;
mod transfer;

use std::{
    fmt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use amop_protocol::{Topic, broker::event::Sender, wire::files::Id};
use futures::Stream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{desk::Desk, directory::Directory};
use super::error::FileError;
use crate::{Client, Compatibility, PrivateKey, Subscription};

/// Offers that wait for the application; to more, their senders are told that there is no room now.
const MAX_WAITING: usize = 64;

/// How files are received.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReceiveOptions {
    /// Transfers under way at once, those not decided on included; to more, their senders are told that
    /// there is no room now. Default 64.
    pub max_transfers: usize,
    /// A transfer of which nothing comes for so long is put aside; what has come stays, and when its
    /// sender is back it is offered again. Default 10 minutes.
    pub patience: Duration,
    /// What has come of a file stays for so long after the last time anything came, then it is removed
    /// when files are next received into the directory. Default 7 days.
    pub keep: Duration,
    /// Whether what has come of a file is removed when the transfer fails here, for want of space say,
    /// rather than kept to be gone on with. Default false.
    pub discard: bool,
}

impl Default for ReceiveOptions {
    fn default() -> Self {
        Self {
            max_transfers: 64,
            patience: Duration::from_secs(600),
            keep: Duration::from_secs(7 * 24 * 3600),
            discard: false,
        }
    }
}

/// A stream of [`FileOffer`]s. Dropping it ends the transfers that are under way; what has come of
/// them stays in the directory and is gone on with when files are received there again: it is offered
/// again then, at once.
///
/// It has the directory for itself. Files appear in it complete, verified, and under names
/// that are safe; what is not complete is in its subdirectory `.amop`.
pub struct FileReceiver {
    /// Before the offers, which would be declined when they are dropped.
    _running: DropGuard,
    offers: mpsc::Receiver<FileOffer>,
    directory: Arc<Directory>,
}

/// A file that somebody offers. Dropping it declines it.
pub struct FileOffer {
    /// What it is.
    pub file: FileInfo,
    decide: oneshot::Sender<Decision>,
}

/// What is known of a file that is offered.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FileInfo {
    /// Names the transfer.
    pub transfer: TransferId,
    /// The topic it was offered to.
    pub topic: Topic,
    /// A name under which it can be stored; another is taken if that exists.
    pub name: String,
    /// The name as the sender has it: for showing, never for opening files, and with care for showing.
    pub claimed_name: String,
    /// Bytes.
    pub size: u64,
    /// What kind of content it is, as the sender says; often empty.
    pub media_type: String,
    /// BLAKE3 of the content; `None` for a file that comes in one frame.
    pub hash: Option<[u8; 32]>,
    /// Who sends it, as the sender's node verified it; `None` for one frame from a 2.x node.
    pub sender: Option<Sender>,
}

/// Names a transfer: 32 hex digits, at both ends the same.
pub type TransferId = Id;

/// What the application decided.
enum Decision {
    Accept {
        progress: watch::Sender<ReceiveProgress>,
        result: oneshot::Sender<Result<PathBuf, FileError>>,
        cancelled: CancellationToken,
    },
    Decline(String),
}

/// A file on its way here. Dropping it changes nothing: the file comes all the same.
#[derive(Debug)]
pub struct ReceivingFile {
    /// What it is.
    pub file: FileInfo,
    progress: watch::Receiver<ReceiveProgress>,
    result: oneshot::Receiver<Result<PathBuf, FileError>>,
    cancelled: CancellationToken,
}

/// How far a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiveProgress {
    /// What is being done.
    pub phase: ReceivePhase,
    /// Bytes that are here and verified; while checking, bytes read again.
    pub bytes: u64,
}

/// What is being done about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceivePhase {
    /// What is here from before is read again.
    Checking,
    /// Chunks come.
    Receiving,
    /// All is here; it is forced to disk and gets its name.
    Finishing,
}

impl Client {
    /// Takes the files that are offered to some topics, into a directory that exists or is made. Resolves when reachable nodes
    /// know of it, as [`Client::subscribe`].
    ///
    /// Whatever else comes to these topics is dropped, requests are refused.
    ///
    /// # Errors
    /// When the directory cannot be used, another receiver has it, or a topic cannot be subscribed.
    pub async fn receive_files<T: AsRef<str>>(
        &self,
        topics: impl IntoIterator<Item = T>,
        directory: impl AsRef<Path>,
        options: ReceiveOptions,
    ) -> Result<FileReceiver, FileError> {
        let directory = open(directory.as_ref(), options.keep).await?;
        let subscription = self.subscribe_all(topics).await?;
        self.receive_over(subscription, directory, options).await
    }

    /// As [`Client::receive_files`], from the publishers of a private topic; `key` and `compatibility` as
    /// for [`Client::subscribe_private`]. Files come encrypted for this client and the others that were
    /// verified.
    ///
    /// # Errors
    /// As [`Client::receive_files`] and [`Client::subscribe_private`].
    pub async fn receive_private_files(
        &self,
        topic: &str,
        key: PrivateKey,
        compatibility: Compatibility,
        directory: impl AsRef<Path>,
        options: ReceiveOptions,
    ) -> Result<FileReceiver, FileError> {
        let directory = open(directory.as_ref(), options.keep).await?;
        let subscription = self.subscribe_private(topic, key, compatibility).await?;
        self.receive_over(subscription, directory, options).await
    }

    async fn receive_over(
        &self,
        topics: Subscription,
        directory: Arc<Directory>,
        mut options: ReceiveOptions,
    ) -> Result<FileReceiver, FileError> {
        options.patience = options.patience.min(super::FOREVER);
        let inbox = self.subscribe(&directory.receiver().inbox()).await?;
        let (offers_to, offers) = mpsc::channel(MAX_WAITING);
        let stop = CancellationToken::new();
        let desk = Desk::new(self.clone(), directory.clone(), options, offers_to, stop.clone());
        #[expect(
            clippy::disallowed_methods,
            reason = "the one task of a receiver; it ends with its handle or the client"
        )]
        tokio::spawn(desk.run(topics, inbox));
        Ok(FileReceiver { _running: stop.drop_guard(), offers, directory })
    }
}

async fn open(directory: &Path, keep: Duration) -> Result<Arc<Directory>, FileError> {
    let directory = directory.to_owned();
    let opened = super::blocking(move || Directory::open(&directory, keep)).await?;
    Ok(Arc::new(opened?))
}

impl FileReceiver {
    /// Where files appear.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Stream for FileReceiver {
    type Item = FileOffer;

    /// Ends when the client is closed. `next()` is cancel safe.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<FileOffer>> {
        self.offers.poll_recv(cx)
    }
}

impl FileOffer {
    /// Has the file sent.
    #[must_use = "await it to know when the file is there"]
    pub fn accept(self) -> ReceivingFile {
        let start = ReceiveProgress { phase: ReceivePhase::Checking, bytes: 0 };
        let (progress_to, progress) = watch::channel(start);
        let (result_to, result) = oneshot::channel();
        let cancelled = CancellationToken::new();
        let decision =
            Decision::Accept { progress: progress_to, result: result_to, cancelled: cancelled.clone() };
        // If the transfer has ended meanwhile, that is what awaiting it says.
        let _ = self.decide.send(decision);
        ReceivingFile { file: self.file, progress, result, cancelled }
    }

    /// Refuses the file. What is here of it is removed.
    pub fn decline(self, why: impl Into<String>) {
        // If the transfer has ended meanwhile, so much the better.
        let _ = self.decide.send(Decision::Decline(why.into()));
    }
}

impl ReceivingFile {
    /// How far it is, now and whenever that changes.
    pub fn progress(&self) -> watch::Receiver<ReceiveProgress> {
        self.progress.clone()
    }

    /// Ends the transfer: its sender is told, what has come is removed.
    pub fn cancel(&self) {
        self.cancelled.cancel();
    }

    /// Resolves with the path of the file when it is complete, verified, and on disk. Cancel safe.
    ///
    /// # Errors
    /// When the file will not come, or not now: see [`FileError::is_resumable`].
    pub async fn finished(&mut self) -> Result<PathBuf, FileError> {
        (&mut self.result).await.unwrap_or(Err(FileError::Closed))
    }
}

impl fmt::Debug for FileReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileReceiver").field("directory", &self.directory()).finish_non_exhaustive()
    }
}

impl fmt::Debug for FileOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileOffer").field("file", &self.file).finish_non_exhaustive()
    }
}
