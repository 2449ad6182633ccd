//! Nodes of ours beside other products, and beside the limit of the machine.
//!
//! `run.sh` installs the peers, builds everything and runs this; see `README.md`. The work, how it is measured and how it is told
//! are those of `cargo bench --bench limit`; here is only how nats-server, mosquitto and zenohd are set up and talked to.

mod mosquitto;
mod nats;
#[cfg(feature = "zenoh")]
mod zenoh;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use amop_limit::{
    compare::{Case, Contender, Of, Options},
    setup::{Role, Setup, contenders, version},
    tls,
};
use amop_load::children;
use anyhow::{Context, anyhow};
use clap::Parser;

use crate::{mosquitto::Mosquitto, nats::Nats};

/// Puts the same work to nats-server, mosquitto, zenohd, nodes of ours and the limit.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// The program `amop`
    #[arg(long, default_value = "amop")]
    amop: PathBuf,
    /// The program `nats-server`
    #[arg(long, default_value = "nats-server")]
    nats: PathBuf,
    /// The program `mosquitto`
    #[arg(long, default_value = "mosquitto")]
    mosquitto: PathBuf,
    /// The program `zenohd`
    #[arg(long, default_value = "zenohd")]
    zenohd: PathBuf,
    /// A process of the bench itself
    #[command(subcommand)]
    role: Option<Role>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    match &args.role {
        Some(role) => Ok(role.play()),
        None => measure(&args),
    }
}

fn measure(args: &Args) -> anyhow::Result<ExitCode> {
    children::raise_open_files().context("cannot raise the number of open files")?;
    // Clients that bring TLS of their own take what is pinned here from the process.
    let installed = tls::provider().install_default();
    installed.map_err(|_| anyhow!("a TLS provider is installed already"))?;
    let dir = tempfile::tempdir()?;
    let setup = Arc::new(Setup::new(dir.path())?);
    let mut all = contenders(&setup, &args.amop);
    all.extend(peers(&setup, args));
    let complete = args.options.compare(all, dir.path())?;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn peers(setup: &Arc<Setup>, args: &Args) -> Vec<Box<dyn Contender>> {
    let nats = {
        let (setup, program) = (setup.clone(), args.nats.clone());
        move |nodes| Nats { setup: setup.clone(), program: program.clone(), nodes }
    };
    let about = format!(
        "{}, async-nats; a cluster, core request and reply, `verify: true` on clients and routes, otherwise defaults",
        version(&args.nats)
    );
    let mut peers: Vec<Box<dyn Contender>> =
        vec![Box::new(Of::new("nats", about, nats).peer().except(lines))];
    for (name, bridge) in [("mosquitto", 0), ("mosquitto-q1", 1)] {
        let (own, program) = (setup.clone(), args.mosquitto.clone());
        let make = move |nodes| Mosquitto { setup: own.clone(), program: program.clone(), nodes, bridge };
        let about = format!(
            "{}, rumqttc; MQTT 3.1.1, clients QoS 1, bridge QoS {bridge}, TCP_NODELAY, queues without bounds, nothing on disk",
            mosquitto_version(&args.mosquitto)
        );
        peers.push(Box::new(Of::new(name, about, make).peer().except(lines)));
    }
    #[cfg(feature = "zenoh")]
    peers.extend(zenoh::contenders(setup, &args.zenohd));
    peers
}

/// What a node more costs is asked of ours and the limit only. Servers of NATS are all linked to each other.
fn lines(case: Case) -> bool {
    matches!(case, Case::Hops { .. })
}

/// It says so only with its help.
fn mosquitto_version(program: &Path) -> String {
    let output = std::process::Command::new(program).arg("-h").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.ok().and_then(|text| text.lines().next().map(str::to_owned)).unwrap_or_default()
}
