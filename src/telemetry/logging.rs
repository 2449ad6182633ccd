//! Log lines on standard error: text for people, or one JSON object per line for machines.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal},
    panic,
    sync::OnceLock,
    time::Duration,
};

use tracing_subscriber::{EnvFilter, fmt, reload};

use super::lines::Lines;

/// How long the end of the program waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_millis(500);

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A line for people; in colour on a terminal.
    Text,
    /// One JSON object per line.
    Json,
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The filter cannot be read.
    #[error("`{filter}` is not a log filter; write a level such as `info`, or `info,amop::overlay=debug`")]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// No thread to write the lines.
    #[error("cannot start the thread that writes the log; are there too many processes?")]
    Thread(#[source] io::Error),
    /// Something else in this process logs already.
    #[error("logging has been started before")]
    Started,
}

/// What decides which lines are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The one that was given.
    AsGiven,
    /// That in the variable `RUST_LOG`, which is set.
    OfEnvironment,
    /// None: this program does not log.
    None,
}

/// Puts another filter in force.
type Change = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// Changes the filter of the process's log. There is one log, so there is one of these.
static CHANGE: OnceLock<Change> = OnceLock::new();

/// Logging, as long as the program runs. When dropped, it waits for the last lines to be written,
/// for half a second at most.
#[derive(Debug)]
#[must_use = "the last lines are written when this is dropped"]
pub struct Logging(Lines);

impl Drop for Logging {
    fn drop(&mut self) {
        self.0.flush(LAST_LINES);
    }
}

/// Starts logging for the whole process. `RUST_LOG`, where set, replaces `filter`. Panics are
/// logged, too. Nobody who logs ever waits: what standard error does not take is lost, and counted in
/// `amop_log_lines_lost_total`.
///
/// # Errors
/// When the filter is not one, logging has been started before, or there is no thread to be had.
pub fn start(filter: &str, format: Format) -> Result<Logging, StartError> {
    let filter = parse(&of_environment().unwrap_or_else(|| filter.to_owned()))?;
    let lines = Lines::start(io::stderr()).map_err(StartError::Thread)?;
    let writer = lines.clone();
    let events = fmt().with_env_filter(filter).with_writer(move || writer.clone());
    let terminal = io::stderr().is_terminal();
    let (started, change): (_, Change) = match format {
        Format::Json => {
            let events = events.json().with_filter_reloading();
            let handle = events.reload_handle();
            (events.try_init(), Box::new(move |filter| handle.reload(filter)))
        }
        Format::Text => {
            let events = events.with_ansi(terminal).with_target(false).with_filter_reloading();
            let handle = events.reload_handle();
            (events.try_init(), Box::new(move |filter| handle.reload(filter)))
        }
    };
    started.map_err(|_| StartError::Started)?;
    // Nothing has logged before, so nothing is set yet.
    let _ = CHANGE.set(change);
    panic::set_hook(Box::new(log_panic));
    Ok(Logging(lines))
}

/// Changes what is logged from now on, and says what decides it.
///
/// # Errors
/// When the filter is not one.
pub fn set_filter(filter: &str) -> Result<Filter, StartError> {
    let Some(change) = CHANGE.get() else { return Ok(Filter::None) };
    if of_environment().is_some() {
        return Ok(Filter::OfEnvironment);
    }
    // It fails only where the log is gone, which lasts as long as the process.
    let _ = change(parse(filter)?);
    Ok(Filter::AsGiven)
}

fn of_environment() -> Option<String> {
    std::env::var("RUST_LOG").ok()
}

/// The hook that comes with Rust would wait for standard error.
fn log_panic(panic: &panic::PanicHookInfo<'_>) {
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => tracing::error!(%panic, %backtrace, "a panic, which is a bug"),
        _ => tracing::error!(%panic, "a panic, which is a bug"),
    }
}

/// Reads a filter, without starting anything: what `amop node --check` does.
///
/// # Errors
/// When the filter is not one.
pub fn parse(filter: &str) -> Result<EnvFilter, StartError> {
    // libp2p announces itself at info; whoever names it in the filter sees it.
    EnvFilter::try_new(format!("libp2p_swarm=warn,{filter}"))
        .map_err(|source| StartError::Filter { filter: filter.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_named() {
        assert!(parse("info,amop::overlay=debug").is_ok());
        let error = parse("amop=loudly").expect_err("no such level").to_string();
        assert!(error.contains("`amop=loudly`"), "{error}");
    }
}
