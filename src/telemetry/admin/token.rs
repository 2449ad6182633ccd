//! The token that shows authority over a node: a secret in a file that only its owner can read.

use std::{
    fmt, fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Random bytes of a token that is made here; twice as many hex digits.
const RANDOM_BYTES: usize = 32;
/// Characters that a token may have: fewer could be guessed, more are no token.
const LENGTH: std::ops::RangeInclusive<usize> = 32..=256;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the admin token {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not there and cannot be made.
    #[error(
        "cannot make the admin token {}: {source}; name a file in a directory that the node can write in admin.token, \
         make it yourself, or set admin.token = \"off\"",
        path.display()
    )]
    Make {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others than the owner may read it.
    #[error("the admin token {0} may be read by others (mode {mode:04o}); run: chmod 600 {0}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// What is in the file is no token.
    #[error(
        "{} holds no admin token: {} to {} letters, digits or signs without spaces; remove it, and the node makes a new \
         one at its start",
        path.display(), LENGTH.start(), LENGTH.end()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The system gives no randomness.
    #[error("the system has no randomness for an admin token")]
    Random,
}

/// A token as whoever asks has it. Shows nothing of itself in `Debug`.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Reads the file of a token, which only its owner may be able to read.
    ///
    /// # Errors
    /// When it cannot be read, others may read it, or it holds no token.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::Read { path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(failed)?;
        refuse_exposed(&file, path)?;
        let mut text = Zeroizing::new(String::new());
        // A line end and a byte too many, so that what is too long is seen to be.
        file.take(*LENGTH.end() as u64 + 3).read_to_string(&mut text).map_err(failed)?;
        let token = text.trim_end_matches(['\r', '\n']);
        let is_token = LENGTH.contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
        match is_token {
            true => Ok(Self(Zeroizing::new(token.to_owned()))),
            false => Err(TokenError::Malformed { path: path.to_owned() }),
        }
    }

    /// As [`Secret::load`]; makes the file, readable by its owner only, if it is not there.
    ///
    /// # Errors
    /// As [`Secret::load`], and when it cannot be made.
    pub fn load_or_make(path: &Path) -> Result<Self, TokenError> {
        match make(path) {
            Ok(()) => {
                tracing::info!(path = %path.display(), "made an admin token; whoever can read it can stop this node");
                Self::load(path)
            }
            Err(TokenError::Make { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                Self::load(path)
            }
            // What is there can be used though nothing could be written beside it.
            Err(error) => match Self::load(path) {
                Err(TokenError::Read { source, .. }) if is_nothing_there(&source) => Err(error),
                loaded => loaded,
            },
        }
    }

    /// The token itself, to be shown to a node.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Neither the file, nor a directory that it could be in.
fn is_nothing_there(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// What a node keeps of its token: enough to know it again, not enough to show it.
#[derive(Clone, Debug)]
pub(super) struct Known([u8; 32]);

impl Known {
    pub(super) fn new(secret: &Secret) -> Self {
        Self(hash(secret.expose().as_bytes()))
    }

    /// Whether this is the token, in a time that says nothing about how much of it is right.
    pub(super) fn is(&self, shown: &[u8]) -> bool {
        shown.len() <= *LENGTH.end() && bool::from(hash(shown).ct_eq(&self.0))
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// Writes a new token beside its place and gives it its name, so that nobody ever reads half of it,
/// and of two who make it at once one wins.
fn make(path: &Path) -> Result<(), TokenError> {
    let failed = |source| TokenError::Make { path: path.to_owned(), source };
    if path.symlink_metadata().is_ok() {
        return Err(failed(io::ErrorKind::AlreadyExists.into()));
    }
    let mut random = Zeroizing::new([0; RANDOM_BYTES]);
    SystemRandom::new().fill(&mut *random).map_err(|_| TokenError::Random)?;
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let hex = Zeroizing::new(hex);
    let mut suffix = [0; 8];
    SystemRandom::new().fill(&mut suffix).map_err(|_| TokenError::Random)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{:016x}", u64::from_le_bytes(suffix)));
    let written = write(&beside, &hex).and_then(|()| fs::hard_link(&beside, path));
    // Nothing to add if it cannot be removed: it holds a token that is used for nothing, or is the token.
    let _ = fs::remove_file(&beside);
    written.map_err(failed)
}

fn write(path: &Path, token: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{token}")?;
    file.sync_all()
}

fn refuse_exposed(file: &fs::File, path: &Path) -> Result<(), TokenError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let failed = |source| TokenError::Read { path: path.to_owned(), source };
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(TokenError::Exposed { path: path.to_owned(), mode });
        }
    }
    #[cfg(not(unix))]
    let _ = (file, path);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("admin.token");
        let made = Secret::load_or_make(&path).expect("made");
        assert_eq!(made.expose().len(), 2 * RANDOM_BYTES);
        let again = Secret::load_or_make(&path).expect("there");
        assert_eq!(made.expose(), again.expose());
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1, "nothing is left beside it");
        assert!(!format!("{made:?}").contains(made.expose()));
        assert!(Known::new(&made).is(again.expose().as_bytes()));
        assert!(!Known::new(&made).is(&again.expose().as_bytes()[1..]));
        assert!(!Known::new(&made).is(b""));
    }

    #[test]
    fn many_who_make_it_at_once_have_the_same() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("admin.token");
        let made: Vec<String> = std::thread::scope(|scope| {
            let make = || Secret::load_or_make(&path).expect("made").expose().to_owned();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(made.iter().all(|token| *token == made[0]));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_token_is_refused_with_the_cure() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("t");
        let check = |text: &[u8], mode: u32, says: &str| {
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
            let error = Secret::load_or_make(&path).expect_err("no token").to_string();
            assert!(error.contains(says) && error.contains("/t"), "{error}");
        };
        check(&[b'a'; 64], 0o640, "chmod 600");
        check(b"short", 0o600, "32 to 256");
        check(&[b'a'; 257], 0o600, "32 to 256");
        check(b"two words that are long enough to be a token", 0o600, "without spaces");
        check(&[0xff; 64], 0o600, "cannot read");
        let error = Secret::load_or_make(&dir.path().join("no/t")).expect_err("no directory").to_string();
        assert!(error.contains("admin.token") && error.contains("\"off\""), "{error}");
    }
}
