//! What comes before a file is offered.

use std::{io, path::Path};

use amop_auth::transfer::TransferKey;
use amop_protocol::{broker::event::Sender, wire::files::Id};
use rand::RngExt;

use super::record::{Found, How, Keeper, Record};
use crate::files::{
    channel::Channel,
    error::FileError,
    source::{Hashed, Source},
    tree::Hashing,
};

/// A file that is hashed, and what an earlier attempt left of sending it.
pub(super) struct Prepared {
    pub(super) source: Hashed,
    pub(super) channel: Channel,
    pub(super) keeper: Option<Keeper>,
    pub(super) record: Record,
    /// Who had accepted it.
    pub(super) receivers: Vec<(Id, Sender)>,
}

/// Hashes a file, or finds the tree of an earlier attempt at the same.
///
/// # Errors
/// When a file cannot be read or written, or it was to stop.
pub(super) fn prepare(
    source: Source,
    state: Option<&Path>,
    how: &How,
    hashing: &Hashing,
) -> Result<Prepared, FileError> {
    let (keeper, mut found) = match state {
        Some(directory) => {
            let (keeper, found) = Keeper::claim(directory, how, &source)?;
            (Some(keeper), found.filter(|found| found.key.is_some() == how.private))
        }
        None => (None, None),
    };
    let tree = match &keeper {
        Some(keeper) => keeper.tree()?,
        None => {
            let path = std::env::temp_dir();
            tempfile::tempfile_in(&path).map_err(|source| FileError::State { path, source })?
        }
    };
    let source = match &found {
        Some(earlier) => {
            let again = tree.try_clone().map_err(|error| failed(state, error))?;
            source.hashed(again, earlier.root)
        }
        None => Err(source),
    };
    let source = match source {
        Ok(hashed) => hashed,
        Err(source) => {
            tree.set_len(0).map_err(|error| failed(state, error))?;
            source.hash(tree, hashing)?
        }
    };
    // What an earlier attempt sent counts if it is the same file.
    found = found.filter(|found| found.root == source.root());
    let (transfer, secret, receivers) = match found {
        Some(Found { transfer, key, receivers, .. }) => (transfer, key, receivers),
        None => {
            let transfer = Id(rand::rng().random());
            let key = how.private.then(|| TransferKey::generate(transfer)).transpose();
            (transfer, key.map_err(FileError::Encryption)?.map(|key| *key.secret()), Vec::new())
        }
    };
    let mut record = Record::new(transfer, &how.topic, &source.source, &source.root(), secret.as_ref());
    for (receiver, who) in &receivers {
        record.note(*receiver, who, 0, false);
    }
    if let Some(keeper) = &keeper {
        keeper.write(&record)?;
    }
    Ok(Prepared { channel: Channel::new(transfer, secret), source, keeper, record, receivers })
}

fn failed(state: Option<&Path>, source: io::Error) -> FileError {
    FileError::State { path: state.map_or_else(std::env::temp_dir, Path::to_owned), source }
}
