//! A large amount, from memory to memory, in chunks that are each acknowledged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    task::{JoinSet, coop::consume_budget},
    time::timeout,
};

use crate::{
    clock,
    meter::{self, Meter},
    payload::{self, Template},
    record::Latencies,
    report::{Report, Setting, Unit},
    system::{Cluster, Failure, Requester, Sink},
    work::{Error, Phase, Progress, ends, traffic},
};

/// What is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Bulk {
    /// Bytes in all: a chunk at least, and 1 TiB at most. What is more than whole chunks is left out.
    pub bytes: u64,
    /// Bytes of a chunk: [`payload::HEADER`] to [`payload::MOST`].
    pub chunk: usize,
    /// Chunks under way at a time, at least 1.
    pub in_flight: usize,
    /// Name of the topic; choose one that nobody uses.
    pub topic: String,
    /// From the first message that gets through to the first chunk.
    pub settle: Duration,
    /// How long a chunk may take.
    pub patience: Duration,
}

impl Default for Bulk {
    fn default() -> Self {
        Self {
            bytes: 256 << 20,
            chunk: 256 << 10,
            in_flight: 8,
            topic: "amop/bench".into(),
            settle: Duration::from_millis(800),
            patience: Duration::from_secs(30),
        }
    }
}

impl Bulk {
    /// Whether it can be.
    ///
    /// # Errors
    /// What cannot, and what can be instead.
    pub fn check(&self) -> Result<(), Error> {
        let Self { bytes, chunk, in_flight, .. } = self;
        let text = match () {
            () if !(payload::HEADER..=payload::MOST).contains(chunk) => {
                format!(
                    "chunks of {chunk} bytes cannot be sent; use {} to {}",
                    payload::HEADER,
                    payload::MOST
                )
            }
            () if *bytes < *chunk as u64 || *bytes > 1 << 40 => {
                format!("{bytes} bytes cannot be sent in chunks of {chunk}; use {chunk} to {}", 1_u64 << 40)
            }
            () if !(1..=traffic::MOST).contains(in_flight) => {
                format!("in flight: {in_flight} cannot be; use 1 to {}", traffic::MOST)
            }
            () => return Ok(()),
        };
        Err(Error::Setting(text))
    }
}

/// Connects a responder and a requester, waits until answers come, and sends everything. Latencies are those of chunks, memory
/// of nodes is at its peak.
///
/// # Errors
/// When `bulk` cannot be, a client cannot be connected, nothing gets through, a chunk fails, or a node dies.
pub async fn run<C: Cluster>(cluster: &Arc<C>, bulk: &Bulk, progress: &Progress) -> Result<Report, Error> {
    bulk.check()?;
    progress.enter(Phase::Connecting, 2);
    let connect = |who: &'static str| move |source| Error::Connect { who, source };
    let (sink, last) = (Arc::new(Sink::new()), cluster.nodes().saturating_sub(1));
    let _responder =
        cluster.responder(last, &bulk.topic, sink.clone()).await.map_err(connect("responder"))?;
    let requester = Arc::new(cluster.requester(0, &bulk.topic).await.map_err(connect("requester"))?);
    ends::reach(std::slice::from_ref(&requester), progress).await?;
    ends::watch(&**cluster, progress, Phase::Reaching, bulk.settle).await?;
    cluster.servers().iter().copied().for_each(meter::forget_peak);
    let before: Vec<_> = cluster.servers().iter().map(|pid| meter::memory(*pid)).collect();
    let total = bulk.bytes / bulk.chunk as u64;
    progress.enter(Phase::Measuring, total * bulk.chunk as u64);
    let had = sink.bytes();
    let meter = Meter::start(cluster.servers());
    let latencies = ends::while_alive(&**cluster, send(&requester, bulk, total, progress)).await??;
    let mut report = Report::new("bulk", &**cluster, Unit::Byte, Setting::of_bulk(bulk));
    report.usage = meter.stop();
    report.count = total * bulk.chunk as u64;
    report.latencies = latencies;
    report.lost = report.count.saturating_sub(sink.bytes() - had);
    report.memory_since(cluster.servers(), &before);
    Ok(report)
}

async fn send<R: Requester>(
    requester: &Arc<R>,
    bulk: &Bulk,
    total: u64,
    progress: &Progress,
) -> Result<Latencies, Error> {
    let next = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicU64::new(0));
    let latencies = Arc::new(Mutex::new(Latencies::default()));
    let (template, patience, chunk) = (Template::new(bulk.chunk), bulk.patience, bulk.chunk as u64);
    let mut tasks = JoinSet::new();
    for _ in 0..bulk.in_flight {
        let (requester, template, latencies) = (requester.clone(), template.clone(), latencies.clone());
        let (next, done) = (next.clone(), done.clone());
        tasks.spawn(async move {
            while next.fetch_add(1, Ordering::Relaxed) < total {
                consume_budget().await;
                let began = clock::now();
                let late = || Failure::new("no_outcome", format!("no outcome within {patience:?}"));
                let asked = timeout(patience, ends::ask(&*requester, &template, 0)).await;
                asked.unwrap_or_else(|_| Err(late()))?;
                latencies.lock().record(clock::since(began));
                done.fetch_add(chunk, Ordering::Relaxed);
            }
            Ok::<_, Failure>(())
        });
    }
    let ended = async {
        while let Some(ended) = tasks.join_next().await {
            let ended = ended.unwrap_or_else(|error| Err(Failure::new("panicked", error.to_string())));
            ended.map_err(|source| Error::Chunk { done: done.load(Ordering::Relaxed), source })?;
        }
        Ok::<(), Error>(())
    };
    let show = async {
        loop {
            progress.set(done.load(Ordering::Relaxed));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        biased;
        ended = ended => ended?,
        () = show => {}
    }
    let taken = std::mem::take(&mut *latencies.lock());
    Ok(taken)
}
