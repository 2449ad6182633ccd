//! `amop send-file`: files to one subscriber of a topic, or to all that take them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use amop_client::{
    Client, ConnectError, FileError, FileReceipt, FileRecipient, Mode, RecipientState, SendOptions,
    SendPhase, SendProgress, SendingFile,
};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::sync::watch;

use crate::cli::{
    client::{
        self, Connection, EXIT_CODES, To,
        files::{self, Bars, JsonParty},
        name,
        private::{self, Target},
    },
    is_broken_pipe, output,
    signals::Signals,
};

/// The code of what did not reach any node.
const NO_NODE: i32 = 99;
/// The code when some receivers have a file and others could not be given it.
const NOT_ALL: i32 = 101;

/// What to send, and where.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// The topic
    topic: String,
    /// The files, one after the other; or patterns such as 'reports/**/*.pdf'
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// To every subscriber that takes files, not to one of them
    #[arg(long)]
    multicast: bool,
    #[command(flatten)]
    to: To,
    #[command(flatten)]
    private: private::Publish,
    /// What kind of content it is, such as application/pdf
    #[arg(long, value_name = "TYPE")]
    media_type: Option<String>,
    /// How long receivers may take to accept
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = client::parse_duration)]
    decide_within: std::time::Duration,
    /// How long to go on while nothing gets through
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = client::parse_duration)]
    patience: std::time::Duration,
    /// Where the state of transfers is kept, so that the same command goes on where it was interrupted
    /// [default: amop/sending in $XDG_STATE_HOME or ~/.local/state]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// In one message each, for the Java demo of FISCO BCOS 2.x; at most what fits a frame
    #[arg(long, conflicts_with_all = ["state", "public_key", "media_type"])]
    one_frame: bool,
}

/// Sends all files. The exit code is that of the last one that failed.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let paths = files::expand(&args.files)?;
    let mut signals = Signals::new()?;
    let Some(client) = signals.unless(connect(&args, &paths)).await else { return Ok(interrupted(0)) };
    let Some(client) = client? else { return Ok(client::exit_code(NO_NODE)) };
    let opening = args.private.open(&client, &args.topic);
    let Some(target) = signals.unless(opening).await else { return Ok(interrupted(0)) };
    let (target, bars) = (target?, Bars::new(args.connection.json));
    let mut code = ExitCode::SUCCESS;
    for (before, path) in paths.iter().enumerate() {
        match signals.unless(send(&args, &client, &target, &bars, path)).await {
            Some(sent) => code = sent?.err().map_or(code, client::exit_code),
            None => {
                code = interrupted(before);
                break;
            }
        }
    }
    drop(target);
    client.close().await;
    Ok(code)
}

fn interrupted(before: usize) -> ExitCode {
    output::note("interrupted; the same command goes on from here");
    if before > 0 {
        output::note(format_args!(
            "but leave out the first {before} of its files: they are sent, and would be again"
        ));
    }
    ExitCode::FAILURE
}

/// Connects; `None`, printed, if no node can be connected.
async fn connect(args: &Args, paths: &[PathBuf]) -> anyhow::Result<Option<Client>> {
    let error = match args.connection.open_one().await {
        Ok(client) => return Ok(Some(client)),
        Err(error @ ConnectError::Failed(_)) => anyhow::Error::from(error),
        Err(error) => return Err(error.into()),
    };
    if !args.connection.json {
        output::failure(&error);
        return Ok(None);
    }
    for path in paths {
        let (file, error) = (path.display().to_string(), format!("{error:#}"));
        tell(&Line::Failed { file, code: NO_NODE, resumable: true, error })?;
    }
    Ok(None)
}

/// Sends one file; what went wrong is printed, its code returned.
async fn send(
    args: &Args,
    client: &Client,
    target: &Target<'_>,
    bars: &Bars,
    path: &Path,
) -> anyhow::Result<Result<(), i32>> {
    let started = Instant::now();
    let sent = match args.one_frame {
        true => send_whole(args, client, path, started).await?,
        false => match target.send_file(path, options(args)).await {
            Ok(sending) => follow(args, sending, bars, path, started).await?,
            Err(error) => Err(error),
        },
    };
    let error = match sent {
        Ok(to_all) => return Ok(if to_all { Ok(()) } else { Err(NOT_ALL) }),
        Err(error) => error,
    };
    let code = files::code(&error);
    if args.connection.json {
        let file = path.display().to_string();
        tell(&Line::Failed { file, code, resumable: error.is_resumable(), error: chain(error) })?;
    } else {
        bars.suspend(|| {
            output::failure(&anyhow::Error::from(error).context(format!("{} was not sent", path.display())))
        });
    }
    Ok(Err(code))
}

fn chain(error: FileError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

/// Sends a file in one message.
async fn send_whole(
    args: &Args,
    client: &Client,
    path: &Path,
    started: Instant,
) -> anyhow::Result<Result<bool, FileError>> {
    let called = file_name(path);
    if !called.is_ascii() {
        output::note(
            "the name is not ASCII: the Java demo takes the end of it for the beginning of the content",
        );
    }
    let bytes = match client.send_file_in_one_frame(&args.topic, path, options(args)).await {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(error)),
    };
    let took = started.elapsed();
    if args.connection.json {
        tell(&Line::SentWhole { name: &called, size: bytes, seconds: took.as_secs_f64() })?;
    } else {
        let (sent, called) = (output::good("sent"), name(&called));
        let said = output::say(format_args!("{sent} {called} in one frame: {}", files::rate(bytes, took)));
        unless_unread(said.map_err(Into::into))?;
    }
    Ok(Ok(true))
}

fn options(args: &Args) -> SendOptions {
    let mut options = SendOptions::default();
    options.mode = if args.multicast { Mode::Multicast } else { Mode::Unicast };
    options.to = args.to.address();
    options.media_type = args.media_type.clone();
    options.decide_within = args.decide_within;
    options.patience = args.patience;
    options.state = args.state.clone().or_else(default_state);
    options
}

/// Where XDG has state; none without a home.
fn default_state() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")));
    base.filter(|base| base.is_absolute()).map(|base| base.join("amop/sending"))
}

/// Shows how a transfer goes, to its end; whether all have the file that did not decline it.
async fn follow(
    args: &Args,
    mut sending: SendingFile,
    bars: &Bars,
    path: &Path,
    started: Instant,
) -> anyhow::Result<Result<bool, FileError>> {
    let progress = sending.progress();
    let size = progress.borrow().size;
    let bar = bars.add(&file_name(path), size);
    let mut view = View { args, path, bar, bars, seen: BTreeMap::new(), offered: false, told: started };
    let ended = tokio::select! {
        ended = sending.finished() => ended,
        shown = view.watch(progress.clone()) => {
            // The task has ended, or the output cannot be written.
            shown?;
            sending.finished().await
        }
    };
    view.update(&progress.borrow().clone(), true)?;
    view.bar.finish_and_clear();
    match ended {
        Ok(receipt) => {
            view.sent(&receipt, started)?;
            let failed = |recipient: &FileRecipient| matches!(recipient.state, RecipientState::Failed(_));
            Ok(Ok(!receipt.recipients.iter().any(failed)))
        }
        Err(error) => Ok(Err(error)),
    }
}

/// What was shown of a transfer.
struct View<'a> {
    args: &'a Args,
    path: &'a Path,
    bar: ProgressBar,
    bars: &'a Bars,
    /// State of each recipient as it was last told, by its place in the list.
    seen: BTreeMap<usize, &'static str>,
    offered: bool,
    told: Instant,
}

impl View<'_> {
    async fn watch(&mut self, mut progress: watch::Receiver<SendProgress>) -> anyhow::Result<()> {
        loop {
            let now = progress.borrow_and_update().clone();
            self.update(&now, false)?;
            if progress.changed().await.is_err() {
                return Ok(());
            }
            // A bar need not be drawn for each chunk.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    fn update(&mut self, progress: &SendProgress, last: bool) -> anyhow::Result<()> {
        if progress.phase == SendPhase::Hashing {
            self.bar.set_message("hashing");
            self.bar.set_position(progress.hashed);
            return Ok(());
        }
        if !self.offered {
            self.offered = true;
            self.bar.reset();
            self.bar.set_message("offered");
            self.offered(progress)?;
        }
        for (at, recipient) in progress.recipients.iter().enumerate() {
            self.recipient(progress, at, recipient)?;
        }
        let count = progress.recipients.len().max(1) as u64;
        self.bar
            .set_position(progress.recipients.iter().map(|recipient| recipient.bytes).sum::<u64>() / count);
        self.bar.set_message(match progress.recipients.as_slice() {
            [] => "offered".to_owned(),
            [one] => format!("{} at {}", name(&one.client.name), name(&one.institution)),
            many => format!("{} receivers", many.len()),
        });
        if self.args.connection.json && (last || self.told.elapsed() >= files::TELL_EACH) {
            self.told = Instant::now();
            for recipient in &progress.recipients {
                let FileRecipient { bytes, resent, .. } = recipient;
                tell(&Line::Progress {
                    transfer: id(progress),
                    receiver: party(recipient),
                    bytes: *bytes,
                    size: progress.size,
                    resent: *resent,
                })?;
            }
        }
        Ok(())
    }

    fn offered(&self, progress: &SendProgress) -> anyhow::Result<()> {
        if !self.args.connection.json {
            return Ok(());
        }
        let hash = progress.hash.as_ref().map(files::hash).unwrap_or_default();
        tell(&Line::Offered {
            transfer: id(progress),
            name: &file_name(self.path),
            size: progress.size,
            hash,
        })
    }

    fn recipient(
        &mut self,
        progress: &SendProgress,
        at: usize,
        recipient: &FileRecipient,
    ) -> anyhow::Result<()> {
        let state = match &recipient.state {
            RecipientState::Declined(_) => "declined",
            RecipientState::Failed(_) => "failed",
            RecipientState::Undecided => return Ok(()),
            _ => "accepted",
        };
        let before = self.seen.insert(at, state);
        if before == Some(state) {
            return Ok(());
        }
        let (transfer, receiver) = (id(progress), party(recipient));
        match (&recipient.state, self.args.connection.json) {
            (RecipientState::Declined(why), true) => tell(&Line::Declined { transfer, receiver, why }),
            (RecipientState::Failed(error), true) => {
                tell(&Line::RecipientFailed { transfer, receiver, error })
            }
            (_, true) => tell(&Line::Accepted { transfer, receiver }),
            (RecipientState::Declined(_) | RecipientState::Failed(_), false) => {
                let who = format!("{} at {}", name(&recipient.client.name), name(&recipient.institution));
                self.bars
                    .suspend(|| output::note(format_args!("{who}: {}", name(&recipient.state.to_string()))));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn sent(&self, receipt: &FileReceipt, started: Instant) -> anyhow::Result<()> {
        let took = started.elapsed();
        let done = || receipt.recipients.iter().filter(|recipient| recipient.state == RecipientState::Done);
        if self.args.connection.json {
            for recipient in done() {
                tell(&Line::Sent {
                    transfer: receipt.transfer.to_string(),
                    receiver: party(recipient),
                    size: receipt.size,
                    hash: files::hash(&receipt.hash),
                    resent: recipient.resent,
                    seconds: took.as_secs_f64(),
                })?;
            }
            return Ok(());
        }
        let to: Vec<String> =
            done().map(|r| format!("{} at {}", name(&r.client.name), name(&r.institution))).collect();
        let (sent, file) = (output::good("sent"), name(&file_name(self.path)));
        let of = receipt.recipients.len();
        let to = if to.len() > 3 || to.len() < of {
            format!("{} of {of} receivers", to.len())
        } else {
            to.join(", ")
        };
        let said = output::say(format_args!("{sent} {file} to {to}: {}", files::rate(receipt.size, took)));
        unless_unread(said.map_err(Into::into))
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn id(progress: &SendProgress) -> String {
    progress.transfer.map(|id| id.to_string()).unwrap_or_default()
}

fn party(recipient: &FileRecipient) -> JsonParty {
    JsonParty::new(&recipient.institution, &recipient.client)
}

fn tell(line: &Line<'_>) -> anyhow::Result<()> {
    unless_unread(output::json(line))
}

/// Whoever read the output may go; the files are sent all the same.
fn unless_unread(said: anyhow::Result<()>) -> anyhow::Result<()> {
    said.or_else(|error| if is_broken_pipe(&error) { Ok(()) } else { Err(error) })
}

/// One line of `--json`.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    Offered { transfer: String, name: &'a str, size: u64, hash: String },
    Accepted { transfer: String, receiver: JsonParty },
    Declined { transfer: String, receiver: JsonParty, why: &'a str },
    RecipientFailed { transfer: String, receiver: JsonParty, error: &'a str },
    Progress { transfer: String, receiver: JsonParty, bytes: u64, size: u64, resent: u64 },
    Sent { transfer: String, receiver: JsonParty, size: u64, hash: String, resent: u64, seconds: f64 },
    SentWhole { name: &'a str, size: u64, seconds: f64 },
    Failed { file: String, code: i32, resumable: bool, error: String },
}
