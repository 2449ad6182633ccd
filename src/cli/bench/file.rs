//! Files, as `send-file` and `receive-file` move them: from disk to disk.

use std::{fs::File, io::Write, path::Path, sync::Arc};

use amop_client::{FileReceiver, ReceiveOptions, SendOptions};
use amop_load::{
    meter::{self, Meter},
    payload::{MOST, Template},
    report::{Report, Setting, Unit},
    system::{Cluster, Failure},
    work::{Progress, bulk},
};
use amop_rig::Nodes;
use anyhow::{Context, bail};
use futures::StreamExt;
use tempfile::TempDir;

use crate::cli::bench::options;

/// Sends the file, or what is as large, from the first node to the last.
pub(super) async fn run(
    network: &Arc<Nodes>,
    options: &options::File,
    progress: &Progress,
) -> anyhow::Result<Report> {
    if options.memory {
        return Ok(bulk::run(network, &options.bulk(), progress).await?);
    }
    let disk = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let dir = TempDir::with_prefix_in("amop-bench", &disk)
        .with_context(|| format!("cannot write to {}; name another directory with --dir", disk.display()))?;
    let (path, size) = (dir.path().join("file"), options.size);
    make(&path, size).with_context(|| {
        format!(
            "cannot write a file of {size} bytes to {}; name another directory with --dir",
            disk.display()
        )
    })?;
    let topic = options::topic();
    let refused = |failure: Failure| anyhow::anyhow!("a client could not be connected: {failure}");
    let receiver = network.connect(network.nodes().saturating_sub(1)).await.map_err(refused)?;
    let sender = network.connect(0).await.map_err(refused)?;
    let into = dir.path().join("into");
    std::fs::create_dir(&into).context("cannot make a directory for what comes")?;
    let mut receiving = receiver.receive_files([&topic], &into, ReceiveOptions::default()).await?;
    let mut report = Report::new("file", &**network, Unit::Byte, setting(options));
    network.servers().iter().copied().for_each(meter::forget_peak);
    let before: Vec<_> = network.servers().iter().map(|pid| meter::memory(*pid)).collect();
    progress.measuring(size * u64::from(options.runs));
    let meter = Meter::start(network.servers());
    for _ in 0..options.runs {
        let began = std::time::Instant::now();
        let sent =
            async { Ok(sender.send_file(&topic, &path, SendOptions::default()).await?.finished().await?) };
        let (receipt, taken) = tokio::try_join!(sent, take(&mut receiving, progress, report.count))?;
        if receipt.size != size {
            bail!("{} of {size} bytes arrived", receipt.size);
        }
        report.latencies.record(began.elapsed());
        report.count += size;
        std::fs::remove_file(&taken).context("cannot remove what has come")?;
    }
    report.usage = meter.stop();
    report.memory_since(network.servers(), &before);
    sender.close().await;
    receiver.close().await;
    Ok(report)
}

fn setting(options: &options::File) -> Setting {
    Setting { total_bytes: Some(options.size), runs: Some(options.runs as usize), ..Setting::default() }
}

/// Takes the next file; where it is then.
async fn take(
    receiver: &mut FileReceiver,
    progress: &Progress,
    before: u64,
) -> anyhow::Result<std::path::PathBuf> {
    let offer = receiver.next().await.context("the receiver has lost its node")?;
    let mut file = offer.accept();
    let mut coming = file.progress();
    let show = async {
        loop {
            progress.set(before + coming.borrow_and_update().bytes);
            if coming.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        biased;
        path = file.finished() => Ok(path?),
        never = show => match never {},
    }
}

/// A file without a pattern.
fn make(path: &Path, size: u64) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    let block = Template::new(MOST).fill(0);
    let mut left = size;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        file.write_all(block.get(..now).unwrap_or(&block))?;
        left -= now as u64;
    }
    file.sync_all()
}
