//! A file that is sent: opened once, hashed once, read chunk by chunk.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use amop_auth::transfer::{Sealing, TransferKey};
use amop_protocol::wire::files::{Id, MAX_SIZE, chunk_head, extent, sealed_chunk_head};
use bytes::{Bytes, BytesMut};

use super::{
    disk::read_exact_at,
    error::FileError,
    tree::{HASH, Hashing, Tree, verify},
};

/// A file, as it was when it was opened.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    file: File,
    size: u64,
    modified: SystemTime,
}

/// A source and its hash tree.
#[derive(Debug)]
pub(super) struct Hashed {
    pub(super) source: Source,
    tree: Tree,
}

impl Source {
    /// Opens a file to send.
    ///
    /// # Errors
    /// When it cannot be opened, is no regular file, or is too large.
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        let failed = |source| FileError::Source { path: path.to_owned(), source };
        // Opening a pipe would wait for whoever writes it.
        if !fs::metadata(path).map_err(failed)?.is_file() {
            return Err(FileError::NotRegular(path.to_owned()));
        }
        let file = File::open(path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        if about.len() > MAX_SIZE {
            return Err(FileError::TooLarge { size: about.len(), most: MAX_SIZE });
        }
        let modified = about.modified().map_err(failed)?;
        Ok(Self { path: path.to_owned(), file, size: about.len(), modified })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// When it was last changed, in nanoseconds since 1970; 0 if that was before.
    pub(super) fn modified(&self) -> u64 {
        let since = self.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// All of it, if it is not more than fits a frame of `most` bytes beside its name.
    ///
    /// # Errors
    /// When it is more, or cannot be read.
    pub(super) fn read_whole(self, most: u64) -> Result<Vec<u8>, FileError> {
        /// Frame, topic and name.
        const BESIDE: u64 = 8 * 1024;
        let most = most.saturating_sub(BESIDE);
        if self.size > most {
            return Err(FileError::TooLargeForFrame { size: self.size, most });
        }
        let mut content = vec![0; self.size as usize];
        match read_exact_at(&self.file, &mut content, 0) {
            Ok(()) => Ok(content),
            Err(source) => Err(FileError::Source { path: self.path, source }),
        }
    }

    /// Hashes it; the tree goes into `into`.
    ///
    /// # Errors
    /// When a file cannot be read or written, or it was to stop.
    pub(super) fn hash(self, into: File, progress: &Hashing) -> Result<Hashed, FileError> {
        match Tree::build(&self.file, self.size, into, progress) {
            Ok(tree) => Ok(Hashed { source: self, tree }),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(FileError::Cancelled),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(FileError::Changed(self.path)),
            Err(source) => Err(FileError::Source { path: self.path, source }),
        }
    }

    /// With a tree that was built before; `None` if that is not its tree.
    pub(super) fn hashed(self, tree: File, root: [u8; HASH]) -> Result<Hashed, Self> {
        match Tree::open(tree, self.size, root) {
            // A file of one chunk has no tree, and is read in a moment.
            Ok(tree) if self.size > 0 && extent(self.size, 1).is_some() => Ok(Hashed { source: self, tree }),
            _ => Err(self),
        }
    }
}

impl Hashed {
    pub(super) fn root(&self) -> [u8; HASH] {
        self.tree.root()
    }

    /// The payload of a frame with this chunk, sealed if there is a key.
    ///
    /// # Errors
    /// When the file cannot be read, or is no longer as it was hashed; that is looked for before a chunk
    /// is sealed, and otherwise by [`Hashed::is_as_hashed`].
    pub(super) fn frame(
        &self,
        transfer: Id,
        index: u64,
        key: Option<&TransferKey>,
    ) -> Result<Bytes, FileError> {
        let proof = self.tree.proof(index).map_err(|source| self.unreadable(source))?;
        let Some(key) = key else {
            let mut frame =
                chunk_head(transfer, index, proof, extent(self.source.size, index).map_or(0, |(_, len)| len));
            self.read(index, &mut frame)?;
            return Ok(frame.freeze());
        };
        let nonce = key.nonce(Sealing::Chunk(index)).map_err(FileError::Encryption)?;
        let room = extent(self.source.size, index).map_or(0, |(_, len)| len) + amop_auth::transfer::TAG;
        let (mut frame, at) = sealed_chunk_head(transfer, nonce, index, proof.clone(), room);
        let content = frame.len();
        self.read(index, &mut frame)?;
        // Under one key and nonce nothing else may ever be sealed.
        if verify(&self.root(), self.source.size, index, &frame[content..], &proof).is_none() {
            return Err(FileError::Changed(self.source.path.clone()));
        }
        key.seal(nonce, &mut frame, at);
        Ok(frame.freeze())
    }

    /// Whether this chunk is still what was hashed.
    pub(super) fn is_as_hashed(&self, index: u64) -> bool {
        let mut data = BytesMut::new();
        let proof = self.tree.proof(index).unwrap_or_default();
        self.read(index, &mut data).is_ok()
            && verify(&self.root(), self.source.size, index, &data, &proof).is_some()
    }

    fn read(&self, index: u64, to: &mut BytesMut) -> Result<(), FileError> {
        let Some((at, len)) = extent(self.source.size, index) else { return Ok(()) };
        let from = to.len();
        to.resize(from + len, 0);
        read_exact_at(&self.source.file, &mut to[from..], at).map_err(|source| self.unreadable(source))
    }

    fn unreadable(&self, source: io::Error) -> FileError {
        let path = self.source.path.clone();
        match source.kind() {
            io::ErrorKind::UnexpectedEof => FileError::Changed(path),
            _ => FileError::Source { path, source },
        }
    }
}
