//! Keys of private topics, into files that FISCO BCOS's SDKs read too (channel spec, 6.3).

use std::path::{Path, PathBuf};

use amop_auth::{KeyError, PrivateKey};
use zeroize::Zeroizing;

use super::{
    Existing, MAX_NAME_BYTES, MintError,
    files::{File, write_all},
};

/// How a key pair is written.
#[derive(Clone, Debug)]
pub enum Encoding {
    /// `NAME.key`, PKCS#8, and `NAME.pub`, SubjectPublicKeyInfo, both PEM: for every SDK.
    Pem,
    /// `NAME.key` and `NAME.pub` in hexadecimal digits.
    Hex,
    /// `NAME.p12` under a password, and `NAME.pub` as with PEM: for the Java SDK.
    Pkcs12(Zeroizing<String>),
}

/// Why a key pair could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// A name that makes no file.
    #[error(
        "{0:?} is no name for a file; use 1 to {MAX_NAME_BYTES} letters, digits, '.', '_' or '-', and no '.' first"
    )]
    Name(String),
    /// The key cannot be encoded.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] MintError),
}

/// Writes both halves of `key`, the private one for its owner only; gives their paths, the private
/// one first.
///
/// # Errors
/// When `name` is none for a file, one exists that may not be replaced, or it cannot be written.
pub fn save(
    key: &PrivateKey,
    name: &str,
    encoding: &Encoding,
    directory: &Path,
    existing: Existing,
) -> Result<Vec<PathBuf>, SaveError> {
    if !is_file_name(name) {
        return Err(SaveError::Name(name.to_owned()));
    }
    let public = key.public();
    let (extension, private, public) = match encoding {
        Encoding::Pem => ("key", key.to_pem().as_bytes().to_vec(), public.to_pem()),
        Encoding::Hex => ("key", key.to_hex().as_bytes().to_vec(), public.to_hex()),
        Encoding::Pkcs12(password) => ("p12", key.to_pkcs12(password)?, public.to_pem()),
    };
    let files =
        [File::secret(format!("{name}.{extension}"), private), File::open(format!("{name}.pub"), public)];
    Ok(write_all(directory, &files, existing)?)
}

fn is_file_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.starts_with('.') && name.chars().all(allowed)
}
