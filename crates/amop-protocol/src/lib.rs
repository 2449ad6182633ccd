//! The AMOP core: the protocol as state machines that cannot do IO.
//!
//! Nothing here reads a clock, draws randomness of its own, opens a socket or takes a lock.
//! Drivers hand in events with the current [`Time`], carry out the actions they poll, and
//! call back when the time a machine asked for has come. The same code runs under tokio in
//! the node, inline in its session and link tasks, and under a virtual clock in the simulation.
//!
//! - [`wire`] turns bytes into messages that are valid, and back.
//! - [`session`] is the client port's protocol, both ends.
//! - [`certificate`] reads who a certificate says its holder is.
//! - [`broker`] knows who wants what and where they are, and sees each message to its outcome.

pub mod broker;
pub mod certificate;
pub mod context;
pub mod ident;
pub mod limits;
pub mod message;
pub mod mutations;
pub mod session;
pub mod status;
pub mod time;
pub mod topic;
pub mod wire;

pub use context::TraceContext;
pub use ident::{ClientIdentity, Fingerprint, NodeId, NodeKey, Seq, SessionId, Version};
pub use status::{Cause, Retry, Status};
pub use time::Time;
pub use topic::Topic;
