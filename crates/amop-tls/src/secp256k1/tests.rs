use rustls::{
    NamedGroup, ProtocolVersion, SignatureScheme,
    crypto::ActiveKeyExchange,
    sign::{Signer, SigningKey},
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};

use super::{exchange::Exchange, *};

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn key(scalar: &str) -> PrivateKey {
    PrivateKey::from_scalar(&hex(scalar).try_into().unwrap()).unwrap()
}

const ONE: &str = "0000000000000000000000000000000000000000000000000000000000000001";
/// The order of the curve, less one.
const LAST: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140";

/// A key that OpenSSL made, its point, and the same key in both encodings.
const SCALAR: &str = "d7775a40829aaa02436132c9ced85be7951cfa901c7012d12fce665673e20d62";
const POINT: &str = "040a9cce982370fddc38f4bfb7e960a5f2782ba277dbf460f3368326b879dd9b0b\
                     27dff3879445764c7ba339f30062e2cb4afaaeaa622bc5370e5d82b3ecaeb567";
const PKCS8: &str = "308184020100301006072a8648ce3d020106052b8104000a046d306b0201010420\
                     d7775a40829aaa02436132c9ced85be7951cfa901c7012d12fce665673e20d62a14403420004\
                     0a9cce982370fddc38f4bfb7e960a5f2782ba277dbf460f3368326b879dd9b0b\
                     27dff3879445764c7ba339f30062e2cb4afaaeaa622bc5370e5d82b3ecaeb567";
const SEC1: &str = "30740201010420d7775a40829aaa02436132c9ced85be7951cfa901c7012d12fce665673e20d62\
                    a00706052b8104000aa144034200040a9cce982370fddc38f4bfb7e960a5f2782ba277dbf460f3368326b879dd9b0b\
                    27dff3879445764c7ba339f30062e2cb4afaaeaa622bc5370e5d82b3ecaeb567";

fn complete(scalar: &str, peer: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let key = key(scalar);
    let exchange = Box::new(Exchange { public: key.public(), key });
    exchange.complete(peer).map(|secret| secret.secret_bytes().to_vec())
}

/// Cases 1, 3 and 4 of Wycheproof's `ecdh_secp256k1_test`.
#[test]
fn exchanges_have_the_published_results() {
    let check = |point: &str, scalar: &str, x: &str| {
        assert_eq!(complete(scalar, &hex(point)).unwrap(), hex(x), "{point}");
    };
    check(
        "04d8096af8a11e0b80037e1ee68246b5dcbb0aeb1cf1244fd767db80f3fa27da2b396812ea1686e7472e9692eaf3e958e50e9500d3b4c77243db1f2acd67ba9cc4",
        "f4b7ff7cccc98813a69fae3df222bfe3f4e28f764bf91b4a10d8096ce446b254",
        "544dfae22af6af939042b1d85b71a1e49e9a5614123c4d6ad0c8af65baf87d65",
    );
    // The secret is the whole coordinate, with its zeros.
    check(
        "04965ff42d654e058ee7317cced7caf093fbb180d8d3a74b0dcd9d8cd47a39d5cb9c2aa4daac01a4be37c20467ede964662f12983e0b5272a47a5f2785685d8087",
        "a2b6442a37f8a3764aeff4011a4c422b389a1e509669c43f279c8b7e32d80c3a",
        ONE,
    );
}

#[test]
fn two_ends_agree_on_points_of_65_bytes_in_tls_1_2_only() {
    let (one, two) = (GROUP.start().unwrap(), GROUP.start().unwrap());
    let (first, second) = (one.pub_key().to_vec(), two.pub_key().to_vec());
    assert_eq!((first.len(), first[0], one.group()), (65, 4, NamedGroup::from(0x0016)));
    assert_ne!(first, second, "keys are fresh");
    let (one, two) = (one.complete(&second).unwrap(), two.complete(&first).unwrap());
    assert_eq!((one.secret_bytes().len(), one.secret_bytes()), (32, two.secret_bytes()));
    assert!(GROUP.usable_for_version(ProtocolVersion::TLSv1_2));
    assert!(!GROUP.usable_for_version(ProtocolVersion::TLSv1_3));
    assert_eq!((GROUP.name(), GROUP.ffdhe_group().is_none()), (NamedGroup::from(22), true));
}

#[test]
fn points_that_are_none_are_refused_everywhere() {
    let good = hex(POINT);
    let odd = good[64] & 1;
    let changed = |at: usize, byte: u8| {
        let mut point = good.clone();
        point[at] = byte;
        point
    };
    let bad = [
        ("nothing", vec![]),
        ("infinity", vec![0]),
        ("compressed", [&[2 + odd], &good[1..33]].concat()),
        ("hybrid", changed(0, 6 + odd)),
        ("infinity at full length", [0; 65].to_vec()),
        ("the origin", [&[4], &[0; 64][..]].concat()),
        ("off the curve", changed(64, good[64] ^ 1)),
        ("coordinates above the field", [&[4], &[0xff; 64][..]].concat()),
        ("without its first byte", good[1..].to_vec()),
        ("cut", good[..64].to_vec()),
        ("and more", [&good[..], &[0]].concat()),
    ];
    let signature = key(SCALAR).sign(b"m");
    assert!(complete(ONE, &good).is_ok() && ECDSA_SHA256.verify_signature(&good, b"m", &signature).is_ok());
    for (what, point) in bad {
        assert!(!is_point(&point), "{what}");
        assert!(complete(ONE, &point).is_err(), "{what}");
        assert!(ECDSA_SHA256.verify_signature(&point, b"m", &signature).is_err(), "{what}");
    }
}

/// The published vectors for RFC 6979 on this curve with SHA-256.
#[test]
fn signatures_are_the_published_ones() {
    let check = |scalar: &str, message: &str, rs: [&str; 2]| {
        let signature = ::secp256k1::ecdsa::Signature::from_der(&key(scalar).sign(message.as_bytes()));
        assert_eq!(signature.unwrap().serialize_compact().to_vec(), hex(&rs.concat()), "{message}");
    };
    let satoshi = "Satoshi Nakamoto";
    check(
        ONE,
        satoshi,
        [
            "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8",
            "2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5",
        ],
    );
    check(
        LAST,
        satoshi,
        [
            "fd567d121db66e382991534ada77a6bd3106f0a1098c231e47993447cd6af2d0",
            "6b39cd0eb1bc8603e159ef5c20a5c8ad685a45b06ce9bebed3f153d10d93bed5",
        ],
    );
    check(
        ONE,
        "All those moments will be lost in time, like tears in rain. Time to die...",
        [
            "8600dbd41e348fe5c9465ab92d23e3db8b98b873beecd930736488696438cb6b",
            "547fe64427496db33bf66019dacbf0039c04199abb0122918601db38a72cfc21",
        ],
    );
}

/// Of the first vector, as published: its s is above half the order.
#[test]
fn a_published_signature_with_a_high_s_is_good() {
    let signature = hex("3046022100934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8\
                         022100dbbd3162d46e9f9bef7feb87c16dc13b4f6568a87f4e83f728e2443ba586675c");
    let one = key(ONE).public();
    assert!(ECDSA_SHA256.verify_signature(&one, b"Satoshi Nakamoto", &signature).is_ok());
    assert!(ECDSA_SHA256.verify_signature(&one, b"Satoshi Nakamotp", &signature).is_err());
}

/// Made by OpenSSL with the key above over "amop", all with a high s.
#[test]
fn signatures_of_openssl_are_good_with_each_hash() {
    let signatures = [
        (
            ECDSA_SHA256,
            "30450220677dfd1cc95304ad2e24060f3ad3d76ff397e0c7cadef98a69fefd34482fe497\
             022100a2e2fc5d603a78b3023e83222f023250ef82dad25b7376d48a7c527cc41c5f29",
        ),
        (
            ECDSA_SHA384,
            "304502200888a34f5a2ee9119424dd66d448b48bbf98dca5ed66a7848aee35d4792840a2\
             022100e0111d854e99af92d2546ff3d8bf67ba2f30aab0fa316da5e7f5291cec0ce8ab",
        ),
        (
            ECDSA_SHA512,
            "30450220667dbcfa2d36c4f42322f216100a2a91377c10b00912aa5f6de1744ea8d9460c\
             022100d4f7c5f2706f63368759f1f03bf98161a58b678022c110655a624de41f7f9d3a",
        ),
    ];
    let point = hex(POINT);
    for (which, (algorithm, signature)) in signatures.iter().enumerate() {
        let signature = hex(signature);
        for (other, (with, _)) in signatures.iter().enumerate() {
            let verified = with.verify_signature(&point, b"amop", &signature);
            assert_eq!(verified.is_ok(), which == other, "{which} with {other}");
        }
        // Nothing that is cut or changed is good, and nothing panics.
        for at in 0..signature.len() {
            let mut damaged = signature.clone();
            damaged[at] ^= 0x41;
            assert!(algorithm.verify_signature(&point, b"amop", &damaged).is_err(), "{at}");
            assert!(algorithm.verify_signature(&point, b"amop", &signature[..at]).is_err(), "{at}");
        }
    }
}

#[test]
fn keys_of_openssl_are_read_and_written_alike() {
    let pkcs8 = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(hex(PKCS8)));
    let sec1 = PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(hex(SEC1)));
    for der in [&pkcs8, &sec1] {
        let key = PrivateKey::from_der(der).unwrap();
        assert_eq!((key.public().to_vec(), key.to_pkcs8().to_vec()), (hex(POINT), hex(PKCS8)));
        assert!(!format!("{key:?}").contains("d777"));
    }
    assert_eq!(key(SCALAR).public().to_vec(), hex(POINT));

    let generated = PrivateKey::generate().unwrap();
    let again = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(generated.to_pkcs8().to_vec()));
    assert_eq!(PrivateKey::from_der(&again).unwrap().public(), generated.public());
}

#[test]
fn other_and_damaged_keys_are_refused() {
    let refused = |der: PrivateKeyDer<'_>| assert_eq!(PrivateKey::from_der(&der).unwrap_err(), BadKey);
    let p256 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    refused(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(p256.serialize_der())));
    refused(PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(hex(PKCS8))));
    // SEC1 that does not name its curve may be on any.
    let mut bare = hex(SEC1);
    bare.drain(39..48);
    bare[1] -= 9;
    refused(PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(bare)));
    for scalar in [[0; 32], [0xff; 32]] {
        assert_eq!(PrivateKey::from_scalar(&scalar).unwrap_err(), BadKey);
    }
    let good = hex(PKCS8);
    for at in 0..good.len() {
        refused(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(good[..at].to_vec())));
        // A change may leave another good key; it may not panic.
        for flip in [1, 0x80, 0xff] {
            let mut damaged = good.clone();
            damaged[at] ^= flip;
            let _ = PrivateKey::from_der(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(damaged)));
        }
    }
}

#[test]
fn a_key_signs_handshakes_under_one_scheme() {
    let key = key(SCALAR);
    let all = [SignatureScheme::ECDSA_NISTP384_SHA384, SignatureScheme::ECDSA_NISTP256_SHA256];
    let signer = SigningKey::choose_scheme(&key, &all).unwrap();
    assert_eq!(signer.scheme(), SignatureScheme::ECDSA_NISTP256_SHA256);
    let signature = Signer::sign(signer.as_ref(), b"handshake").unwrap();
    assert!(ECDSA_SHA256.verify_signature(&hex(POINT), b"handshake", &signature).is_ok());
    assert!(SigningKey::choose_scheme(&key, &all[..1]).is_none());
}
