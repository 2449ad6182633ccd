//! What others notice of a transfer: small requests over the same link, without and with one.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use amop_client::{Client, Subscription};
use anyhow::{Context, ensure};
use futures::{StreamExt, stream::FuturesUnordered};
use hdrhistogram::Histogram;
use tokio::time::{MissedTickBehavior, interval_at, sleep_until};

use crate::{
    Args,
    net::{Net, Slow},
    process::Process,
    report::{Aim, Report},
    transfer::{self, Ends},
};

const PAYLOAD: usize = 128;
/// Requests a second, sent on a schedule.
const SCHEDULED: u32 = 500;
const WARM_UP: usize = 500;
/// The same at most, so that a transfer does not end meanwhile.
const WARM_TIME: Duration = Duration::from_millis(500);
/// More than any transfer here moves in a second, so that none ends while it is measured.
const FASTEST: u64 = 200_000_000;
/// Largest wait that is told apart from larger ones, microseconds.
const MOST: u64 = 60_000_000;
/// Links: as fast as the machine is, and slow ones at which a transfer does not take all its cores.
const LINKS: [(&str, Option<Slow>); 3] = [
    ("loopback", None),
    ("20 MB/s", Some(Slow { rate: 20_000_000, delay_ms: 0 })),
    ("20 MB/s, 5 ms", Some(Slow { rate: 20_000_000, delay_ms: 5 })),
];

/// Waits without and with a transfer, and what they add up to.
struct Waits {
    /// Quantiles of each round, microseconds: p50, p99.
    rounds: [Vec<f64>; 2],
    /// All rounds together.
    all: Histogram<u64>,
}

/// One way of sending requests, without and with a transfer.
struct Load {
    name: String,
    without: Waits,
    with: Waits,
}

pub(crate) async fn run(args: &Args, seed: u64, report: &mut Report) -> anyhow::Result<()> {
    report.part("small");
    let dir = tempfile::tempdir_in(&args.dir)?;
    let time = Duration::from_secs(args.seconds);
    let bytes = FASTEST * 2 * (args.seconds + 1);
    let file = transfer::make(dir.path().join("file"), bytes, seed)?;
    for (link, slow) in LINKS {
        let net = Net::start(dir.path(), slow).await?;
        let asked = net.client(1, "answers").await?;
        serve(asked.subscribe("small").await?);
        let asking = net.client(0, "asks").await?;
        let closed_name = format!("{link}: requests of {PAYLOAD} B, one in flight");
        let open_name = format!("{link}: requests of {PAYLOAD} B, {SCHEDULED} a second");
        let mut closed = Load::new(closed_name)?;
        let mut open = Load::new(open_name)?;
        let mut moved = Vec::new();
        for round in 0..args.rounds {
            closed.without.take(&one_in_flight(&asking, time).await?)?;
            open.without.take(&scheduled(&asking, time).await?)?;
            let mut transfer = Running::start(&net, &format!("files/{round}"), &file).await?;
            closed.with.take(&transfer.during(one_in_flight(&asking, time), &mut moved).await?)?;
            open.with.take(&transfer.during(scheduled(&asking, time), &mut moved).await?)?;
            transfer.stop().await?;
        }
        closed.tell(report);
        open.tell(report);
        report.figure(&format!("{link}: the transfer meanwhile"), "MB/s", &moved, Aim::None);
    }
    Ok(())
}

/// One request at a time, for so long.
async fn one_in_flight(client: &Client, time: Duration) -> anyhow::Result<Histogram<u64>> {
    let mut waits = waits()?;
    let began = Instant::now();
    for _ in 0..WARM_UP {
        client.request("small", vec![7; PAYLOAD]).await?;
        if began.elapsed() > WARM_TIME {
            break;
        }
    }
    let end = Instant::now() + time;
    while Instant::now() < end {
        let began = Instant::now();
        client.request("small", vec![7; PAYLOAD]).await?;
        record(&mut waits, began);
    }
    Ok(waits)
}

/// Requests on a schedule; waits count from when they were due.
async fn scheduled(client: &Client, time: Duration) -> anyhow::Result<Histogram<u64>> {
    let mut waits = waits()?;
    let period = Duration::from_secs(1) / SCHEDULED;
    let end = Instant::now() + time;
    let mut due = interval_at(Instant::now().into(), period);
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            tick = due.tick(), if Instant::now() < end => under_way.push(async move {
                client.request("small", vec![7; PAYLOAD]).await.map(|_| tick.into_std())
            }),
            Some(answered) = under_way.next() => record(&mut waits, answered?),
            () = sleep_until(end.into()), if Instant::now() < end => {}
            else => return Ok(waits),
        }
    }
}

fn waits() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, MOST, 3)?)
}

fn record(waits: &mut Histogram<u64>, began: Instant) {
    waits.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
}

fn serve(mut subscription: Subscription) {
    #[expect(clippy::disallowed_methods, reason = "it ends with its client")]
    tokio::spawn(async move {
        while let Some(delivery) = subscription.next().await {
            let payload = delivery.payload.clone();
            delivery.answer(payload);
        }
    });
}

/// A transfer that is under way, and not meant to end.
struct Running {
    sender: Process,
    receiver: Process,
    /// Bytes that have arrived, as the receiver last said.
    bytes: Cell<u64>,
    into: PathBuf,
}

impl Running {
    async fn start(net: &Net, topic: &str, file: &Path) -> anyhow::Result<Self> {
        let into = net.dir().join("into");
        fs::create_dir_all(&into)?;
        let ends = Ends { net, topic, file, into: &into };
        let mut receiver = ends.receiver().await?;
        let sender = ends.sender()?;
        receiver.event("progress").await?;
        Ok(Self { sender, receiver, bytes: Cell::new(0), into })
    }

    /// Measures while it runs, and notes how fast it was, MB/s.
    async fn during<T>(
        &mut self,
        measure: impl Future<Output = anyhow::Result<T>>,
        moved: &mut Vec<f64>,
    ) -> anyhow::Result<T> {
        let (began, before) = (Instant::now(), self.bytes.get());
        let Self { sender, receiver, bytes, .. } = self;
        let follow = async {
            loop {
                let (line, from_receiver) = tokio::select! {
                    line = sender.line() => (line?, false),
                    line = receiver.line() => (line?, true),
                };
                let line = line.context("an end of the transfer has ended")?;
                ensure!(line["event"] != "failed", "the transfer failed: {line}");
                ensure!(line["event"] != "received", "the transfer ended while it was measured");
                if let Some(now) = line["bytes"].as_u64().filter(|_| from_receiver) {
                    bytes.set(now);
                }
            }
        };
        let measured = tokio::select! {
            measured = measure => measured?,
            failed = follow => return failed,
        };
        moved.push((self.bytes.get() - before) as f64 / 1e6 / began.elapsed().as_secs_f64());
        Ok(measured)
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        self.sender.kill().await?;
        self.receiver.kill().await?;
        fs::remove_dir_all(&self.into)?;
        Ok(())
    }
}

impl Waits {
    fn take(&mut self, round: &Histogram<u64>) -> anyhow::Result<()> {
        self.rounds[0].push(round.value_at_quantile(0.5) as f64);
        self.rounds[1].push(round.value_at_quantile(0.99) as f64);
        Ok(self.all.add(round)?)
    }

    fn tell(&self, name: &str, report: &Report) {
        let longest = self.all.max() as f64 / 1e3;
        report.figure(&format!("{name}, p50"), "µs", &self.rounds[0], Aim::None);
        let count = self.all.len();
        report.figure(
            &format!("{name}, p99 ({count} in all, longest {longest:.1} ms)"),
            "µs",
            &self.rounds[1],
            Aim::None,
        );
    }
}

impl Load {
    fn new(name: String) -> anyhow::Result<Self> {
        let empty = || anyhow::Ok(Waits { rounds: [Vec::new(), Vec::new()], all: waits()? });
        Ok(Self { name, without: empty()?, with: empty()? })
    }

    fn tell(&self, report: &Report) {
        report.remark(&self.name);
        self.without.tell("  without a transfer", report);
        self.with.tell("  with one", report);
        let ratios: Vec<f64> = self.with.rounds[1]
            .iter()
            .zip(&self.without.rounds[1])
            .map(|(with, without)| with / without)
            .collect();
        report.figure("  p99 with / without, of the round", "", &ratios, Aim::Below(2.0));
    }
}
