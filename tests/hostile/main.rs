//! Hostile clients and hostile nodes, all with valid certificates, against real processes and real TLS.
//!
//! Each scenario raises two linked nodes, `amop node` as it ships, and attacks the first. Two pairs of
//! well-behaved clients of other institutions go on with their work, across the node and across the
//! link, and newcomers connect and subscribe; all are timed on a schedule, before the attack and
//! during it, in the same run. It must hold that nothing of theirs fails, that nothing takes longer
//! than a second, and that the node's resident memory stays below what its limits add up to. What is
//! only reported is how much longer they wait.
//!
//! The suite has the machine to itself, hence it is not part of `cargo test`:
//! `cargo test --test hostile -- --nocapture` prints the table of docs/benchmarks.md.

mod clients;
mod net;
#[path = "../it/relay/node.rs"]
#[expect(dead_code, reason = "the relay tests use the rest")]
mod node;
mod pairs;
mod peers;
#[path = "../it/mesh/plain.rs"]
#[expect(dead_code, reason = "the integration tests use the rest")]
mod plain;
mod raw;
mod scenario;
