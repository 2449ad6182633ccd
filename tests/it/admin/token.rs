//! Nodes with tokens, wrong ones, and none.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_takes_the_token_and_nothing_less() {
    let bed = Bed::new("");
    let check = |arguments: &[&str], says: &str| {
        let (code, _, errors) = bed.output("drain", arguments);
        assert!(code == 1 && errors.contains(says), "{arguments:?}: {errors}");
    };
    check(&[], "--token-file");
    let wrong = bed.path("wrong");
    Secret::load_or_make(&wrong).expect("another token");
    check(&["--token-file", wrong.to_str().expect("text")], "401");
    check(&["--token-file", "/nonexistent"], "cannot read the admin token");
    let status = bed.operator().status().await.expect("it answers");
    assert!(status.ready && bed.node.log().contains("admin request refused"));
    let metadata = std::fs::metadata(bed.token()).expect("a token");
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777, 0o600);
    assert!(
        !bed.node.log().contains(Secret::load(&bed.token()).expect("a token").expose()),
        "it is no secret then"
    );
}

/// As in a container with a configuration that it cannot write: what it cannot do is said, and all else works.
#[tokio::test]
async fn a_node_that_cannot_make_its_token_starts_without() {
    // Whatever the rights of whoever runs this: there is no such directory, and a file is none.
    for path in ["nowhere/admin.token", "node.crt/admin.token"] {
        let bed = Bed::new(&format!("admin.token = \"{path}\"\n"));
        let asker = Asker::plain(bed.at());
        assert!(asker.status().await.expect("it answers").ready, "{path}");
        assert!(bed.client().await.node().is_some(), "{path}");
        let (status, why) = refusal(asker, Method::POST, "/v1/reload").await;
        assert!(status == 403 && why.contains("could not be made"), "{path}: {status} {why}");
        let log = bed.node.log();
        let says = ["cannot make the admin token", "nothing can be changed over the admin port"];
        assert!(says.iter().all(|part| log.contains(part)), "{path}: {log}");
        assert!(!bed.path(&format!("node/{path}")).exists());
    }
}
