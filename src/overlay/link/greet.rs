//! The hellos: first on the control stream, both ways at once.

use std::{io, ops::RangeInclusive};

use amop_protocol::{
    NodeId,
    wire::{
        generated::{self, control::Message as Body},
        link::{self, FRAGMENT, LinkFrame},
    },
};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Context, Failure, LinkStream, PeerFault};

/// The versions of the overlay protocol that this node speaks. The next one is for the test of an upgrade: it
/// differs in nothing but its number.
const VERSIONS: RangeInclusive<u32> = 1..=if cfg!(feature = "next-version") { 2 } else { 1 };

/// The peer speaks no version that we speak. Nobody's fault; one side needs an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the peer speaks overlay versions {min} to {max}, this node {} to {}; update the older of the two",
    VERSIONS.start(), VERSIONS.end()
)]
pub struct Incompatible {
    /// Its lowest.
    pub min: u32,
    /// Its highest.
    pub max: u32,
}

/// What came of the hellos.
pub(super) struct Greeted {
    /// The peer's epoch.
    pub(super) epoch: u64,
    /// The highest version that both speak.
    pub(super) version: u32,
    /// What a data connection is to show to the peer, if we make it.
    pub(super) ticket: Bytes,
    /// What was read beyond the hello.
    pub(super) rest: BytesMut,
}

/// Sends our hello, with the ticket that the peer is to show, and reads the peer's.
pub(super) async fn exchange<S: LinkStream>(
    control: &mut S,
    ticket: Bytes,
    context: &Context,
    peer: NodeId,
) -> Result<Greeted, Failure> {
    send(control, ticket, context).await.map_err(Failure::Lost)?;
    let mut input = BytesMut::with_capacity(FRAGMENT);
    let frame = loop {
        if let Some(frame) = link::decode(&mut input, FRAGMENT).map_err(PeerFault::from)? {
            break frame;
        }
        if control.read_buf(&mut input).await.map_err(Failure::Lost)? == 0 {
            return Err(Failure::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
    };
    let Ok(Some(Body::Hello(hello))) = frame.into_control() else {
        return Err(PeerFault::Hello.into());
    };
    let version = check(&hello, peer)?;
    Ok(Greeted { epoch: hello.epoch, version, ticket: hello.data_ticket, rest: input })
}

async fn send<S: LinkStream>(control: &mut S, ticket: Bytes, context: &Context) -> io::Result<()> {
    let hello = generated::Hello {
        min_version: *VERSIONS.start(),
        max_version: *VERSIONS.end(),
        node: context.own.as_bytes().to_vec().into(),
        epoch: context.epoch,
        data_ticket: ticket,
    };
    let mut bytes = BytesMut::new();
    LinkFrame::control(Body::Hello(hello)).encode(&mut bytes).map_err(io::Error::other)?;
    control.write_all(&bytes).await?;
    control.flush().await
}

/// The version that both speak.
fn check(hello: &generated::Hello, peer: NodeId) -> Result<u32, Failure> {
    let (min, max) = (hello.min_version, hello.max_version);
    let version = max.min(*VERSIONS.end());
    if version < *VERSIONS.start() || version < min {
        return Err(Incompatible { min, max }.into());
    }
    let claimed = NodeId::from_slice(&hello.node).ok_or(PeerFault::Hello)?;
    if claimed != peer {
        return Err(PeerFault::WrongNode { claimed, verified: peer }.into());
    }
    Ok(version)
}
