//! What people read: lines, tables, errors. Colour only on a terminal.

use std::{
    fmt::Display,
    io::{self, Write},
    sync::mpsc,
    thread,
    time::Duration,
};

use owo_colors::{OwoColorize, Stream};
use serde::Serialize;

/// How long standard error may take to take why the program ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Writes one line to standard output.
///
/// # Errors
/// When standard output cannot be written; a pipe whose reader has gone gives `BrokenPipe`,
/// which [`super::main`] takes as a quiet end.
pub fn say(line: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Writes one line to standard error; if that fails there is nobody left to tell.
pub fn note(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes `value` as one line of JSON to standard output.
///
/// # Errors
/// As [`say`].
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(say(serde_json::to_string(value)?)?)
}

/// Prints an error and its causes to standard error. Does not wait long for one that takes nothing:
/// a program that has failed must end, so that somebody can start it again.
pub fn failure(error: &anyhow::Error) {
    let mut lines = vec![format!("{} {error}", "error:".if_supports_color(Stream::Stderr, |t| t.red()))];
    let causes = error.chain().skip(1);
    lines.extend(causes.map(|cause| {
        format!("  {} {cause}", "caused by:".if_supports_color(Stream::Stderr, |t| t.dimmed()))
    }));
    let (said, wait) = mpsc::sync_channel(1);
    let say = move || {
        lines.iter().for_each(note);
        let _ = said.send(());
    };
    // Without a thread to be had the error is not printed; the exit code tells.
    if thread::Builder::new().name("error".into()).spawn(say).is_ok() {
        let _ = wait.recv_timeout(LAST_WORDS);
    }
}

/// `text`, bold on a terminal.
pub fn bold(text: impl Display) -> String {
    text.if_supports_color(Stream::Stdout, |t| t.bold()).to_string()
}

/// `text`, dim on a terminal.
pub fn dim(text: impl Display) -> String {
    text.if_supports_color(Stream::Stdout, |t| t.dimmed()).to_string()
}

/// `text`, green on a terminal.
pub fn good(text: impl Display) -> String {
    text.if_supports_color(Stream::Stdout, |t| t.green()).to_string()
}

/// `text`, yellow on a terminal.
pub fn warning(text: impl Display) -> String {
    text.if_supports_color(Stream::Stdout, |t| t.yellow()).to_string()
}

/// Seconds, in the two units that say most.
pub fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Bytes, with the unit that keeps them short.
pub fn amount(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1_000),
        10_000_000..10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{} GB", bytes / 1_000_000_000),
    }
}

/// Bytes in a second; nothing where it is not known yet.
pub fn rate(bytes: Option<u64>) -> String {
    bytes.map(|bytes| format!("{}/s", amount(bytes))).unwrap_or_default()
}

/// Rows under headings, in columns as wide as their widest cell.
pub fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut lines = vec![bold(line(&headings.map(str::to_owned), &widths))];
    lines.extend(rows.iter().map(|row| line(row, &widths)));
    lines.join("\n")
}

fn line<const N: usize>(cells: &[String; N], widths: &[usize; N]) -> String {
    let padded: Vec<String> =
        cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
    padded.join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(61), "1 min 1 s");
        assert_eq!(duration(7_260), "2 h 1 min");
        assert_eq!(duration(90_000), "1 d 1 h");
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!(
            [9_999, 10_000, 12_345_678, u64::MAX].map(amount),
            ["9999 B", "10 kB", "12 MB", "18446744073 GB"]
        );
        assert_eq!((rate(None), rate(Some(5))), (String::new(), "5 B/s".to_owned()));
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a".to_owned(), "1".to_owned()], ["市场".to_owned(), "22".to_owned()]];
        let text = table(["topic", "n"], &rows);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(lines, ["a      1", "市场     22"]);
    }
}
