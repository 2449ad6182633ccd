//! Log lines on standard error: text for people, or one JSON object per line for machines.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt};

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
    /// Something else in this process logs already.
    #[error("logging has been started before")]
    Started,
}

/// Starts logging for the whole process. `RUST_LOG`, where set, replaces `filter`.
///
/// # Errors
/// When the filter is not one, or logging has been started before.
pub fn start(filter: &str, format: Format) -> Result<(), StartError> {
    let filter = parse(&std::env::var("RUST_LOG").unwrap_or_else(|_| filter.to_owned()))?;
    let lines = fmt().with_env_filter(filter).with_writer(io::stderr);
    let terminal = io::stderr().is_terminal();
    let started = match format {
        Format::Json => lines.json().try_init(),
        Format::Text => lines.with_ansi(terminal).with_target(false).try_init(),
    };
    started.map_err(|_| StartError::Started)
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
