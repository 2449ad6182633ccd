//! The Rust SDK for AMOP: publish, request and subscribe through a node.
//!
//! A [`Client`] connects to one or several nodes of its institution over mutual TLS. A *request* goes
//! to one subscriber of a topic and brings back its answer; a *publication* goes to all of them. The
//! client restores a lost connection by itself and subscribes anew.
//!
//! ```no_run
//! use amop_client::{Client, Options};
//! use futures::StreamExt;
//!
//! #[tokio::main]
//! async fn main() -> anyhow::Result<()> {
//!     // A directory with ca.crt, sdk.crt and sdk.key, as `amop certs` and `amop devnet` make them.
//!     let client = Client::connect(Options::new(["127.0.0.1:20200"], "client-certificates")).await?;
//!
//!     // Requests to "greetings" come here, wherever they are sent.
//!     let mut greetings = client.subscribe("greetings").await?;
//!     tokio::spawn(async move {
//!         while let Some(delivery) = greetings.next().await {
//!             let name = String::from_utf8_lossy(&delivery.payload).into_owned();
//!             delivery.answer(format!("hello, {name}"));
//!         }
//!     });
//!
//!     // One of the subscribers answers.
//!     match client.request("greetings", "world").await {
//!         Ok(answer) => println!("{}", String::from_utf8_lossy(&answer)),
//!         Err(error) => eprintln!("code {}: {error}", error.code()),
//!     }
//!
//!     // Every subscriber is handed this.
//!     client.publish("greetings", "everybody").await?;
//!     client.close().await;
//!     Ok(())
//! }
//! ```
//!
//! # What to rely on
//!
//! - Every [`Client::request`] and [`Client::publish`] ends, in an answer or in an error with the
//!   documented code. Code 99 means that the message went nowhere. With
//!   [`ErrorKind::ConnectionLost`] and [`ErrorKind::TimedOut`] it may have been handled: retry
//!   only what may be handled twice.
//! - A send outlives its connection: it goes out again, as the same message, through another node or
//!   the restored connection, and ends with its answer. Nodes and subscribers know it again, so no
//!   handler runs twice. [`ErrorKind::ConnectionLost`] comes only when no node could be connected
//!   until the deadline.
//! - When [`Client::subscribe`] resolves, reachable nodes know of the subscription, and the first
//!   message sent to it arrives.
//! - A message reaches the application once, through however many nodes it comes, as long as it is
//!   [remembered](Options::remember).
//! - Every queue is bounded; [`Options`] names the bounds, [`Subscription`] says what happens at them.
//! - [`Delivery::sender`] is who sent a message as the sender's own node verified it.
//!
//! # Private topics
//!
//! A private topic reaches only those who hold a key that its publisher names, and is encrypted for
//! them: [`Client::subscribe_private`], [`Client::private_topic`].
//!
//! ```no_run
//! # use amop_client::{Client, Compatibility, PrivateKey};
//! # async fn example(bank: Client, trader: Client) -> anyhow::Result<()> {
//! let key = PrivateKey::generate()?; // the trader's; the bank is given key.public()
//! let how = Compatibility::Version2;
//! let prices = bank.private_topic("prices", [key.public()], how).await?;
//! let mut subscription = trader.subscribe_private("prices", key, how).await?;
//! prices.verified().await;
//! prices.publish("ACME 41.20").await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Several nodes
//!
//! Name two nodes in [`Options::nodes`] and the client is connected to both ([`Options::homes`]),
//! subscribed at both, and publishes through one. When a node goes, be it that it is restarted or that
//! its machine is switched off, the application notices nothing; the client connects it again when it
//! is back. With one home and several nodes the client moves to the next node instead, and is not
//! reachable for the time that takes. A client that is connected twice is two subscribers to the nodes:
//! it gets two shares of the requests to a topic. It is no subscriber of what it sends itself; only a
//! request for which nobody else is there comes back to it.
//!
//! With a node that does not know the extension frames, such as FISCO BCOS 2.x itself, the client
//! speaks plain 2.x frames: deadlines are kept by the client alone, senders and causes are unknown,
//! nothing is sent again, and no other node is connected beside it.

mod admission;
mod client;
mod connector;
mod dispatch;
mod driver;
mod error;
mod files;
mod options;
mod pending;
mod private;
mod subscription;
mod tls;

pub use amop_protocol::{
    Cause, ClientIdentity, Fingerprint, NodeId, NodeKey, Retry, Status, Topic, TraceContext,
    broker::{
        event::{Hop, Mode, Sender},
        wishes::Address,
    },
    certificate,
    session::client::GreetingError,
    topic::ParseError as TopicError,
    wire::recipients::{NodeRecipients, Recipient, Recipients},
};

pub use amop_auth::{KeyError as PrivateKeyError, PrivateKey, PublicKey};
pub use amop_tls::{ChainError, fisco::KeyError};

pub use crate::{
    client::Client,
    connector::Node,
    error::{
        ConnectError, DialError, ErrorKind, IdentityError, PrivateError, PublishError, RequestError,
        SubscribeError,
    },
    files::{
        FileError, FileInfo, FileOffer, FileReceipt, FileReceiver, FileRecipient, ReceiveOptions,
        ReceivePhase, ReceiveProgress, ReceivingFile, RecipientState, SendOptions, SendPhase, SendProgress,
        SendingFile, TransferId,
    },
    options::{Certificates, Options, PublishOptions, Reconnect, Remember, RequestOptions},
    pending::PendingRequest,
    private::{Compatibility, topic::PrivateTopic},
    subscription::{
        Delivery, REFUSED_BUSY, REFUSED_FORGOTTEN, REFUSED_UNANSWERED, REFUSED_UNPROVED, REFUSED_UNREADABLE,
        Subscription,
    },
};
