//! The SDK against a scripted node over real TLS on loopback.

#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails there fails the test")]

mod consortium;
mod homes;
mod large;
mod node;
mod profiles;
mod reconnect;
mod sends;
mod subscriptions;
mod trust;
