//! How a run is shown: a bar while it runs, then lines or JSON, and a plot.

use std::{
    fs::Permissions,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use amop_load::{
    report::{Report, svg},
    work::{Phase, Progress},
};
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::cli::output;

/// How often the bar is drawn.
const DRAW: Duration = Duration::from_millis(100);
/// The longest name of a line, and a little.
const INDENT: usize = 10;

/// What comes of `work`, with a bar on standard error while it runs, if that is a terminal.
pub(super) async fn following<T>(work: impl Future<Output = T>, progress: &Progress, json: bool) -> T {
    let target = if json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(1), target);
    if let Ok(style) = ProgressStyle::with_template("{msg:.bold} {wide_bar} {elapsed}") {
        bar.set_style(style.progress_chars("━╸ "));
    }
    let draw = async {
        loop {
            let (done, total) = progress.done();
            bar.set_length(total.max(1));
            bar.set_position(done);
            bar.set_message(words(progress.phase()));
            tokio::time::sleep(DRAW).await;
        }
    };
    let done = tokio::select! {
        done = work => done,
        never = draw => never,
    };
    bar.finish_and_clear();
    done
}

fn words(phase: Phase) -> &'static str {
    match phase {
        Phase::Connecting => "connecting clients",
        Phase::Reaching => "waiting for messages to get through",
        Phase::WarmUp => "warming up",
        Phase::Measuring => "measuring",
        Phase::Finishing => "waiting for what is under way",
    }
}

/// The report, as people or machines want it.
pub(super) fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Line<'a> {
        version: &'static str,
        #[serde(flatten)]
        report: &'a Report,
    }
    if json {
        return output::json(&Line { version: env!("CARGO_PKG_VERSION"), report });
    }
    for (name, text) in report.lines() {
        let text = match name {
            "rate" | "latency" => output::bold(text),
            "errors" if report.errors.total() > 0 => output::warning(text),
            _ => text,
        };
        output::say(format_args!("{}{text}", output::dim(format_args!("{name:INDENT$}"))))?;
    }
    let unoptimised = "this is a debug build: figures of a release build are several times better";
    let unoptimised = cfg!(debug_assertions).then(|| unoptimised.to_owned());
    for warning in report.warnings().into_iter().chain(unoptimised) {
        output::note(format_args!("{} {warning}", output::warning("!")));
    }
    Ok(())
}

/// A plot that can be written: its directory has been tried out before anything was measured.
pub(super) struct Picture {
    path: PathBuf,
    file: NamedTempFile,
}

impl Picture {
    /// For this file, which is written whole, or not at all.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub(super) fn prepare(path: &Path) -> anyhow::Result<Self> {
        if path.is_dir() {
            bail!("--svg {}: that is a directory; name a file in it", path.display());
        }
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // As files usually are, not for this user alone as temporary ones.
        let readable = Permissions::from_mode(0o666);
        let file =
            tempfile::Builder::new().permissions(readable).tempfile_in(directory).with_context(|| {
                format!(
                    "--svg {}: cannot write there; name a file in a directory that is yours",
                    path.display()
                )
            })?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Draws the latencies.
    pub(super) fn draw(mut self, report: &Report) -> anyhow::Result<()> {
        let title = report.lines().into_iter().find(|(name, _)| *name == "work").map(|(_, text)| text);
        let svg = svg::plot(&title.unwrap_or_default(), &[(&report.system, &report.latencies)]);
        let written = self.file.write_all(svg.as_bytes());
        let written =
            written.and_then(|()| self.file.persist(&self.path).map(drop).map_err(|error| error.error));
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_found_out_at_once() {
        let dir = tempfile::tempdir().expect("a directory");
        for (path, words) in
            [(dir.path().to_owned(), "directory"), (dir.path().join("none/plot.svg"), "cannot write")]
        {
            let error = Picture::prepare(&path).err().expect("refused").to_string();
            assert!(error.contains(words), "{error}");
        }
        drop(Picture::prepare(&dir.path().join("plot.svg")).expect("possible"));
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0, "nothing is left");
    }
}
