//! The SDK against a scripted node over real TLS on loopback.

mod consortium;
mod node;
mod reconnect;
mod sends;
mod subscriptions;
mod trust;
