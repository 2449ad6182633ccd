//! One file from `amop send-file` through two nodes to `amop receive-file`, each a process.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;

use crate::{
    net::Net,
    process::{LOOK, Process, amop},
};

/// What is read or written at once when files are made and compared.
const BLOCK: usize = 1024 * 1024;

/// The parties, in the order of all figures about them.
pub(crate) const PARTIES: [&str; 4] = ["sender", "its node", "the receiver's node", "receiver"];

/// What a transfer took.
pub(crate) struct Transferred {
    /// From the start of the sender's process, hashing and connection included, until the file
    /// is there under its name.
    pub(crate) whole: f64,
    /// The part of it from the offer on.
    pub(crate) moving: f64,
    /// CPU seconds meanwhile, by party.
    pub(crate) cpu: [f64; 4],
    /// Most memory resident, KiB, by party.
    pub(crate) peak_kib: [u64; 4],
    /// Bytes that were sent again.
    pub(crate) resent: u64,
}

/// What both ends of a transfer are started with.
pub(crate) struct Ends<'a> {
    pub(crate) net: &'a Net,
    pub(crate) topic: &'a str,
    pub(crate) file: &'a Path,
    pub(crate) into: &'a Path,
}

impl Ends<'_> {
    /// Starts the receiver, and waits until it is known.
    pub(crate) async fn receiver(&self) -> anyhow::Result<Process> {
        let mut command = amop();
        command.arg("receive-file").arg("--node").arg(self.net.nodes[1].channel.to_string());
        command.arg("--certs").arg(self.net.certs(1, "file-receiver")).arg("--into").arg(self.into);
        command.args(["--count", "1", "--json"]).arg(self.topic);
        let mut process = Process::start("receive-file", command, &self.net.dir().join("receiver.errors"))?;
        process.event("ready").await?;
        Ok(process)
    }

    /// Starts the sender.
    pub(crate) fn sender(&self) -> anyhow::Result<Process> {
        let mut command = amop();
        command.arg("send-file").arg("--node").arg(self.net.nodes[0].channel.to_string());
        command.arg("--certs").arg(self.net.certs(0, "file-sender")).arg("--json");
        command.arg("--state").arg(self.net.dir().join("sender.state"));
        command.arg(self.topic).arg(self.file);
        Process::start("send-file", command, &self.net.dir().join("sender.errors"))
    }
}

/// Sends the file once, compares what arrived, and removes it.
pub(crate) async fn run(net: &mut Net, topic: &str, file: &Path) -> anyhow::Result<Transferred> {
    let into = net.dir().join("into");
    fs::create_dir_all(&into)?;
    for node in &mut net.nodes {
        node.usage.forget_peak();
    }
    let before = net.nodes.each_ref().map(|node| node.usage.cpu);
    let ends = Ends { net, topic, file, into: &into };
    let mut receiver = ends.receiver().await?;
    let began = Instant::now();
    let mut sender = ends.sender()?;
    let offered = sender.event("offered").await?;
    let offered_at = Instant::now();
    let received = peaks(&mut sender, &mut receiver).await?;
    let ended_at = Instant::now();
    let sent = sender.event("sent").await?;
    for process in [&mut sender, &mut receiver] {
        ensure!(process.end().await?.success(), "an end of the transfer failed after it");
    }
    for node in &mut net.nodes {
        node.usage.look();
    }
    let path = received["path"].as_str().context("the path of the file received")?;
    ensure!(received["hash"] == offered["hash"], "another hash: {received} after {offered}");
    same_content(file, Path::new(path))?;
    fs::remove_dir_all(&into)?;
    let [a, b] = &net.nodes;
    Ok(Transferred {
        whole: (ended_at - began).as_secs_f64(),
        moving: (ended_at - offered_at).as_secs_f64(),
        cpu: [sender.usage.cpu, a.usage.cpu - before[0], b.usage.cpu - before[1], receiver.usage.cpu],
        peak_kib: [sender.usage.peak_kib, a.usage.peak_kib, b.usage.peak_kib, receiver.usage.peak_kib],
        resent: sent["resent"].as_u64().context("bytes sent again")?,
    })
}

/// Waits until the file is received, and looks at the memory of both ends meanwhile.
async fn peaks(sender: &mut Process, receiver: &mut Process) -> anyhow::Result<Value> {
    let mut usage = (sender.usage, receiver.usage);
    let mut looks = tokio::time::interval(LOOK);
    let received = {
        let mut received = std::pin::pin!(receiver.event("received"));
        loop {
            tokio::select! {
                found = &mut received => break found?,
                _ = looks.tick() => {
                    usage.0.look();
                    usage.1.look();
                }
            }
        }
    };
    (sender.usage, receiver.usage) = usage;
    for process in [sender, receiver] {
        process.usage.look();
    }
    Ok(received)
}

/// A file of random bytes.
pub(crate) fn make(path: PathBuf, bytes: u64, seed: u64) -> anyhow::Result<PathBuf> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut block = vec![0; BLOCK];
    let mut left = bytes;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK);
        random.fill_bytes(&mut block[..now]);
        file.write_all(&block[..now])?;
        left -= now as u64;
    }
    // What is still to be written would be written during the first measurement.
    file.sync_all()?;
    Ok(path)
}

/// An error unless both files have the same bytes.
pub(crate) fn same_content(one: &Path, other: &Path) -> anyhow::Result<()> {
    let size = fs::metadata(one)?.len();
    ensure!(fs::metadata(other)?.len() == size, "what arrived has another size");
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let (mut here, mut there) = (vec![0; BLOCK], vec![0; BLOCK]);
    let mut left = size;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK);
        one.read_exact(&mut here[..now])?;
        other.read_exact(&mut there[..now])?;
        ensure!(here[..now] == there[..now], "what arrived has other bytes");
        left -= now as u64;
    }
    Ok(())
}

/// How long something may go on before a bench gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
