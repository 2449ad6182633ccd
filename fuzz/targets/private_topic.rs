//! `amop_fuzz::private_topic` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| amop_fuzz::private_topic(data));
