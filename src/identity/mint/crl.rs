//! Revocation lists of CAs that we hold the keys of.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use amop_tls::{
    Crl,
    fisco::{Kind, mint::ListTemplate},
    serial_from_hex,
};
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::{Ca, CaKind, MintError, check_days, fisco::Agency, renew::replace_text};
use crate::identity::pem;

/// Days until a list is to be replaced unless said otherwise.
pub const CRL_DAYS: u32 = 30;
/// Lists are dated so long before they are made, for clocks that are behind.
const BACKDATED: Duration = Duration::minutes(10);

/// A CA's list in the making: what it has revoked, by serial number, and since when.
#[derive(Clone, Debug, Default)]
pub struct Revoked {
    entries: BTreeMap<Vec<u8>, OffsetDateTime>,
    number: u64,
    this_update: Option<OffsetDateTime>,
}

impl Revoked {
    /// Adds a certificate, by its serial number without leading zeros; false if it is there already.
    pub fn add(&mut self, serial: Vec<u8>) -> bool {
        let now = OffsetDateTime::now_utc();
        let new = !self.entries.contains_key(&serial);
        self.entries.entry(serial).or_insert(now);
        new
    }
}

/// A CA whose key is at hand.
pub trait Revoker {
    /// Its certificate.
    fn certificate(&self) -> &CertificateDer<'static>;

    /// The name of the file with its list, in its directory.
    fn list_name(&self) -> &'static str;

    /// The list, in DER, made at `dates.0` and to be replaced at `dates.1`.
    ///
    /// # Errors
    /// When the cryptography refuses.
    fn sign_list(
        &self,
        revoked: &Revoked,
        dates: (OffsetDateTime, OffsetDateTime),
    ) -> Result<Vec<u8>, MintError>;

    /// What this CA has revoked so far, as the list in `path` has it; nothing if there is no such file.
    ///
    /// # Errors
    /// When it cannot be read, or is not this CA's.
    fn revoked(&self, path: &Path) -> Result<Revoked, MintError> {
        if !path.exists() {
            return Ok(Revoked::default());
        }
        let (lists, _) = pem::revocation_lists(path)?;
        let wrong = |source| MintError::Crl { path: path.to_owned(), source };
        let der = lists.first().map(Vec::as_slice).unwrap_or_default();
        let list = Crl::parse(der, std::slice::from_ref(self.certificate()), i64::MAX).map_err(wrong)?;
        let at = |unix| OffsetDateTime::from_unix_timestamp(unix).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let entries =
            list.serials().filter_map(|(serial, since)| Some((serial_from_hex(&serial).ok()?, at(since))));
        let number = CertificateRevocationList::from_der(der).ok();
        let number = number.and_then(|(_, list)| u64::try_from(list.crl_number()?).ok());
        Ok(Revoked {
            entries: entries.collect(),
            number: number.unwrap_or_default(),
            this_update: Some(at(list.this_update())),
        })
    }

    /// Writes a list that is to be replaced after so many days, with this CA's certificate behind it.
    ///
    /// # Errors
    /// When the validity cannot be used, or the disk refuses.
    fn save_crl(&self, revoked: &Revoked, days: u32, path: &Path) -> Result<PathBuf, MintError> {
        check_days(days)?;
        let now = OffsetDateTime::now_utc();
        let made = now - BACKDATED;
        let made = revoked.this_update.map_or(made, |before| before.max(made));
        let list = self.sign_list(revoked, (made, now + Duration::days(i64::from(days))))?;
        let text = pem::encode("X509 CRL", &list) + &pem::encode("CERTIFICATE", self.certificate());
        replace_text(path, text)
    }
}

impl Revoker for Ca {
    fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    fn list_name(&self) -> &'static str {
        match self.kind {
            CaKind::Consortium => "ca.crl",
            CaKind::Institution => "institution.crl",
        }
    }

    fn sign_list(
        &self,
        revoked: &Revoked,
        (this_update, next_update): (OffsetDateTime, OffsetDateTime),
    ) -> Result<Vec<u8>, MintError> {
        let entry = |(serial, since): (&Vec<u8>, &OffsetDateTime)| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: *since,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update,
            next_update,
            crl_number: SerialNumber::from(revoked.number.saturating_add(1)),
            issuing_distribution_point: None,
            revoked_certs: revoked.entries.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.issuer)?.der().to_vec())
    }
}

impl Revoker for Agency {
    fn certificate(&self) -> &CertificateDer<'static> {
        Self::certificate(self)
    }

    fn list_name(&self) -> &'static str {
        match self.kind() {
            Kind::Rsa => "ca.crl",
            Kind::Ec => "agency.crl",
        }
    }

    fn sign_list(
        &self,
        revoked: &Revoked,
        (this_update, next_update): (OffsetDateTime, OffsetDateTime),
    ) -> Result<Vec<u8>, MintError> {
        let revoked: Vec<_> =
            revoked.entries.iter().map(|(serial, since)| (serial.clone(), *since)).collect();
        let template = ListTemplate { revoked: &revoked, this_update, next_update };
        Ok(template.sign(Self::certificate(self), self.key())?)
    }
}
