//! What both ends keep in files: who the other end is, hashes, names made of many parts.

use std::{
    fs::{DirBuilder, OpenOptions},
    io,
    path::Path,
    sync::Arc,
};

use amop_protocol::{ClientIdentity, Fingerprint, NodeId, broker::event::Sender};
use serde::{Deserialize, Serialize};

/// The other end, as its node verified it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Party {
    institution: String,
    node: String,
    name: String,
    pub(super) fingerprint: String,
}

impl From<&Sender> for Party {
    fn from(sender: &Sender) -> Self {
        Self {
            institution: sender.institution.to_string(),
            node: sender.node.to_hex(),
            name: sender.client.name.to_string(),
            fingerprint: sender.client.fingerprint.to_hex(),
        }
    }
}

impl Party {
    /// Who that is, if it makes sense.
    pub(super) fn read(&self) -> Option<Sender> {
        let fingerprint = Fingerprint::from_hex(&self.fingerprint)?;
        let client = Arc::new(ClientIdentity { fingerprint, name: self.name.as_str().into() });
        let node = NodeId::from_hex(&self.node)?;
        Some(Sender { institution: self.institution.as_str().into(), node, client })
    }
}

/// A name of 32 hex digits for what these parts say.
pub(super) fn key_of(parts: &[&[u8]]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

/// 64 hex digits.
pub(super) fn to_hex(bytes: &[u8; 32]) -> String {
    Fingerprint::new(*bytes).to_hex()
}

/// Reads 64 hex digits.
pub(super) fn hash_from_hex(hex: &str) -> Option<[u8; 32]> {
    Fingerprint::from_hex(hex).map(|bytes| *bytes.as_bytes())
}

/// A directory that only its owner reads.
pub(super) fn make(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(no_directory)
}

/// Of a file that is where a directory is to be made the system says that it exists, which helps nobody.
pub(super) fn no_directory(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::AlreadyExists { io::ErrorKind::NotADirectory.into() } else { error }
}

/// For a file that only its owner reads.
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}
