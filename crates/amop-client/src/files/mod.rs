//! Files between clients: names that are safe to write, and the one-frame format of the Java demo.
//!
//! It owns what a file is called and how it lies in a payload. It does not send, receive or write anything.
#![cfg_attr(not(test), expect(dead_code, reason = "transfers, which use it, come next"))]

pub(crate) mod name;
pub(crate) mod one_frame;
