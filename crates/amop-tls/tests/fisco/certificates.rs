//! A chain, or an RSA agency, and what it issues.

use std::sync::LazyLock;

use amop_tls::fisco::{
    Authority, Ca, Issuer, Kind, Purpose,
    mint::{Extensions, KeyPair, Name, Template},
};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};

/// RSA keys take a while to make, and which one it is matters to no test.
static RSA_KEYS: LazyLock<[KeyPair; 3]> =
    LazyLock::new(|| std::array::from_fn(|_| KeyPair::generate(Kind::Rsa).unwrap()));

/// Keys for a CA, another CA, and leaves.
#[derive(Clone, Copy)]
pub(crate) enum Holder {
    Ca,
    OtherCa,
    Leaf,
}

pub(crate) fn key(kind: Kind, holder: Holder) -> KeyPair {
    match kind {
        Kind::Rsa => KeyPair::from_der(kind, &RSA_KEYS[holder as usize].to_pkcs8().into()).unwrap(),
        Kind::Ec => KeyPair::generate(kind).unwrap(),
    }
}

/// An agency, with the chain's CA above it for secp256k1.
pub(crate) struct Agency {
    pub(crate) kind: Kind,
    pub(crate) name: Name,
    pub(crate) key: KeyPair,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) chain_name: Name,
    pub(crate) chain_key: Option<KeyPair>,
    pub(crate) chain: CertificateDer<'static>,
}

/// One day, from an hour ago.
pub(crate) fn template(subject: &Name, issuer: &Name, extensions: Extensions) -> Template {
    let now = OffsetDateTime::now_utc();
    Template {
        subject: subject.clone(),
        issuer: issuer.clone(),
        not_before: now - Duration::hours(1),
        not_after: now + Duration::days(1),
        extensions,
    }
}

impl Agency {
    pub(crate) fn new(kind: Kind) -> Self {
        Self::with(kind, Holder::Ca, Extensions::Ca)
    }

    /// Of the same names, with other keys.
    pub(crate) fn foreign(kind: Kind) -> Self {
        Self::with(kind, Holder::OtherCa, Extensions::Ca)
    }

    pub(crate) fn with(kind: Kind, holder: Holder, extensions: Extensions) -> Self {
        let own = key(kind, holder);
        match kind {
            Kind::Rsa => {
                let name = Name::new("bank-a", "fisco-bcos", "chain");
                let certificate = template(&name, &name, Extensions::Version1).sign(&own, &own).unwrap();
                let (chain_name, chain) = (name.clone(), certificate.clone());
                Self { kind, name, key: own, certificate, chain_name, chain_key: None, chain }
            }
            Kind::Ec => {
                let chain_name = Name::new("chain", "fisco-bcos", "chain");
                let above = key(kind, holder);
                let chain = template(&chain_name, &chain_name, Extensions::Version1);
                let chain = chain.sign(&above, &above).unwrap();
                let name = Name::new("bank-a", "fisco-bcos", "agency");
                let certificate = template(&name, &chain_name, extensions).sign(&own, &above).unwrap();
                Self { kind, name, key: own, certificate, chain_name, chain_key: Some(above), chain }
            }
        }
    }

    /// Another agency of the same chain.
    pub(crate) fn sibling(&self, name: &str) -> Self {
        let above = self.chain_key.as_ref().expect("a chain");
        let own = key(self.kind, Holder::Ca);
        let name = Name::new(name, "fisco-bcos", "agency");
        let certificate = template(&name, &self.chain_name, Extensions::Ca).sign(&own, above).unwrap();
        let chain_key = KeyPair::from_der(self.kind, &above.to_pkcs8().into()).unwrap();
        Self {
            kind: self.kind,
            name,
            key: own,
            certificate,
            chain_name: self.chain_name.clone(),
            chain_key: Some(chain_key),
            chain: self.chain.clone(),
        }
    }

    pub(crate) fn leaf(&self) -> Leaf {
        self.leaf_with(self.leaf_extensions(), |_| {})
    }

    pub(crate) fn leaf_extensions(&self) -> Extensions {
        match self.kind {
            Kind::Rsa => Extensions::Version1,
            Kind::Ec => Extensions::Leaf,
        }
    }

    pub(crate) fn leaf_with(&self, extensions: Extensions, change: impl FnOnce(&mut Template)) -> Leaf {
        let name = Name::new("FISCO-BCOS", "fisco-bcos", "agency");
        let mut template = template(&name, &self.name, extensions);
        change(&mut template);
        let key = key(self.kind, Holder::Leaf);
        let leaf = template.sign(&key, &self.key).unwrap();
        let chain = match self.kind {
            Kind::Rsa => vec![leaf],
            Kind::Ec => vec![leaf, self.certificate.clone(), self.chain.clone()],
        };
        Leaf { chain, key }
    }

    pub(crate) fn expired(&self) -> Leaf {
        self.leaf_with(self.leaf_extensions(), |t| t.not_after = t.not_before + Duration::minutes(1))
    }

    /// As a node of this agency has it.
    pub(crate) fn clients(&self) -> Authority {
        let chains = [Ca::parse(self.kind, &self.chain).unwrap()];
        let own = Ca::parse(self.kind, &self.certificate).unwrap();
        let issuer = Issuer::agency(own, &chains, Some("Bank A".into())).unwrap();
        Authority::new(self.kind, Purpose::Clients, vec![issuer])
    }

    /// As an SDK with this `ca.crt` has it.
    pub(crate) fn nodes(&self) -> Authority {
        let anchor = Issuer::anchor(Ca::parse(self.kind, &self.chain).unwrap(), None);
        Authority::new(self.kind, Purpose::Nodes, vec![anchor])
    }
}

pub(crate) struct Leaf {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: KeyPair,
}
