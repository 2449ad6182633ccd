//! A file that is being received, on disk.
//!
//! Chunks are verified, written where they belong, and noted by their hashes. A restart reads what is
//! there again and believes what matches those hashes, so neither a crash nor whoever changes the
//! files makes it into the result, and nothing needs to be forced to disk before the end.

use std::{
    fs::{File, OpenOptions},
    io,
    path::PathBuf,
    sync::Arc,
};

use amop_protocol::{
    broker::event::Sender,
    wire::files::{Id, MAX_SIZE, Offer, Reason, chunks, extent},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::directory::{Claim, Directory};
use crate::files::{
    disk::{read_exact_at, write_all_at},
    error::FileError,
    kept::{Party, hash_from_hex, key_of, to_hex},
    ranges::Ranges,
    tree::{HASH, leaf, root_of, verify},
};

/// Bytes written after which they are forced to disk, so that the end is not long in coming.
const SYNC_EACH: u64 = 64 * 1024 * 1024;

/// What is to be received from whom: the record of an unfinished file.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::files) struct About {
    version: u32,
    transfer: String,
    topic: String,
    sender: Party,
    /// As its sender has it.
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) media_type: String,
    root: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The name that it is being given.
    #[serde(skip_serializing_if = "Option::is_none")]
    placed: Option<String>,
}

/// The file.
#[derive(Debug)]
pub(super) struct Landing {
    directory: Arc<Directory>,
    about: About,
    size: u64,
    root: [u8; HASH],
    claim: Claim,
    part: File,
    journal: File,
    state: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    missing: Ranges,
    unsynced: u64,
}

/// Why a chunk was not stored.
#[derive(Debug)]
pub(super) enum Refused {
    /// It is no part of the file.
    Bad,
    /// It cannot be written.
    Disk(io::Error),
}

impl About {
    pub(super) fn new(transfer: Id, topic: &str, sender: &Sender, offer: &Offer) -> Self {
        Self {
            version: 1,
            transfer: transfer.to_string(),
            topic: topic.to_owned(),
            sender: sender.into(),
            name: offer.name.clone(),
            size: offer.size,
            media_type: offer.media_type.clone(),
            root: to_hex(&offer.root),
            key: offer.key.as_ref().map(to_hex),
            placed: None,
        }
    }

    /// Names the files: the same for the same content under the same name from the same sender, so that
    /// an offer that is made anew goes on where the first one was.
    pub(super) fn key(&self) -> String {
        let Self { sender, topic, root, name, size, .. } = self;
        let texts = [&sender.fingerprint, topic, root, name].map(|text| text.as_bytes());
        key_of(&[texts[0], texts[1], texts[2], texts[3], &size.to_be_bytes()])
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// Who sends, which transfer, its root and its key, if the record makes sense.
    pub(super) fn parts(&self) -> Option<Parts> {
        let sender = self.sender.read()?;
        let key = match &self.key {
            Some(key) => Some(hash_from_hex(key)?),
            None => None,
        };
        let current = self.version == 1 && self.size <= MAX_SIZE;
        let root = hash_from_hex(&self.root)?;
        Id::from_hex(&self.transfer).filter(|_| current).map(|transfer| Parts { sender, transfer, root, key })
    }
}

/// What a record says beside names and sizes.
pub(super) struct Parts {
    pub(super) sender: Sender,
    pub(super) transfer: Id,
    pub(super) root: [u8; HASH],
    pub(super) key: Option<[u8; 32]>,
}

impl std::fmt::Debug for About {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("About")
            .field("transfer", &self.transfer)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Landing {
    /// Begins a file that was claimed, or goes on with it: what is there is read and checked, `checked`
    /// told of each chunk; an error of it is the end.
    ///
    /// # Errors
    /// When the directory cannot be used, or it was to end.
    pub(super) fn open(
        directory: Arc<Directory>,
        about: About,
        claim: Claim,
        mut checked: impl FnMut(u64) -> io::Result<()>,
    ) -> Result<Self, FileError> {
        let path = directory.file(&claim.key, "part");
        let failed = |source| FileError::Directory { path: path.clone(), source };
        let root =
            about.parts().map(|parts| parts.root).ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?;
        // Its directory is closed to others; the file is to be as open as files of this user are.
        let open =
            |path: PathBuf| OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let part = open(path.clone()).map_err(failed)?;
        let journal = open(directory.file(&claim.key, "journal")).map_err(failed)?;
        directory.write_record(&claim.key, &about).map_err(failed)?;
        let size = about.size;
        let missing = missing(&part, &journal, size, &mut checked).map_err(failed)?;
        let state = Mutex::new(Progress { missing, unsynced: 0 });
        Ok(Self { directory, size, root, claim, about, part, journal, state })
    }

    /// What is missing.
    pub(super) fn missing(&self) -> Ranges {
        self.state.lock().missing.clone()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.state.lock().missing.is_empty()
    }

    /// Bytes that are there, verified.
    pub(super) fn verified(&self) -> u64 {
        self.size - self.state.lock().missing.bytes(self.size)
    }

    /// Takes a chunk; whether it was missing.
    ///
    /// # Errors
    /// When it is no part of the file, or cannot be written.
    pub(super) fn store(&self, index: u64, data: &[u8], proof: &[u8]) -> Result<bool, Refused> {
        let (at, len) = extent(self.size, index).ok_or(Refused::Bad)?;
        if !self.state.lock().missing.contains(index) {
            return Ok(false);
        }
        let hash = verify(&self.root, self.size, index, data, proof).ok_or(Refused::Bad)?;
        write_all_at(&self.part, data, at).map_err(Refused::Disk)?;
        write_all_at(&self.journal, &hash, index * HASH as u64).map_err(Refused::Disk)?;
        let mut state = self.state.lock();
        let new = state.missing.remove(index);
        state.unsynced += len as u64;
        let sync = state.unsynced >= SYNC_EACH;
        if sync {
            state.unsynced = 0;
        }
        drop(state);
        if sync {
            self.part.sync_data().map_err(Refused::Disk)?;
        }
        Ok(new)
    }

    /// Checks the whole, and gives it its name.
    ///
    /// # Errors
    /// When it is not what was offered, or the directory cannot be used.
    pub(super) fn finish(&self) -> Result<PathBuf, FileError> {
        let count = chunks(self.size);
        let leaves = (0..count).map(|index| {
            let mut hash = [0; HASH];
            read_exact_at(&self.journal, &mut hash, index * HASH as u64).map(|()| hash)
        });
        let path = self.directory.path();
        let failed = |source| FileError::Directory { path: path.to_owned(), source };
        if root_of(leaves, count).map_err(failed)? != self.root {
            return Err(FileError::WrongContent);
        }
        self.part.set_len(self.size).and_then(|()| self.part.sync_all()).map_err(failed)?;
        let part = self.directory.file(&self.claim.key, "part");
        let name = crate::files::name::safe(&self.about.name);
        let placed = self.directory.place(&part, &name, |name| {
            let about = About { placed: Some(name.to_owned()), ..self.about.clone() };
            self.directory.write_record(&self.claim.key, &about)
        });
        let placed = placed.map_err(failed)?;
        // It is there, whatever comes now; the record that stays says so to whoever is next.
        if let Err(error) = note_done(&self.directory, &self.about) {
            tracing::warn!(path = %placed.display(), %error, "it cannot be noted that a file is complete");
        }
        Ok(placed)
    }

    /// Removes what is there.
    pub(super) fn discard(&self) {
        self.directory.discard(&self.claim.key);
    }
}

/// Whether the process that was here before gave the file its name, and ended before it could say so.
pub(super) fn was_placed(directory: &Directory, about: &About) -> io::Result<bool> {
    let named = about.placed.as_ref().is_some_and(|name| directory.path().join(name).is_file());
    let placed = named && !directory.file(&about.key(), "part").exists();
    if placed {
        note_done(directory, about)?;
    }
    Ok(placed)
}

fn note_done(directory: &Directory, about: &About) -> io::Result<()> {
    if let Some(Parts { sender, transfer, key, .. }) = about.parts() {
        directory.note_done(sender.client.fingerprint, transfer, key)?;
    }
    directory.discard(&about.key());
    Ok(())
}

/// What is not there, or not as the journal has it.
fn missing(
    part: &File,
    journal: &File,
    size: u64,
    checked: &mut impl FnMut(u64) -> io::Result<()>,
) -> io::Result<Ranges> {
    let mut missing = Ranges::all(chunks(size));
    let noted = journal.metadata()?.len() / HASH as u64;
    let mut data = Vec::new();
    for index in 0..noted.min(chunks(size)) {
        let mut hash = [0; HASH];
        read_exact_at(journal, &mut hash, index * HASH as u64)?;
        let Some((at, len)) = extent(size, index).filter(|_| hash != [0; HASH]) else { continue };
        data.resize(len, 0);
        match read_exact_at(part, &mut data, at) {
            Ok(()) if leaf(size, index, &data) == hash => _ = missing.remove(index),
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error),
        }
        checked(len as u64)?;
    }
    Ok(missing)
}

impl Refused {
    /// What the other end is told.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Bad => Reason::BadChunk,
            Self::Disk(error) => Self::reason_of(error),
        }
    }

    /// What the other end is told of an error of this one's directory.
    pub(super) fn reason_of(error: &io::Error) -> Reason {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Reason::DiskFull
            }
            _ => Reason::Disk,
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
