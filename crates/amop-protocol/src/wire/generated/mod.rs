//! Code generated from `proto/`; a test compares it with a fresh generation.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]

include!("amop.v1.rs");
