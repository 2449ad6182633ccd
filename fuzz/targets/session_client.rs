//! `amop_fuzz::session_client` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| amop_fuzz::session_client(data));
