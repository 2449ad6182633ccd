//! The client port's protocol, both ends, without IO.

pub mod client;
