//! `amop devnet`: a throwaway consortium on this machine, every node a process of its own.
//!
//! `plan` decides who there is and who is linked to whom, `layout` writes it to disk, `nodes`
//! starts, watches and stops the processes, `demo` keeps a message going round. `quiet` is a devnet for
//! other commands, which says nothing.

mod demo;
mod layout;
mod nodes;
mod plan;
mod quiet;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::{
    cli::{output, signals::Signals},
    identity::Profile,
};

use self::{
    layout::Layout,
    nodes::{Exit, Nodes},
    plan::{Plan, Topology},
};
pub(super) use self::{
    plan::MAX_NODES,
    quiet::{Endpoint, Quiet},
};

/// What devnet to run.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many nodes, each with an institution of its own
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_NODES)))]
    nodes: u16,
    /// Where certificates, configurations and logs go; made anew at every start
    #[arg(long, value_name = "DIR", default_value = ".amop/devnet")]
    dir: PathBuf,
    /// Who is linked to whom
    #[arg(long, value_enum, default_value_t)]
    topology: Topology,
    /// The kind of certificates
    #[arg(long, value_name = "PROFILE", default_value_t = Profile::Default, value_parser = profiles())]
    profile: Profile,
    /// First client port; further ports follow from it. 0: any free ports
    #[arg(long, value_name = "P", default_value_t = plan::DEFAULT_BASE_PORT)]
    base_port: u16,
    /// Do not run the demo subscriber and publisher
    #[arg(long)]
    no_demo: bool,
}

/// Their names are those of the configuration.
fn profiles() -> impl TypedValueParser<Value = Profile> {
    let values = Profile::ALL.map(|profile| {
        PossibleValue::new(profile.as_str()).help(match profile {
            Profile::Default => "X.509 v3, P-256",
            Profile::FiscoRsa => "the RSA certificates of FISCO BCOS 2.9 and later",
            Profile::FiscoEc => "the secp256k1 certificates of FISCO BCOS",
        })
    });
    PossibleValuesParser::new(values).try_map(|name| name.parse())
}

/// Runs the devnet until SIGINT, SIGTERM or SIGHUP.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let mut signals = Signals::new()?;
    let plan = Plan::new(args.nodes, args.topology, args.profile, args.base_port)?;
    let layout = Layout::create(&args.dir, &plan)?;
    let program = std::env::current_exe().context("cannot find out which program this is")?;
    let mut nodes = Nodes::start(&program, &layout, &plan)?;
    let started = tokio::select! {
        biased;
        () = signals.recv() => None,
        linked = nodes.linked(&plan) => Some(linked),
    };
    let outcome = match started {
        Some(Ok(())) => serve(&args, &plan, &layout, &mut nodes, &mut signals, began).await,
        Some(Err(error)) => Err(error),
        None => Ok(()),
    };
    stop(nodes, &mut signals).await;
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn serve(
    args: &Args,
    plan: &Plan,
    layout: &Layout,
    nodes: &mut Nodes,
    signals: &mut Signals,
    began: Instant,
) -> anyhow::Result<()> {
    layout.announce(plan, &nodes.identities())?;
    output::say(summary(plan, layout))?;
    let demo = async {
        match args.no_demo {
            true => std::future::pending().await,
            false => demo::run(plan, layout, began).await,
        }
    };
    tokio::pin!(demo);
    loop {
        tokio::select! {
            biased;
            () = signals.recv() => return Ok(()),
            exit = nodes.died() => report(&exit, layout),
            never = &mut demo => match never {},
        }
    }
}

fn report(exit: &Exit, layout: &Layout) {
    output::note(format_args!("\n{} {} has died: {}", output::warning("!"), exit.name, exit.how));
    output::note(format_args!("  its log:        {}", layout.log(&exit.name).display()));
    output::note(format_args!("  to start again: {}", node_command(&layout.config(&exit.name))));
}

async fn stop(nodes: Nodes, signals: &mut Signals) {
    output::note("\nstopping the nodes …");
    for stopped in nodes.stop(signals.recv()).await {
        output::note(format_args!("{} {}", stopped.name, stopped.how));
    }
}

fn summary(plan: &Plan, layout: &Layout) -> String {
    let rows: Vec<[String; 5]> = plan
        .nodes
        .iter()
        .map(|node| {
            let links: Vec<&str> = plan.neighbours(node.index).map(|peer| peer.name.as_str()).collect();
            [
                node.name.clone(),
                node.institution.clone(),
                node.channel.to_string(),
                node.admin.to_string(),
                links.join(" "),
            ]
        })
        .collect();
    let mut lines = vec![
        output::good(format_args!("{} nodes are linked and serving.", plan.nodes.len())),
        String::new(),
        output::table(["NODE", "INSTITUTION", "CLIENTS AT", "ADMIN AT", "LINKED TO"], &rows),
    ];
    if let (Some(first), Some(last)) = (plan.nodes.first(), plan.nodes.last()) {
        let program = program();
        lines.push(format!(
            "\nIn a second terminal, subscribe at {} and answer every request:\n\n  {}",
            last.name,
            output::bold(format_args!(
                "{program} subscribe --node {} --certs {} greetings --answer 'hello from {}'",
                last.channel,
                layout.client_dir(last).display(),
                last.institution
            ))
        ));
        lines.push(format!(
            "\nIn a third, send a request through {}:\n\n  {}",
            first.name,
            output::bold(format_args!(
                "{program} request --node {} --certs {} greetings 'hello from {}'",
                first.channel,
                layout.client_dir(first).display(),
                first.institution
            ))
        ));
        lines.push(format!(
            "\nWhat {} sees: {}, or http://{}/ in a browser\nLogs: {}\nCtrl-C stops everything.",
            first.name,
            output::bold(format_args!("{program} topics --admin {}", first.admin)),
            first.admin,
            layout.dir().join("node-*/node.log").display()
        ));
    }
    lines.join("\n")
}

fn node_command(config: &Path) -> String {
    format!("{} node --config {}", program(), config.display())
}

/// This program as it was called, so that printed commands can be pasted.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "amop".to_owned())
}

/// How long nodes may take until all are linked and serving.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long nodes may take to stop: their own grace, and a little.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);
