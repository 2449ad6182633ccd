use time::{Duration, OffsetDateTime};

use super::*;
use crate::fisco::{
    Kind,
    mint::{Extensions, KeyPair, ListTemplate, Name, Template},
};

struct Ca(CertificateDer<'static>, KeyPair);

fn ca(kind: Kind, name: &str) -> Ca {
    let (key, name, now) =
        (KeyPair::generate(kind).unwrap(), Name::new(name, "o", "u"), OffsetDateTime::now_utc());
    let (not_before, not_after) = (now, now + Duration::days(9));
    let extensions = Extensions::Version1;
    let template = Template { subject: name.clone(), issuer: name, not_before, not_after, extensions };
    Ca(template.sign(&key, &key).unwrap(), key)
}

fn list(Ca(certificate, key): &Ca, serials: &[u8]) -> Vec<u8> {
    let now = OffsetDateTime::now_utc();
    let revoked: Vec<_> = serials.iter().map(|serial| (vec![*serial, 1], now)).collect();
    let (this_update, next_update) = (now, now + Duration::days(1));
    ListTemplate { revoked: &revoked, this_update, next_update }.sign(certificate, key).unwrap()
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

#[test]
fn a_list_counts_for_the_ca_that_signed_it() {
    for kind in [Kind::Rsa, Kind::Ec] {
        let (ours, same_name, other) = (ca(kind, "a"), ca(kind, "a"), ca(kind, "b"));
        // The second serial number is encoded with a zero before it.
        let der = list(&ours, &[0x11, 0x91]);
        let cas = [other.0.clone(), same_name.0.clone(), ours.0.clone()];
        let parsed = Crl::parse(&der, &cas, now()).unwrap();
        let serials: Vec<_> = parsed.serials().map(|(serial, _)| serial).collect();
        assert_eq!((parsed.len(), serials), (2, vec!["11:01".to_owned(), "91:01".to_owned()]));
        assert!(parsed.next_update().is_some_and(|next| next > parsed.this_update()));
        let issuer = parsed.issuer.clone();
        let revocations = Revocations::new(vec![parsed]);
        let check = |key: &KeyPair, serial: &[u8]| {
            revocations.check(error_of_leaf(), &issuer, |known| known == key.public(), serial)
        };
        assert!(matches!(check(&ours.1, &[0, 0x91, 1]), Err(ChainError::Revoked { .. })));
        assert_eq!(check(&ours.1, &[0x12, 1]), Ok(()));
        assert_eq!(check(&same_name.1, &[0x91, 1]), Ok(()), "another CA with the same name");
        let refused = |cas: &[CertificateDer<'_>]| Crl::parse(&der, cas, now()).unwrap_err();
        assert!(matches!(refused(&[other.0]), CrlError::UnknownIssuer { .. }));
        assert!(matches!(refused(&[same_name.0]), CrlError::Signature { .. }));
        assert!(matches!(Crl::parse(&der, &cas, 1).unwrap_err(), CrlError::NotValidYet(_)));
    }
}

fn error_of_leaf() -> &'static str {
    crate::error::LEAF
}

#[test]
fn what_is_damaged_is_refused_and_never_panics() {
    let ours = ca(Kind::Ec, "a");
    let (der, cas) = (list(&ours, &[1, 2, 3]), [ours.0]);
    for length in 0..der.len() {
        assert_eq!(Crl::parse(&der[..length], &cas, now()), Err(CrlError::Malformed), "cut at {length}");
    }
    for at in 0..der.len() {
        let mut damaged = der.clone();
        damaged[at] ^= 1;
        let parsed = Crl::parse(&damaged, &cas, now());
        assert!(parsed.is_err() || parsed == Crl::parse(&der, &cas, now()), "changed at {at}");
    }
}

#[test]
fn serial_numbers_are_read_as_people_write_them() {
    let check = |text: &str, bytes: &[u8]| assert_eq!(serial_from_hex(text).as_deref(), Ok(bytes), "{text}");
    check("0a:FF", &[10, 255]);
    check("aff", &[10, 255]);
    check("00:00:01", &[1]);
    for text in ["", ":", "0x1", "g", "ü", &"1".repeat(65)] {
        assert!(serial_from_hex(text).is_err(), "{text}");
    }
}
