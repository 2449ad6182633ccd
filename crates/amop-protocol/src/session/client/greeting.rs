//! The handshake (0x14): asks for the extensions, takes what is granted.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Config, Dialect, Session};
use crate::{
    Seq, Time,
    wire::{
        channel::{Encoded, Frame, Type},
        extension::VERSION,
    },
};

/// A session whose handshake is not answered yet.
#[derive(Debug)]
pub struct Greeting {
    config: Config,
    base: u64,
}

/// What a frame made of a [`Greeting`].
#[derive(Debug)]
pub enum Step {
    /// The answer has not come yet.
    Waiting(Greeting),
    /// The session is up.
    Ready(Box<Session>),
}

/// The node's handshake cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GreetingError {
    /// An error code instead of an answer.
    #[error("the node refused the handshake with code {0}")]
    Refused(i32),
    /// Not JSON, or without a usable protocol version.
    #[error("the node's handshake is not the JSON of a channel node; is this a node's client port?")]
    Malformed,
}

impl Greeting {
    /// Begins a session. `base` is drawn at random for each, and makes its seqs unique.
    pub fn new(config: Config, base: u64) -> (Self, Encoded) {
        let greeting = Self { config, base };
        let body = json!({
            "minimumSupport": 1,
            "maximumSupport": 3,
            "clientType": greeting.config.client_type,
            "amop": { "version": VERSION, "instance": format!("{:032x}", greeting.config.instance) },
        });
        let frame = Encoded::new(Type::HANDSHAKE, greeting.seq(), 0, &[], Bytes::from(body.to_string()));
        (greeting, frame)
    }

    /// Takes a frame from the node; all but the answer are passed over.
    ///
    /// # Errors
    /// When the answer cannot be understood.
    pub fn handle_frame(self, now: Time, frame: &Frame) -> Result<Step, GreetingError> {
        if frame.kind != Type::HANDSHAKE || frame.seq != self.seq() {
            return Ok(Step::Waiting(self));
        }
        if frame.result != 0 {
            return Err(GreetingError::Refused(frame.result));
        }
        let dialect = dialect(&frame.body).ok_or(GreetingError::Malformed)?;
        Ok(Step::Ready(Box::new(Session::new(now, self.config, self.base, dialect))))
    }

    fn seq(&self) -> Seq {
        Seq::from_u128(u128::from(self.base) << 64)
    }
}

fn dialect(body: &[u8]) -> Option<Dialect> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let protocol = answer.get("protocol")?.as_u64()?;
    let protocol = u8::try_from(protocol).ok().filter(|version| (1..=3).contains(version))?;
    let granted = answer.get("amop").and_then(|amop| amop.get("version")).and_then(Value::as_u64);
    Some(match granted {
        Some(version) if version == u64::from(VERSION) => Dialect::Extended,
        _ => Dialect::Plain(protocol),
    })
}
