//! Files that change while a node runs: what is put in force, and what is not.

mod lists;

use amop_tls::serial_of;

use super::*;
use crate::identity::mint::{
    Ca, Existing,
    crl::{CRL_DAYS, Revoked, Revoker},
    renew::replace,
};

/// A node's files, and those who can make others.
struct Bed {
    directory: tempfile::TempDir,
    root: Ca,
    bank: Ca,
    credentials: Credentials,
    store: Store,
}

impl Bed {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = Ca::consortium("trade", 100).unwrap();
        let bank = root.institution("bank-a", 100).unwrap();
        bank.leaf(Role::Node, "node-1", 30).unwrap().save(directory.path(), Existing::Keep).unwrap();
        let crl = directory.path().join("bank.crl");
        bank.save_crl(&Revoked::default(), CRL_DAYS, &crl).unwrap();
        let paths = Paths { crl: vec![crl], ..Paths::in_directory(directory.path()) };
        let credentials = Credentials::load(&paths).unwrap();
        let files = Files { node: paths, listeners: Vec::new() };
        let store = Store::new(credentials.clone(), files);
        Self { directory, root, bank, credentials, store }
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.at(name), text).unwrap();
        restrict(&self.at(name));
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.at(name)).unwrap()
    }

    fn cas(&self, cas: &[&Ca]) {
        let text: String = cas.iter().map(|ca| pem::encode("CERTIFICATE", ca.certificate())).collect();
        self.write("ca.crt", text);
    }

    fn renew(&self, days: u32) {
        let chain = self.bank.renew(&self.credentials.chain()[0], days).unwrap();
        replace(&self.at("node.crt"), &chain).unwrap();
    }

    fn revoke(&self, certificate: &CertificateDer<'_>) {
        let mut revoked = self.bank.revoked(&self.at("bank.crl")).unwrap();
        assert!(revoked.add(serial_of(certificate).unwrap()));
        self.bank.save_crl(&revoked, CRL_DAYS, &self.at("bank.crl")).unwrap();
    }

    /// Looks until something comes of it.
    fn look(&mut self) -> (u32, Result<Changes, Refused>) {
        for looks in 1..100 {
            match self.store.look() {
                Ok(changes) if changes.is_empty() => {}
                done => return (looks, done),
            }
        }
        panic!("nothing came of it");
    }

    fn paths(&self) -> Paths {
        Paths { crl: vec![self.at("bank.crl")], ..Paths::in_directory(self.directory.path()) }
    }

    fn of_node(&self) -> String {
        self.credentials.facts().iter().find(|fact| fact.of == Of::Node).unwrap().serial.clone()
    }
}

#[test]
fn a_renewed_certificate_is_put_in_force_once_it_holds_still() {
    let mut bed = Bed::new();
    let (before, key) = (bed.of_node(), bed.read("node.key"));
    let old = bed.credentials.overlay_client();
    assert!(bed.store.look().unwrap().is_empty());
    bed.renew(20);
    let (looks, done) = bed.look();
    let changes = done.unwrap();
    assert_eq!((looks, changes.added.len(), changes.removed.len(), changes.own_chain), (2, 1, 1, true));
    assert!(bed.of_node() != before && bed.read("node.key") == key);
    assert!(!Arc::ptr_eq(&old, &bed.credentials.overlay_client()));
    // What began under the old one goes on, and both are believed.
    handshake(old, bed.credentials.overlay_server()).unwrap();
    handshake(bed.credentials.overlay_client(), bed.credentials.overlay_server()).unwrap();
    assert!(bed.store.load().unwrap().is_empty(), "nothing has changed since");
}

#[test]
fn what_cannot_be_used_changes_nothing_and_is_said_once() {
    let check = |spoil: &dyn Fn(&Bed), says: &str| {
        let mut bed = Bed::new();
        let (facts, good) = (
            bed.credentials.facts(),
            ["ca.crt", "node.crt", "node.key", "bank.crl"].map(|name| (name, bed.read(name))),
        );
        spoil(&bed);
        let (looks, done) = bed.look();
        let refused = done.unwrap_err().to_string();
        assert!(refused.contains(says), "{refused:?} should say {says:?}");
        assert_eq!((looks, bed.credentials.facts()), (3, facts.clone()), "{says}");
        assert!(bed.store.load().unwrap_err().to_string().contains(says), "asked, it says so again");
        for _ in 0..100 {
            assert!(bed.store.look().unwrap().is_empty(), "said once");
        }
        for (name, content) in good {
            bed.write(name, content);
        }
        assert!(bed.store.look().unwrap().is_empty());
        assert_eq!(bed.credentials.facts(), facts);
        bed.renew(10);
        assert!(bed.look().1.is_ok(), "and it goes on");
    };
    let cut = |name: &'static str| move |bed: &Bed| bed.write(name, &bed.read(name)[..100]);
    check(&cut("ca.crt"), "ca.crt is damaged");
    check(&cut("node.crt"), "node.crt is damaged");
    check(&cut("node.key"), "node.key is damaged");
    check(&cut("bank.crl"), "bank.crl is damaged");
    check(&|bed| bed.write("node.crt", ""), "it is empty");
    check(&|bed| bed.write("bank.crl", ""), "bank.crl holds no revocation list: it is empty");
    check(&|bed| fs::remove_file(bed.at("ca.crt")).unwrap(), "cannot read");
    check(&|bed| fs::remove_file(bed.at("bank.crl")).unwrap(), "cannot read");
    check(
        &|bed| bed.root.save_crl(&Revoked::default(), 9, &bed.at("bank.crl")).map(drop).unwrap(),
        "is in no file any more, nor is a newer one",
    );
    check(&|bed| fs::write(bed.at("bank.crl"), vec![0xff; 2 << 20]).unwrap(), "larger than");
    check(
        &|bed| drop(bed.bank.leaf(Role::Node, "node-1", 30).unwrap().save(&bed.at(""), Existing::Replace)),
        "only a restart can change it; to renew a certificate, keep its key",
    );
    check(
        &|bed| {
            let other = bed.bank.leaf(Role::Node, "node-1", 30).unwrap();
            replace(&bed.at("node.crt"), other.chain()).unwrap();
        },
        "does not belong to the certificate",
    );
    check(
        &|bed| {
            let other = Ca::consortium("other", 9).unwrap().institution("bank-a", 9).unwrap();
            let leaf = other.leaf(Role::Node, "node-1", 9).unwrap();
            replace(&bed.at("node.crt"), leaf.chain()).unwrap();
        },
        "no CA in ca.crt, with those that came along",
    );
    check(&|bed| bed.cas(&[&Ca::consortium("other", 9).unwrap()]), "does not chain to a root");
    check(
        &|bed| {
            let other = Ca::consortium("other", 9).unwrap();
            other.save_crl(&Revoked::default(), 9, &bed.at("bank.crl")).unwrap();
        },
        "is no CA that is known here",
    );
}

#[test]
fn what_has_expired_is_not_put_in_force() {
    let consortium = Consortium::new();
    let bank = consortium.institution("bank-a");
    let directory = tempfile::tempdir().unwrap();
    bank.node("n").write_node_dir(directory.path());
    let paths = Paths::in_directory(directory.path());
    let credentials = Credentials::load(&paths).unwrap();
    let refused = |paths: &Paths| {
        let problems = credentials.prepare(paths).err().unwrap();
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let expired = bank.leaf("n", "node").expired().build();
    fs::write(&paths.cert, amop_testkit::ca::pem(&expired.chain())).unwrap();
    assert!(refused(&paths).contains("the certificate expired on"));
    bank.node("n").write_node_dir(directory.path());
    // An old leaf stands for an old CA: what counts is its end.
    let cas = [consortium.root().clone(), expired.chain()[0].clone()];
    fs::write(&paths.ca, amop_testkit::ca::pem(&cas)).unwrap();
    assert!(refused(&paths).contains("certificate 2 in"));
}

#[test]
fn a_half_written_file_is_waited_for() {
    let mut bed = Bed::new();
    bed.renew(20);
    let whole = bed.read("node.crt");
    for end in (10..whole.len()).step_by(whole.len() / 9) {
        bed.write("node.crt", &whole[..end]);
        assert!(bed.store.look().unwrap().is_empty(), "it still grows");
    }
    bed.write("node.crt", &whole);
    let (looks, done) = bed.look();
    assert_eq!((looks, done.unwrap().own_chain), (2, true));
}

/// Between reading the files at start and watching them.
#[test]
fn what_changes_while_the_node_starts_is_put_in_force() {
    let mut bed = Bed::new();
    let before = bed.of_node();
    bed.renew(20);
    let files = Files { node: bed.paths(), listeners: Vec::new() };
    bed.store = Store::new(bed.credentials.clone(), files);
    bed.look().1.unwrap();
    assert_ne!(bed.of_node(), before);
}

#[test]
fn a_root_is_replaced_step_by_step() {
    let mut bed = Bed::new();
    let tls = bed.credentials.client_tls(Clients::OfConsortium);
    let client = bed.bank.leaf(Role::Client, "till", 30).unwrap();
    let old_chain = bed.credentials.chain();
    let new_root = Ca::consortium("trade", 100).unwrap();
    bed.cas(&[&bed.root, &new_root]);
    assert_eq!(bed.store.load().unwrap().added.len(), 1);
    let bank = std::mem::replace(&mut bed.bank, Ca::consortium("none", 1).unwrap());
    bed.bank = new_root.recertify(bank, 50).unwrap();
    bed.renew(20);
    assert!(bed.store.load().unwrap().own_chain);
    bed.cas(&[&new_root]);
    assert_eq!(bed.store.load().unwrap().removed.len(), 1);
    let authority = bed.credentials.authority();
    authority.verify_chain(&bed.credentials.chain(), Role::Node).unwrap();
    // The client brings the institution's old certificate; the node knows the new one, of the same key.
    authority.verify_chain(client.chain(), Role::Client).unwrap();
    tls.still_believes(client.chain()).unwrap();
    let stranger = Ca::consortium("x", 9).unwrap().institution("bank-a", 9).unwrap();
    let stranger = stranger.leaf(Role::Client, "till", 9).unwrap();
    assert!(tls.still_believes(stranger.chain()).is_err());
    assert_ne!(old_chain, bed.credentials.chain());
}
