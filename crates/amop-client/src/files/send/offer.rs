//! Where a file is offered.

use std::time::Duration;

use amop_protocol::{
    Topic,
    broker::event::Mode,
    wire::files::{Frame, Id, Step},
};
use bytes::Bytes;

use super::SendOptions;
use crate::{
    Client, ErrorKind, PrivateTopic, PublishOptions, RequestError, RequestOptions, files::error::FileError,
    private::publisher::Sealed,
};

/// How long an offer may take to be handed over.
const OFFER: Duration = Duration::from_secs(15);

/// The topic that a file goes to.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Topic(Topic),
    Private(PrivateTopic),
}

/// Who was offered the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offered {
    /// This receiver.
    One(Id),
    /// So many subscribers, of which not all may receive files.
    All(usize),
}

impl Target {
    pub(super) fn topic(&self) -> &Topic {
        match self {
            Self::Topic(topic) => topic,
            Self::Private(private) => private.topic(),
        }
    }

    /// Whether what is sent must be sealed.
    pub(super) fn is_private(&self) -> bool {
        matches!(self, Self::Private(_))
    }

    /// Offers a file.
    ///
    /// # Errors
    /// When nobody was offered it, or whoever was does not take files, or not now.
    pub(super) async fn offer(
        &self,
        client: &Client,
        transfer: Id,
        offer: Bytes,
        options: &SendOptions,
    ) -> Result<Offered, FileError> {
        if options.mode == Mode::Multicast {
            let with = PublishOptions::default().deadline(OFFER).to(options.to.clone()).report();
            let report = match self {
                Self::Topic(topic) => client.publish_to(topic.as_str(), offer, with).await,
                Self::Private(private) => {
                    let sealed = seal(private, Mode::Multicast, offer).await?;
                    client.publish_to(private.topic().as_str(), sealed.payload.clone(), with).await
                }
            };
            let report = report.map_err(FileError::NotPublished)?;
            return Ok(Offered::All(report.handed as usize));
        }
        let with = RequestOptions::default().deadline(OFFER).to(options.to.clone());
        let answer = match self {
            Self::Topic(topic) => client.request_to(topic.as_str(), offer, with).await,
            Self::Private(private) => {
                let sealed = seal(private, Mode::Unicast, offer).await?;
                let answer = client.request_to(private.topic().as_str(), sealed.payload.clone(), with).await;
                match answer {
                    Ok(answer) => private.open(&sealed, answer).map_err(RequestError),
                    Err(error) => Err(error),
                }
            }
        };
        let answer = answer.map_err(|error| match error.kind() {
            ErrorKind::Refused => FileError::NoReceiver,
            _ => FileError::NotOffered(error),
        })?;
        match Frame::decode(&answer) {
            Ok(Frame { transfer: of, step: Step::Seen { receiver } }) if of == transfer => {
                Ok(Offered::One(receiver))
            }
            Ok(Frame { step: Step::Stop { reason, why, .. }, .. }) => Err(FileError::Stopped { reason, why }),
            _ => Err(FileError::NoReceiver),
        }
    }
}

/// Encrypts an offer, which carries the key of the transfer.
async fn seal(private: &PrivateTopic, mode: Mode, offer: Bytes) -> Result<Sealed, FileError> {
    let sealed =
        private.seal(mode, offer).await.map_err(|failure| FileError::NotOffered(RequestError(failure)))?;
    if sealed.content.is_some() { Ok(sealed) } else { Err(FileError::NotEncrypted) }
}
