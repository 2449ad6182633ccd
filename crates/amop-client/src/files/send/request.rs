//! What a receiver is sent, and what it answers.

use std::{sync::Arc, time::Duration};

use amop_protocol::{
    Fingerprint,
    wire::files::{Frame, Id, Reason, Step},
};
use bytes::Bytes;

use crate::{
    Address, Client, ErrorKind, RequestError, RequestOptions,
    files::{blocking, channel::Channel, error::FileError, source::Hashed},
};

/// How long a chunk may take to be acknowledged before it is sent anew.
const CHUNK_WITHIN: Duration = Duration::from_secs(15);

/// What a receiver said.
pub(super) enum Answered {
    Step(Step),
    /// Nothing, or nothing that could be understood; when to try again, if somebody said so.
    Nothing(Option<Duration>),
    /// It cannot be sent to anybody.
    Local(FileError),
}

/// Sends a chunk.
pub(super) async fn chunk(
    client: &Client,
    channel: &Channel,
    source: Arc<Hashed>,
    to: (Id, Option<Fingerprint>),
    index: u64,
) -> Answered {
    let (transfer, key) = (channel.transfer, channel.key.clone());
    let frame = blocking(move || source.frame(transfer, index, key.as_deref())).await;
    match frame.and_then(|frame| frame) {
        Ok(frame) => request(client, channel, to, frame).await,
        Err(error) => Answered::Local(error),
    }
}

/// Asks a receiver something, and nobody else who subscribes its inbox.
pub(super) async fn request(
    client: &Client,
    channel: &Channel,
    (receiver, to): (Id, Option<Fingerprint>),
    payload: Bytes,
) -> Answered {
    let options =
        RequestOptions::default().deadline(CHUNK_WITHIN).to(Address { client: to, ..Address::default() });
    match client.request_to(&receiver.inbox(), payload, options).await {
        Ok(answer) => answered(channel, &answer),
        Err(error) => not_sent(&error),
    }
}

/// What an answer says. That a transfer is unknown is said by somebody who has no key for it.
fn answered(channel: &Channel, answer: &Bytes) -> Answered {
    match channel.decode(answer) {
        Some(step) => Answered::Step(step),
        None => match Frame::decode(answer) {
            Ok(Frame {
                transfer,
                step: step @ Step::Stop { reason: Reason::Unknown | Reason::Busy, .. },
            }) if transfer == channel.transfer => Answered::Step(step),
            _ => Answered::Nothing(None),
        },
    }
}

fn not_sent(error: &RequestError) -> Answered {
    match error.kind() {
        ErrorKind::TooLarge => Answered::Local(FileError::FrameLimit),
        _ => Answered::Nothing(error.retry_after()),
    }
}
