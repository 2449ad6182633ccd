//! What is to happen in a run, in full and ahead of it: so that a part can be left out.

use std::{fmt, time::Duration};

use amop_protocol::broker::{event::Mode, lists};

use crate::{
    private::{Forgery, Role},
    wants::Wants,
};

/// Topics that messages are sent to.
pub const TOPICS: u32 = 3;

/// Everything a run follows from.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub setup: Setup,
    /// In order of time. Those at [`Plan::heals`] or later happen after everything was repaired.
    pub steps: Vec<Step>,
    /// When all nodes are started again and all links repaired.
    pub heals: Duration,
}

#[derive(Clone, Debug)]
pub struct Setup {
    pub nodes: usize,
    pub links: Vec<LinkSetup>,
    pub limits: Limits,
    /// Whether the run goes on until everything should be forgotten.
    pub to_the_end: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct LinkSetup {
    pub ends: (usize, usize),
    pub latency: Duration,
    pub jitter: Duration,
}

/// Bounds that differ from run to run.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of outcomes that a window remembers.
    pub window_bytes: usize,
    /// Ended messages that a window remembers.
    pub window_entries: usize,
    /// Sends of one session that may be in flight.
    pub in_flight: usize,
    /// Announcements of one node that may be settling.
    pub waves: usize,
    /// Bytes a second that a node passes on for others, if that is limited.
    pub relay: Option<u32>,
    /// Bytes of payloads that a node holds at once, if that is little.
    pub room: Option<usize>,
    /// Pieces of lists, and how many changes are kept: mostly so small that both matter.
    pub lists: lists::Bounds,
}

#[derive(Clone, Debug)]
pub struct Step {
    pub at: Duration,
    pub act: Act,
}

/// Which frames a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// 2.x without a handshake.
    V1,
    /// 2.x with one.
    V3,
    /// Our extension.
    Extended,
}

/// How a subscriber treats what it is handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers after this long: within the shortest push timeout.
    Prompt(Duration),
    /// Answers after this long: nobody can rely on it.
    Slow(Duration),
    /// Never answers.
    Silent,
    /// Answers with an error of its own.
    Refuses,
    /// Disconnects when it is handed a message.
    Leaves,
    /// Its connection takes no bytes.
    Stuck,
    /// Its queue at the node is full.
    Full,
}

/// When an extension client says that it has received what it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipts {
    /// As soon as it has read it, or this much later.
    After(Duration),
    /// Never, unless it answers.
    Never,
}

impl Receipts {
    /// Whether its node knows soon enough that a message was handed over.
    pub fn is_prompt(self) -> bool {
        matches!(self, Self::After(after) if after < Duration::from_secs(3))
    }
}

impl Behaviour {
    /// Whether it reads what its node writes.
    pub fn reads(self) -> bool {
        !matches!(self, Self::Stuck | Self::Full)
    }
}

/// What a bad line does to frames.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Noise {
    /// How many are lost.
    pub lost: f64,
    /// How many arrive twice.
    pub twice: f64,
}

/// Something that happens. Clients, nodes and links are named by number; what is not there at the
/// time is passed over.
#[derive(Clone, Debug)]
pub enum Act {
    /// `instance`: the application, if it has sessions at other nodes too.
    Open {
        client: usize,
        node: usize,
        dialect: Dialect,
        certificate: u8,
        behaviour: Behaviour,
        receipts: Receipts,
        instance: Option<usize>,
    },
    Subscribe {
        client: usize,
        topics: Vec<u32>,
    },
    /// A set of many topics that nobody sends to.
    SubscribeMany {
        client: usize,
        first: u32,
        count: u32,
    },
    Close {
        client: usize,
    },
    Publish {
        client: usize,
        message: u64,
        mode: Mode,
        topic: u32,
        deadline: Option<Duration>,
        wants: Wants,
    },
    /// A body, or a topic, that cannot be published to.
    PublishBadly {
        client: usize,
        message: u64,
        how: BadTopic,
    },
    /// What a session has to do with a private topic from now on; it reports nothing else.
    Private {
        client: usize,
        role: Option<Role>,
    },
    PublishPrivate {
        client: usize,
        message: u64,
        mode: Mode,
        topic: u32,
    },
    /// A session that publishes nothing sends to the channel of a subscriber.
    Challenge {
        client: usize,
        message: u64,
        topic: u32,
        channel: u64,
    },
    /// A publisher takes back the trust it gave last.
    Revoke {
        client: usize,
    },
    Forge {
        client: usize,
        how: Forgery,
    },
    LinkUp {
        link: usize,
    },
    /// The link is lost; its ends notice after these times.
    LinkDown {
        link: usize,
        noticed: [Duration; 2],
    },
    /// A second connection takes the place of the first; the ends notice after these times.
    Reconnect {
        link: usize,
        noticed: [Duration; 2],
    },
    /// Frames from one end vanish, until the other end gives the link up.
    OneWay {
        link: usize,
        lane: usize,
        noticed: Duration,
    },
    Noise {
        link: usize,
        noise: Noise,
    },
    Crash {
        node: usize,
    },
    /// `skew`: how far the clock that its epoch comes from is ahead.
    Start {
        node: usize,
        skew: Duration,
    },
    Drain {
        node: usize,
    },
    Stop {
        node: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadTopic {
    /// No topic body at all.
    Malformed,
    /// Kept for the node itself.
    BlockNotify,
    /// Nobody is verified.
    Private,
}

impl Act {
    /// Whether it breaks something, or repairs it, so that routes change.
    pub fn disturbs(&self) -> bool {
        !matches!(
            self,
            Self::Open { .. }
                | Self::Subscribe { .. }
                | Self::SubscribeMany { .. }
                | Self::Close { .. }
                | Self::Publish { .. }
                | Self::PublishBadly { .. }
                | Self::Private { .. }
                | Self::PublishPrivate { .. }
                | Self::Challenge { .. }
                | Self::Revoke { .. }
                | Self::Forge { .. }
        )
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  {} nodes, links {:?}",
            self.setup.nodes,
            self.setup.links.iter().map(|l| l.ends).collect::<Vec<_>>()
        )?;
        for Step { at, act } in &self.steps {
            writeln!(f, "  {:>10.4} {act:?}", at.as_secs_f64())?;
        }
        write!(f, "  {:>10.4} everything is repaired", self.heals.as_secs_f64())
    }
}
