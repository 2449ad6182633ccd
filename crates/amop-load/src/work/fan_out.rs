//! Fan-out: each message to all subscribers of its topic, who are spread over all nodes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    task::{JoinSet, coop::consume_budget},
    time::{sleep, timeout},
};

use crate::{
    clock,
    meter::{Meter, Usage},
    payload::Template,
    record::Latencies,
    report::{Report, Setting, Unit},
    system::{Cluster, Failure, Publisher, Sink},
    work::{
        Error, Pacing, Phase, Progress, Traffic, ends,
        loops::{self, Opened, PAUSE, Sender, Senders, Stage},
        pacer::{Pacer, Timeline},
        tally::Tally,
    },
};

/// Messages that are published without looking at the window again.
const BURST: u64 = 64;
/// With a window, of each burst the first is timed, and then one in so many: latency is that of the window, and timing each would cost
/// about as much as receiving it.
const TIMED: u64 = 16;
/// A publisher that waits for the window looks again after this, told or not.
const LOOK: Duration = Duration::from_millis(5);
/// Nothing moves for so long: messages were lost.
const STALL: Duration = Duration::from_secs(3);
/// From one of the first messages to the next.
const AGAIN: Duration = Duration::from_millis(50);
/// How many subscribers share a histogram.
const SHARE: usize = 8;

/// Connects subscribers and publishers, waits until all are reached, and measures.
///
/// # Errors
/// When `traffic` cannot be, a client cannot be connected, subscribers are not reached or stop receiving, or a node dies.
/// Messages that cannot be published are no errors but counted.
pub async fn run<C: Cluster>(
    cluster: &Arc<C>,
    traffic: &Traffic,
    progress: &Progress,
) -> Result<Report, Error> {
    traffic.check()?;
    progress.enter(Phase::Connecting, (traffic.subscribers + traffic.publishers) as u64);
    let field = Field::new(traffic);
    let subscribers = ends::connect("subscriber", traffic.subscribers, ends::AT_ONCE, progress, |number| {
        let (cluster, topic, sink) = (cluster.clone(), traffic.topic(number), field.sink(number));
        // Topics in turn, and those of each topic at all nodes in turn.
        let node = (number / traffic.topics) % cluster.nodes().max(1);
        async move { cluster.subscriber(node, &topic, sink).await }
    });
    let _connected = subscribers.await?;
    let publishers = ends::connect("publisher", traffic.publishers, ends::AT_ONCE, progress, |number| {
        let (cluster, topic, group) = (cluster.clone(), traffic.topic(number), field.group(number));
        let template = Template::new(traffic.payload);
        async move {
            let publisher = Arc::new(cluster.publisher(0, &topic).await?);
            Ok(Herald { publisher, template, group })
        }
    });
    let publishers = publishers.await?;
    progress.enter(Phase::Reaching, 0);
    for publisher in &publishers {
        ends::while_alive(&**cluster, publisher.reach()).await??;
    }
    ends::watch(&**cluster, progress, Phase::Reaching, traffic.settle).await?;
    field.begin();
    measure(cluster, traffic, progress, &field, publishers).await
}

/// The topics of a work, and those who receive.
struct Field {
    groups: Vec<Arc<Group>>,
    latencies: Vec<Arc<Mutex<Latencies>>>,
    sinks: Vec<Arc<Sink>>,
}

/// One topic.
struct Group {
    /// Messages published, or about to be, since the beginning.
    published: AtomicU64,
    /// Each subscriber, and what it had at the beginning.
    sinks: Vec<(Arc<Sink>, AtomicU64)>,
    /// Told when subscribers have got on.
    moved: Arc<Notify>,
}

impl Field {
    fn new(traffic: &Traffic) -> Self {
        let window = match traffic.pacing {
            Pacing::Closed { in_flight } => in_flight as u64,
            Pacing::Open { .. } => u64::MAX,
        };
        let moved: Vec<Arc<Notify>> = (0..traffic.topics).map(|_| Arc::default()).collect();
        let latencies: Vec<Arc<Mutex<Latencies>>> =
            (0..traffic.subscribers.div_ceil(SHARE)).map(|_| Arc::default()).collect();
        let sink = |number: usize| {
            let sink = Sink::new().recording_into(latencies[number / SHARE].clone());
            Arc::new(sink.waking((window / 4).min(BURST), moved[number % traffic.topics].clone()))
        };
        let sinks: Vec<Arc<Sink>> = (0..traffic.subscribers).map(sink).collect();
        let group = |(number, moved)| {
            let own = sinks.iter().skip(number).step_by(traffic.topics);
            let sinks = own.map(|sink| (sink.clone(), AtomicU64::new(0))).collect();
            Arc::new(Group { published: AtomicU64::new(0), sinks, moved })
        };
        let groups = moved.into_iter().enumerate().map(group).collect();
        Self { groups, latencies, sinks }
    }

    fn sink(&self, subscriber: usize) -> Arc<Sink> {
        self.sinks[subscriber].clone()
    }

    fn group(&self, publisher: usize) -> Arc<Group> {
        self.groups[publisher % self.groups.len()].clone()
    }

    /// From here on is counted.
    fn begin(&self) {
        for (sink, before) in self.groups.iter().flat_map(|group| &group.sinks) {
            before.store(sink.messages(), Ordering::Relaxed);
        }
    }

    /// Messages that have come since the beginning, to all subscribers.
    fn delivered(&self) -> u64 {
        self.groups.iter().flat_map(|group| &group.sinks).map(got).sum()
    }

    /// Messages that should have come.
    fn expected(&self) -> u64 {
        self.groups.iter().map(|group| group.published() * group.sinks.len() as u64).sum()
    }

    /// Resolves when nothing has moved for a while though it could.
    async fn stalled(&self) -> Error {
        let (mut since, mut before) = (Instant::now(), None);
        loop {
            let now = self.delivered();
            if before != Some(now) {
                (since, before) = (Instant::now(), Some(now));
            }
            let behind = self.groups.iter().find(|group| group.published() > group.slowest());
            if let Some(group) = behind.filter(|_| since.elapsed() > STALL) {
                return Error::Stalled { published: group.published(), slowest: group.slowest() };
            }
            sleep(LOOK * 10).await;
        }
    }

    /// Waits, not for long, for what is under way.
    async fn drain(&self, most: Duration) {
        let began = Instant::now();
        while self.delivered() < self.expected() && began.elapsed() < most {
            sleep(LOOK).await;
        }
    }
}

fn got((sink, before): &(Arc<Sink>, AtomicU64)) -> u64 {
    sink.messages().saturating_sub(before.load(Ordering::Relaxed))
}

impl Group {
    fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    fn slowest(&self) -> u64 {
        self.sinks.iter().map(got).min().unwrap_or(0)
    }

    /// The right to publish some messages, 0 if the window is full.
    fn claim(&self, window: u64) -> u64 {
        let most = self.slowest().saturating_add(window);
        let room = |published: u64| most.saturating_sub(published).min(BURST);
        let claim = |published| (room(published) > 0).then(|| published + room(published));
        let before = self.published.fetch_update(Ordering::AcqRel, Ordering::Acquire, claim);
        before.map_or(0, room)
    }

    /// A message of those claimed has not been published.
    fn give_back(&self) {
        self.published.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A publisher, its topic, and what it says.
struct Herald<P> {
    publisher: Arc<P>,
    template: Template,
    group: Arc<Group>,
}

impl<P> Clone for Herald<P> {
    fn clone(&self) -> Self {
        Self { publisher: self.publisher.clone(), template: self.template.clone(), group: self.group.clone() }
    }
}

impl<P: Publisher> Herald<P> {
    /// Publishes until every subscriber has got a message of this publisher.
    async fn reach(&self) -> Result<(), Error> {
        let before: Vec<u64> = self.group.sinks.iter().map(|(sink, _)| sink.messages()).collect();
        let (began, mut last) = (Instant::now(), None);
        loop {
            let published = self.publisher.publish(self.template.fill(0)).await;
            last = published.and(self.publisher.flush().await).err().or(last);
            sleep(AGAIN).await;
            let mut sinks = self.group.sinks.iter().zip(&before);
            if sinks.all(|((sink, _), before)| sink.messages() > *before) {
                return Ok(());
            }
            if began.elapsed() > ends::REACH {
                return Err(Error::NotReady { after: ends::REACH, last });
            }
        }
    }

    /// Publishes as far ahead of the slowest subscriber as the window is, until the stage is over.
    async fn keep_window(self, window: u64, stage: Arc<Stage>, tally: Arc<Mutex<Tally>>) {
        while !stage.is_over() {
            let claimed = self.group.claim(window);
            if claimed == 0 {
                // Told or not, it looks again.
                let _ = timeout(LOOK, self.group.moved.notified()).await;
            }
            for number in 0..claimed {
                consume_budget().await;
                let timed = stage.is_measuring() && u64::is_multiple_of(number, TIMED);
                let moment = if timed { clock::now() } else { 0 };
                if let Err(failure) = self.publisher.publish(self.template.fill(moment)).await {
                    self.failed(&failure, &stage, &tally);
                    sleep(PAUSE).await;
                }
            }
        }
        // Each failure is told once.
        while let Err(failure) = self.publisher.flush().await {
            self.failed(&failure, &stage, &tally);
        }
    }

    fn failed(&self, failure: &Failure, stage: &Stage, tally: &Mutex<Tally>) {
        self.group.give_back();
        if !stage.is_warming_up() {
            tally.lock().errors.add(failure);
        }
    }
}

impl<P: Publisher> Sender for Herald<P> {
    async fn send(&self, due: u64, measured: bool) -> Result<(), Failure> {
        self.group.published.fetch_add(1, Ordering::AcqRel);
        let published = self.publisher.publish(self.template.fill(if measured { due } else { 0 })).await;
        published.inspect_err(|_| self.group.give_back())
    }
}

/// Those who publish.
enum Heralds {
    Window(JoinSet<()>, Arc<Mutex<Tally>>),
    Open(Senders),
}

impl Heralds {
    fn start<P: Publisher>(
        heralds: &[Herald<P>],
        traffic: &Traffic,
        stage: &Arc<Stage>,
    ) -> Result<Self, Error> {
        match traffic.pacing {
            Pacing::Closed { in_flight } => {
                let (mut tasks, tally) = (JoinSet::new(), Arc::default());
                for herald in heralds.iter().cloned() {
                    tasks.spawn(herald.keep_window(in_flight as u64, stage.clone(), Arc::clone(&tally)));
                }
                Ok(Self::Window(tasks, tally))
            }
            Pacing::Open { rate, in_flight } => {
                let timeline = Timeline::new(traffic.warm_up, traffic.duration);
                let pacer = Pacer::start(rate, timeline)?;
                Ok(Self::Open(Senders::open(heralds.to_vec(), in_flight, traffic, stage, pacer, timeline)))
            }
        }
    }

    async fn finish(self, drain: Duration) -> (Tally, Opened) {
        match self {
            Self::Window(mut tasks, tally) => {
                let ended = async { while tasks.join_next().await.is_some() {} };
                // Who still waits to publish then has lost its node; deliveries tell.
                let _ = timeout(drain, ended).await;
                tasks.shutdown().await;
                (std::mem::take(&mut *tally.lock()), Opened::default())
            }
            Self::Open(senders) => senders.finish().await,
        }
    }
}

async fn measure<C: Cluster>(
    cluster: &Arc<C>,
    traffic: &Traffic,
    progress: &Progress,
    field: &Field,
    publishers: Vec<Herald<C::Publisher>>,
) -> Result<Report, Error> {
    let stage = Arc::new(Stage::default());
    let heralds = Heralds::start(&publishers, traffic, &stage)?;
    let load = async {
        ends::watch(&**cluster, progress, Phase::WarmUp, traffic.warm_up).await?;
        let (meter, before) = (Meter::start(cluster.servers()), field.delivered());
        stage.measure();
        ends::watch(&**cluster, progress, Phase::Measuring, traffic.duration).await?;
        stage.end();
        Ok::<(Usage, u64), Error>((meter.stop(), field.delivered() - before))
    };
    let (usage, count) = tokio::select! {
        measured = load => measured?,
        stalled = field.stalled() => return Err(stalled),
    };
    progress.enter(Phase::Finishing, 0);
    let finish = async {
        let ended = heralds.finish(loops::drain(traffic)).await;
        for publisher in &publishers {
            // Told failures are counted; who cannot flush in time has lost its node.
            let _ = timeout(PAUSE * 100, publisher.publisher.flush()).await;
        }
        field.drain(loops::drain(traffic)).await;
        ended
    };
    let (tally, opened) = ends::while_alive(&**cluster, finish).await?;
    let mut report = Report::new("fan-out", &**cluster, Unit::Delivery, Setting::of(traffic));
    (report.count, report.usage) = (count, usage);
    field.latencies.iter().for_each(|part| report.latencies.merge(&part.lock()));
    report.errors = tally.errors;
    (report.not_sent, report.sent_late) = (opened.not_sent, opened.sent_late);
    report.lost = field.expected().saturating_sub(field.delivered());
    Ok(report)
}
