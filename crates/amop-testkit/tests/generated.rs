//! The generated code is the compiled `proto/`. Set `UPDATE_GENERATED=1` to write it anew.
//! It stands here, in a crate without the core, so that it can run while the core does not compile.

use std::{fs, path::Path};

#[test]
fn generated_code_is_up_to_date() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let proto = here.join("../../proto");
    let files = ["common", "peer", "client", "private", "files"]
        .map(|name| proto.join(format!("amop/v1/{name}.proto")));
    let descriptors = protox::compile(files, [&proto]).expect("proto/ compiles");
    let out = tempfile::tempdir().expect("writable temporary directory");
    prost_build::Config::new()
        .bytes(["."])
        .out_dir(out.path())
        .compile_fds(descriptors)
        .expect("code is generated");
    let fresh = fs::read_to_string(out.path().join("amop.v1.rs")).expect("one package");
    let committed = here.join("../amop-protocol/src/wire/generated/amop.v1.rs");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&committed, &fresh).expect("writable source tree");
    }
    let stands = fs::read_to_string(&committed).unwrap_or_default();
    assert!(stands == fresh, "run UPDATE_GENERATED=1 cargo test -p amop-testkit --test generated");
}
