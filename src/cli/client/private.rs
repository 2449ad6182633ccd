//! Private topics on the command line: which keys, and how they are proved.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use amop_client::{
    Client, Compatibility, FileError, FileReceiver, PrivateTopic, PublishError, PublishOptions,
    ReceiveOptions, Recipients, RequestError, RequestOptions, SendOptions, SendingFile, Subscription,
};
use anyhow::Context;
use bytes::Bytes;
use clap::ValueEnum;
use futures::stream::SelectAll;
use tokio::time::timeout;

use super::parse_duration;
use crate::cli::{keys, output};

/// How long a message waits for further subscribers when one has been verified.
const FURTHER: Duration = Duration::from_millis(300);

/// How to receive private topics.
#[derive(Debug, clap::Args)]
pub(crate) struct Receive {
    /// The topics are private: prove to their publishers that you hold the key in this file, in PEM,
    /// hexadecimal digits or PKCS#12, as `amop keys generate` makes them
    #[arg(long, value_name = "FILE")]
    private_key: Option<PathBuf>,
    /// File with the password of a PKCS#12 file; its first line counts
    #[arg(long, value_name = "FILE", requires = "private_key")]
    password_file: Option<PathBuf>,
    /// Which publishers to go along with
    #[arg(long, value_enum, default_value_t, requires = "private_key")]
    handshake: Handshake,
}

/// How to send to a private topic.
#[derive(Debug, clap::Args)]
pub(crate) struct Publish {
    /// The topic is private: send only to subscribers that hold the key whose public half is in this
    /// file; several files for several keys
    #[arg(long, value_name = "FILE")]
    public_key: Vec<PathBuf>,
    /// Which subscribers to go along with
    #[arg(long, value_enum, default_value_t, requires = "public_key")]
    handshake: Handshake,
    /// How long to wait for subscribers to prove that they hold a key, such as 500ms or 5s; the message
    /// goes out when for 300ms no further one has
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration, requires = "public_key")]
    verify_within: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Handshake {
    /// Version 2 only: proofs that fit one topic and one publisher, and messages encrypted end to end
    #[default]
    V2,
    /// Also that of FISCO BCOS 2.x, without encryption, but of its challenges only the Java SDK's
    #[value(name = "2x-strict")]
    Strict,
    /// Also that of FISCO BCOS 2.x, without encryption
    #[value(name = "2x")]
    All,
}

impl From<Handshake> for Compatibility {
    fn from(handshake: Handshake) -> Self {
        match handshake {
            Handshake::V2 => Self::Version2,
            Handshake::Strict => Self::Strict,
            Handshake::All => Self::All,
        }
    }
}

/// Where messages go: an ordinary topic, or a private one.
pub(crate) enum Target<'a> {
    Ordinary(&'a Client, &'a str),
    Private(Box<PrivateTopic>),
}

impl Receive {
    /// Subscribes to these topics.
    pub(crate) async fn subscribe(
        &self,
        client: &Client,
        topics: &[String],
    ) -> anyhow::Result<SelectAll<Subscription>> {
        let mut subscriptions = SelectAll::new();
        let Some(file) = &self.private_key else {
            subscriptions.push(client.subscribe_all(topics).await?);
            return Ok(subscriptions);
        };
        let key = keys::read_private(file, self.password_file.as_deref())?;
        for topic in topics {
            let subscribed = client.subscribe_private(topic, key.clone(), self.handshake.into()).await;
            subscriptions.push(subscribed.with_context(|| format!("cannot subscribe to {topic:?}"))?);
        }
        Ok(subscriptions)
    }
}

impl Receive {
    /// Takes the files that are offered to these topics; of private topics, to one.
    pub(crate) async fn receive_files(
        &self,
        client: &Client,
        topics: &[String],
        into: &Path,
        options: ReceiveOptions,
    ) -> anyhow::Result<FileReceiver> {
        let Some(file) = &self.private_key else {
            return Ok(client.receive_files(topics, into, options).await?);
        };
        let [topic] = topics else {
            anyhow::bail!("files of one private topic go into a directory; receive others into another");
        };
        let key = keys::read_private(file, self.password_file.as_deref())?;
        Ok(client.receive_private_files(topic, key, self.handshake.into(), into, options).await?)
    }
}

impl Publish {
    /// Makes ready to send to a topic; to a private one, waits until there is somebody to send to.
    pub(crate) async fn open<'a>(&self, client: &'a Client, topic: &'a str) -> anyhow::Result<Target<'a>> {
        if self.public_key.is_empty() {
            return Ok(Target::Ordinary(client, topic));
        }
        let keys = self.public_key.iter().map(|file| keys::read_public(file));
        let keys = keys.collect::<anyhow::Result<Vec<_>>>()?;
        let topic = client.private_topic(topic, keys, self.handshake.into()).await?;
        let settled = async {
            topic.verified().await;
            // Others prove it at the same time: as long as some do, the message waits for the next.
            while timeout(FURTHER, topic.verified_beyond(topic.verifications())).await.is_ok() {}
        };
        let timed_out = timeout(self.verify_within, settled).await.is_err();
        if timed_out && topic.verifications() == 0 {
            output::note(format_args!(
                "within {:?} no subscriber proved to hold one of the keys",
                self.verify_within
            ));
        } else if !topic.is_encrypted() {
            output::note("not encrypted: a subscriber knows the handshake of 2.x only");
        }
        Ok(Target::Private(Box::new(topic)))
    }
}

impl Target<'_> {
    pub(crate) async fn publish(
        &self,
        message: Bytes,
        options: PublishOptions,
    ) -> Result<Recipients, PublishError> {
        match self {
            Self::Ordinary(client, topic) => client.publish_with(topic, message, options).await,
            Self::Private(topic) => topic.publish_with(message, options).await,
        }
    }

    pub(crate) async fn send_file(
        &self,
        path: &Path,
        options: SendOptions,
    ) -> Result<SendingFile, FileError> {
        match self {
            Self::Ordinary(client, topic) => client.send_file(topic, path, options).await,
            Self::Private(topic) => topic.send_file(path, options).await,
        }
    }

    pub(crate) async fn request(
        &self,
        message: Bytes,
        options: RequestOptions,
    ) -> Result<Bytes, RequestError> {
        match self {
            Self::Ordinary(client, topic) => client.request_with(topic, message, options).await,
            Self::Private(topic) => topic.request_with(message, options).await,
        }
    }
}
