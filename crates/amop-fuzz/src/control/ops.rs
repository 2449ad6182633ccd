//! What may happen to the machine under test, out of small numbers.

use amop_protocol::{
    Version,
    wire::generated::{self as pb, control::Message},
};
use arbitrary::Arbitrary;
use bytes::Bytes;

use super::{HONEST, NODES};
use crate::world::{self, ME, id};

#[derive(Arbitrary, Debug)]
pub(super) enum Op {
    LinkUp(u8),
    LinkDown(u8),
    RoundTrip(u8, u8),
    Report {
        session: u8,
        topics: u8,
    },
    Close {
        session: u8,
    },
    Drain,
    Pass(u16),
    Raw {
        from: u8,
        message: Vec<u8>,
    },
    Identity {
        from: u8,
        node: u8,
        epoch: u8,
        forged: bool,
    },
    Links {
        from: u8,
        node: u8,
        epoch: u8,
        sequence: u8,
        neighbours: u8,
        forged: bool,
    },
    Topics {
        from: u8,
        node: u8,
        epoch: u8,
        sequence: u8,
        counts: Vec<(u8, u8)>,
        forged: bool,
    },
    Piece {
        from: u8,
        node: u8,
        epoch: u8,
        sequence: u8,
        counts: Vec<(u8, u8)>,
        nth: u8,
        of: u8,
        forged: bool,
    },
    Delta {
        from: u8,
        node: u8,
        epoch: u8,
        base: u8,
        sequence: u8,
        changes: Vec<(u8, u8)>,
        sort: Sort,
    },
    Heartbeat {
        from: u8,
        own: Claim,
        digest: u64,
    },
    Vector {
        from: u8,
        entries: Vec<Claim>,
        partial: bool,
    },
    Pull {
        from: u8,
        node: u8,
        kinds: Vec<u8>,
        epoch: u8,
        topics: u8,
    },
    Settled {
        from: u8,
        node: u8,
        epoch: u8,
        sequence: u8,
    },
    Echo {
        from: u8,
        nth: u8,
    },
}

/// What is right about a change.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Right,
    /// Its origin signed another hash.
    Inconsistent,
    Forged,
}

#[derive(Arbitrary, Debug)]
pub(super) struct Claim {
    pub(super) node: u8,
    pub(super) epoch: u8,
    pub(super) links: u8,
    pub(super) topics: u8,
}

impl Claim {
    pub(super) fn versions(&self) -> pb::Versions {
        let node = Bytes::copy_from_slice(id(known(self.node)).as_bytes());
        let (epoch, links, topics) = (number(self.epoch), number(self.links), number(self.topics));
        pb::Versions { node, epoch, links, topics, identity: 0 }
    }
}

/// Small numbers, and the largest.
pub(super) fn number(n: u8) -> u64 {
    if n < 0xf0 { n.into() } else { u64::MAX - u64::from(u8::MAX - n) }
}

pub(super) fn known(n: u8) -> u8 {
    ME + n % NODES
}

/// A neighbour that is not the honest one.
pub(super) fn liar(n: u8) -> u8 {
    HONEST + 1 + n % (NODES - HONEST)
}

pub(super) fn record(
    node: u8,
    epoch: u8,
    sequence: u8,
    content: pb::record::Content,
    forged: bool,
) -> Message {
    let node = known(node);
    // What the two honest nodes themselves are said to have signed is forged, always.
    let forged = forged || node <= HONEST;
    let version = Version { epoch: number(epoch), sequence: number(sequence) };
    let mut record = world::record(node, version, content);
    if forged {
        record.signature = Bytes::from_static(b"forged");
    }
    Message::Record(record)
}

pub(super) fn wide(counts: &[(u8, u8)]) -> Vec<(u8, u32)> {
    counts.iter().map(|(topic, count)| (*topic, u32::from(*count))).collect()
}
