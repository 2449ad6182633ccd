//! Peak memory of all parties during a large transfer.

use std::path::Path;

use anyhow::Context;

use crate::{
    Args,
    net::Net,
    report::{Aim, Report},
    transfer,
};

const GIB: u64 = 1024 * 1024 * 1024;
/// What the disk keeps free beside the file and its copy.
const SPARE: u64 = 2 * GIB;

pub(crate) async fn run(args: &Args, seed: u64, report: &mut Report) -> anyhow::Result<()> {
    report.part("memory");
    let bytes = args.gib * GIB;
    let free = free_bytes(&args.dir)?;
    if free < 2 * bytes + SPARE {
        report.remark(&format!(
            "memory: not measured: {} GiB twice and {} GiB beside do not fit into the {} GiB that are free; use --gib",
            args.gib,
            SPARE / GIB,
            free / GIB
        ));
        return Ok(());
    }
    let dir = tempfile::tempdir_in(&args.dir)?;
    let file = transfer::make(dir.path().join("file"), bytes, seed)?;
    let mut net = Net::start(dir.path(), None).await?;
    let done = transfer::run(&mut net, "files/large", &file).await?;
    for (party, peak) in transfer::PARTIES.iter().zip(done.peak_kib) {
        let name = format!("{} GiB: peak resident memory, {party}", args.gib);
        report.figure(&name, "MiB", &[peak as f64 / 1024.0], Aim::NeverAbove(64.0));
    }
    let rate = bytes as f64 / 1e6 / done.moving;
    report.figure(&format!("{} GiB: from the offer until it is there", args.gib), "MB/s", &[rate], Aim::None);
    Ok(())
}

fn free_bytes(dir: &Path) -> anyhow::Result<u64> {
    let df = std::process::Command::new("df").arg("--output=avail").arg("-B1").arg(dir).output()?;
    let text = String::from_utf8_lossy(&df.stdout);
    text.lines().nth(1).and_then(|line| line.trim().parse().ok()).context("df does not say what is free")
}
