//! The Rust SDK for AMOP: publish, request and subscribe through a node.
//!
//! A [`Client`] connects to a node of its institution over mutual TLS. A *request* goes to one
//! subscriber of a topic and brings back its answer; a *publication* goes to all of them. The
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
//! - When [`Client::subscribe`] resolves, reachable nodes know of the subscription.
//! - Every queue is bounded; [`Options`] names the bounds, [`Subscription`] says what happens at them.
//! - [`Delivery::sender`] is who sent a message as the sender's own node verified it.
//!
//! With a node that does not know the extension frames, such as FISCO BCOS 2.x itself, the client
//! speaks plain 2.x frames: deadlines are kept by the client alone, senders and causes are unknown.

mod client;
mod connector;
mod dispatch;
mod driver;
mod error;
mod options;
mod pending;
mod subscription;
mod tls;

pub use amop_protocol::{
    Cause, ClientIdentity, Fingerprint, NodeId, NodeKey, Retry, Status, Topic,
    broker::{
        event::{Hop, Mode, Sender},
        wishes::Address,
    },
    certificate,
    session::client::GreetingError,
    topic::ParseError as TopicError,
    wire::recipients::{NodeRecipients, Recipient, Recipients},
};

pub use amop_tls::{ChainError, fisco::KeyError};

pub use crate::{
    client::Client,
    connector::Node,
    error::{ConnectError, DialError, ErrorKind, IdentityError, PublishError, RequestError, SubscribeError},
    options::{Certificates, Options, PublishOptions, Reconnect, Remember, RequestOptions},
    pending::PendingRequest,
    subscription::{Delivery, REFUSED_BUSY, REFUSED_FORGOTTEN, REFUSED_UNANSWERED, Subscription},
};
