//! What can be asked for.

use std::{path::PathBuf, time::Duration};

use amop_load::work::{Pacing, Traffic, bulk::Bulk, connect, idle};
use amop_rig::Node;

use crate::cli::{client::parse_duration, devnet::MAX_NODES};

/// How long a send may take until it counts as failed.
pub(super) const DEADLINE: Duration = Duration::from_secs(15);
/// Messages under way at most when a rate is kept.
const MOST_UNDER_WAY: usize = 10_000;
/// Messages ahead of the slowest subscriber.
const WINDOW: usize = 256;
/// Bytes of a chunk that is acknowledged.
const CHUNK: u64 = 256 << 10;

/// What `--rate` means, for the end of a command's help.
pub(super) const LOOPS: &str = "\
Without --rate the loop is closed: the next message goes when one is done, so a network that stalls is sent
less, and its stall is one slow sample among many fast ones. That shows how much it can do.
With --rate the loop is open: messages are due at that rate whatever became of those before, and latency
counts from when each was due. That shows what users would see; measure latencies this way.";

/// Which network.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// How many nodes to raise, in a line
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(2..=i64::from(MAX_NODES)), conflicts_with = "node")]
    pub(super) nodes: u16,
    /// Client port of a node that runs already, instead of raising nodes
    #[arg(long, value_name = "IP:PORT", requires = "certs")]
    node: Option<String>,
    /// Directory with ca.crt, sdk.crt and sdk.key of a client of that node
    #[arg(long, value_name = "DIR", requires = "node")]
    certs: Option<PathBuf>,
    /// Client port of the node at the other end; otherwise both ends are at the same node
    #[arg(long, value_name = "IP:PORT", requires = "node")]
    to_node: Option<String>,
    /// Certificates of a client of that one, if others
    #[arg(long, value_name = "DIR", requires = "to_node")]
    to_certs: Option<PathBuf>,
    /// Print one JSON object, for scripts
    #[arg(long)]
    pub(super) json: bool,
    /// Draw the latencies: a percentile plot
    #[arg(long, value_name = "FILE")]
    pub(super) svg: Option<PathBuf>,
}

impl Place {
    /// The nodes that run already, if they are to be measured.
    pub(super) fn running(&self) -> Option<Vec<Node>> {
        let (address, certs) = (self.node.clone()?, self.certs.clone()?);
        let far_certs = self.to_certs.clone().unwrap_or_else(|| certs.clone());
        let far = self.to_node.clone().map(|address| Node { address, certs: far_certs });
        Some([Node { address, certs }].into_iter().chain(far).collect())
    }
}

/// How long.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Times {
    /// How long to load the network before measuring
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    warm_up: Duration,
    /// How long to measure
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    duration: Duration,
}

/// How many clients.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Clients {
    /// Clients that send, at the first node [default: one for each topic]
    #[arg(long, value_name = "N", value_parser = many())]
    publishers: Option<u32>,
    /// Clients that receive [default: one for each topic]
    #[arg(long, value_name = "N", value_parser = many())]
    subscribers: Option<u32>,
    /// Topics, which clients take in turn
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = many())]
    topics: u32,
}

fn many() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=100_000)
}

impl Clients {
    pub(super) fn all(&self) -> usize {
        self.publishers() + self.subscribers()
    }

    fn publishers(&self) -> usize {
        self.publishers.unwrap_or(self.topics) as usize
    }

    fn subscribers(&self) -> usize {
        self.subscribers.unwrap_or(self.topics) as usize
    }
}

/// `amop bench request`.
#[derive(Debug, clap::Args)]
pub(super) struct Request {
    /// Bytes of each message, such as 128, 64KiB or 1MiB
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = parse_size)]
    payload: u64,
    /// Requests under way at a time, of all publishers together [default: 1]
    #[arg(long, value_name = "N", value_parser = many(), conflicts_with = "rate")]
    in_flight: Option<u32>,
    /// Requests due in a second, whether or not those before are answered
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    #[command(flatten)]
    pub(super) clients: Clients,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    pub(super) place: Place,
}

/// `amop bench fan-out`.
#[derive(Debug, clap::Args)]
pub(super) struct FanOut {
    /// Bytes of each message, such as 128, 64KiB or 1MiB
    #[arg(long, value_name = "SIZE", default_value = "256", value_parser = parse_size)]
    payload: u64,
    /// Messages ahead of the slowest subscriber, on each topic [default: 256]
    #[arg(long, value_name = "N", value_parser = many(), conflicts_with = "rate")]
    in_flight: Option<u32>,
    /// Messages due in a second, whether or not those before have arrived
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    #[command(flatten)]
    pub(super) clients: Clients,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    pub(super) place: Place,
}

/// `amop bench file`.
#[derive(Debug, clap::Args)]
pub(super) struct File {
    /// Bytes of the file, such as 256MiB or 10GiB
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_size)]
    pub(super) size: u64,
    /// How often it is sent
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(super) runs: u32,
    /// Where the file is read and written: on the disk that is to be measured [default: the system's
    /// temporary directory]
    #[arg(long, value_name = "DIR", conflicts_with = "memory")]
    pub(super) dir: Option<PathBuf>,
    /// No file: chunks of 256 KiB from memory to memory, each acknowledged
    #[arg(long, conflicts_with = "runs")]
    pub(super) memory: bool,
    /// With --memory: chunks under way at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000), requires = "memory")]
    in_flight: u32,
    #[command(flatten)]
    pub(super) place: Place,
}

/// `amop bench connect`.
#[derive(Debug, clap::Args)]
pub(super) struct Connect {
    /// Clients that connect at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    in_flight: u32,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    pub(super) place: Place,
}

/// `amop bench idle`.
#[derive(Debug, clap::Args)]
pub(super) struct Idle {
    /// Clients to connect, all to the first node
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub(super) clients: usize,
    /// How long they are left alone before memory is read
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    warm_up: Duration,
    /// How long the node's CPU is watched then
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    duration: Duration,
    #[command(flatten)]
    pub(super) place: Place,
}

impl Request {
    pub(super) fn traffic(&self) -> Traffic {
        let pacing = pacing(self.rate, self.in_flight, 1);
        traffic(self.payload, pacing, &self.clients, &self.times)
    }
}

impl FanOut {
    pub(super) fn traffic(&self) -> Traffic {
        let pacing = pacing(self.rate, self.in_flight, WINDOW);
        traffic(self.payload, pacing, &self.clients, &self.times)
    }
}

impl File {
    /// What is sent with `--memory`.
    pub(super) fn bulk(&self) -> Bulk {
        let chunk = self.size.clamp(1, CHUNK) as usize;
        Bulk {
            bytes: self.size,
            chunk,
            in_flight: self.in_flight as usize,
            topic: topic(),
            ..Bulk::default()
        }
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.size == 0 {
            anyhow::bail!("a file of no bytes says nothing; use --size 1MiB or more");
        }
        if self.memory { Ok(self.bulk().check()?) } else { Ok(()) }
    }
}

impl Connect {
    pub(super) fn connect(&self) -> connect::Connect {
        let Times { warm_up, duration } = self.times;
        connect::Connect { at_once: self.in_flight as usize, warm_up, duration, patience: DEADLINE }
    }
}

impl Idle {
    pub(super) fn idle(&self) -> idle::Idle {
        let (clients, settle, duration) = (self.clients, self.warm_up, self.duration);
        idle::Idle { clients, settle, duration, ..idle::Idle::default() }
    }
}

fn pacing(rate: Option<f64>, in_flight: Option<u32>, otherwise: usize) -> Pacing {
    match rate {
        Some(rate) => Pacing::Open { rate, in_flight: MOST_UNDER_WAY },
        None => Pacing::Closed { in_flight: in_flight.map_or(otherwise, |number| number as usize) },
    }
}

fn traffic(payload: u64, pacing: Pacing, clients: &Clients, times: &Times) -> Traffic {
    Traffic {
        // What does not fit a usize is refused as too large like what nearly does not.
        payload: usize::try_from(payload).unwrap_or(usize::MAX),
        pacing,
        topic: topic(),
        topics: clients.topics as usize,
        publishers: clients.publishers(),
        subscribers: clients.subscribers(),
        warm_up: times.warm_up,
        duration: times.duration,
        patience: DEADLINE,
        ..Traffic::default()
    }
}

/// A name that nobody else uses, for this process.
pub(super) fn topic() -> String {
    format!("amop/bench/{}-{:08x}", std::process::id(), *RUN)
}

static RUN: std::sync::LazyLock<u32> = std::sync::LazyLock::new(rand::random);

/// Reads `128`, `64KiB`, `256MiB`, `10GiB`.
fn parse_size(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit: u64 = match &text[split..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("write bytes, or a number and KiB, MiB or GiB, such as 64KiB".into()),
    };
    let number: u64 = text[..split].parse().map_err(|_| format!("{:?} is not a number", &text[..split]))?;
    number.checked_mul(unit).ok_or_else(|| "it is too large".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let good = [("0", 0), ("128", 128), ("1KiB", 1024), ("256MiB", 256 << 20), ("10GiB", 10 << 30)];
        for (text, bytes) in good {
            assert_eq!(parse_size(text), Ok(bytes));
        }
        for bad in ["", "KiB", "-1", "1.5MiB", "1 KiB", "1kb", "99999999999999999999", "99999999999GiB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
