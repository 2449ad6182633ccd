//! Reading certificates and keys from files, with errors that say what to do.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer,
    pem::{PemObject, SectionKind},
};

/// Largest file that is read: a file of certificates is a few KiB.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What is looked for in a key file.
const KEY: &str = "private key";

/// Why a file gives no certificates, or no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file cannot be read.
    #[error("cannot read {}: {}", path.display(), source)]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is larger than any file of certificates.
    #[error("{} is larger than {MAX_FILE_BYTES} bytes; is it the right file?", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file has damaged PEM sections.
    #[error("{} is damaged: {cause}; copy or create it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: rustls_pki_types::pem::Error,
    },
    /// The file has no section of the kind that is needed.
    #[error("{} holds no {wanted}{hint}", path.display())]
    Nothing {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
        /// What was found instead, and what to do.
        hint: &'static str,
    },
    /// Others than the owner may read the private key.
    #[error("the private key {0} may be read by others (mode {mode:04o}); run: chmod 600 {0}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// The certificates in a PEM file, in order.
///
/// # Errors
/// When the file cannot be read, is damaged, or has no certificate.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let text = read(path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|cause| FileError::Damaged { path: path.to_owned(), cause })?;
    if found.is_empty() {
        let hint = if text.is_empty() {
            ": it is empty"
        } else if text.starts_with(&[0x30]) {
            " in PEM: it looks like DER; convert it with `openssl x509 -inform DER`"
        } else {
            ": there is no BEGIN CERTIFICATE in it"
        };
        return Err(FileError::Nothing { path: path.to_owned(), wanted: "certificate", hint });
    }
    Ok(found)
}

/// The revocation lists in a PEM file, and the certificates beside them.
///
/// # Errors
/// When the file cannot be read, is damaged, or has no list.
pub fn revocation_lists(path: &Path) -> Result<(Vec<Vec<u8>>, Vec<CertificateDer<'static>>), FileError> {
    let text = read(path)?;
    let (mut lists, mut beside) = (Vec::new(), Vec::new());
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&text) {
        match section.map_err(|cause| FileError::Damaged { path: path.to_owned(), cause })? {
            (SectionKind::Crl, der) => lists.push(der),
            (SectionKind::Certificate, der) => beside.push(der.into()),
            _ => {}
        }
    }
    if lists.is_empty() {
        let hint = if text.is_empty() {
            ": it is empty"
        } else if text.starts_with(&[0x30]) {
            " in PEM: it looks like DER; convert it with `openssl crl -inform DER`"
        } else {
            ": there is no BEGIN X509 CRL in it"
        };
        return Err(FileError::Nothing { path: path.to_owned(), wanted: "revocation list", hint });
    }
    Ok((lists, beside))
}

/// The private key in a PEM file, which only its owner may be able to read.
///
/// # Errors
/// When the file cannot be read, others may read it, it is damaged, or has no PKCS#8 key.
pub fn private_key(path: &Path) -> Result<PrivatePkcs8KeyDer<'static>, FileError> {
    match any_private_key(path)? {
        PrivateKeyDer::Pkcs8(key) => Ok(key),
        _ => {
            let hint = " in PKCS#8: convert it with `openssl pkcs8 -topk8 -nocrypt`";
            Err(FileError::Nothing { path: path.to_owned(), wanted: KEY, hint })
        }
    }
}

/// As [`private_key`], and PKCS#1 and SEC1 as well.
///
/// # Errors
/// When the file cannot be read, others may read it, it is damaged, or has no key.
pub fn any_private_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    let text = zeroize::Zeroizing::new(read(path)?);
    let mut certificate = false;
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&text) {
        let (kind, der) = section.map_err(|cause| FileError::Damaged { path: path.to_owned(), cause })?;
        certificate |= kind == SectionKind::Certificate;
        if let Some(key) = PrivateKeyDer::from_pem(kind, der) {
            refuse_exposed(path)?;
            return Ok(key);
        }
    }
    let contains = |marker: &str| text.windows(marker.len()).any(|w| w == marker.as_bytes());
    let hint = match certificate {
        true => ": it holds a certificate; are certificate and key swapped?",
        false if contains("ENCRYPTED PRIVATE KEY") => {
            " that is not encrypted: decrypt it with `openssl pkcs8` and keep the file private"
        }
        false if text.is_empty() => ": it is empty",
        false => ": there is no BEGIN PRIVATE KEY in it",
    };
    Err(FileError::Nothing { path: path.to_owned(), wanted: KEY, hint })
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is not a file")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(FileError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

#[cfg(unix)]
fn refuse_exposed(path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::PermissionsExt;

    let metadata =
        std::fs::metadata(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(FileError::Exposed { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn refuse_exposed(_path: &Path) -> Result<(), FileError> {
    Ok(())
}

/// One PEM section.
pub fn encode(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
                << (8 * (3 - group.len()));
            for digit in 0..4 {
                let value = bits >> (18 - 6 * digit) & 0x3f;
                let padding = digit > group.len();
                text.push(if padding { '=' } else { char::from(ALPHABET[value as usize]) });
            }
        }
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}
