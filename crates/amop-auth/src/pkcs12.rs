//! PKCS#12, in which Java keeps private keys.

use amop_tls::secp256k1::PrivateKey;
use p12_keystore::{KeyStore, KeyStoreEntry, Pkcs12Archive, PrivateKeyChain, error::Error};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// What the one entry of a store that is written here is called.
const ALIAS: &str = "amop";

/// Why PKCS#12 gives no key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Pkcs12Error {
    /// Its check value differs.
    #[error("the password of this PKCS#12 file is another one")]
    Password,
    /// It does not parse, or uses what is not supported.
    #[error("this PKCS#12 file cannot be read: {0}")]
    Damaged(String),
    /// It has keys of other kinds only, or none.
    #[error("this PKCS#12 file holds no private key on the curve secp256k1")]
    NoKey,
}

impl From<Error> for Pkcs12Error {
    fn from(error: Error) -> Self {
        match error {
            Error::MacError(_) => Self::Password,
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// Whether `bytes` begin as DER does, and none of the text encodings.
pub(crate) fn is_pkcs12(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, second, ..] if *second >= 0x80)
}

/// The first private key that is on the curve.
pub(crate) fn open(bytes: &[u8], password: &str) -> Result<PrivateKey, Pkcs12Error> {
    let archive = Pkcs12Archive::from_pkcs12(bytes, password)?;
    let mut keys = archive.keys.iter().map(|bag| PrivatePkcs8KeyDer::from(bag.key.as_der()));
    keys.find_map(|der| PrivateKey::from_der(&PrivateKeyDer::Pkcs8(der)).ok()).ok_or(Pkcs12Error::NoKey)
}

/// A store with one key, given in PKCS#8.
pub(crate) fn write(pkcs8: &[u8], password: &str) -> Result<Vec<u8>, Pkcs12Error> {
    let key = p12_keystore::PrivateKey::from_der(pkcs8)?;
    let mut store = KeyStore::new();
    store.add_entry(ALIAS, KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new(ALIAS, key, [])));
    Ok(store.writer(password).write()?)
}
