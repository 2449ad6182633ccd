//! Request and answer: from a client of the first node to one of the last, and back.

use std::sync::Arc;

use crate::{
    meter::Meter,
    payload::Template,
    report::{Report, Setting, Unit},
    system::{Cluster, Failure, Requester, Sink},
    work::{
        Error, Pacing, Phase, Progress, Traffic, ends,
        loops::{Sender, Senders, Stage},
        pacer::{Pacer, Timeline},
    },
};

/// Connects responders and requesters, waits until answers come, and measures.
///
/// # Errors
/// When `traffic` cannot be, a client cannot be connected, nothing gets through, or a node dies. Requests that fail are no
/// errors but counted.
pub async fn run<C: Cluster>(
    cluster: &Arc<C>,
    traffic: &Traffic,
    progress: &Progress,
) -> Result<Report, Error> {
    traffic.check()?;
    progress.enter(Phase::Connecting, (traffic.subscribers + traffic.publishers) as u64);
    let last = cluster.nodes().saturating_sub(1);
    let responders = ends::connect("responder", traffic.subscribers, ends::AT_ONCE, progress, |number| {
        let (cluster, topic) = (cluster.clone(), traffic.topic(number));
        async move { cluster.responder(last, &topic, Arc::new(Sink::new())).await }
    });
    let _connected = responders.await?;
    let requesters = ends::connect("requester", traffic.publishers, ends::AT_ONCE, progress, |number| {
        let (cluster, topic) = (cluster.clone(), traffic.topic(number));
        async move { cluster.requester(0, &topic).await.map(Arc::new) }
    });
    let requesters = requesters.await?;
    ends::reach(&requesters, progress).await?;
    ends::watch(&**cluster, progress, Phase::Reaching, traffic.settle).await?;
    let template = Template::new(traffic.payload);
    let askers = requesters.into_iter().map(|requester| Asker { requester, template: template.clone() });
    measure(cluster, traffic, progress, askers.collect()).await
}

/// Sends requests.
struct Asker<R> {
    requester: Arc<R>,
    template: Template,
}

impl<R> Clone for Asker<R> {
    fn clone(&self) -> Self {
        Self { requester: self.requester.clone(), template: self.template.clone() }
    }
}

impl<R: Requester> Sender for Asker<R> {
    async fn send(&self, _due: u64, _measured: bool) -> Result<(), Failure> {
        ends::ask(&*self.requester, &self.template, 0).await
    }
}

async fn measure<C: Cluster>(
    cluster: &Arc<C>,
    traffic: &Traffic,
    progress: &Progress,
    askers: Vec<Asker<C::Requester>>,
) -> Result<Report, Error> {
    let stage = Arc::new(Stage::default());
    let senders = match traffic.pacing {
        Pacing::Closed { in_flight } => Senders::closed(&askers, in_flight, traffic, &stage),
        Pacing::Open { rate, in_flight } => {
            let timeline = Timeline::new(traffic.warm_up, traffic.duration);
            let pacer = Pacer::start(rate, timeline)?;
            Senders::open(askers, in_flight, traffic, &stage, pacer, timeline)
        }
    };
    ends::watch(&**cluster, progress, Phase::WarmUp, traffic.warm_up).await?;
    let meter = Meter::start(cluster.servers());
    stage.measure();
    ends::watch(&**cluster, progress, Phase::Measuring, traffic.duration).await?;
    stage.end();
    let usage = meter.stop();
    progress.enter(Phase::Finishing, 0);
    let (tally, opened) = ends::while_alive(&**cluster, senders.finish()).await?;
    let mut report = Report::new("request", &**cluster, Unit::Message, Setting::of(traffic));
    report.count = tally.in_time;
    report.usage = usage;
    report.latencies = tally.latencies;
    report.errors = tally.errors;
    report.unfinished = tally.unfinished;
    report.not_sent = opened.not_sent;
    report.sent_late = opened.sent_late;
    Ok(report)
}
