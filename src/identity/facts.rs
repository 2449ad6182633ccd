//! What there is to know of the certificates in force: for status, metrics and warnings.

use amop_protocol::certificate::Description;
use amop_tls::{Crl, fingerprint};
use rustls_pki_types::CertificateDer;

/// What a certificate, or a list, is to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Of {
    /// The node's own.
    Node,
    /// That of a CA that the node presents beside its own.
    Issuer,
    /// That of a CA it believes.
    Root,
    /// A listener's own, of a FISCO BCOS profile.
    ClientPort,
    /// That of a CA whose clients such a listener takes.
    Agency,
    /// What a CA has revoked.
    RevocationList,
}

impl Of {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Node, Self::Issuer, Self::Root, Self::ClientPort, Self::Agency, Self::RevocationList];

    /// The word for it in logs, metrics and status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Issuer => "issuer",
            Self::Root => "root",
            Self::ClientPort => "client_port",
            Self::Agency => "agency",
            Self::RevocationList => "revocation_list",
        }
    }
}

/// One certificate, or one revocation list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fact {
    /// What it is to the node.
    pub of: Of,
    /// Whose it is; of a list, the CA's name.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// Its serial number in hex; of a list, how many certificates it revokes.
    pub serial: String,
    /// First second of validity, Unix time.
    pub not_before: i64,
    /// Last second of validity, Unix time; of a list, when a newer one is due. `i64::MAX`: never.
    pub not_after: i64,
    /// Tells it from all others: SHA-256 in hex.
    pub id: String,
}

impl Fact {
    pub(super) fn of_certificate(of: Of, der: &CertificateDer<'_>) -> Option<Self> {
        let Description { subject, issuer, serial, not_before, not_after, .. } =
            Description::parse(der).ok()?;
        Some(Self { of, subject, issuer, serial, not_before, not_after, id: fingerprint(der).to_hex() })
    }

    pub(super) fn of_list(list: &Crl) -> Self {
        Self {
            of: Of::RevocationList,
            subject: list.issuer().to_owned(),
            issuer: list.issuer().to_owned(),
            serial: list.len().to_string(),
            not_before: list.this_update(),
            not_after: list.next_update().unwrap_or(i64::MAX),
            id: list.digest().to_hex(),
        }
    }
}
