//! `amop receive-file`: takes the files that are offered to topics.

use std::{path::PathBuf, process::ExitCode, time::Instant};

use amop_client::{
    Client, FileError, FileInfo, FileOffer, FileReceiver, ReceiveOptions, ReceivePhase, ReceiveProgress,
    ReceivingFile,
};
use anyhow::Context;
use futures::{StreamExt, stream::FuturesUnordered};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::sync::watch;

use crate::cli::{
    client::{
        self, Connection,
        files::{self, Bars, JsonParty},
        name,
        private::Receive,
    },
    output,
    signals::Signals,
};

/// What to take, and where to put it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Ends with exit code 0 after --count files or at Ctrl-C. What is not complete then stays in DIR/.amop \
                  and is gone on with when files are received into DIR again."
)]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// The topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Directory for the files; made if it does not exist
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    #[command(flatten)]
    private: Receive,
    /// Decline files that are larger, in bytes
    #[arg(long, value_name = "BYTES")]
    max_size: Option<u64>,
    /// How long a file that nothing comes of is waited for; its sender can go on with it later
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = client::parse_duration)]
    patience: std::time::Duration,
    /// Remove what has come of a file when it fails, rather than keeping it to go on with
    #[arg(long)]
    discard: bool,
    /// End after this many files
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// Takes files until enough came, or a signal.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let Some(client) = signals.unless(args.connection.open()).await else { return Ok(ExitCode::SUCCESS) };
    let client = client?;
    let Some(receiver) = signals.unless(receive(&args, &client)).await else { return Ok(ExitCode::SUCCESS) };
    let mut receiver = receiver?;
    announce(&args, &client)?;
    let bars = Bars::new(args.connection.json);
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut coming = FuturesUnordered::new();
    while left > 0 {
        tokio::select! {
            offer = receiver.next(), if (coming.len() as u64) < left => {
                let offer = offer.context("the connection is closed")?;
                if let Some(file) = decide(&args, offer)? {
                    coming.push(follow(&args, file, &bars));
                }
            }
            Some(ended) = coming.next(), if !coming.is_empty() => {
                left -= u64::from(ended?);
            }
            () = signals.recv() => break,
        }
    }
    if !coming.is_empty() {
        output::note(format_args!(
            "{} files are not complete; the same command goes on with them",
            coming.len()
        ));
    }
    drop(receiver);
    client.close().await;
    Ok(ExitCode::SUCCESS)
}

async fn receive(args: &Args, client: &Client) -> anyhow::Result<FileReceiver> {
    let mut options = ReceiveOptions::default();
    (options.patience, options.discard) = (args.patience, args.discard);
    args.private.receive_files(client, &args.topics, &args.into, options).await
}

fn announce(args: &Args, client: &Client) -> anyhow::Result<()> {
    let into = args.into.display().to_string();
    if args.connection.json {
        return output::json(&Line::Ready { topics: &args.topics, into });
    }
    let at = client.node().map_or_else(String::new, |node| format!(" at {}", name(&node.name)));
    output::note(format_args!("files sent to {}{at} go into {into}; Ctrl-C ends", args.topics.join(", ")));
    Ok(())
}

fn decide(args: &Args, offer: FileOffer) -> anyhow::Result<Option<ReceivingFile>> {
    let FileInfo { transfer, name, size, media_type, sender, .. } = &offer.file;
    if args.connection.json {
        let sender = sender.as_ref().map(JsonParty::from);
        output::json(&Line::Offered {
            transfer: transfer.to_string(),
            name,
            size: *size,
            media_type,
            sender,
        })?;
    }
    if args.max_size.is_some_and(|most| *size > most) {
        offer.decline("it is larger than this receiver takes");
        return Ok(None);
    }
    Ok(Some(offer.accept()))
}

/// Shows how a file comes, to its end; whether it is there.
async fn follow(args: &Args, mut file: ReceivingFile, bars: &Bars) -> anyhow::Result<bool> {
    let started = Instant::now();
    let about = file.file.clone();
    let bar = bars.add(&about.name, about.size);
    let progress = file.progress();
    let ended = tokio::select! {
        ended = file.finished() => ended,
        shown = watch(args, &about, &bar, progress.clone()) => {
            shown?;
            file.finished().await
        }
    };
    bar.finish_and_clear();
    match ended {
        Ok(path) => bars.suspend(|| received(args, &about, path, started)).map(|()| true),
        Err(error) => bars.suspend(|| failed(args, &about, error)).map(|()| false),
    }
}

async fn watch(
    args: &Args,
    file: &FileInfo,
    bar: &ProgressBar,
    mut progress: watch::Receiver<ReceiveProgress>,
) -> anyhow::Result<()> {
    let mut told = Instant::now();
    loop {
        let ReceiveProgress { phase, bytes, .. } = *progress.borrow_and_update();
        bar.set_position(bytes);
        bar.set_message(match phase {
            ReceivePhase::Checking => "checking what is here",
            ReceivePhase::Finishing => "finishing",
            _ => "",
        });
        if args.connection.json && told.elapsed() >= files::TELL_EACH {
            told = Instant::now();
            output::json(&Line::Progress { transfer: file.transfer.to_string(), bytes, size: file.size })?;
        }
        if progress.changed().await.is_err() {
            return Ok(());
        }
        // A bar need not be drawn for each chunk.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn received(args: &Args, file: &FileInfo, path: PathBuf, started: Instant) -> anyhow::Result<()> {
    let took = started.elapsed();
    if args.connection.json {
        return output::json(&Line::Received {
            transfer: file.transfer.to_string(),
            name: &file.name,
            path: path.display().to_string(),
            size: file.size,
            hash: file.hash.as_ref().map(files::hash),
            seconds: took.as_secs_f64(),
        });
    }
    let from = file.sender.as_ref().map_or_else(
        || "somebody".into(),
        |sender| format!("{} at {}", name(&sender.client.name), name(&sender.institution)),
    );
    let (received, path) = (output::good("received"), path.display());
    Ok(output::say(format_args!("{received} {path} from {from}: {}", files::rate(file.size, took)))?)
}

fn failed(args: &Args, file: &FileInfo, error: FileError) -> anyhow::Result<()> {
    let resumable = error.is_resumable();
    let error = anyhow::Error::from(error);
    if args.connection.json {
        let (transfer, error) = (file.transfer.to_string(), format!("{error:#}"));
        return output::json(&Line::Failed { transfer, name: &file.name, resumable, error });
    }
    output::failure(&error.context(format!("{} was not received", name(&file.name))));
    Ok(())
}

/// One line of `--json`.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    Ready { topics: &'a [String], into: String },
    Offered { transfer: String, name: &'a str, size: u64, media_type: &'a str, sender: Option<JsonParty> },
    Progress { transfer: String, bytes: u64, size: u64 },
    Received { transfer: String, name: &'a str, path: String, size: u64, hash: Option<String>, seconds: f64 },
    Failed { transfer: String, name: &'a str, resumable: bool, error: String },
}
