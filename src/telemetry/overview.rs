//! What the web page shows, in one answer: `/v1/overview`.
//!
//! Bounded, whatever the overlay has: one page of the long lists, and as many nodes and links as a
//! picture can show. Nodes are named once, in `peers`; elsewhere a number says which: 0 is the node
//! that answers, 1 the first of `peers`, and so on.

use amop_protocol::limits::{Bound, Limit, Policy};
use serde::{Deserialize, Serialize};

use super::status::{Certificate, Client, Drain, Page, Peer, Status, Usage};

/// Peers that are told, nearest first; [`Status::nodes`] says how many there are.
pub const MAX_PEERS: usize = 400;
/// Links between those that are told; [`Overview::links_known`] says how many there are.
pub const MAX_LINKS: usize = 2_000;
/// Topics, or clients, on a page.
pub const MAX_ROWS: usize = 200;
/// Nodes told of one topic; [`Spread::nodes_known`] says how many there are.
pub const MAX_NODES_OF_TOPIC: usize = 100;
/// Topics, or clients, on a page where nothing is said.
const ROWS: usize = 50;

/// Which part of the long lists is asked for: `?prefix=…&after=…&at=…&rows=…&clients_after=…`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Only topics that begin so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Only topics after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Only topics that are subscribed at the node with this id, 128 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// No more topics, and no more clients, than so many; 50 if it is not said, [`MAX_ROWS`] at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    /// Only sessions of clients after the one with this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients_after: Option<u64>,
}

impl View {
    /// The page of topics.
    pub fn topics(&self) -> Page {
        let (prefix, after) = (self.prefix.clone(), self.after.clone());
        Page { prefix, after, limit: Some(self.rows()) }
    }

    /// The page of clients.
    pub fn clients(&self) -> Page {
        let after = self.clients_after.map(|after| after.to_string());
        Page { prefix: None, after, limit: Some(self.rows()) }
    }

    fn rows(&self) -> usize {
        self.rows.unwrap_or(ROWS).min(MAX_ROWS)
    }
}

/// The node and what it knows of the overlay: `/v1/overview`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// The node at a glance.
    pub status: Status,
    /// How far it is with its end.
    pub drain: Drain,
    /// The other nodes, nearest first, [`MAX_PEERS`] at most.
    pub peers: Vec<Peer>,
    /// Different topics that are subscribed at each node: first at this one, then at those of `peers`.
    pub topics_at: Vec<u64>,
    /// Links that both ends announce, each once, [`MAX_LINKS`] at most.
    pub links: Vec<[u32; 2]>,
    /// How many such links there are between the nodes that are told.
    pub links_known: usize,
    /// One page of topics, in order of name.
    pub topics: Vec<Spread>,
    /// Topics that fit what was asked, on this page and those that follow.
    pub topics_found: usize,
    /// One page of the node's clients, in the order they came.
    pub clients: Vec<Client>,
    /// What has a bound.
    pub limits: Vec<Usage>,
    /// The certificates the node lives by.
    pub certificates: Vec<Certificate>,
    /// How sends of this node's clients ended: every cause that was seen since its start.
    pub outcomes: Vec<Ended>,
    /// The last of them that failed, the last one first; 50 at most.
    pub failures: Vec<Failed>,
}

/// Where a topic is subscribed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// Its name.
    pub topic: String,
    /// Nodes with subscribers, and how many sessions each has; [`MAX_NODES_OF_TOPIC`] at most.
    pub nodes: Vec<[u32; 2]>,
    /// How many such nodes there are.
    pub nodes_known: usize,
    /// Sessions that have it, on all nodes.
    pub subscribers: u64,
}

/// Sends that ended with one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The code that publishers were given.
    pub code: i32,
    /// Its cause, as in metrics and error details.
    pub cause: String,
    /// One sentence for people.
    pub text: String,
    /// Since the node's start.
    pub total: u64,
    /// In the last ten minutes.
    pub recent: u64,
    /// Seconds since the last of them, give or take one.
    pub last_seconds: Option<u64>,
}

/// A send that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The message's seq as people write it: `/v1/trace/{id}` says what became of it.
    pub id: String,
    /// Where it was sent to, if that is known.
    pub topic: Option<String>,
    /// The code that its publisher was given.
    pub code: i32,
    /// Its cause, as in metrics and error details.
    pub cause: String,
    /// One sentence for people.
    pub text: String,
    /// Seconds since then.
    pub seconds: u64,
}

/// What one answer may hold.
pub(super) fn limits() -> Vec<Limit> {
    let counted = "the answer says how many there are";
    vec![
        Limit::new(
            "nodes that the web page shows",
            Bound::Count(MAX_PEERS),
            Policy::Drop,
            "the farthest; the answer says how many there are",
        ),
        Limit::new(
            "links between nodes that it shows",
            Bound::Count(MAX_LINKS),
            Policy::Drop,
            "those of the farthest; the answer says how many there are",
        ),
        Limit::new("nodes shown of one topic", Bound::Count(MAX_NODES_OF_TOPIC), Policy::Drop, counted),
        Limit::new(
            "topics, or clients, that the web page shows at once",
            Bound::Count(MAX_ROWS),
            Policy::Wait,
            "further ones are on the next page",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_page_is_longer_than_the_bound() {
        assert_eq!(View::default().topics().limit(), ROWS);
        let view = View { rows: Some(usize::MAX), clients_after: Some(7), ..View::default() };
        assert_eq!(view.topics().limit(), MAX_ROWS);
        assert_eq!(view.clients(), Page { prefix: None, after: Some("7".into()), limit: Some(MAX_ROWS) });
    }
}
