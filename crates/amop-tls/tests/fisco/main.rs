//! The rule for FISCO BCOS certificates, and handshakes under it, with certificates made here:
//! such as that project's own generator makes, and every kind of bad one.

mod certificates;
mod handshakes;
mod rule;
