//! Fuzz targets as plain functions: bytes of strangers in, a panic if something is not as it must be.
//!
//! `fuzz/` runs them under libFuzzer, `tests/replay.rs` on stable as property tests, over the same
//! corpora. Decoders must survive any bytes and read what encoders write; the machines of the core
//! take operations in any order, beside a small model of what they promise.
//!
//! Never a dependency of what ships.

mod client;
mod control;
mod delivery;
mod files;
mod interleave;
mod json;
mod private;
mod script;
mod session;
mod wire;
mod world;
mod x509;

/// One target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of its binary in `fuzz/targets` and of its corpus in `fuzz/corpus`.
    pub name: &'static str,
    /// Runs it on one input.
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($module:ident: $($name:ident),+;)+) => {
        $($(pub use $module::$name;)+)+
        /// All targets.
        pub const TARGETS: &[Target] = &[$($(Target { name: stringify!($name), run: $name }),+),+];
    };
}

targets! {
    wire: channel_frame, link_frame, extension, peer_data;
    interleave: assembler, interleaver;
    json: json;
    session: session_server;
    client: session_client;
    x509: certificate, keys;
    private: private_topic;
    files: file_frame;
    control: control, control_message;
    delivery: delivery;
}

/// Writes an operation to standard error if the variable AMOP_FUZZ_TRACE is set: a crash, told.
#[expect(clippy::print_stderr, reason = "for whoever looks at a crash")]
pub(crate) fn trace(operation: &impl std::fmt::Debug) {
    static WANTED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    if *WANTED.get_or_init(|| std::env::var_os("AMOP_FUZZ_TRACE").is_some()) {
        eprintln!("{operation:?}");
    }
}
