//! The directory that files are received into, and what is kept in it of transfers.
//!
//! `DIR/.amop` has, for each file that is not complete: `KEY.part`, its content so far; `KEY.journal`, the
//! hashes of its chunks; `KEY.json`, what was offered. `receiver` names the receiver, and is locked by
//! the one process that receives here; `done` lists what was received, for senders that ask again.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use amop_protocol::{Fingerprint, wire::files::Id};
use parking_lot::Mutex;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::landing::About;
use crate::files::{
    error::FileError,
    kept::{hash_from_hex, make, no_directory, private, to_hex},
    name,
};

/// What is kept in.
const OWN: &str = ".amop";
/// Transfers that are remembered when they are done.
const MAX_DONE: usize = 10_000;
/// Bytes of the list of them that are read, far more than it has.
const MAX_DONE_LOG: u64 = 8 * 1024 * 1024;
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
    claims: Mutex<BTreeMap<String, Holder>>,
}

/// An unfinished file that is worked on; nobody else touches it until this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    directory: Arc<Directory>,
    pub(super) key: String,
}

/// Whoever has claimed an unfinished file.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    /// Asks it to let go.
    pub(super) make_way: CancellationToken,
    /// It has let go.
    pub(super) gone: CancellationToken,
}

struct Done {
    path: PathBuf,
    log: File,
    transfers: BTreeMap<Named, Option<[u8; 32]>>,
    /// The oldest first.
    order: VecDeque<Named>,
}

/// Who sent, and what it calls the transfer.
type Named = (Fingerprint, Id);

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
        let (done, claims) = (Mutex::new(done), Mutex::default());
        Ok(Self { into: into.to_owned(), own, receiver, _held: held, done, claims })
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
                    // What cannot be read now, for want of descriptors say, may be read another time.
                    Err(error) if !is_malformed(&error) => {
                        tracing::warn!(path = %path.display(), %error, "the record of an unfinished file cannot be read now");
                    }
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

    /// Claims an unfinished file; `make_way` is cancelled when somebody else wants it.
    ///
    /// # Errors
    /// With whoever has it.
    pub(super) fn claim(self: &Arc<Self>, key: &str, make_way: &CancellationToken) -> Result<Claim, Holder> {
        let mut claims = self.claims.lock();
        if let Some(holder) = claims.get(key) {
            return Err(holder.clone());
        }
        let holder = Holder { make_way: make_way.clone(), gone: CancellationToken::new() };
        claims.insert(key.to_owned(), holder);
        Ok(Claim { directory: self.clone(), key: key.to_owned() })
    }

    /// Removes what is kept of an unfinished file; only whoever has claimed it may.
    pub(super) fn discard(&self, key: &str) {
        remove_all(&self.file(key, "json"));
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(holder) = self.directory.claims.lock().remove(&self.key) {
            holder.gone.cancel();
        }
    }
}

impl fmt::Debug for Done {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Done").field("transfers", &self.order.len()).finish_non_exhaustive()
    }
}

impl Done {
    fn open(path: &Path) -> io::Result<Self> {
        let mut log = private(OpenOptions::new().read(true).append(true).create(true)).open(path)?;
        let mut text = Vec::new();
        (&mut log).take(MAX_DONE_LOG).read_to_end(&mut text)?;
        let mut done =
            Self { path: path.to_owned(), log, transfers: BTreeMap::new(), order: VecDeque::new() };
        // Lines that a crash cut off or bent say nothing.
        let lines = text.split(|byte| *byte == b'\n');
        for (named, key) in lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok()?.read()) {
            done.remember(named, key);
        }
        let is_long = done.log.metadata()?.len() > text.len() as u64;
        if done.forget_oldest() || is_long || !(text.is_empty() || text.ends_with(b"\n")) {
            done.rewrite()?;
        }
        Ok(done)
    }

    fn remember(&mut self, named: Named, key: Option<[u8; 32]>) {
        if self.transfers.insert(named, key).is_none() {
            self.order.push_back(named);
        }
    }

    /// Of too many, half stay; whether there were too many.
    fn forget_oldest(&mut self) -> bool {
        let too_many = self.order.len() > MAX_DONE;
        if too_many {
            let surplus = self.order.len() - MAX_DONE / 2;
            for named in self.order.drain(..surplus) {
                self.transfers.remove(&named);
            }
        }
        too_many
    }

    fn add(&mut self, sender: Fingerprint, transfer: Id, key: Option<[u8; 32]>) -> io::Result<()> {
        self.remember((sender, transfer), key);
        if self.forget_oldest() {
            return self.rewrite();
        }
        self.log.write_all(Line::new((sender, transfer), key).text()?.as_bytes())
    }

    /// Writes the list anew, in one go.
    fn rewrite(&mut self) -> io::Result<()> {
        let own = self.path.parent().ok_or(io::ErrorKind::NotFound)?;
        let mut file = tempfile::NamedTempFile::new_in(own)?;
        for named in &self.order {
            let key = self.transfers.get(named).copied().flatten();
            file.write_all(Line::new(*named, key).text()?.as_bytes())?;
        }
        let mut log = file.persist(&self.path)?;
        log.seek(io::SeekFrom::End(0))?;
        self.log = log;
        Ok(())
    }
}

impl Line {
    fn new((sender, transfer): Named, key: Option<[u8; 32]>) -> Self {
        let key = key.map(|key| to_hex(&key));
        Self { sender: sender.to_hex(), transfer: transfer.to_string(), key }
    }

    fn text(&self) -> io::Result<String> {
        Ok(format!("{}\n", serde_json::to_string(self)?))
    }

    fn read(self) -> Option<(Named, Option<[u8; 32]>)> {
        let key = match self.key {
            Some(key) => Some(hash_from_hex(&key)?),
            None => None,
        };
        Some(((Fingerprint::from_hex(&self.sender)?, Id::from_hex(&self.transfer)?), key))
    }
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

/// Whether a record says nothing, rather than that it cannot be read.
fn is_malformed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
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
    let kind = |path: &Path| path.extension().and_then(|kind| kind.to_str()).map(str::to_owned);
    for entry in fs::read_dir(own)? {
        let path = entry?.path();
        let is_of_a_crash = match kind(&path).as_deref() {
            None => path.file_stem().is_some_and(|name| name != "receiver" && name != "done"),
            Some("whole") => true,
            // The record is made after them and removed after them.
            Some("part" | "journal") => !path.with_extension("json").exists(),
            _ => false,
        };
        if is_of_a_crash && let Err(error) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "what a crash has left cannot be removed");
        }
        let is_record = kind(&path).is_some_and(|kind| kind == "json");
        let journal = path.with_extension("journal");
        if is_record && is_old(&path) && (is_old(&journal) || !journal.exists()) {
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
