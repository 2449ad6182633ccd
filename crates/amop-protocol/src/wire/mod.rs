//! Bytes to messages and back. What leaves here is valid; deeper code checks nothing again.

pub mod channel;
pub mod extension;
mod fields;
pub mod files;
pub mod generated;
pub mod inquiry;
pub mod interleave;
pub mod link;
pub mod peer;
pub mod recipients;
