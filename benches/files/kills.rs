//! SIGKILL at random moments, to each party in turn, and what it costs.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tokio::time::{sleep_until, timeout};

use crate::{
    Args,
    net::Net,
    process::Process,
    report::{Aim, Report, Spread},
    transfer::{self, Ends, PARTIES, PATIENCE},
};

const MIB: u64 = 1024 * 1024;
/// Transfers that nothing happens to, which say how long one takes.
const UNDISTURBED: usize = 3;
/// Kills fall into this part of that time, counted from the offer.
const PART: f64 = 0.9;
/// The killed party is away for up to so long.
const AWAY: f64 = 1.0;

pub(crate) async fn run(args: &Args, seed: u64, report: &mut Report) -> anyhow::Result<()> {
    report.part("kills");
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir_in(&args.dir)?;
    let file = transfer::make(dir.path().join("file"), args.kill_mib * MIB, seed)?;
    let mut net = Net::start(dir.path(), None).await?;
    let mut undisturbed = Vec::new();
    for number in 0..UNDISTURBED {
        let done = transfer::run(&mut net, &format!("undisturbed/{number}"), &file).await?;
        undisturbed.push(done.moving);
    }
    let usual = Spread::of(&undisturbed).context("some transfers")?.median;
    let size = args.kill_mib;
    report.figure(&format!("{size} MiB, nobody killed"), "s", &undisturbed, Aim::None);
    for (party, name) in PARTIES.iter().enumerate() {
        let (mut resent, mut seconds, mut tries, mut failed) = (Vec::new(), Vec::new(), 0, 0);
        while resent.len() + failed < args.kills {
            tries += 1;
            ensure!(tries < 10 * args.kills, "transfers end before the kill; use a larger --kill-mib");
            let kill = Kill {
                party,
                after: Duration::from_secs_f64(random.random_range(0.0..usual * PART)),
                away: Duration::from_secs_f64(random.random_range(0.0..AWAY)),
            };
            let topic = format!("kills/{party}/{tries}");
            let survived = timeout(PATIENCE, kill.run(&mut net, &topic, &file)).await;
            match survived.unwrap_or_else(|_| Err(anyhow::anyhow!("not done after {PATIENCE:?}"))) {
                Ok(Some(survived)) => {
                    resent.push(survived.resent as f64 / MIB as f64);
                    seconds.push(survived.seconds);
                }
                // It was over before the kill.
                Ok(None) => {}
                Err(error) => {
                    failed += 1;
                    report.remark(&format!("{name}, try {tries}, {kill:?}: {error:#}{}", complaints(&net)));
                    net = Net::start(dir.path(), None).await?;
                }
            }
        }
        let all = args.kills;
        report.figure(
            &format!("{name} killed: same content, of {all}"),
            "",
            &[resent.len() as f64],
            Aim::AtLeast(all as f64),
        );
        report.figure(&format!("{name} killed: bytes sent again for each kill"), "MiB", &resent, Aim::None);
        report.figure(&format!("{name} killed: from the offer until it is there"), "s", &seconds, Aim::None);
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
struct Kill {
    /// Index into [`PARTIES`].
    party: usize,
    /// From the offer on.
    after: Duration,
    away: Duration,
}

struct Survived {
    resent: u64,
    /// From the offer until the file was there.
    seconds: f64,
}

impl Kill {
    /// A transfer with this kill; `None` if it was over before.
    async fn run(&self, net: &mut Net, topic: &str, file: &Path) -> anyhow::Result<Option<Survived>> {
        let into = net.dir().join(format!("into/{topic}"));
        fs::create_dir_all(&into)?;
        let ends = Ends { net, topic, file, into: &into };
        let receiver = ends.receiver().await?;
        let mut sender = ends.sender()?;
        sender.event("offered").await?;
        let began = Instant::now();
        let mut ongoing = Ongoing { sender, receiver, sent: None, received: None, resent: [0; 2] };
        let over = ongoing.follow(Some(began + self.after)).await?;
        if over {
            return Ok(None);
        }
        match self.party {
            0 => ongoing.sender.kill().await?,
            3 => ongoing.receiver.kill().await?,
            node => net.nodes[node - 1].kill().await?,
        }
        ongoing.absent(self.party, Instant::now() + self.away).await?;
        let ends = Ends { net, topic, file, into: &into };
        match self.party {
            0 => {
                ongoing.resent = [ongoing.resent.iter().sum(), 0];
                ongoing.sender = ends.sender()?;
            }
            3 => ongoing.receiver = ends.receiver().await?,
            node => net.nodes[node - 1].restart().await?,
        }
        ongoing.follow(None).await?;
        let seconds = began.elapsed().as_secs_f64();
        let received = ongoing.received.take().context("the file received")?;
        let path = received["path"].as_str().context("the path of the file received")?;
        transfer::same_content(file, Path::new(path))?;
        for process in [&mut ongoing.sender, &mut ongoing.receiver] {
            ensure!(process.end().await?.success(), "an end of the transfer failed after it");
        }
        fs::remove_dir_all(&into)?;
        net.linked().await?;
        Ok(Some(Survived { resent: ongoing.resent.iter().sum(), seconds }))
    }
}

/// A transfer that somebody follows.
struct Ongoing {
    sender: Process,
    receiver: Process,
    sent: Option<Value>,
    received: Option<Value>,
    /// Bytes sent again, as senders that were killed have last said, and as this one has.
    resent: [u64; 2],
}

impl Ongoing {
    /// Follows both until the transfer is over (then true), or this moment has come.
    async fn follow(&mut self, until: Option<Instant>) -> anyhow::Result<bool> {
        let moment = async {
            match until {
                Some(until) => sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        let mut moment = std::pin::pin!(moment);
        while self.sent.is_none() || self.received.is_none() {
            tokio::select! {
                () = &mut moment => return Ok(false),
                line = self.sender.line(), if self.sent.is_none() => {
                    self.of_sender(line?.context("the sender ended before it had sent")?)?;
                }
                line = self.receiver.line(), if self.received.is_none() => {
                    self.of_receiver(line?.context("the receiver ended before it had received")?)?;
                }
            }
        }
        Ok(true)
    }

    /// Follows those that are still there until the killed one is to come back.
    async fn absent(&mut self, party: usize, until: Instant) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = sleep_until(until.into()) => return Ok(()),
                line = self.sender.line(), if party != 0 && self.sent.is_none() => {
                    self.of_sender(line?.context("the sender ended before it had sent")?)?;
                }
                line = self.receiver.line(), if party != 3 && self.received.is_none() => {
                    self.of_receiver(line?.context("the receiver ended before it had received")?)?;
                }
            }
        }
    }

    fn of_sender(&mut self, line: Value) -> anyhow::Result<()> {
        let event = line["event"].as_str().unwrap_or_default();
        ensure!(!["failed", "declined"].contains(&event), "the sender says {line}");
        self.resent[1] = line["resent"].as_u64().unwrap_or(self.resent[1]);
        if event == "sent" {
            self.sent = Some(line);
        }
        Ok(())
    }

    fn of_receiver(&mut self, line: Value) -> anyhow::Result<()> {
        let event = line["event"].as_str().unwrap_or_default();
        ensure!(event != "failed", "the receiver says {line}");
        if event == "received" {
            self.received = Some(line);
        }
        Ok(())
    }
}

/// The end of what programs have complained about.
fn complaints(net: &Net) -> String {
    let of = |name: &str| {
        let text = fs::read_to_string(net.dir().join(name)).unwrap_or_default();
        let last = text.lines().rev().take(3).collect::<Vec<_>>();
        last.into_iter().rev().map(|line| format!("\n    {name}: {line}")).collect::<String>()
    };
    ["sender.errors", "receiver.errors", "node-1/node.log", "node-2/node.log"].map(of).concat()
}
