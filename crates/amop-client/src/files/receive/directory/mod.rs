//! The directory that files are received into, and what is kept in it of transfers.
//!
//! `DIR/.amop` has, for each file that is not complete: `KEY.part`, its content so far; `KEY.journal`, the
//! hashes of its chunks; `KEY.json`, what was offered. `receiver` names the receiver, and is locked by
//! the one process that receives here; `done` lists what was received, for senders that ask again.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use amop_protocol::{Fingerprint, wire::files::Id};
use parking_lot::Mutex;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::landing::About;
use crate::files::{error::FileError, name};

/// What is kept in.
const OWN: &str = ".amop";
/// Transfers that are remembered when they are done.
const MAX_DONE: usize = 10_000;
/// Names tried for one file.
const MAX_NUMBER: u32 = 10_000;
/// The longest record of an unfinished file.
const MAX_RECORD: u64 = 64 * 1024;

/// The directory, as long as this process receives into it.
#[derive(Debug)]
pub(in crate::files) struct Directory {
    into: PathBuf,
    own: PathBuf,
    receiver: Id,
    /// Locked.
    _held: File,
    done: Mutex<Done>,
}

#[derive(Debug)]
struct Done {
    log: File,
    transfers: BTreeMap<(Fingerprint, Id), Option<[u8; 32]>>,
}

/// A line of the list of what was received.
#[derive(Serialize, Deserialize)]
struct Line {
    sender: String,
    transfer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl Directory {
    /// Takes a directory, and forgets unfinished files that nobody touched for `keep`.
    ///
    /// # Errors
    /// When it cannot be used, or another receiver has it.
    pub(in crate::files) fn open(into: &Path, keep: Duration) -> Result<Self, FileError> {
        let own = into.join(OWN);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| FileError::Directory { path, source }
        };
        fs::create_dir_all(into).map_err(no_directory).map_err(failed(into))?;
        make(&own).map_err(failed(&own))?;
        let (held, receiver) = hold(&own.join("receiver"), into)?;
        let done = Done::open(&own.join("done")).map_err(failed(&own.join("done")))?;
        forget_old(&own, keep).map_err(failed(&own))?;
        Ok(Self { into: into.to_owned(), own, receiver, _held: held, done: Mutex::new(done) })
    }

    /// Names whoever receives here, again after a restart.
    pub(in crate::files) fn receiver(&self) -> Id {
        self.receiver
    }

    pub(in crate::files) fn path(&self) -> &Path {
        &self.into
    }

    /// A file of an unfinished transfer.
    pub(super) fn file(&self, key: &str, kind: &str) -> PathBuf {
        self.own.join(format!("{key}.{kind}"))
    }

    /// All that was begun and not finished.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub(super) fn unfinished(&self) -> Result<Vec<About>, FileError> {
        let failed = |source| FileError::Directory { path: self.own.clone(), source };
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.own).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|kind| kind == "json") {
                match read_record(&path) {
                    Ok(about) => all.push(about),
                    Err(error) => {
                        tracing::warn!(path = %path.display(), %error, "the record of an unfinished file cannot be read; it begins anew");
                        remove_all(&path);
                    }
                }
            }
        }
        Ok(all)
    }

    /// Writes what was offered, in one go.
    pub(super) fn write_record(&self, key: &str, about: &About) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.own)?;
        file.write_all(serde_json::to_string(about)?.as_bytes())?;
        file.as_file().sync_data()?;
        file.persist(self.file(key, "json"))?;
        Ok(())
    }

    /// Gives a complete file its name, or the next one that is free; `choose` is told of each before it
    /// is tried.
    pub(super) fn place(
        &self,
        part: &Path,
        name: &str,
        mut choose: impl FnMut(&str) -> io::Result<()>,
    ) -> io::Result<PathBuf> {
        let mut path = tempfile::TempPath::try_from_path(part)?;
        for number in 0..MAX_NUMBER {
            let name = if number == 0 { name.to_owned() } else { name::numbered(name, number) };
            let target = self.into.join(&name);
            if target.symlink_metadata().is_ok() {
                continue;
            }
            if let Err(error) = choose(&name) {
                keep(path);
                return Err(error);
            }
            match path.persist_noclobber(&target) {
                Ok(()) => {
                    sync(&self.into)?;
                    return Ok(target);
                }
                Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => path = failed.path,
                Err(failed) => {
                    keep(failed.path);
                    return Err(failed.error);
                }
            }
        }
        keep(path);
        Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{MAX_NUMBER} files have this name already"),
        ))
    }

    /// Writes a file that is here as a whole, and gives it its name or the next one that is free.
    pub(super) fn put(&self, name: &str, content: &[u8]) -> io::Result<PathBuf> {
        let path = self.file(&Id(rand::rng().random()).to_string(), "whole");
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        let part = tempfile::TempPath::try_from_path(&path)?;
        file.write_all(content)?;
        file.sync_all()?;
        let placed = self.place(&part, name, |_| Ok(()))?;
        keep(part);
        Ok(placed)
    }

    /// Remembers that a transfer is done, with its key.
    pub(super) fn note_done(
        &self,
        sender: Fingerprint,
        transfer: Id,
        key: Option<[u8; 32]>,
    ) -> io::Result<()> {
        self.done.lock().add(sender, transfer, key)
    }

    /// Whether a transfer is done, and its key.
    pub(super) fn done(&self, sender: Fingerprint, transfer: Id) -> Option<Option<[u8; 32]>> {
        self.done.lock().transfers.get(&(sender, transfer)).copied()
    }

    /// Removes what is kept of an unfinished transfer.
    pub(super) fn discard(&self, key: &str) {
        remove_all(&self.file(key, "json"));
    }
}

impl Done {
    fn open(path: &Path) -> io::Result<Self> {
        let mut log = private(OpenOptions::new().read(true).append(true).create(true)).open(path)?;
        let mut transfers = BTreeMap::new();
        let mut lines = Vec::new();
        for line in BufReader::new(&log).lines() {
            let line = line?;
            // A line that a crash cut off says nothing.
            if let Some((named, key)) = serde_json::from_str::<Line>(&line).ok().and_then(|line| line.read())
            {
                transfers.insert(named, key);
                lines.push(line);
            }
        }
        if lines.len() > MAX_DONE {
            let kept = &lines[lines.len() - MAX_DONE / 2..];
            transfers =
                kept.iter().filter_map(|line| serde_json::from_str::<Line>(line).ok()?.read()).collect();
            log.set_len(0)?;
            log.rewind()?;
            log.write_all(format!("{}\n", kept.join("\n")).as_bytes())?;
        }
        Ok(Self { log, transfers })
    }

    fn add(&mut self, sender: Fingerprint, transfer: Id, key: Option<[u8; 32]>) -> io::Result<()> {
        self.transfers.insert((sender, transfer), key);
        let line = Line {
            sender: sender.to_hex(),
            transfer: transfer.to_string(),
            key: key.map(|key| to_hex(&key)),
        };
        self.log.write_all(format!("{}\n", serde_json::to_string(&line)?).as_bytes())
    }
}

impl Line {
    fn read(self) -> Option<((Fingerprint, Id), Option<[u8; 32]>)> {
        let key = match self.key {
            Some(key) => Some(hash_from_hex(&key)?),
            None => None,
        };
        Some(((Fingerprint::from_hex(&self.sender)?, Id::from_hex(&self.transfer)?), key))
    }
}

/// 64 hex digits.
pub(in crate::files) fn to_hex(bytes: &[u8; 32]) -> String {
    Fingerprint::new(*bytes).to_hex()
}

/// Reads 64 hex digits.
pub(in crate::files) fn hash_from_hex(hex: &str) -> Option<[u8; 32]> {
    Fingerprint::from_hex(hex).map(|bytes| *bytes.as_bytes())
}

/// A directory that only its owner reads.
pub(in crate::files) fn make(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(no_directory)
}

/// Of a file that is where a directory is to be made the system says that it exists, which helps nobody.
fn no_directory(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::AlreadyExists { io::ErrorKind::NotADirectory.into() } else { error }
}

/// For a file that only its owner reads.
pub(in crate::files) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Locks the file that names the receiver; makes it if there is none.
fn hold(path: &Path, into: &Path) -> Result<(File, Id), FileError> {
    let failed = |source| FileError::Directory { path: path.to_owned(), source };
    let options = &mut OpenOptions::new();
    let mut file =
        private(options.read(true).write(true).create(true).truncate(false)).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Err(FileError::InUse(into.to_owned())),
        Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
    }
    let mut hex = String::new();
    if (&file).take(64).read_to_string(&mut hex).is_ok()
        && let Some(id) = Id::from_hex(hex.trim_end())
    {
        return Ok((file, id));
    }
    let id = Id(rand::rng().random());
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(id.to_string().as_bytes())
    };
    write(&mut file).map_err(failed)?;
    Ok((file, id))
}

fn read_record(path: &Path) -> io::Result<About> {
    let mut text = String::new();
    File::open(path)?.take(MAX_RECORD).read_to_string(&mut text)?;
    let about: About = serde_json::from_str(&text)?;
    match path.file_stem().is_some_and(|stem| *stem == *about.key()) {
        true => Ok(about),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "the record is that of another file")),
    }
}

/// The files beside a record, and the record last: while it is there, so is the rest.
fn remove_all(record: &Path) {
    for kind in ["part", "journal", "json"] {
        let path = record.with_extension(kind);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "what is left of a transfer cannot be removed");
        }
    }
}

fn forget_old(own: &Path, keep: Duration) -> io::Result<()> {
    let now = SystemTime::now();
    let is_old = |path: &Path| {
        let changed = fs::metadata(path).and_then(|about| about.modified());
        changed.is_ok_and(|changed| now.duration_since(changed).is_ok_and(|age| age > keep))
    };
    for entry in fs::read_dir(own)? {
        let path = entry?.path();
        let is_of_a_crash = path.extension().is_none_or(|kind| kind == "whole")
            && path.file_stem().is_some_and(|name| name != "receiver" && name != "done");
        if is_of_a_crash {
            fs::remove_file(&path)?;
        }
        if path.extension().is_some_and(|kind| kind == "json")
            && is_old(&path)
            && is_old(&path.with_extension("journal"))
        {
            tracing::info!(path = %path.display(), "an unfinished file is given up: nothing came for long");
            remove_all(&path);
        }
    }
    Ok(())
}

/// What is to stay although its final name could not be given.
fn keep(path: tempfile::TempPath) {
    // Nothing of it is lost: it stays where it is.
    let _ = path.keep();
}

/// Has a rename survive a crash.
fn sync(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests;
