//! Revocation lists of FISCO BCOS CAs: of version 1, as `openssl ca -gencrl` makes them.

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::{KeyPair, MintError, Name};
use crate::der;

/// What a CA has revoked: serial numbers, each with the moment from which on.
#[derive(Clone, Debug)]
pub struct ListTemplate<'a> {
    /// The entries.
    pub revoked: &'a [(Vec<u8>, OffsetDateTime)],
    /// When it is made.
    pub this_update: OffsetDateTime,
    /// When it is to be replaced.
    pub next_update: OffsetDateTime,
}

impl ListTemplate<'_> {
    /// The list in DER, signed by the CA with this certificate and key.
    ///
    /// # Errors
    /// When that is no certificate, or the system gives no randomness.
    pub fn sign(&self, ca: &CertificateDer<'_>, key: &KeyPair) -> Result<Vec<u8>, MintError> {
        let entry = |(serial, since): &(Vec<u8>, OffsetDateTime)| {
            der::sequence(&[&der::integer(serial), &der::moment(*since)])
        };
        let entries: Vec<u8> = self.revoked.iter().flat_map(entry).collect();
        let entries = if entries.is_empty() { entries } else { der::sequence(&[&entries]) };
        let signed = der::sequence(&[
            &key.algorithm(),
            &Name::subject_of(ca)?.0,
            &der::moment(self.this_update),
            &der::moment(self.next_update),
            &entries,
        ]);
        let signature = key.sign(&signed)?;
        Ok(der::sequence(&[&signed, &key.algorithm(), &der::bits(&signature)]))
    }
}
