//! Certificates, keys, points and signatures that strangers present.

use amop_protocol::certificate::{Description, MAX_NAME_BYTES, ParseError, Role, Subject};
use amop_tls::{
    Authority, Crl,
    fisco::{self, Ca, Issuer, Kind, Purpose, kind_of_key},
    node_key,
    secp256k1::{ECDSA_SHA256, GROUP, POINT_BYTES, PrivateKey, is_point},
    serial_from_hex,
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer, UnixTime,
};

use crate::script::Script;

/// In November 2026: the seeds are valid.
const NOW: std::time::Duration = std::time::Duration::from_secs(1_795_300_000);

/// A chain of certificates, under every rule there is.
pub fn certificate(data: &[u8]) {
    let mut script = Script::new(data);
    let mut chain = Vec::new();
    while !script.is_over() && chain.len() < 5 {
        chain.push(CertificateDer::from(script.bytes().to_vec()));
    }
    for der in &chain {
        described(der);
        revoked(der, &chain);
    }
    let now = UnixTime::since_unix_epoch(NOW);
    if let Some((last, rest)) = chain.split_last() {
        consortium(last, rest, now);
        for kind in [Kind::Rsa, Kind::Ec] {
            fisco_bcos(kind, last, rest, now);
        }
    }
}

fn described(der: &[u8]) {
    let description = Description::parse(der);
    if let Ok(subject) = Subject::parse(der) {
        let description = description.as_ref().expect("what names somebody can be described");
        assert_eq!((&description.issuer, &description.serial), (&subject.issuer, &subject.serial));
        for name in [&subject.name, &subject.institution] {
            assert!((1..=MAX_NAME_BYTES).contains(&name.len()) && !name.contains(char::is_control));
        }
        assert_eq!(node_key(&subject).is_ok(), subject.key.is_some());
    }
    if let Ok(description) = description {
        assert!(![description.subject, description.issuer].concat().contains(char::is_control));
        let more = [der, &[0]].concat();
        assert_eq!(Description::parse(&more), Err(ParseError::Malformed));
    }
}

fn revoked(der: &[u8], cas: &[CertificateDer<'_>]) {
    let now = i64::try_from(NOW.as_secs()).expect("a moment");
    if let Ok(list) = Crl::parse(der, cas, now) {
        assert_eq!(list.serials().count(), list.len());
        list.serials().for_each(|(serial, _)| drop(serial_from_hex(&serial)));
    }
}

fn consortium(root: &CertificateDer<'_>, chain: &[CertificateDer<'_>], now: UnixTime) {
    let Ok(authority) = Authority::new(std::slice::from_ref(root)) else { return };
    for role in [Role::Node, Role::Client] {
        if let Ok(subject) = authority.verify_chain_at(chain, role, now) {
            assert_eq!(subject.role, role);
        }
    }
}

fn fisco_bcos(kind: Kind, root: &CertificateDer<'_>, chain: &[CertificateDer<'_>], now: UnixTime) {
    let Ok(ca) = Ca::parse(kind, root) else { return };
    for der in chain {
        if ca.issued(der) {
            Description::parse(der).expect("what was believed can be described");
        }
    }
    let agency = chain.last().and_then(|der| Ca::parse(kind, der).ok());
    let agency = agency.and_then(|agency| Issuer::agency(agency, std::slice::from_ref(&ca), None).ok());
    let issuers: Vec<Issuer> = agency.into_iter().chain([Issuer::anchor(ca, None)]).collect();
    for purpose in [Purpose::Clients, Purpose::Nodes] {
        let authority = fisco::Authority::new(kind, purpose, issuers.clone());
        if let Ok(identity) = authority.verify_chain_at(chain, now) {
            assert!(!identity.name.is_empty() && !identity.name.contains(char::is_control));
        }
    }
}

/// Private keys in DER, points and signatures on secp256k1.
pub fn keys(data: &[u8]) {
    let mut script = Script::new(data);
    match script.byte() % 6 {
        0 => private(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(script.rest().to_vec()))),
        1 => private(PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(script.rest().to_vec()))),
        2 => private(PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(script.rest().to_vec()))),
        3 => exchange(script.rest()),
        4 => {
            let key = script.bytes();
            let message = script.bytes();
            let valid = ECDSA_SHA256.verify_signature(key, message, script.rest()).is_ok();
            assert!(!valid || is_point(key));
        }
        _ => signed(script.bytes(), script.rest()),
    }
}

fn private(der: PrivateKeyDer<'static>) {
    let kind = kind_of_key(&der);
    let Ok(key) = PrivateKey::from_der(&der) else { return };
    assert_eq!(kind, Some(Kind::Ec));
    assert!(is_point(&key.public()));
    let again = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8().to_vec()));
    let again = PrivateKey::from_der(&again).expect("what was read can be written");
    assert_eq!(again.public(), key.public());
}

fn exchange(share: &[u8]) {
    let agreed = GROUP.start().expect("randomness").complete(share);
    assert_eq!(agreed.is_ok(), is_point(share));
    assert!(!is_point(share) || share.len() == POINT_BYTES);
}

/// A signature of ours holds, and holds no longer when a byte of it or of the message is another.
fn signed(scalar: &[u8], message: &[u8]) {
    let Some(key) = scalar.try_into().ok().and_then(|scalar| PrivateKey::from_scalar(scalar).ok()) else {
        return;
    };
    let signature = key.sign(message);
    let holds = |message: &[u8], signature: &[u8]| {
        ECDSA_SHA256.verify_signature(&key.public(), message, signature).is_ok()
    };
    assert!(holds(message, &signature));
    assert!(!holds(&[message, &[0]].concat(), &signature));
    assert!(!holds(message, &signature[..signature.len() - 1]));
}
