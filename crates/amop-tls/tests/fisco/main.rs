//! The rule for FISCO BCOS certificates, and handshakes under it, with certificates made here:
//! such as that project's own generator makes, and every kind of bad one.

#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails there fails the test")]

mod certificates;
mod handshakes;
mod rule;
