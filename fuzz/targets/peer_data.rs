//! `amop_fuzz::peer_data` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| amop_fuzz::peer_data(data));
