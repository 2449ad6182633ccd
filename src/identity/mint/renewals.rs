//! Which certificates share a key: what `amop certs renew` remembers, in a file beside the CA's revocation list.
//!
//! A certificate that was renewed stays good until its end, and is of the same key as the new one. Whoever
//! revokes either means the key, so both must be known where the CA is. The file is text, with a line for each
//! certificate: serial number, end, SHA-256 of the public key (as in the certificate), subject. Lines are
//! only added, under a lock, so that no two renewals lose each other's.

use std::{
    fmt, fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use amop_protocol::certificate::{Description, ParseError};
use amop_tls::{serial_from_hex, serial_of};
use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::MintError;

/// What stands at the beginning of a new file.
const HEADER: &str = "# Certificates that share keys, as `amop certs renew` made them; `amop certs revoke` reads this. \
                      Serial number, end, SHA-256 of the key, subject.\n";

/// A certificate that was renewed, or came of a renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its serial number, without leading zeros.
    pub serial: Vec<u8>,
    /// Last second of validity.
    pub not_after: OffsetDateTime,
    /// SHA-256 of its public key, in hex.
    pub key: String,
    /// Whose it is.
    pub subject: String,
}

impl Entry {
    /// What is to be remembered of a certificate.
    ///
    /// # Errors
    /// When `der` is not exactly one certificate.
    pub fn of(der: &CertificateDer<'_>) -> Result<Self, ParseError> {
        let Description { subject, not_after, .. } = Description::parse(der)?;
        let (_, parsed) = X509Certificate::from_der(der).map_err(|_| ParseError::Malformed)?;
        let key = hex(digest(&SHA256, parsed.public_key().raw).as_ref(), "");
        let not_after = OffsetDateTime::from_unix_timestamp(not_after).map_err(|_| ParseError::Malformed)?;
        Ok(Self { serial: serial_of(der)?, not_after, key, subject })
    }

    /// The serial number as people write it.
    pub fn serial_in_hex(&self) -> String {
        hex(&self.serial, ":")
    }

    /// Whether it has not come to its end.
    pub fn is_good(&self) -> bool {
        self.not_after >= OffsetDateTime::now_utc()
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(4, ' ');
        let serial = serial_from_hex(words.next()?).ok()?;
        let not_after = OffsetDateTime::parse(words.next()?, &Rfc3339).ok()?;
        let key = words.next().filter(|key| key.len() == 64)?.to_owned();
        Some(Self { serial, not_after, key, subject: words.next()?.to_owned() })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.not_after.format(&Rfc3339).map_err(|_| fmt::Error)?;
        write!(f, "{} {end} {} {}", self.serial_in_hex(), self.key, self.subject)
    }
}

/// Where the renewals of a CA are remembered, by the file of its revocation list.
pub fn beside(list: &Path) -> PathBuf {
    list.with_extension("renewed")
}

/// All that is remembered in a file; nothing if there is none.
///
/// # Errors
/// When it cannot be read, or a line makes no sense.
pub fn read(path: &Path) -> Result<Vec<Entry>, MintError> {
    match fs::read_to_string(path) {
        Ok(text) => parse(&text, path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(MintError::Read { path: path.to_owned(), source }),
    }
}

/// Remembers certificates, those that it did not know; on the disk when this returns.
///
/// # Errors
/// As [`read`], and when the file cannot be written; it is then as it was.
pub fn remember(path: &Path, certificates: &[Entry]) -> Result<(), MintError> {
    let failed = |source| MintError::Write { path: path.to_owned(), source };
    let mut file = fs::File::options().read(true).append(true).create(true).open(path).map_err(failed)?;
    lock(&file).map_err(failed)?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    let known = parse(&text, path)?;
    let new = certificates.iter().filter(|renewal| !known.contains(renewal));
    let mut added: String = new.map(|renewal| format!("{renewal}\n")).collect();
    if text.is_empty() {
        added.insert_str(0, HEADER);
    } else if !text.ends_with('\n') {
        // Somebody was interrupted, or has edited it: the last line ends here.
        added.insert(0, '\n');
    }
    let written = file.write_all(added.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|source| {
        // Nothing more can be done if even this fails; the error that matters is the first.
        let _ = file.set_len(text.len() as u64);
        failed(source)
    })
}

/// Waits for whoever else is writing. Where there are no locks, nobody can be waited for.
fn lock(file: &fs::File) -> io::Result<()> {
    match file.lock() {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        locked => locked,
    }
}

fn parse(text: &str, path: &Path) -> Result<Vec<Entry>, MintError> {
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|(at, line)| {
            Entry::parse(line).ok_or_else(|| MintError::Renewals { path: path.to_owned(), line: at + 1 })
        })
        .collect()
}

fn hex(bytes: &[u8], between: &str) -> String {
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(between)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Ca, LEAF_DAYS},
        *,
    };
    use crate::identity::Role;

    fn renewals(count: usize) -> Vec<Entry> {
        let bank = Ca::consortium("trade", 9).unwrap().institution("bank a", 9).unwrap();
        let leaf = |_| bank.leaf(Role::Client, "till 1", LEAF_DAYS).unwrap();
        (0..count).map(|at| Entry::of(&leaf(at).chain()[0]).unwrap()).collect()
    }

    #[test]
    fn what_is_remembered_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = beside(&directory.path().join("institution.crl"));
        assert!(path.ends_with("institution.renewed"));
        let all = renewals(3);
        assert_eq!(read(&path).unwrap(), []);
        remember(&path, &all[..2]).unwrap();
        remember(&path, &all).unwrap();
        assert_eq!(read(&path).unwrap(), all);
        assert!(all[0].is_good() && all[0].key != all[1].key);
        let lines = fs::read_to_string(&path).unwrap();
        assert!(lines.starts_with("# ") && lines.lines().count() == 4, "{lines}");
    }

    #[test]
    fn a_last_line_without_an_end_swallows_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("institution.renewed");
        let all = renewals(2);
        remember(&path, &all[..1]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.trim_end()).unwrap();
        remember(&path, &all[1..]).unwrap();
        assert_eq!(read(&path).unwrap(), all);
    }

    #[test]
    fn renewals_at_one_time_lose_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("institution.renewed");
        let all = renewals(8);
        std::thread::scope(|scope| {
            all.iter()
                .for_each(|one| drop(scope.spawn(|| remember(&path, std::slice::from_ref(one)).unwrap())));
        });
        let found = read(&path).unwrap();
        assert!(found.len() == 8 && all.iter().all(|one| found.contains(one)), "{found:?}");
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("institution.renewed");
        let good = renewals(1).remove(0).to_string();
        for (end, _) in good
            .char_indices()
            .take_while(|(end, _)| *end < good.len() - "CN=till 1, O=bank a, OU=client".len())
        {
            fs::write(&path, format!("\n{}\n", &good[..end])).unwrap();
            let said = read(&path).map(|found| found.len()).map_err(|error| error.to_string());
            assert!(
                end == 0 && said == Ok(0) || said.is_err_and(|said| said.contains("line 2")),
                "cut at {end}"
            );
        }
        fs::write(&path, "x").unwrap();
        assert!(remember(&path, &renewals(1)).is_err() && fs::read(&path).unwrap() == b"x");
        assert!(read(directory.path()).unwrap_err().to_string().contains("cannot read"));
    }
}
