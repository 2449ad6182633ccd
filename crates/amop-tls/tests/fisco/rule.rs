//! Which chains are believed, and what is said of the others.

use amop_tls::{
    ChainError, Crl, Revocations,
    fisco::{
        Authority, Ca, Issuer, Kind, Purpose, certified_key, kind_of_key,
        mint::{Extensions, KeyPair, ListTemplate, Name},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime};
use time::Duration;

use crate::certificates::{Agency, Holder, key, template};

const KINDS: [Kind; 2] = [Kind::Rsa, Kind::Ec];

fn check(agency: &Agency, chain: &[CertificateDer<'static>], says: &str) {
    for (who, authority) in [("node", agency.clients()), ("SDK", agency.nodes())] {
        let error = authority.verify_chain(chain).unwrap_err().to_string();
        assert!(error.contains(says), "{who}, {:?}: {error:?} should say {says:?}", agency.kind);
    }
}

#[test]
fn a_genuine_chain_says_who_its_holder_is() {
    for kind in KINDS {
        let agency = Agency::new(kind);
        let leaf = agency.leaf();
        let client = agency.clients().verify_chain(&leaf.chain).unwrap();
        assert_eq!((&*client.name, &*client.institution), ("FISCO-BCOS", "Bank A"), "as configured");
        let node = agency.nodes().verify_chain(&leaf.chain).unwrap();
        assert_eq!((&*node.name, &*node.institution), ("FISCO-BCOS", "bank-a"), "as the CA is called");
        // A node knows its agencies; an SDK may send its leaf alone.
        agency.clients().verify_chain(&leaf.chain[..1]).unwrap();
        // Later tools make version 3 of everything, some with less in it.
        for extensions in [Extensions::Leaf, Extensions::Version1] {
            agency.clients().verify_chain(&agency.leaf_with(extensions, |_| {}).chain).unwrap();
        }
        assert!(matches!(agency.clients().verify_chain(&[]), Err(ChainError::Missing)));
        check(&agency, &vec![leaf.chain[0].clone(); 5], "too large");
    }
}

#[test]
fn certificates_that_are_not_valid_now_are_refused() {
    for kind in KINDS {
        let agency = Agency::new(kind);
        check(&agency, &agency.expired().chain, "the certificate expired on");
        let early = agency.leaf_with(agency.leaf_extensions(), |t| t.not_before += Duration::hours(2));
        check(&agency, &early.chain, "the certificate is valid only from");
        // Leaves that outlive the CAs above them.
        let leaf = agency.leaf_with(agency.leaf_extensions(), |t| t.not_after += Duration::days(9));
        let at = |days: u64| {
            let seconds = UnixTime::now().as_secs() + days * 86_400;
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
        };
        for authority in [agency.clients(), agency.nodes()] {
            let error = authority.verify_chain_at(&leaf.chain, at(2)).unwrap_err().to_string();
            assert!(error.contains("of the CA that issued it expired on"), "{error}");
            assert!(authority.verify_chain_at(&leaf.chain, at(0)).is_ok());
        }
    }
}

#[test]
fn a_chain_whose_ca_has_expired_is_refused() {
    let agency = Agency::new(Kind::Ec);
    let above = agency.chain_key.as_ref().unwrap();
    let mut old = template(&agency.chain_name, &agency.chain_name, Extensions::Version1);
    old.not_after = old.not_before + Duration::minutes(1);
    let agency = Agency { chain: old.sign(above, above).unwrap(), ..Agency::new(Kind::Ec) };
    let own = Ca::parse(Kind::Ec, &agency.certificate).unwrap();
    let chains = [Ca::parse(Kind::Ec, &agency.chain).unwrap()];
    // Same name, another key: not the CA above this agency.
    let error = Issuer::agency(own, &chains, None).unwrap_err().to_string();
    assert!(error.contains("CN=chain, O=fisco-bcos, OU=chain is none of the CAs"), "{error}");

    let genuine = Agency::new(Kind::Ec);
    let above = genuine.chain_key.as_ref().unwrap();
    let expired = Agency { chain: old.sign(above, above).unwrap(), ..genuine };
    check(&expired, &expired.leaf().chain, "the certificate of the chain's CA expired on");
}

#[test]
fn both_certificates_of_a_renewed_ca_may_be_configured() {
    for kind in KINDS {
        let agency = Agency::new(kind);
        let above = agency.chain_key.as_ref().unwrap_or(&agency.key);
        let mut old = template(&agency.chain_name, &agency.chain_name, Extensions::Version1);
        old.not_after = old.not_before + Duration::minutes(1);
        let [old, new] =
            [old.sign(above, above).unwrap(), agency.chain.clone()].map(|der| Ca::parse(kind, &der).unwrap());
        assert!(old != new && old.is_same_ca(&new));
        assert!(!old.is_same_ca(&Ca::parse(kind, &Agency::foreign(kind).chain).unwrap()), "another key");
        let believing = |cas: &[&Ca]| {
            let issuers = cas.iter().map(|ca| Issuer::anchor((*ca).clone(), None)).collect();
            Authority::new(kind, Purpose::Nodes, issuers)
        };
        for cas in [[&old, &new], [&new, &old]] {
            believing(&cas).verify_chain(&agency.leaf().chain).unwrap();
        }
        let error = believing(&[&old, &old]).verify_chain(&agency.leaf().chain).unwrap_err();
        assert!(matches!(error, ChainError::Expired { .. }), "{error}");
    }
}

#[test]
fn other_agencies_and_forgeries_are_refused() {
    for kind in KINDS {
        let (agency, foreign) = (Agency::new(kind), Agency::foreign(kind));
        // The names are the same: only the signature tells.
        let error = agency.clients().verify_chain(&foreign.leaf().chain).unwrap_err();
        let says = "not signed by the CA configured here as CN=bank-a, O=fisco-bcos";
        assert!(error.to_string().contains(says), "{error}");
        agency.nodes().verify_chain(&foreign.leaf().chain).unwrap_err();

        let other = agency.leaf_with(agency.leaf_extensions(), |t| {
            t.issuer = Name::new("bank-b", "fisco-bcos", "agency");
        });
        check(&agency, &other.chain, "its issuer CN=bank-b, O=fisco-bcos, OU=agency is none of the CAs");

        // One byte of what is signed: in the serial number, which decides nothing else.
        let mut tampered = agency.leaf().chain;
        let mut bytes = tampered[0].to_vec();
        let at = bytes.windows(2).position(|w| w == [2, 16]).unwrap() + 10;
        bytes[at] ^= 1;
        tampered[0] = bytes.into();
        let error = agency.clients().verify_chain(&tampered).unwrap_err().to_string();
        assert!(error.contains("not signed by the CA"), "{error}");
        agency.nodes().verify_chain(&tampered).unwrap_err();
    }
}

#[test]
fn another_agency_of_the_chain_is_believed_where_it_is_configured() {
    let agency = Agency::new(Kind::Ec);
    let sibling = agency.sibling("bank-b");
    let leaf = sibling.leaf();
    let error = agency.clients().verify_chain(&leaf.chain).unwrap_err().to_string();
    assert!(error.contains("CN=bank-b") && error.contains("add that CA"), "{error}");
    // SDKs believe the whole chain, as the official ones do.
    assert_eq!(&*agency.nodes().verify_chain(&leaf.chain).unwrap().institution, "bank-b");
    let error = agency.nodes().verify_chain(&leaf.chain[..1]).unwrap_err().to_string();
    assert!(error.contains("none of the CAs configured"), "the agency must come along: {error}");

    let chains = [Ca::parse(Kind::Ec, &agency.chain).unwrap()];
    let issuers = [(&agency, "A"), (&sibling, "B")].map(|(agency, institution)| {
        let ca = Ca::parse(Kind::Ec, &agency.certificate).unwrap();
        Issuer::agency(ca, &chains, Some(institution.into())).unwrap()
    });
    let both = Authority::new(Kind::Ec, Purpose::Clients, issuers.into());
    assert_eq!(&*both.verify_chain(&leaf.chain).unwrap().institution, "B");
    assert_eq!(&*both.verify_chain(&agency.leaf().chain).unwrap().institution, "A");
}

/// Also if it stands beside the CA that has revoked it, and is believed by itself.
#[test]
fn an_agency_is_revoked_by_its_chain_wherever_it_is_configured() {
    let agency = Agency::new(Kind::Ec);
    let (own, chain) = (&agency.certificate, &agency.chain);
    let serial = amop_tls::serial_of(own).unwrap();
    let of_chain = |serial: Vec<u8>| {
        let now = time::OffsetDateTime::now_utc();
        let template = ListTemplate {
            revoked: &[(serial, now - Duration::minutes(1))],
            this_update: now - Duration::minutes(1),
            next_update: now + Duration::days(1),
        };
        let list = template.sign(chain, agency.chain_key.as_ref().unwrap()).unwrap();
        Revocations::new(vec![Crl::parse(&list, std::slice::from_ref(chain), now.unix_timestamp()).unwrap()])
    };
    let [own, chain] = [own, chain].map(|der| Ca::parse(Kind::Ec, der).unwrap());
    let issuer = |chains: &[Ca]| Issuer::agency(own.clone(), chains, None).unwrap();
    let anchors = || [&own, &chain].map(|ca| Issuer::anchor(ca.clone(), None));
    for (purpose, issuers) in [
        (Purpose::Clients, vec![issuer(std::slice::from_ref(&chain))]),
        (Purpose::Clients, vec![issuer(&[chain.clone(), own.clone()])]),
        (Purpose::Clients, anchors().into()),
        (Purpose::Nodes, anchors().into()),
        (Purpose::Nodes, vec![Issuer::anchor(chain.clone(), None)]),
    ] {
        let authority = Authority::new(Kind::Ec, purpose, issuers);
        let judge = |serial| authority.clone().revoking(of_chain(serial)).verify_chain(&agency.leaf().chain);
        judge(vec![99]).unwrap();
        let error = judge(serial.clone()).unwrap_err();
        assert!(matches!(error, ChainError::Revoked { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains("the certificate of the CA that issued it"), "{error}");
    }
}

#[test]
fn only_what_says_so_is_a_ca() {
    for kind in KINDS {
        let agency = Agency::new(kind);
        check(&agency, &agency.leaf_with(Extensions::Ca, |_| {}).chain, "it is a CA's certificate");
        check(&agency, std::slice::from_ref(&agency.chain), "it is a CA's certificate");
        // A leaf is no CA, whoever signs with its key.
        let (issuer, subject) = (agency.leaf(), Name::new("FISCO-BCOS", "fisco-bcos", "agency"));
        let below = template(&Name::new("x", "fisco-bcos", "sdk"), &subject, agency.leaf_extensions());
        let below = below.sign(&key(kind, Holder::OtherCa), &issuer.key).unwrap();
        let chain = [below, issuer.chain[0].clone()];
        agency.clients().verify_chain(&chain).unwrap_err();
        agency.nodes().verify_chain(&chain).unwrap_err();
    }
}

#[test]
fn a_version_1_certificate_from_the_wire_makes_no_ca() {
    // The chain's CA did sign it; but nothing in it says that it may issue.
    for (extensions, says) in [(Extensions::Version1, "version 1"), (Extensions::Leaf, "no CA")] {
        let agency = Agency::with(Kind::Ec, Holder::Ca, extensions);
        let error = agency.nodes().verify_chain(&agency.leaf().chain).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let agency = Agency::with(Kind::Ec, Holder::Ca, Extensions::Version1);
    let own = Ca::parse(Kind::Ec, &agency.certificate).unwrap();
    let above = [Ca::parse(Kind::Ec, &agency.chain).unwrap()];
    let error = Issuer::agency(own, &above, None).unwrap_err();
    assert_eq!(error, ChainError::Version1Ca);
    // An agency below an agency.
    let agency = Agency::new(Kind::Ec);
    let deep =
        Agency { chain_name: agency.name.clone(), chain_key: Some(agency.key), ..Agency::new(Kind::Ec) };
    let deep = deep.sibling("deep").leaf();
    let chain = [deep.chain[0].clone(), deep.chain[1].clone(), agency.certificate.clone()];
    let anchor = Issuer::anchor(Ca::parse(Kind::Ec, &agency.chain).unwrap(), None);
    let nodes = Authority::new(Kind::Ec, Purpose::Nodes, vec![anchor]);
    assert!(matches!(nodes.verify_chain(&chain), Err(ChainError::UnknownCa { .. })));
}

#[test]
fn keys_algorithms_and_extensions_are_those_of_the_profile() {
    let (rsa, ec) = (Agency::new(Kind::Rsa), Agency::new(Kind::Ec));
    check(&rsa, &ec.leaf().chain, "its key is secp256k1, but certificates of the profile fisco-rsa");
    check(&ec, &rsa.leaf().chain, "its key is RSA, but certificates of the profile fisco-ec");
    let p256 = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap().cert.der().clone();
    check(&ec, std::slice::from_ref(&p256), "its key is P-256");
    for agency in [rsa, ec] {
        let chain = |extensions| agency.leaf_with(extensions, |_| {}).chain;
        check(&agency, &chain(Extensions::UnknownCritical), "critical extension 1.2.3.4");
        check(&agency, &chain(Extensions::NoSignature), "lacks the key usage digitalSignature");
        // The outer name of the algorithm: its last byte stands before the signature.
        let leaf = agency.leaf().chain[0].to_vec();
        let (oid, other): (&[u8], u8) = match agency.kind {
            Kind::Rsa => (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11], 12),
            Kind::Ec => (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2], 3),
        };
        let at: Vec<_> = (0..leaf.len() - oid.len()).filter(|at| leaf[*at..].starts_with(oid)).collect();
        let set = |places: &[usize], value: u8| {
            let mut changed = leaf.clone();
            for place in places {
                changed[place + oid.len() - 1] = value;
            }
            [changed.into()]
        };
        check(&agency, &set(&at[1..], other), "two signature algorithms");
        check(&agency, &set(&at, 99), "signed with the algorithm");
    }
}

#[test]
fn a_key_goes_with_its_certificate_only() {
    for kind in KINDS {
        let agency = Agency::new(kind);
        let leaf = agency.leaf();
        let der = leaf.key.to_pkcs8().into();
        assert_eq!(kind_of_key(&der), Some(kind));
        certified_key(kind, leaf.chain.clone(), &der).unwrap();
        let other = key(kind, Holder::OtherCa).to_pkcs8().into();
        let error = certified_key(kind, leaf.chain.clone(), &other).unwrap_err();
        assert!(error.to_string().contains("does not belong to the certificate"), "{error}");
        let p256 = rcgen::KeyPair::generate().unwrap().serialize_der();
        let p256 = rustls_pki_types::PrivatePkcs8KeyDer::from(p256).into();
        assert_eq!(kind_of_key(&p256), None);
        assert!(certified_key(kind, leaf.chain, &p256).unwrap_err().to_string().contains("it is not a"));
    }
    assert!(KeyPair::from_der(Kind::Rsa, &key(Kind::Ec, Holder::Leaf).to_pkcs8().into()).is_err());
}

#[test]
fn nothing_that_is_damaged_is_believed_and_nothing_panics() {
    for kind in KINDS {
        let agency = Agency::new(kind);
        let (nodes, good) = (agency.nodes(), agency.leaf().chain);
        for which in 0..good.len().min(2) {
            for at in 0..good[which].len() {
                let mut chain = good.clone();
                chain[which] = good[which][..at].to_vec().into();
                assert!(nodes.verify_chain(&chain).is_err(), "{kind:?} {which} cut at {at}");
                for flip in [1, 0x80, 0xff] {
                    let mut bytes = good[which].to_vec();
                    bytes[at] ^= flip;
                    let _ = Ca::parse(kind, &CertificateDer::from(bytes.clone()));
                    chain[which] = bytes.into();
                    assert!(nodes.verify_chain(&chain).is_err(), "{kind:?} {which} {flip} at {at}");
                }
            }
        }
    }
}
