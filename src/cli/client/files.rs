//! What `send-file` and `receive-file` have in common: sizes, progress bars, which files are meant.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use amop_client::{FileError, Sender};
use anyhow::{Context, bail};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::name;

/// How often `--json` tells of progress.
pub(crate) const TELL_EACH: Duration = Duration::from_millis(500);
/// Files that one command takes at most.
const MAX_FILES: usize = 100_000;

/// Progress bars on a terminal, nothing elsewhere.
pub(crate) struct Bars(MultiProgress);

impl Bars {
    /// Bars on standard error, unless `--json` was asked for.
    pub(crate) fn new(json: bool) -> Self {
        let target = if json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        Self(MultiProgress::with_draw_target(target))
    }

    /// A bar for a file of `size` bytes.
    pub(crate) fn add(&self, file: &str, size: u64) -> ProgressBar {
        let bar = self.0.add(ProgressBar::new(size));
        let template =
            "{prefix:.bold} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} {msg:.dim}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar.set_prefix(name(file));
        bar
    }

    /// Writes while bars are shown.
    pub(crate) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }
}

/// Somebody at the other end, as `--json` prints it.
#[derive(Clone, Serialize)]
pub(crate) struct JsonParty {
    institution: String,
    node: Option<String>,
    client: String,
    fingerprint: String,
}

impl From<&Sender> for JsonParty {
    fn from(sender: &Sender) -> Self {
        Self { node: Some(sender.node.to_hex()), ..Self::new(&sender.institution, &sender.client) }
    }
}

impl JsonParty {
    pub(crate) fn new(institution: &str, client: &amop_client::ClientIdentity) -> Self {
        Self {
            institution: institution.to_owned(),
            node: None,
            client: client.name.to_string(),
            fingerprint: client.fingerprint.to_hex(),
        }
    }
}

/// The files that are meant: each argument is a file, or a pattern such as `reports/**/*.pdf`.
pub(crate) fn expand(arguments: &[String]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for argument in arguments {
        let path = Path::new(argument);
        if path.is_dir() {
            bail!(
                "{argument} is a directory; to send the files in it write '{}/*', or '{0}/**/*' for those below it too",
                argument.trim_end_matches('/')
            );
        }
        if path.exists() || !argument.contains(['*', '?', '[']) {
            files.push(path.to_owned());
            continue;
        }
        let before = files.len();
        for found in glob::glob(argument).with_context(|| format!("{argument:?} is no pattern"))? {
            let found = found.context("a directory cannot be searched")?;
            if found.is_file() {
                files.push(found);
            }
        }
        if files.len() == before {
            bail!("no file matches {argument:?}");
        }
    }
    if files.len() > MAX_FILES {
        bail!(
            "{} files are more than the {MAX_FILES} that one command sends; send them in parts",
            files.len()
        );
    }
    Ok(files)
}

/// `1.50 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// `1.50 GiB in 2.10 s, 731.43 MiB/s`.
pub(crate) fn rate(bytes: u64, took: Duration) -> String {
    let each_second = (bytes as f64 / took.as_secs_f64().max(1e-6)) as u64;
    format!("{} in {}, {}/s", size(bytes), super::time(took), size(each_second))
}

/// BLAKE3 as `b3sum` prints it.
pub(crate) fn hash(hash: &[u8; 32]) -> String {
    amop_client::Fingerprint::new(*hash).to_hex()
}

/// What a failure is as an exit code: one of the documented codes, or 1.
pub(crate) fn code(error: &FileError) -> i32 {
    match error {
        FileError::NotOffered(error) => error.code(),
        FileError::NotPublished(error) => error.code(),
        FileError::NoReceiver | FileError::Declined(_) | FileError::Stopped { .. } => 101,
        FileError::Undecided(_) | FileError::Stalled(_) => 102,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_find_files_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        for file in ["a/1.pdf", "a/b/2.pdf", "a/b/3.txt", "a/[odd]*.pdf"] {
            std::fs::write(dir.path().join(file), "").unwrap();
        }
        let expand = |pattern: &str| expand(&[format!("{}/{pattern}", dir.path().display())]);
        let names = |pattern: &str| {
            let files = expand(pattern).unwrap();
            let names = files.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
            names.collect::<Vec<_>>()
        };
        assert_eq!(names("a/*.pdf"), ["1.pdf", "[odd]*.pdf"]);
        assert_eq!(names("a/**/*.pdf"), ["1.pdf", "[odd]*.pdf", "2.pdf"]);
        assert_eq!(names("a/[odd]*.pdf"), ["[odd]*.pdf"], "a file of that very name");
        assert!(expand("a").unwrap_err().to_string().contains("is a directory"));
        assert!(expand("a/*.doc").unwrap_err().to_string().contains("no file matches"));
        assert!(expand("a/[*").is_err());
        assert_eq!(expand("a/none").unwrap().len(), 1, "that it is not there is said when it is opened");
    }

    #[test]
    fn sizes_and_rates_are_short() {
        assert_eq!(rate(3 << 29, Duration::from_secs(2)), "1.50 GiB in 2.00 s, 768.00 MiB/s");
    }
}
