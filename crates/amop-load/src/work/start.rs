//! From the start of the processes to the first answered request.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    meter::{self, Meter},
    payload::Template,
    report::{Report, Setting, Unit},
    system::{Cluster, Failure, Sink, System},
    work::{Error, Phase, Progress, ends},
};

/// A client that cannot be connected yet tries again after this.
const AGAIN: Duration = Duration::from_millis(5);
/// From one of the first requests to the next; none is cancelled by the next.
const PROBE: Duration = Duration::from_millis(20);
/// How long one of them may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a start may take.
const MOST: Duration = Duration::from_secs(20);

/// How often to start.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Starts, one after the other, 1 to 1,000.
    pub runs: usize,
    /// Name of the topic.
    pub topic: String,
}

impl Default for Start {
    fn default() -> Self {
        Self { runs: 5, topic: "amop/bench".into() }
    }
}

/// Starts the system anew, again and again, and each time connects a responder to the last node and a requester to the first, as soon as
/// they can be, and asks until an answer comes. Latencies are those times; CPU is that of nodes and clients until then, in
/// all runs; memory that of the last run.
///
/// # Errors
/// When `start` cannot be, or the system does not start or answer in time.
pub async fn run<S: System>(system: &S, start: &Start, progress: &Progress) -> Result<Report, Error> {
    if !(1..=1_000).contains(&start.runs) {
        return Err(Error::Setting(format!("{} starts cannot be measured; use 1 to 1000", start.runs)));
    }
    progress.enter(Phase::Measuring, start.runs as u64);
    let mut report: Option<Report> = None;
    for _ in 0..start.runs {
        let began = Instant::now();
        let clock = Meter::start(&[]);
        let cluster = Arc::new(system.start().await.map_err(Error::Start)?);
        let answered = ends::while_alive(&*cluster, first_answer(&cluster, &start.topic));
        let (requester, responder) = timeout(MOST, answered).await.map_err(|_| late())???;
        let took = began.elapsed();
        let setting =
            || Setting { runs: Some(start.runs), nodes: Some(cluster.nodes()), ..Setting::default() };
        let report = report.get_or_insert_with(|| Report::new("start", &*cluster, Unit::Start, setting()));
        report.latencies.record(took);
        report.count += 1;
        let used = clock.stop();
        report.usage.seconds += used.seconds;
        add(&mut report.usage.clients, used.clients);
        add(&mut report.usage.nodes, meter::since_start(cluster.servers()));
        report.memory_since(cluster.servers(), &[]);
        drop((requester, responder));
        cluster.stop().await;
        progress.advance(1);
    }
    report.ok_or_else(late)
}

fn late() -> Error {
    Error::NotReady { after: MOST, last: None }
}

fn add(sum: &mut Option<f64>, more: Option<f64>) {
    *sum = more.map(|more| sum.unwrap_or(0.0) + more);
}

/// Both clients, when the first request has been answered.
async fn first_answer<C: Cluster>(
    cluster: &Arc<C>,
    topic: &str,
) -> Result<(Arc<C::Requester>, C::Guard), Error> {
    let (last, sink) = (cluster.nodes().saturating_sub(1), Arc::new(Sink::new()));
    let responder = until_connected("responder", || cluster.responder(last, topic, sink.clone()));
    let requester = until_connected("requester", || cluster.requester(0, topic));
    let (responder, requester) = tokio::try_join!(responder, requester)?;
    let requester = Arc::new(requester);
    let (answered, mut first) = mpsc::channel(1);
    let (template, mut probes) = (Template::new(64), JoinSet::new());
    loop {
        let (asker, template, answered) = (requester.clone(), template.clone(), answered.clone());
        probes.spawn(async move {
            if let Ok(Ok(())) = timeout(PATIENCE, ends::ask(&*asker, &template, 0)).await {
                // Full: another one was first.
                let _ = answered.try_send(());
            }
        });
        if let Ok(Some(())) = timeout(PROBE, first.recv()).await {
            return Ok((requester, responder));
        }
    }
}

async fn until_connected<T, F>(who: &'static str, connect: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Failure>>,
{
    let began = Instant::now();
    loop {
        match connect().await {
            Ok(client) => return Ok(client),
            Err(source) if began.elapsed() > MOST => return Err(Error::Connect { who, source }),
            Err(_) => sleep(AGAIN).await,
        }
    }
}
