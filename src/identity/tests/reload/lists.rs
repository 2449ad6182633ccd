//! Revocation lists that change, come and go.

use super::*;

#[test]
fn what_is_revoked_is_refused_and_what_is_not_stays() {
    let mut bed = Bed::new();
    let tls = bed.credentials.client_tls(Clients::OfConsortium);
    let [bad, good] = ["bad", "good"].map(|name| bed.bank.leaf(Role::Client, name, 30).unwrap());
    let connect_to = |bed: &Bed, leaf: &crate::identity::mint::Leaf, server| {
        let authority = bed.credentials.authority();
        let key = leaf.key().into();
        let mut config = tls::overlay_client(&authority, leaf.chain().to_vec(), key, b"x").unwrap();
        config.alpn_protocols.clear();
        handshake(config.into(), server)
    };
    let connect = |bed: &Bed, leaf| connect_to(bed, leaf, tls.serving().server_config());
    let ask = |bed: &Bed, leaf| connect_to(bed, leaf, bed.credentials.admin_server());
    connect(&bed, &bad).unwrap();
    ask(&bed, &bad).unwrap();
    bed.revoke(&bad.chain()[0]);
    let changes = bed.look().1.unwrap();
    assert_eq!((changes.added.len(), changes.added[0].of, changes.own_chain), (1, Of::RevocationList, false));
    let refused = connect(&bed, &bad).unwrap_err();
    assert!(format!("{refused:?}").contains("Revoked"), "{refused:?}");
    let refused = ask(&bed, &bad).unwrap_err();
    assert!(format!("{refused:?}").contains("Revoked"), "{refused:?}");
    connect(&bed, &good).unwrap();
    ask(&bed, &good).unwrap();
    let cause = tls.still_believes(bad.chain()).unwrap_err();
    assert!(matches!(&cause, ChainError::Revoked { .. }), "{cause}");
    assert!(cause.to_string().contains("was revoked by its issuer CN=bank-a"), "{cause}");
    tls.still_believes(good.chain()).unwrap();
    assert!(bed.store.load().unwrap().is_empty());
}

/// Each of them would let in again what a list in force revokes.
#[test]
fn a_list_goes_only_for_a_newer_one() {
    let check = |spoil: &dyn Fn(&Bed, &[u8]), says: &[&str]| {
        let mut bed = Bed::new();
        let (first, bad) = (bed.read("bank.crl"), bed.bank.leaf(Role::Client, "bad", 30).unwrap());
        bed.revoke(&bad.chain()[0]);
        bed.store.load().unwrap();
        let good = bed.read("bank.crl");
        spoil(&bed, &first);
        let refused = bed.store.load().unwrap_err().to_string();
        assert!(says.iter().all(|part| refused.contains(part)), "{refused:?} should say {says:?}");
        let judged = bed.credentials.authority().verify_chain(bad.chain(), Role::Client);
        assert!(matches!(judged, Err(ChainError::Revoked { .. })), "{says:?}");
        bed.write("bank.crl", good);
        assert!(bed.store.load().unwrap().is_empty());
    };
    // Both were dated by the same second, or one after the other.
    check(
        &|bed, first| bed.write("bank.crl", first),
        &["bank.crl, number 01 of 2", "older than the one in force, number 02 of 2"],
    );
    // As when the CA's list was lost, and begun anew.
    check(
        &|bed, _| {
            fs::remove_file(bed.at("bank.crl")).unwrap();
            bed.bank.save_crl(&Revoked::default(), 9, &bed.at("bank.crl")).unwrap();
        },
        &["number 01 of 2", "older than the one in force"],
    );
    check(
        &|bed, _| drop(bed.root.save_crl(&Revoked::default(), 9, &bed.at("bank.crl")).unwrap()),
        &["CN=bank-a, O=bank-a, OU=institution that is in force, number 02 of 2", "only a restart"],
    );
}

/// What was configured may be, too.
#[test]
fn a_list_that_is_left_out_of_the_configured_ones_is_missed() {
    let bed = Bed::new();
    let paths = Paths::in_directory(bed.directory.path());
    let problems = bed.credentials.prepare(&paths).err().unwrap();
    assert!(matches!(&problems[..], [LoadError::MissingCrl { .. }]), "{problems:?}");
    Credentials::load(&paths).unwrap();
}

#[test]
fn of_two_lists_of_one_ca_the_newer_stays() {
    let mut bed = Bed::new();
    let first = bed.read("bank.crl");
    bed.revoke(&bed.bank.leaf(Role::Client, "bad", 30).unwrap().chain()[0].clone());
    let second = bed.read("bank.crl");
    bed.write("bank.crl", [first.clone(), second.clone()].concat());
    bed.credentials = Credentials::load(&bed.paths()).unwrap();
    let files = Files { node: bed.paths(), listeners: Vec::new() };
    bed.store = Store::new(bed.credentials.clone(), files);
    bed.write("bank.crl", first);
    assert!(bed.store.load().unwrap_err().to_string().contains("number 02"));
    bed.write("bank.crl", second);
    assert_eq!(bed.store.load().unwrap().removed.len(), 1);
}

/// A list goes with its CA: with a root that is believed no longer, and with an institution that its root has revoked.
#[test]
fn a_list_goes_with_its_ca() {
    let mut bed = Bed::new();
    let old = Ca::consortium("old", 100).unwrap();
    let other = bed.root.institution("bank-b", 30).unwrap();
    bed.cas(&[&bed.root, &old]);
    old.save_crl(&Revoked::default(), 9, &bed.at("old.crl")).unwrap();
    other.save_crl(&Revoked::default(), 9, &bed.at("other.crl")).unwrap();
    let bank = bed.read("bank.crl");
    bed.write("bank.crl", [bank.clone(), bed.read("old.crl"), bed.read("other.crl")].concat());
    bed.store.load().unwrap();
    bed.cas(&[&bed.root]);
    bed.write("bank.crl", [bank.clone(), bed.read("other.crl")].concat());
    assert_eq!(bed.store.load().unwrap().removed.len(), 2, "the root and its list");
    bed.write("bank.crl", &bank);
    assert!(bed.store.load().unwrap_err().to_string().contains("CN=bank-b"));
    let mut revoked = Revoked::default();
    revoked.add(serial_of(other.certificate()).unwrap());
    bed.root.save_crl(&revoked, 9, &bed.at("root.crl")).unwrap();
    bed.write("bank.crl", [bank, bed.read("root.crl")].concat());
    assert_eq!(bed.store.load().unwrap().removed.len(), 1);
}

/// By which certificate a CA's key is believed may be known to others only.
#[test]
fn what_a_list_revokes_stays_revoked_when_it_goes_with_its_cas_certificate() {
    let mut bed = Bed::new();
    let other = bed.root.institution("bank-b", 30).unwrap();
    let [bad, good] = ["bad", "good"].map(|name| other.leaf(Role::Client, name, 20).unwrap());
    let mut revoked = Revoked::default();
    revoked.add(serial_of(&bad.chain()[0]).unwrap());
    other.save_crl(&revoked, 9, &bed.at("other.crl")).unwrap();
    let [bank, of_other] = ["bank.crl", "other.crl"].map(|name| bed.read(name));
    bed.write("bank.crl", [bank.clone(), of_other.clone()].concat());
    bed.store.load().unwrap();

    // Superseded, and its first certificate revoked: its list leaves the files.
    let first = other.certificate().clone();
    let other = bed.root.recertify(other, 30).unwrap();
    let superseded = |bed: &Bed, first: &_| {
        let mut revoked = Revoked::default();
        revoked.add(serial_of(first).unwrap());
        bed.root.save_crl(&revoked, 9, &bed.at("root.crl")).unwrap();
        [bank.clone(), bed.read("root.crl")].concat()
    };
    bed.write("bank.crl", superseded(&bed, &first));
    assert_eq!(bed.store.load().unwrap().removed.len(), 1, "in force no longer, as it is shown");
    let judge = |bed: &Bed, leaf: &crate::identity::mint::Leaf, ca: &Ca| {
        let chain = [leaf.chain()[0].clone(), ca.certificate().clone()];
        bed.credentials.authority().verify_chain(&chain, Role::Client).map(drop)
    };
    assert!(matches!(judge(&bed, &bad, &other), Err(ChainError::Revoked { .. })));
    judge(&bed, &good, &other).unwrap();
    assert!(bed.store.load().unwrap().is_empty(), "and again");
    assert!(matches!(judge(&bed, &bad, &other), Err(ChainError::Revoked { .. })));

    // The same with another root.
    let new_root = Ca::consortium("new", 100).unwrap();
    let own = std::mem::replace(&mut bed.bank, Ca::consortium("none", 1).unwrap());
    bed.bank = new_root.recertify(own, 50).unwrap();
    let other = new_root.recertify(other, 30).unwrap();
    bed.cas(&[&new_root]);
    bed.renew(20);
    let own = bed.bank.revoked(&bed.at("bank.crl")).unwrap();
    bed.bank.save_crl(&own, 9, &bed.at("bank.crl")).unwrap();
    bed.store.load().unwrap();
    assert!(matches!(judge(&bed, &bad, &other), Err(ChainError::Revoked { .. })));
    judge(&bed, &good, &other).unwrap();

    // A newer list of the CA has the last word.
    let mut newer = other.revoked(&bed.at("other.crl")).unwrap();
    newer.add(serial_of(&good.chain()[0]).unwrap());
    other.save_crl(&newer, 9, &bed.at("newer.crl")).unwrap();
    let bank = bed.read("bank.crl");
    bed.write("bank.crl", [bank.clone(), of_other].concat());
    let refused = bed.store.load().unwrap_err().to_string();
    assert!(
        refused.contains("CN=bank-b"),
        "the old one stands with a certificate of the old root: {refused}"
    );
    bed.write("bank.crl", [bank, bed.read("newer.crl")].concat());
    bed.store.load().unwrap();
    for leaf in [&bad, &good] {
        assert!(matches!(judge(&bed, leaf, &other), Err(ChainError::Revoked { .. })));
    }
    Credentials::load(&Paths::in_directory(bed.directory.path())).unwrap();
}

#[test]
fn an_institution_is_revoked_by_its_root() {
    let mut bed = Bed::new();
    let other = bed.root.institution("bank-b", 30).unwrap();
    let leaf = other.leaf(Role::Node, "node-2", 30).unwrap();
    let mut revoked = Revoked::default();
    revoked.add(serial_of(other.certificate()).unwrap());
    bed.credentials.authority().verify_chain(leaf.chain(), Role::Node).unwrap();
    bed.root.save_crl(&revoked, 9, &bed.at("root.crl")).unwrap();
    let both = [bed.read("bank.crl"), bed.read("root.crl")].concat();
    bed.write("bank.crl", both);
    assert!(!bed.store.load().unwrap().is_empty());
    let cause = bed.credentials.authority().verify_chain(leaf.chain(), Role::Node).unwrap_err().to_string();
    assert!(
        cause.contains("the certificate of the CA that issued it") && cause.contains("revoked"),
        "{cause}"
    );
}

/// Listed, so that clients may send their leaf alone: then no chain shows its CA's certificate.
#[test]
fn an_institution_that_is_listed_is_revoked_all_the_same() {
    let mut bed = Bed::new();
    let other = bed.root.institution("bank-b", 30).unwrap();
    bed.cas(&[&bed.root, &other]);
    bed.store.load().unwrap();
    let leaf = other.leaf(Role::Client, "till", 30).unwrap();
    let [whole, alone] = [leaf.chain(), &leaf.chain()[..1]];
    let judge = |bed: &Bed, chain: &[_]| bed.credentials.authority().verify_chain(chain, Role::Client);
    judge(&bed, whole).unwrap();
    judge(&bed, alone).unwrap();
    let mut revoked = Revoked::default();
    revoked.add(serial_of(other.certificate()).unwrap());
    bed.root.save_crl(&revoked, 9, &bed.at("root.crl")).unwrap();
    let both = [bed.read("bank.crl"), bed.read("root.crl")].concat();
    bed.write("bank.crl", both);
    bed.store.load().unwrap();
    for chain in [whole, alone] {
        let cause = judge(&bed, chain).unwrap_err();
        assert!(matches!(cause, ChainError::Revoked { .. }), "{cause}");
    }
}

/// Also once that root has gone with its list; and the root does not come back without it.
#[test]
fn an_institution_that_stays_listed_stays_revoked_when_its_root_goes() {
    let mut bed = Bed::new();
    let other = bed.root.institution("bank-b", 30).unwrap();
    let leaf = other.leaf(Role::Client, "till", 30).unwrap();
    let mut revoked = Revoked::default();
    revoked.add(serial_of(other.certificate()).unwrap());
    bed.root.save_crl(&revoked, 9, &bed.at("root.crl")).unwrap();
    bed.cas(&[&bed.root, &other]);
    bed.write("bank.crl", [bed.read("bank.crl"), bed.read("root.crl")].concat());
    bed.store.load().unwrap();
    let is_revoked = |bed: &Bed| {
        let judged = bed.credentials.authority().verify_chain(leaf.chain(), Role::Client);
        matches!(judged, Err(ChainError::Revoked { .. }))
    };
    assert!(is_revoked(&bed));

    let new_root = Ca::consortium("new", 100).unwrap();
    let own = std::mem::replace(&mut bed.bank, Ca::consortium("none", 1).unwrap());
    bed.bank = new_root.recertify(own, 50).unwrap();
    bed.cas(&[&new_root, &other]);
    bed.renew(20);
    let own = bed.bank.revoked(&bed.at("bank.crl")).unwrap();
    bed.bank.save_crl(&own, 9, &bed.at("bank.crl")).unwrap();
    bed.store.load().unwrap();
    assert!(is_revoked(&bed));

    bed.cas(&[&new_root, &other, &bed.root]);
    let refused = bed.store.load().unwrap_err().to_string();
    assert!(refused.contains("CN=trade"), "{refused}");
    bed.write("bank.crl", [bed.read("bank.crl"), bed.read("root.crl")].concat());
    bed.store.load().unwrap();
    assert!(is_revoked(&bed));
}

/// A name is no key: what another root of the same name revokes concerns its own certificates.
#[test]
fn a_root_of_the_same_name_revokes_nobody_else() {
    let mut bed = Bed::new();
    let other = bed.root.institution("bank-b", 30).unwrap();
    let leaf = other.leaf(Role::Client, "till", 30).unwrap();
    let namesake = Ca::consortium("trade", 100).unwrap();
    let mut revoked = Revoked::default();
    revoked.add(serial_of(other.certificate()).unwrap());
    namesake.save_crl(&revoked, 9, &bed.at("root.crl")).unwrap();
    bed.cas(&[&bed.root, &namesake, &other]);
    bed.write("bank.crl", [bed.read("bank.crl"), bed.read("root.crl")].concat());
    bed.store.load().unwrap();
    bed.credentials.authority().verify_chain(leaf.chain(), Role::Client).unwrap();
}
