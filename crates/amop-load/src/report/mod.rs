//! What a work has measured: for people ([`Report::lines`]), for machines (JSON, by serde), as a picture ([`svg::plot`]).

mod setting;
pub mod svg;
mod text;

use serde::{Serialize, Serializer};

pub use self::{setting::Setting, text::duration};
use crate::{
    meter::{self, Memory, Usage},
    record::Latencies,
    system::{Cluster, Security},
    work::Errors,
};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A request and its answer.
    Message,
    /// A message at one subscriber.
    Delivery,
    /// A byte of a payload, acknowledged.
    Byte,
    /// A client connected.
    Connection,
    /// A start of all nodes, to the first answer.
    Start,
}

/// What a work has measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Which work.
    pub work: &'static str,
    /// Of which system.
    pub system: String,
    /// What was asked for.
    pub setting: Setting,
    /// What protected every hop.
    pub security: Option<Security>,
    /// What is counted.
    pub unit: Unit,
    /// How many ended well while measuring.
    pub count: u64,
    /// What it took, and how long measuring was.
    pub usage: Usage,
    /// How long each took that began or ended while measuring. In an open loop, from when it was due.
    pub latencies: Latencies,
    /// In an open loop: from when a message was due until it was handed to the system's client. Above tens of microseconds the load
    /// generator is short of CPU.
    pub sent_late: Latencies,
    /// What failed.
    pub errors: Errors,
    /// In an open loop: due, but not sent, because too many were under way.
    pub not_sent: u64,
    /// Sent, but without outcome some seconds after the end. In the latencies, as having taken until then.
    pub unfinished: u64,
    /// Deliveries, or bytes, that did not come though their sending succeeded.
    pub lost: u64,
    /// Of each node, where the work looks at memory.
    pub memory: Vec<Grown>,
    /// Of idle clients.
    pub idle: Option<Idleness>,
}

/// Memory of a node, before and after.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Grown {
    /// Before, KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_kib: Option<u64>,
    /// After.
    #[serde(flatten)]
    pub after: Memory,
}

impl Grown {
    /// By how much, KiB; less than 0 if it shrank.
    pub fn grown_kib(&self) -> f64 {
        self.after.resident_kib as f64 - self.before_kib.unwrap_or(0) as f64
    }
}

/// What idle clients take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Idleness {
    /// By how much the node's resident memory grew for each, KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_per_client_kib: Option<f64>,
    /// CPU of the node while all are idle, 1 for a whole core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_cores: Option<f64>,
}

impl Report {
    /// Of a work that has measured nothing yet; for works that are those of one system alone.
    pub fn new<C: Cluster>(work: &'static str, cluster: &C, unit: Unit, setting: Setting) -> Self {
        Self {
            work,
            system: cluster.name().to_owned(),
            setting: Setting { nodes: Some(cluster.nodes()), ..setting },
            security: cluster.security(),
            unit,
            count: 0,
            usage: Usage::default(),
            latencies: Latencies::default(),
            sent_late: Latencies::default(),
            errors: Errors::default(),
            not_sent: 0,
            unfinished: 0,
            lost: 0,
            memory: Vec::new(),
            idle: None,
        }
    }

    /// How many in a second.
    pub fn rate(&self) -> f64 {
        match self.usage.seconds {
            seconds if seconds > 0.0 => self.count as f64 / seconds,
            _ => 0.0,
        }
    }

    /// CPU microseconds of all nodes for each that is counted, a GiB for bytes; `None` if nothing tells, or nothing was counted.
    pub fn nodes_cpu_us(&self) -> Option<f64> {
        self.each(self.usage.nodes)
    }

    /// As [`Report::nodes_cpu_us`], of the clients.
    pub fn clients_cpu_us(&self) -> Option<f64> {
        self.each(self.usage.clients)
    }

    fn each(&self, seconds: Option<f64>) -> Option<f64> {
        let units = if self.unit == Unit::Byte { self.count as f64 / GIB } else { self.count as f64 };
        (units > 0.0).then_some(seconds? * 1e6 / units)
    }

    /// Memory of these processes now, and what it was before, as far as it is known.
    pub fn memory_since(&mut self, pids: &[u32], before: &[Option<Memory>]) {
        let grown = |(number, pid): (usize, &u32)| {
            let before = before.get(number).copied().flatten();
            Some(Grown { before_kib: before.map(|memory| memory.resident_kib), after: meter::memory(*pid)? })
        };
        self.memory = pids.iter().enumerate().filter_map(grown).collect();
    }
}

/// Bytes of a GiB.
const GIB: f64 = (1_u64 << 30) as f64;

/// As machines get it. Names have their units; what is not known is left out.
#[derive(Serialize)]
struct Json<'a> {
    work: &'static str,
    system: &'a str,
    setting: &'a Setting,
    #[serde(skip_serializing_if = "Option::is_none")]
    security: Option<&'a Security>,
    unit: Unit,
    count: u64,
    rate_per_s: f64,
    samples: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<&'a Latencies>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_late: Option<&'a Latencies>,
    errors: &'a Errors,
    errors_total: u64,
    not_sent: u64,
    unfinished: u64,
    lost: u64,
    #[serde(flatten)]
    usage: Usage,
    /// For each message, delivery, GiB, connection or start.
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes_cpu_us_each: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clients_cpu_us_each: Option<f64>,
    #[serde(skip_serializing_if = "<[Grown]>::is_empty")]
    memory: &'a [Grown],
    #[serde(skip_serializing_if = "Option::is_none")]
    idle: Option<Idleness>,
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let some = |latencies: &'_ Latencies| latencies.samples() > 0;
        Json {
            work: self.work,
            system: &self.system,
            setting: &self.setting,
            security: self.security.as_ref(),
            unit: self.unit,
            count: self.count,
            rate_per_s: self.rate(),
            samples: self.latencies.samples(),
            latency: Some(&self.latencies).filter(|latencies| some(latencies)),
            sent_late: Some(&self.sent_late).filter(|latencies| some(latencies)),
            errors: &self.errors,
            errors_total: self.errors.total(),
            not_sent: self.not_sent,
            unfinished: self.unfinished,
            lost: self.lost,
            usage: self.usage,
            nodes_cpu_us_each: self.nodes_cpu_us(),
            clients_cpu_us_each: self.clients_cpu_us(),
            memory: &self.memory,
            idle: self.idle,
        }
        .serialize(serializer)
    }
}
