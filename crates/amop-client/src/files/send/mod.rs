//! Sending: a file that is offered, and streamed to whoever accepts.

mod offer;
mod prepare;
mod record;
mod request;
mod stream;
mod task;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use amop_protocol::{
    broker::event::Mode,
    wire::files::{MAX_MEDIA_TYPE, MAX_NAME},
};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{offer::Target, task::Sending};
use super::{error::FileError, one_frame, receive::TransferId, source::Source};
use crate::{
    Address, Client, ClientIdentity, PrivateTopic, PublishOptions, RequestOptions, Topic, TopicError,
};

/// How a file is sent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SendOptions {
    /// To one subscriber of the topic, or to all that accept. Default: to one.
    pub mode: Mode,
    /// Which subscribers it is offered to; by default any.
    pub to: Address,
    /// The name to offer it under; by default that of the file.
    pub name: Option<String>,
    /// What kind of content it is, such as `application/pdf`; by default nothing is said.
    pub media_type: Option<String>,
    /// How long receivers may take to accept. Default 5 minutes.
    pub decide_within: Duration,
    /// How long to go on without anything being acknowledged, while receivers, nodes or lines are away.
    /// Default 10 minutes.
    pub patience: Duration,
    /// Where the state of the transfer is kept, so that sending the same file to the same topic again goes on where it
    /// was, also after a restart; by default it is not kept, and a file that is sent again after a restart is
    /// offered anew, to be completed from what its receiver has.
    pub state: Option<PathBuf>,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Unicast,
            to: Address::default(),
            name: None,
            media_type: None,
            decide_within: Duration::from_secs(300),
            patience: Duration::from_secs(600),
            state: None,
        }
    }
}

/// A file on its way to others. Dropping it ends the transfer, resumable if its state is
/// [kept](SendOptions::state).
#[derive(Debug)]
pub struct SendingFile {
    progress: watch::Receiver<SendProgress>,
    result: oneshot::Receiver<Result<FileReceipt, FileError>>,
    cancelled: CancellationToken,
    _running: DropGuard,
}

/// How far a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendProgress {
    /// What is being done.
    pub phase: SendPhase,
    /// Names the transfer, once it has been hashed.
    pub transfer: Option<TransferId>,
    /// Bytes of the file.
    pub size: u64,
    /// Bytes hashed.
    pub hashed: u64,
    /// BLAKE3 of the file, once it has been hashed.
    pub hash: Option<[u8; 32]>,
    /// Who takes files and was offered it, in the order in which they said so.
    pub recipients: Vec<FileRecipient>,
}

/// What is being done about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendPhase {
    /// It is read once, for its hash tree.
    Hashing,
    /// It is offered, or on its way.
    Sending,
}

/// One receiver of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileRecipient {
    /// Who it is, as its node verified it.
    pub client: Arc<ClientIdentity>,
    /// The institution of its node.
    pub institution: Arc<str>,
    /// How it fares.
    pub state: RecipientState,
    /// Bytes that it has, verified and written.
    pub bytes: u64,
    /// Bytes that were sent to it more than once.
    pub resent: u64,
}

/// How a receiver fares.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecipientState {
    /// It has the offer and has not decided.
    Undecided,
    /// Chunks go to it.
    Receiving,
    /// It cannot be reached now, or takes nothing.
    Waiting,
    /// It has the file under its final name.
    Done,
    /// It does not want it, for this reason.
    Declined(String),
    /// It will not get it, for this reason.
    Failed(String),
}

/// A file that was sent: at least one receiver has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileReceipt {
    /// Names the transfer.
    pub transfer: TransferId,
    /// Bytes of the file.
    pub size: u64,
    /// BLAKE3 of the file.
    pub hash: [u8; 32],
    /// Who was offered it and what became of it there; at least one is done.
    pub recipients: Vec<FileRecipient>,
}

impl Client {
    /// Sends a file to one subscriber of a topic, or to all that accept it. Resolves when the file
    /// is opened; the handle tells the rest.
    ///
    /// # Errors
    /// When the topic or an option is not valid, the file cannot be opened, or the node speaks plain 2.x
    /// frames.
    pub async fn send_file(
        &self,
        topic: &str,
        path: impl AsRef<Path>,
        options: SendOptions,
    ) -> Result<SendingFile, FileError> {
        let invalid = |source: TopicError| crate::SubscribeError::Topic { name: topic.into(), source };
        let topic = Topic::parse(topic).map_err(invalid)?;
        self.send_to(Target::Topic(topic), path.as_ref(), options).await
    }

    /// Sends a file in one message, as the Java demo of FISCO BCOS 2.x does, to subscribers that know
    /// nothing better: to one, whose answer this waits for, or to all. It is read into memory; names that are not
    /// ASCII come to a Java demo with some of their bytes in the content. Of the options mode, address and name
    /// count. Gives the bytes sent.
    ///
    /// # Errors
    /// When the file cannot be read or does not fit a frame, or nobody takes it.
    pub async fn send_file_in_one_frame(
        &self,
        topic: &str,
        path: impl AsRef<Path>,
        options: SendOptions,
    ) -> Result<u64, FileError> {
        let name = name_of(path.as_ref(), &options)?;
        let (path, most) = (path.as_ref().to_owned(), self.max_frame() as u64);
        let content = super::blocking(move || Source::open(&path)?.read_whole(most)).await??;
        let invalid = |why| FileError::Option { what: "name", value: name.chars().take(300).collect(), why };
        let payload = one_frame::encode(&name, &content)
            .map_err(|_| invalid("it does not fit the format of one frame"))?;
        if options.mode == Mode::Multicast {
            let with = PublishOptions::default().to(options.to);
            self.publish_with(topic, payload, with).await.map_err(FileError::NotPublished)?;
        } else {
            let with = RequestOptions::default().to(options.to);
            self.request_with(topic, payload, with).await.map_err(FileError::NotOffered)?;
        }
        Ok(content.len() as u64)
    }

    async fn send_to(
        &self,
        target: Target,
        path: &Path,
        mut options: SendOptions,
    ) -> Result<SendingFile, FileError> {
        options.patience = options.patience.min(super::FOREVER);
        options.decide_within = options.decide_within.min(super::FOREVER);
        if self.node().is_some_and(|node| !node.extended) {
            return Err(FileError::Plain2x);
        }
        let name = name_of(path, &options)?;
        let opened = path.to_owned();
        let source = super::blocking(move || Source::open(&opened)).await??;
        let (progress_to, progress) = watch::channel(SendProgress {
            phase: SendPhase::Hashing,
            transfer: None,
            size: source.size(),
            hashed: 0,
            hash: None,
            recipients: Vec::new(),
        });
        let (result_to, result) = oneshot::channel();
        let (stop, cancelled) = (CancellationToken::new(), CancellationToken::new());
        let sending = Sending {
            client: self.clone(),
            target,
            options,
            name,
            progress: progress_to,
            stop: stop.clone(),
            cancelled: cancelled.clone(),
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "the one task of a file that is sent; it ends with its handle"
        )]
        tokio::spawn(async move {
            let ended = sending.run(source).await;
            // Whoever asked may have gone.
            let _ = result_to.send(ended);
        });
        Ok(SendingFile { progress, result, cancelled, _running: stop.drop_guard() })
    }
}

impl PrivateTopic {
    /// As [`Client::send_file`], to subscribers of this private topic that were verified: encrypted from
    /// end to end.
    ///
    /// # Errors
    /// As [`Client::send_file`].
    pub async fn send_file(
        &self,
        path: impl AsRef<Path>,
        options: SendOptions,
    ) -> Result<SendingFile, FileError> {
        self.client().send_to(Target::Private(self.clone()), path.as_ref(), options).await
    }
}

impl SendingFile {
    /// How far it is, now and whenever that changes.
    pub fn progress(&self) -> watch::Receiver<SendProgress> {
        self.progress.clone()
    }

    /// Ends the transfer: its receivers are told, and remove what they have.
    pub fn cancel(&self) {
        self.cancelled.cancel();
    }

    /// Resolves when a receiver has the file, of several when all that accepted have it or cannot be
    /// given it. Cancel safe.
    ///
    /// # Errors
    /// When nobody has the file; see [`FileError::is_resumable`].
    pub async fn finished(&mut self) -> Result<FileReceipt, FileError> {
        (&mut self.result).await.unwrap_or(Err(FileError::Closed))
    }
}

/// The name to offer a file under.
fn name_of(path: &Path, options: &SendOptions) -> Result<String, FileError> {
    let refuse = |what, value: &str, why| {
        Err(FileError::Option { what, value: value.chars().take(300).collect(), why })
    };
    if let Some(media_type) = &options.media_type {
        let is_token = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic());
        let kind = media_type.split(';').next().unwrap_or_default();
        if media_type.len() > MAX_MEDIA_TYPE
            || !media_type.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
            || !kind.trim_end().split_once('/').is_some_and(|(kind, sub)| is_token(kind) && is_token(sub))
        {
            return refuse("media type", media_type, "write it as application/pdf");
        }
    }
    let name = match &options.name {
        Some(name) => name.clone(),
        None => path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    match name.len() {
        0 => refuse("name", &name, "a file needs a name"),
        len if len > MAX_NAME => refuse("name", &name, "it is longer than 4096 bytes"),
        _ => Ok(name),
    }
}

impl fmt::Display for RecipientState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecided => f.write_str("undecided"),
            Self::Receiving => f.write_str("receiving"),
            Self::Waiting => f.write_str("waiting"),
            Self::Done => f.write_str("done"),
            Self::Declined(why) => write!(f, "declined: {why}"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}
