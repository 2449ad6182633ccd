//! What is kept of a file that is sent, so that a restart goes on where it was.
//!
//! In the directory of states there is, for each file and topic, `KEY.tree`, its hash tree, locked by
//! whoever sends it, and `KEY.json`, the rest. Both go when the file is sent.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use amop_protocol::{broker::event::Sender, wire::files::Id};
use serde::{Deserialize, Serialize};

use super::{SendOptions, offer::Target};
use crate::files::{
    error::FileError,
    kept::{Party, hash_from_hex, key_of, make, private, to_hex},
    source::Source,
};

/// The longest record that is read; with as many receivers as a file may have it is shorter.
const MAX_RECORD: u64 = 8 * 1024 * 1024;

/// How long the state of a file that nobody goes on sending stays.
const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);

/// Where the state of one transfer is kept.
#[derive(Debug)]
pub(super) struct Keeper {
    directory: PathBuf,
    key: String,
    tree: File,
}

/// The state of a transfer.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    transfer: String,
    topic: String,
    path: PathBuf,
    size: u64,
    modified: u64,
    root: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// By receiver.
    receivers: BTreeMap<String, Receiver>,
}

/// A receiver that accepted.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Receiver {
    #[serde(flatten)]
    who: Party,
    /// Bytes that it has, for people.
    pub(super) bytes: u64,
    pub(super) done: bool,
}

/// How a file is to be sent: an attempt goes on with what another left only if it is to do the same.
pub(super) struct How {
    pub(super) topic: String,
    pub(super) private: bool,
    /// Mode, address, name and media type.
    rest: String,
}

impl How {
    pub(super) fn new(target: &Target, options: &SendOptions, name: &str) -> Self {
        let SendOptions { mode, to, media_type, .. } = options;
        let rest = format!("{mode:?} {to:?} {name:?} {media_type:?}");
        Self { topic: target.topic().as_str().to_owned(), private: target.is_private(), rest }
    }

    /// Names the state of sending this file so.
    fn key(&self, path: &Path) -> String {
        key_of(&[self.topic.as_bytes(), self.rest.as_bytes(), path.as_os_str().as_encoded_bytes()])
    }
}

/// What a record says, read.
pub(super) struct Found {
    pub(super) transfer: Id,
    pub(super) root: [u8; 32],
    pub(super) key: Option<[u8; 32]>,
    pub(super) receivers: Vec<(Id, Sender)>,
}

impl Keeper {
    /// Claims the state of sending this file to this topic, and finds what an earlier attempt left.
    ///
    /// # Errors
    /// When the directory cannot be used, or somebody is sending this file to this topic.
    pub(super) fn claim(
        directory: &Path,
        how: &How,
        source: &Source,
    ) -> Result<(Self, Option<Found>), FileError> {
        let failed = |source| FileError::State { path: directory.to_owned(), source };
        make(directory).map_err(failed)?;
        let path = fs::canonicalize(source.path()).map_err(failed)?;
        forget_old(directory);
        let key = how.key(&path);
        let tree = private(OpenOptions::new().read(true).write(true).create(true).truncate(false))
            .open(directory.join(format!("{key}.tree")))
            .map_err(failed)?;
        match tree.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FileError::InUse(directory.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let keeper = Self { directory: directory.to_owned(), key, tree };
        let found = keeper.read().filter(|record| {
            record.version == 1 && record.size == source.size() && record.modified == source.modified()
        });
        Ok((keeper, found.and_then(|record| record.found())))
    }

    /// Where the hash tree is, or goes.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub(super) fn tree(&self) -> Result<File, FileError> {
        self.tree.try_clone().map_err(|source| self.failed(source))
    }

    /// Writes the state, in one go.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub(super) fn write(&self, record: &Record) -> Result<(), FileError> {
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
            file.write_all(serde_json::to_string(record)?.as_bytes())?;
            file.persist(self.json())?;
            io::Result::Ok(())
        };
        write().map_err(|source| self.failed(source))
    }

    /// Removes the state: there is nothing to go on with.
    pub(super) fn remove(&self) {
        for path in [self.json(), self.directory.join(format!("{}.tree", self.key))] {
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "the state of a transfer cannot be removed");
            }
        }
    }

    fn read(&self) -> Option<Record> {
        let mut text = String::new();
        File::open(self.json()).ok()?.take(MAX_RECORD).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    fn json(&self) -> PathBuf {
        self.directory.join(format!("{}.json", self.key))
    }

    fn failed(&self, source: io::Error) -> FileError {
        FileError::State { path: self.directory.clone(), source }
    }
}

/// Removes what is left of files that nobody went on sending.
fn forget_old(directory: &Path) {
    let is_old = |path: &Path| {
        let changed = fs::metadata(path).and_then(|about| about.modified());
        changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age > KEEP))
    };
    // What cannot be removed takes space, and harms nobody.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (tree, json) = (entry.path(), entry.path().with_extension("json"));
        let is_left = tree.extension().is_some_and(|kind| kind == "tree") && is_old(&tree);
        if is_left && !is_fresh(&json, is_old) && File::open(&tree).is_ok_and(|tree| tree.try_lock().is_ok())
        {
            let _ = fs::remove_file(json);
            let _ = fs::remove_file(tree);
        }
    }
}

fn is_fresh(path: &Path, is_old: impl Fn(&Path) -> bool) -> bool {
    path.exists() && !is_old(path)
}

impl Record {
    pub(super) fn new(
        transfer: Id,
        topic: &str,
        source: &Source,
        root: &[u8; 32],
        key: Option<&[u8; 32]>,
    ) -> Self {
        Self {
            version: 1,
            transfer: transfer.to_string(),
            topic: topic.to_owned(),
            path: source.path().to_owned(),
            size: source.size(),
            modified: source.modified(),
            root: to_hex(root),
            key: key.map(to_hex),
            receivers: BTreeMap::new(),
        }
    }

    /// Notes how a receiver fares; whether that is worth writing at once.
    pub(super) fn note(&mut self, receiver: Id, who: &Sender, bytes: u64, done: bool) -> bool {
        let noted = Receiver { who: who.into(), bytes, done };
        let before = self.receivers.insert(receiver.to_string(), noted);
        before.is_none_or(|before| before.done != done)
    }

    /// A receiver does not count any longer.
    pub(super) fn forget(&mut self, receiver: Id) -> bool {
        self.receivers.remove(&receiver.to_string()).is_some()
    }

    /// Whether anybody has accepted.
    pub(super) fn has_receivers(&self) -> bool {
        !self.receivers.is_empty()
    }

    fn found(&self) -> Option<Found> {
        let key = match &self.key {
            Some(key) => Some(hash_from_hex(key)?),
            None => None,
        };
        let receivers = self.receivers.iter().filter(|(_, receiver)| !receiver.done);
        let receivers =
            receivers.filter_map(|(id, receiver)| Some((Id::from_hex(id)?, receiver.who.read()?)));
        let root = hash_from_hex(&self.root)?;
        Some(Found { transfer: Id::from_hex(&self.transfer)?, root, key, receivers: receivers.collect() })
    }
}

impl fmt::Debug for Record {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("transfer", &self.transfer)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_nobody_goes_on_with_goes_after_a_month() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, age: Duration| {
            let path = directory.path().join(name);
            let file = File::create(&path).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
            (path, file)
        };
        let (old, young) = (KEEP + Duration::from_secs(60), Duration::from_secs(60));
        let gone = [file("a.tree", old), file("b.tree", old), file("b.json", old)];
        let kept = [
            file("c.tree", old),
            file("c.json", young),
            file("d.tree", young),
            file("e.tree", old),
            file("other", old),
        ];
        kept[3].1.try_lock().unwrap();
        forget_old(directory.path());
        assert!(gone.iter().all(|(path, _)| !path.exists()));
        assert!(kept.iter().all(|(path, _)| path.exists()), "used, young, locked, or none of ours");
        forget_old(&directory.path().join("none"));
    }
}
