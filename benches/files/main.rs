//! What files cost: real processes, real TLS, real disks, beside the limit of the machine.
//!
//! `cargo bench --bench files` runs the parts `limit`, `amop`, `scp` and `small` and prints a table; with
//! `-- --json` one JSON object per figure. `-- --only memory,kills` runs other parts; `-- --help` says what
//! else can be set. Every process is started by this one, which is also the byte pipe and the slow line
//! (`benches/files/role.rs`), and ends with it.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

mod chunks;
mod kills;
mod memory;
mod net;
mod pipe;
mod process;
mod report;
mod role;
mod scp;
mod small;
mod speed;
mod transfer;

use std::{fs, path::PathBuf};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use self::{report::Report, role::Role};

/// Measures files: throughput against a byte pipe, memory, what others notice, kills.
#[derive(Debug, Parser)]
struct Args {
    /// Parts to run
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["limit", "amop", "scp", "small"])]
    only: Vec<Part>,
    /// One JSON object per figure
    #[arg(long)]
    json: bool,
    /// Rounds; each measures everything once, one after the other
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Size of the file of `limit`, `amop` and `scp`, MiB
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// Size of the file of `memory`, GiB
    #[arg(long, default_value_t = 10)]
    gib: u64,
    /// Seconds of each measurement of `small`
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Kills of each party, of `kills`
    #[arg(long, default_value_t = 50)]
    kills: usize,
    /// Size of the file of `kills`, MiB
    #[arg(long, default_value_t = 128)]
    kill_mib: u64,
    /// For the content of files and the moments of kills; a random one is printed without it
    #[arg(long)]
    seed: Option<u64>,
    /// Where directories are made: on the disk that is to be measured
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// Cargo says so
    #[arg(long, hide = true)]
    bench: bool,
    /// A process of the bench itself
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The same bytes through two TLS relays, from memory to memory
    Limit,
    /// `amop send-file` through two nodes to `amop receive-file`
    Amop,
    /// `scp` over loopback, if it and `sshd` are here
    Scp,
    /// Small requests without and with a transfer
    Small,
    /// Peak memory of a large transfer
    Memory,
    /// Random kills of each party
    Kills,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(role) = args.role {
        return role.run();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        // What is dropped at an error or a signal kills its processes and removes its files.
        tokio::select! {
            result = run(&args) => result,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            _ = terminate.recv() => anyhow::bail!("terminated"),
        }
    })
}

async fn run(args: &Args) -> anyhow::Result<()> {
    fs::create_dir_all(&args.dir).with_context(|| format!("cannot make {}", args.dir.display()))?;
    let seed = args.seed.unwrap_or_else(rand::random);
    let mut report = Report::new(args.json);
    report.remark(&format!("seed {seed}"));
    speed::run(args, seed, &mut report).await?;
    if args.only.contains(&Part::Memory) {
        memory::run(args, seed, &mut report).await?;
    }
    if args.only.contains(&Part::Small) {
        small::run(args, seed, &mut report).await?;
    }
    if args.only.contains(&Part::Kills) {
        kills::run(args, seed, &mut report).await?;
    }
    Ok(())
}
