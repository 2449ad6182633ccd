//! Writing certificates and keys: whole files, private where they must be, nothing lost.

use std::{
    borrow::Cow,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use rcgen::KeyPair;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::{Existing, MintError};
use crate::identity::pem;

/// A file to be written, complete.
pub(super) struct File {
    name: Cow<'static, str>,
    content: Zeroizing<Vec<u8>>,
    mode: u32,
}

impl File {
    pub(super) fn public(name: &'static str, certificates: &[CertificateDer<'_>]) -> Self {
        let text = certificates.iter().map(|c| pem::encode("CERTIFICATE", c)).collect::<String>();
        Self::open(name, text)
    }

    /// For everybody to read.
    pub(super) fn open(name: impl Into<Cow<'static, str>>, text: String) -> Self {
        Self { name: name.into(), content: text.into_bytes().into(), mode: 0o644 }
    }

    /// For nobody but the owner.
    pub(super) fn secret(name: impl Into<Cow<'static, str>>, content: Vec<u8>) -> Self {
        Self { name: name.into(), content: content.into(), mode: 0o600 }
    }

    pub(super) fn private(name: &'static str, key: &KeyPair) -> Self {
        Self::secret(name, key.serialize_pem().into_bytes())
    }

    pub(super) fn private_der(name: &'static str, key: &PrivatePkcs8KeyDer<'_>) -> Self {
        Self::secret(name, pem::encode("PRIVATE KEY", key.secret_pkcs8_der()).into_bytes())
    }
}

/// Writes all files or, if one exists that may not be replaced, none.
pub(super) fn write_all(
    directory: &Path,
    files: &[File],
    existing: Existing,
) -> Result<Vec<PathBuf>, MintError> {
    create_private_directory(directory)?;
    let paths: Vec<_> = files.iter().map(|file| directory.join(&*file.name)).collect();
    let clashes = |(file, path): &(&File, &PathBuf)| {
        // A node and a client may share a directory, and then the same ca.crt.
        path.symlink_metadata().is_ok() && fs::read(path).ok().as_deref() != Some(&**file.content)
    };
    if existing == Existing::Keep
        && let Some((_, path)) = files.iter().zip(&paths).find(clashes)
    {
        return Err(MintError::Exists(path.clone()));
    }
    for (file, path) in files.iter().zip(&paths) {
        write_atomically(directory, file, path)
            .map_err(|source| MintError::Write { path: path.clone(), source })?;
    }
    Ok(paths)
}

fn create_private_directory(directory: &Path) -> Result<(), MintError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory).map_err(|source| MintError::Write { path: directory.to_owned(), source })
}

/// Under a temporary name first: whoever reads sees the old file or the new one, whole.
fn write_atomically(directory: &Path, file: &File, path: &Path) -> io::Result<()> {
    let temporary = directory.join(format!(".{}.{}", file.name, std::process::id()));
    // Only an earlier process with our number can have left one behind.
    let _ = fs::remove_file(&temporary);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, file.mode);
    let written = options.open(&temporary).and_then(|mut handle| {
        handle.write_all(&file.content)?;
        handle.sync_all()?;
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        // Nothing more can be done if even this fails; the error that matters is the first.
        let _ = fs::remove_file(&temporary);
    }
    written
}
