//! `amop bench`: how fast a network is, and what it costs.
//!
//! By default each command raises nodes of its own, real processes in a line, with clients at the first and the last;
//! `--node` measures a network that runs already. What is sent, and what is measured, is decided in the crate `amop-load`, and the
//! clients are those of `amop-rig`; here is what can be asked for ([`options`]), and how it is shown ([`show`]).

mod file;
mod options;
mod show;

use std::{process::ExitCode, sync::Arc};

use amop_load::{
    report::Report,
    work::{Progress, connect, fan_out, idle, requests},
};
use amop_rig::{Node, Nodes};
use anyhow::{Context, bail};

use self::{options::Place, show::Picture};
use crate::cli::{devnet::Quiet, output, signals::Signals};

/// What to measure.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    work: Work,
}

#[derive(Debug, clap::Subcommand)]
enum Work {
    /// Requests from the first node, answered at the last
    #[command(after_help = options::LOOPS)]
    Request(options::Request),
    /// Messages from the first node to subscribers at all nodes
    #[command(after_help = options::LOOPS)]
    FanOut(options::FanOut),
    /// A file from a client of the first node to one of the last, from disk to disk
    File(options::File),
    /// Connections with mutual TLS, set up and closed again
    Connect(options::Connect),
    /// Clients that are connected and do nothing: memory of their node
    Idle(options::Idle),
}

impl Work {
    fn place(&self) -> &Place {
        match self {
            Self::Request(options) => &options.place,
            Self::FanOut(options) => &options.place,
            Self::File(options) => &options.place,
            Self::Connect(options) => &options.place,
            Self::Idle(options) => &options.place,
        }
    }

    /// Clients that are connected at a time.
    fn connected(&self) -> usize {
        match self {
            Self::Request(options) => options.clients.all(),
            Self::FanOut(options) => options.clients.all(),
            Self::File(_) => 2,
            Self::Connect(options) => options.connect().at_once,
            Self::Idle(options) => options.clients,
        }
    }

    /// Clients that a node of ours must take; `None` if it takes so many by default.
    fn clients(&self) -> Option<usize> {
        let clients = self.connected();
        (clients > 1_000).then_some(clients + 1_000)
    }

    /// Refuses what cannot be, before anything is started.
    fn check(&self) -> anyhow::Result<()> {
        match self {
            Self::Request(options) => Ok(options.traffic().check()?),
            Self::FanOut(options) => Ok(options.traffic().check()?),
            Self::File(options) => options.check(),
            Self::Connect(_) | Self::Idle(_) => Ok(()),
        }
    }

    async fn run(&self, network: &Arc<Nodes>, progress: &Progress) -> anyhow::Result<Report> {
        Ok(match self {
            Self::Request(options) => requests::run(network, &options.traffic(), progress).await?,
            Self::FanOut(options) => fan_out::run(network, &options.traffic(), progress).await?,
            Self::File(options) => file::run(network, options, progress).await?,
            Self::Connect(options) => connect::run(network, &options.connect(), progress).await?,
            Self::Idle(options) => idle::run(network, &options.idle(), progress).await?,
        })
    }
}

/// Measures, and prints what was measured. Messages that fail are counted in the report; the command fails if none succeeds.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (work, place) = (&args.work, args.work.place());
    work.check()?;
    let picture = place.svg.as_deref().map(Picture::prepare).transpose()?;
    enough_files(work.connected())?;
    let mut signals = Signals::new()?;
    let Some(raised) = signals.unless(raise(work, place)).await else { return Ok(interrupted()) };
    let (network, mut own) = raised?;
    let progress = Progress::default();
    let measured = tokio::select! {
        biased;
        () = signals.recv() => Err(None),
        died = died(own.as_mut()) => Err(Some(anyhow::anyhow!("{died}, while it was measured"))),
        report = show::following(work.run(&network, &progress), &progress, place.json) => report.map_err(Some),
    };
    drop(network);
    stop(own, &mut signals).await;
    let report = match measured {
        Ok(report) => report,
        Err(Some(error)) => return Err(error),
        Err(None) => return Ok(interrupted()),
    };
    show::print(&report, place.json)?;
    if let Some(picture) = picture {
        picture.draw(&report)?;
    }
    Ok(if report.count > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn interrupted() -> ExitCode {
    output::note("interrupted; nothing was measured to the end");
    ExitCode::FAILURE
}

/// The network that is to be measured, and, if it is ours, its nodes.
async fn raise(work: &Work, place: &Place) -> anyhow::Result<(Arc<Nodes>, Option<Quiet>)> {
    let (nodes, own) = match place.running() {
        Some(nodes) => (nodes, None),
        None => {
            let own = Quiet::start(place.nodes, work.clients()).await?;
            let node =
                |at: crate::cli::devnet::Endpoint| Node { address: at.node.to_string(), certs: at.certs };
            (own.endpoints().into_iter().map(node).collect(), Some(own))
        }
    };
    let pids = own.as_ref().map(Quiet::pids).unwrap_or_default();
    let network = Arc::new(Nodes::new(nodes, pids).deadline(options::DEADLINE));
    Ok((network, own))
}

/// Resolves when a node of ours has died.
async fn died(own: Option<&mut Quiet>) -> String {
    match own {
        Some(own) => own.died().await,
        None => std::future::pending().await,
    }
}

async fn stop(own: Option<Quiet>, signals: &mut Signals) {
    let Some(own) = own else { return };
    for exit in own.stop(signals.recv()).await {
        output::note(format_args!("a node did not stop in order: {exit}"));
    }
}

/// Raises the limit on open files as far as it goes: each client takes one here, and one in its node, which inherits the limit.
fn enough_files(clients: usize) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let needed = clients as u64 + 100;
    let most = limit.maximum.unwrap_or(u64::MAX);
    if most < needed {
        bail!(
            "so many clients need {needed} open files, and this user may have {most}; raise the limit (ulimit -Hn, or nofile in limits.conf), or use fewer"
        );
    }
    if limit.current.is_some_and(|current| current < needed) {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).context("cannot raise the limit on open files")?;
    }
    Ok(())
}
