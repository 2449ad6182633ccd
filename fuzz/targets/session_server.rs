//! `amop_fuzz::session_server` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| amop_fuzz::session_server(data));
