//! How a multicast fared, recipient by recipient: what a node tells the origin, and what the
//! origin makes of it for the publisher.
//!
//! An entry is encoded once, at the recipient's node, and has the same form and number in both
//! messages: the origin checks entries and passes them on as they are.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::{
    fields::{bytes, entry, entry_len, length, number, skim},
    generated as pb,
};
use crate::{Cause, ClientIdentity, Fingerprint, NodeId, limits::MAX_RECIPIENTS};

/// Tag of an entry, in `RecipientList` and in `NodeRecipients`.
const RECIPIENT: u8 = 7;
/// A client's name is cut to this many bytes, so that an entry has a bound.
const MAX_NAME: usize = 128;
/// The longest entry that is taken from another node.
const MAX_ENTRY: usize = 512;

/// Recipients of one node, encoded as the entries of a `RecipientList`; at most [`MAX_RECIPIENTS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    entries: Vec<u8>,
    len: usize,
}

impl Roster {
    /// Adds a recipient, unless there are as many as may be named.
    pub fn add(&mut self, client: Option<&ClientIdentity>, cause: Cause) {
        if self.len == MAX_RECIPIENTS {
            return;
        }
        self.len += 1;
        let mut out = Vec::with_capacity(entry_len(32) + MAX_NAME);
        if let Some(client) = client {
            let name = &client.name[..client.name.floor_char_boundary(MAX_NAME)];
            let len = entry_len(32) + if name.is_empty() { 0 } else { entry_len(name.len()) };
            length(&mut out, 1, len);
            bytes(&mut out, 1, client.fingerprint.as_bytes());
            bytes(&mut out, 2, name.as_bytes());
        }
        number(&mut out, 2, cause as u64);
        entry(&mut self.entries, RECIPIENT, &out);
    }

    /// The payload of a `FanOutReport`.
    pub fn into_bytes(self) -> Bytes {
        self.entries.into()
    }

    /// Reads the payload of a `FanOutReport` and keeps its first `most` entries. What cannot be
    /// read, and all behind it, is left out: a node may lie about its own subscribers only.
    pub fn read(payload: &[u8], most: usize) -> Self {
        let mut roster = Self::default();
        for field in skim(payload) {
            let Some(field) = field.filter(|_| roster.len < most) else { break };
            let entry = field.value.filter(|value| value.len() <= MAX_ENTRY);
            let entry = entry.filter(|_| field.tag == u64::from(RECIPIENT));
            if entry.is_none_or(|entry| pb::Recipient::decode(entry).is_err()) {
                break;
            }
            roster.entries.extend_from_slice(field.raw);
            roster.len += 1;
        }
        roster
    }

    /// How many are named.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody is named.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.entries.len()
    }
}

/// How a multicast fared, as its publisher is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipients {
    /// Node by node.
    pub nodes: Vec<NodeRecipients>,
    /// Subscribers that were handed the message, named or not.
    pub handed: u32,
    /// Subscribers that could not be.
    pub failed: u32,
}

/// The recipients at one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecipients {
    /// Its id.
    pub node: NodeId,
    /// Its name; empty if it is not known any longer.
    pub name: Arc<str>,
    /// Its institution; empty if it is not known any longer.
    pub institution: Arc<str>,
    /// Its subscribers that were handed the message, named or not.
    pub handed: u32,
    /// Its subscribers that could not be.
    pub failed: u32,
    /// Why it did not tell of all its subscribers, if so.
    pub cause: Option<Cause>,
    /// Its subscribers, as far as they are named: at most [`MAX_RECIPIENTS`] in all.
    pub recipients: Vec<Recipient>,
}

/// One subscriber of a multicast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Whose session it is; `None` if its node does not say.
    pub client: Option<ClientIdentity>,
    /// [`Cause::Delivered`], or why it could not be handed the message.
    pub cause: Cause,
}

/// Writes `Recipients` piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
    handed: u32,
    failed: u32,
}

impl Writer {
    /// Adds a node whose entries were read before; `node.recipients` is not looked at.
    pub fn add(&mut self, node: &NodeRecipients, roster: &Roster) {
        let [name, institution] = [&node.name, &node.institution].map(|text| {
            let text: &str = text;
            &text[..text.floor_char_boundary(MAX_NAME)]
        });
        let mut head = Vec::with_capacity(entry_len(32) + name.len() + institution.len() + 32);
        bytes(&mut head, 1, node.node.as_bytes());
        bytes(&mut head, 2, name.as_bytes());
        bytes(&mut head, 3, institution.as_bytes());
        number(&mut head, 4, node.handed.into());
        number(&mut head, 5, node.failed.into());
        number(&mut head, 6, node.cause.map_or(0, |cause| cause as u64));
        length(&mut self.out, 1, head.len() + roster.entries.len());
        self.out.extend_from_slice(&head);
        self.out.extend_from_slice(&roster.entries);
        self.handed = self.handed.saturating_add(node.handed);
        self.failed = self.failed.saturating_add(node.failed);
    }

    /// The payload of a `PublishResult`.
    pub fn finish(mut self) -> Bytes {
        number(&mut self.out, 2, self.handed.into());
        number(&mut self.out, 3, self.failed.into());
        self.out.into()
    }
}

impl Recipients {
    /// Reads the payload of a `PublishResult`.
    ///
    /// # Errors
    /// When it is not a valid `Recipients`.
    pub fn decode(payload: Bytes) -> Result<Self, prost::DecodeError> {
        let read = pb::Recipients::decode(payload)?;
        let nodes = read.nodes.into_iter().filter_map(node).collect();
        Ok(Self { nodes, handed: read.handed, failed: read.failed })
    }
}

/// One without an id of the right length is left out.
fn node(node: pb::NodeRecipients) -> Option<NodeRecipients> {
    let cause = Some(node.cause()).filter(|_| node.cause != 0);
    Some(NodeRecipients {
        node: NodeId::from_slice(&node.node)?,
        name: node.name.into(),
        institution: node.institution.into(),
        handed: node.handed,
        failed: node.failed,
        cause,
        recipients: node.recipients.into_iter().map(recipient).collect(),
    })
}

fn recipient(recipient: pb::Recipient) -> Recipient {
    let cause = recipient.cause();
    let client = recipient.client.and_then(|client| {
        let fingerprint = Fingerprint::from_slice(&client.fingerprint)?;
        Some(ClientIdentity { fingerprint, name: client.name.into() })
    });
    Recipient { client, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u8) -> ClientIdentity {
        ClientIdentity { fingerprint: Fingerprint::new([n; 32]), name: "x".repeat(usize::from(n)).into() }
    }

    fn at(n: u8, counts: [u32; 2], cause: Option<Cause>, recipients: Vec<Recipient>) -> NodeRecipients {
        let (name, institution) = ("node".into(), "bank".into());
        let [handed, failed] = counts;
        NodeRecipients { node: NodeId::new([n; 32]), name, institution, handed, failed, cause, recipients }
    }

    #[test]
    fn what_a_node_says_comes_to_the_publisher() {
        let mut roster = Roster::default();
        let causes = [Cause::Delivered, Cause::QueueFull, Cause::PushTimeout];
        for (n, cause) in (0..).zip(causes) {
            roster.add(Some(&client(n)), cause);
        }
        roster.add(None, Cause::SessionGone);
        let payload = roster.clone().into_bytes();
        let read = Roster::read(&payload, MAX_RECIPIENTS);
        assert_eq!(read, roster);
        let mut writer = Writer::default();
        writer.add(&at(1, [1, 3], None, Vec::new()), &read);
        writer.add(&at(2, [0, 0], Some(Cause::Unreachable), Vec::new()), &Roster::default());
        let told = Recipients::decode(writer.finish()).expect("valid");
        let mut named: Vec<Recipient> =
            (0..).zip(causes).map(|(n, cause)| Recipient { client: Some(client(n)), cause }).collect();
        named.push(Recipient { client: None, cause: Cause::SessionGone });
        let nodes = vec![at(1, [1, 3], None, named), at(2, [0, 0], Some(Cause::Unreachable), Vec::new())];
        assert_eq!(told, Recipients { nodes, handed: 1, failed: 3 });
    }

    #[test]
    fn names_and_numbers_are_bounded() {
        let mut roster = Roster::default();
        let long = ClientIdentity { name: "é".repeat(5_000).into(), ..client(1) };
        for _ in 0..MAX_RECIPIENTS + 5 {
            roster.add(Some(&long), Cause::Delivered);
        }
        assert_eq!(roster.len(), MAX_RECIPIENTS);
        assert!(roster.bytes() < 200 * MAX_RECIPIENTS);
        assert_eq!(Roster::read(&roster.clone().into_bytes(), 3).len(), 3);
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let mut roster = Roster::default();
        roster.add(Some(&client(3)), Cause::Delivered);
        let good = roster.clone().into_bytes();
        for bad in [&b"\x3a\x05\x0a"[..], b"\x08\x01", b"\x3a\x02\x0a\x07", b"\xff", &[0x3a; 600]] {
            let read = Roster::read(&[&good[..], bad, &good[..]].concat(), 10);
            assert_eq!(read, roster, "{bad:?}");
        }
        assert!(Roster::read(&[&b"\x3a\x81\x04"[..], &[0; 513]].concat(), 10).is_empty(), "too long");
    }
}
