//! Why a file was not sent, or not received.

use std::{io, path::PathBuf, time::Duration};

use amop_auth::content::ContentError;
use amop_protocol::wire::files::Reason;

use crate::{PublishError, RequestError, SubscribeError};

/// A transfer did not come about, or ended before its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file to send cannot be read.
    #[error("{} cannot be read", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory, a pipe or a device.
    #[error("{} is no regular file; name the files in a directory one by one", .0.display())]
    NotRegular(PathBuf),
    /// More than a transfer can have.
    #[error("the file has {size} bytes, more than the {most} that can be sent this way")]
    TooLarge {
        /// Its size.
        size: u64,
        /// The bound.
        most: u64,
    },
    /// The file is not what it was when it was offered.
    #[error("{} was changed while it was sent; send it again once nobody writes to it", .0.display())]
    Changed(PathBuf),
    /// Not a name or a media type that can be sent.
    #[error("{what} {value:?} cannot be sent: {why}")]
    Option {
        /// What it is.
        what: &'static str,
        /// As given.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The node speaks plain 2.x frames.
    #[error(
        "the node speaks plain 2.x frames only, over which files cannot be streamed; send them in one frame"
    )]
    Plain2x,
    /// Messages on the private topic are not encrypted for all its subscribers.
    #[error(
        "a subscriber of the private topic speaks 2.x only and would read the file's key; allow version 2 only"
    )]
    NotEncrypted,
    /// The key of the transfer cannot be made or used.
    #[error("the file cannot be encrypted")]
    Encryption(#[source] ContentError),
    /// More than fits one frame.
    #[error("the file has {size} bytes, more than the {most} that fit one frame; stream it instead")]
    TooLargeForFrame {
        /// Its size.
        size: u64,
        /// The bound.
        most: u64,
    },
    /// The inbox, or the topic, cannot be subscribed.
    #[error("answers cannot be received")]
    Subscribe(#[from] SubscribeError),
    /// The offer did not reach anybody.
    #[error("nobody was offered the file")]
    NotOffered(#[source] RequestError),
    /// The offer to all did not reach anybody.
    #[error("nobody was offered the file")]
    NotPublished(#[source] PublishError),
    /// Whoever got the offer does not receive files.
    #[error(
        "the subscriber that was offered the file does not take files; see who is subscribed to the topic"
    )]
    NoReceiver,
    /// Nobody decided in time.
    #[error("nobody accepted the file within {0:?}")]
    Undecided(Duration),
    /// The receiver does not want it.
    #[error("the receiver declined the file{}", because(.0))]
    Declined(String),
    /// Nothing came through for so long.
    #[error("nothing was acknowledged for {0:?}; what has arrived is kept, send the file again to go on")]
    Stalled(Duration),
    /// A receiver takes the file over and over.
    #[error("the receiver asks again and again for what it has acknowledged; its disk forgets, or it lies")]
    Insatiable,
    /// The other end gave up.
    #[error("the other end gave up: {}{}", in_words(*.reason), because(.why))]
    Stopped {
        /// Why.
        reason: Reason,
        /// In its own words; may be empty.
        why: String,
    },
    /// The receiver's directory cannot be used.
    #[error("{} cannot be used", path.display())]
    Directory {
        /// The directory, or the file in it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another receiver has the directory.
    #[error("{} is in use by another receiver; receive into another directory", .0.display())]
    InUse(PathBuf),
    /// The record of an earlier attempt cannot be used.
    #[error("the state in {} cannot be used", path.display())]
    State {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Frames may not be as large as chunks are.
    #[error("chunks of 256 KiB do not fit the largest frame allowed; raise max_frame")]
    FrameLimit,
    /// What was received is not what was offered.
    #[error("what was received is not the file that was offered")]
    WrongContent,
    /// Somebody here ended it.
    #[error("cancelled")]
    Cancelled,
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

impl FileError {
    /// Whether the same transfer can be taken up again where it was.
    pub fn is_resumable(&self) -> bool {
        matches!(self, Self::Stalled(_) | Self::Closed | Self::Directory { .. } | Self::State { .. })
            || matches!(self, Self::Stopped { reason, .. } if is_passing(*reason))
    }
}

/// Whether what stopped a transfer may be gone another time.
pub(super) fn is_passing(reason: Reason) -> bool {
    matches!(reason, Reason::DiskFull | Reason::Disk | Reason::Busy)
}

fn in_words(reason: Reason) -> &'static str {
    match reason {
        Reason::Unspecified => "for a reason that this version does not know",
        Reason::Cancelled => "it was cancelled there",
        Reason::Unknown => "it does not know this transfer",
        Reason::BadChunk => "what came is not what was offered",
        Reason::Changed => "the file was changed there while it was sent",
        Reason::DiskFull => "its disk is full",
        Reason::Disk => "its disk cannot be read or written",
        Reason::Busy => "it has no room for another transfer now",
    }
}

fn because(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(" ({why})") }
}
