//! What bounds control, and what it counts.

use std::time::Duration;

use crate::broker::{lists, private};

/// Bounds of what others can make this node remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Nodes known at a time: 4,096. For a further one the node that has been out of reach the
    /// longest is forgotten; if all can be reached, the newcomer's records are ignored and counted.
    pub max_nodes: usize,
    /// Tombstones of nodes that are gone: 16,384. Beyond, the one with the lowest id is forgotten.
    pub max_tombstones: usize,
    /// Topics of this node's own sessions together: 100,000; names of the verification of private
    /// topics count once for each session. Further ones are not taken, and counted.
    pub max_own_topics: usize,
    /// Bounds of lists of topics.
    pub lists: lists::Bounds,
    /// Links one node may announce: 1,024. More are a fault of the neighbour that brings them.
    pub max_links: usize,
    /// How long changes of this node's topics are gathered before they are announced: 5 ms, and
    /// as much again for every earlier announcement that has not settled.
    pub debounce: Duration,
    /// Announcements of one node that may be settling at a time: 64. Beyond, the two oldest are joined.
    pub max_waves: usize,
    /// Changes of one other node that are taken at once: 10 s' worth of its pace, that is 40 MiB of
    /// lists, 4,000 small changes of topics, 200 of links or 20 restarts. Beyond, its newest state is
    /// asked for when the pace allows it, and counted.
    pub burst: Duration,
    /// How long a node's lists outlive the last way to it: 60 s.
    pub expiry: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_nodes: 4_096,
            max_tombstones: 16_384,
            max_own_topics: 100_000,
            lists: lists::Bounds::default(),
            max_links: 1_024,
            debounce: Duration::from_millis(5),
            max_waves: 64,
            burst: Duration::from_secs(10),
            expiry: Duration::from_secs(60),
        }
    }
}

/// What control has counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records taken in.
    pub accepted: u64,
    /// Records that told nothing new.
    pub stale: u64,
    /// Records refused because they could not be verified or broke a bound.
    pub refused: u64,
    /// Records of nodes beyond [`Config::max_nodes`].
    pub over_capacity: u64,
    /// Names in lists that are no topics; dropped singly.
    pub bad_topics: u64,
    /// Topics of own sessions beyond [`Config::max_own_topics`].
    pub topics_over_capacity: u64,
    /// Own epochs given up because a higher one of this node was met.
    pub epochs_raised: u64,
    /// Nodes whose lists expired.
    pub expired: u64,
    /// Tombstones forgotten because of [`Config::max_tombstones`].
    pub tombstones_forgotten: u64,
    /// Announcements joined with the next because too many of one node were settling.
    pub joined: u64,
    /// Changes of other nodes' topics taken in, without their whole lists.
    pub deltas: u64,
    /// Whole lists of other nodes' topics taken in.
    pub lists: u64,
    /// Lists and changes whose origin signed what does not fit together, or is too much.
    pub misfits: u64,
    /// Lists that were given up before they were complete, for want of room.
    pub unfinished: u64,
    /// Records left out because their node changes faster than is taken.
    pub paced: u64,
    /// Pulls of records.
    pub pulls: u64,
    /// Times that a neighbour had not sent what it was asked for.
    pub unanswered: u64,
    /// The verification of subscribers of private topics.
    pub private: private::Counters,
}
