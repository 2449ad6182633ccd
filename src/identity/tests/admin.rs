//! TLS of the admin port: who is let in, and who is believed.

use amop_tls::refusal;

use super::*;
use crate::identity::{AskingTls, admin_tls};

#[test]
fn the_admin_port_takes_clients_of_its_institution_and_whoever_shows_nothing() {
    let consortium = Consortium::new();
    let bank = consortium.institution("bank-a");
    let node = credentials(&bank.node("n")).unwrap();
    let come = |leaf: Leaf| {
        let key = leaf.key().into();
        let client = tls::overlay_client(&node.authority(), leaf.chain(), key, b"http/1.1").unwrap();
        handshake(client.into(), node.admin_server())
    };
    come(bank.client("c")).unwrap();
    handshake(AskingTls::of_node(&node).unwrap().config(), node.admin_server()).unwrap();
    for (leaf, cause) in [
        (consortium.institution("bank-b").client("c"), "ApplicationVerification"),
        (bank.node("n"), "ApplicationVerification"),
        (Consortium::new().institution("bank-a").client("c"), "UnknownIssuer"),
        (bank.leaf("c", "client").expired().build(), "Expired"),
    ] {
        let refused = come(leaf).unwrap_err().to_string();
        assert!(refused.contains(cause), "{refused} should be {cause}");
    }
}

#[test]
fn whoever_asks_believes_nodes_of_its_own_institution_only() {
    let consortium = Consortium::new();
    let bank = consortium.institution("bank-a");
    let directory = tempfile::tempdir().unwrap();
    bank.client("c").write_client_dir(directory.path());
    let own = AskingTls::of_node(&credentials(&bank.node("n")).unwrap()).unwrap();
    for asking in [own, AskingTls::of_client(directory.path()).unwrap()] {
        let ask = |leaf: Leaf| {
            let (authority, key) = (authority(&consortium), leaf.key().into());
            let server = admin_tls::server(&authority, "bank-a".into(), leaf.chain(), key).unwrap();
            handshake(asking.config(), server.into()).map_err(|error| refusal(&error).cloned())
        };
        ask(bank.node("other")).unwrap();
        let of_other = ask(consortium.institution("bank-b").node("n")).unwrap_err();
        let institution = ChainError::Institution { found: "bank-b".into(), own: "bank-a".into() };
        assert_eq!(of_other, Some(institution));
        let client = ask(bank.client("c")).unwrap_err();
        assert!(matches!(client, Some(ChainError::Role { .. } | ChainError::Invalid(_))), "{client:?}");
        // The root has the same name, and another key.
        let foreign = ask(Consortium::new().institution("bank-a").node("n")).unwrap_err();
        assert!(matches!(foreign, Some(ChainError::Signature { .. })), "{foreign:?}");
        let expired = ask(bank.leaf("n", "node").expired().build()).unwrap_err();
        assert!(matches!(expired, Some(ChainError::Expired { .. })), "{expired:?}");
    }
}
