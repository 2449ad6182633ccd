//! The command line: one file per subcommand, each with its `Args` and a `run`.
//!
//! Results go to standard output, everything else to standard error. A command that fails
//! prints `error: …` and one `caused by: …` line for each cause, and exits with 1; wrong usage
//! exits with 2. Other exit codes are documented at the subcommand that has them.

mod ask;
mod bench;
mod certs;
mod client;
mod clients;
mod completions;
mod devnet;
mod drain;
mod keys;
mod man;
mod node;
pub mod output;
mod peers;
mod publish;
mod receive_file;
mod reload;
mod request;
mod routes;
mod send_file;
mod signals;
mod status;
mod subscribe;
mod topics;
mod trace;

use std::{io, process::ExitCode};

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

/// Topics between the institutions of a consortium, over mutual TLS.
#[derive(Debug, Parser)]
#[command(name = "amop", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole throwaway consortium on this machine
    Devnet(devnet::Args),
    /// Run one node
    Node(node::Args),
    /// Make and inspect certificates
    Certs(certs::Args),
    /// Make and inspect keys for private topics
    Keys(keys::Args),
    /// Print messages that reach a topic, and answer requests
    Subscribe(subscribe::Args),
    /// Send a message to every subscriber of a topic
    Publish(publish::Args),
    /// Send a message to one subscriber of a topic and print its answer
    Request(request::Args),
    /// Send files to a topic: to one subscriber or to all that take them
    SendFile(send_file::Args),
    /// Take the files that are sent to a topic
    ReceiveFile(receive_file::Args),
    /// Measure requests, fan-out, files, connections and idle clients
    Bench(bench::Args),
    /// Show what a node is and how it is doing
    Status(status::Args),
    /// Show which topics a node knows, and where they are subscribed
    Topics(topics::Args),
    /// Show which nodes a node reaches, and how
    Peers(peers::Args),
    /// Find a message: where it is, or where and why it failed
    Trace(trace::Args),
    /// Show over which neighbour a node sends to each other node
    Routes(routes::Args),
    /// Show who is connected to a node
    Clients(clients::Args),
    /// Have a node stop in order, as a signal would
    Drain(drain::Args),
    /// Have a node load its certificates from their files
    Reload(reload::Args),
    /// Print what a shell needs to complete this command line
    Completions(completions::Args),
    /// Write the manual pages
    Man(man::Args),
}

/// Parses the command line, runs the command and says how it went.
pub fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        // The reader of our output has gone, as in `amop topics | head`: nobody to tell.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::failure(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Devnet(args) => small_runtime()?.block_on(devnet::run(args)),
        Command::Node(args) => {
            let runtime = node_runtime()?;
            let ended = runtime.block_on(node::run(args));
            // Only look-ups of names may be left, and nobody waits for those.
            runtime.shutdown_background();
            ended
        }
        Command::Certs(args) => certs::run(args),
        Command::Keys(args) => keys::run(args),
        Command::Subscribe(args) => small_runtime()?.block_on(subscribe::run(args)),
        Command::Publish(args) => small_runtime()?.block_on(publish::run(args)),
        Command::Request(args) => small_runtime()?.block_on(request::run(args)),
        Command::SendFile(args) => small_runtime()?.block_on(send_file::run(args)),
        Command::ReceiveFile(args) => small_runtime()?.block_on(receive_file::run(args)),
        // As many threads as a node, so that the clients are not what is measured.
        Command::Bench(args) => node_runtime()?.block_on(bench::run(args)),
        Command::Status(args) => small_runtime()?.block_on(status::run(args)),
        Command::Topics(args) => small_runtime()?.block_on(topics::run(args)),
        Command::Peers(args) => small_runtime()?.block_on(peers::run(args)),
        Command::Trace(args) => small_runtime()?.block_on(trace::run(args)),
        Command::Routes(args) => small_runtime()?.block_on(routes::run(args)),
        Command::Clients(args) => small_runtime()?.block_on(clients::run(args)),
        Command::Drain(args) => small_runtime()?.block_on(drain::run(args)),
        Command::Reload(args) => small_runtime()?.block_on(reload::run(args)),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// One thread: enough for everything but a node.
fn small_runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}

/// At least two threads, so that the control path cannot hold up the data path.
fn node_runtime() -> anyhow::Result<Runtime> {
    let workers = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("node")
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
