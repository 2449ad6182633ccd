//! Nodes of ours as a system under load: [`Nodes`] connects clients of the SDK to nodes that run, [`Line`] starts
//! nodes to do so.
//!
//! A crate because `amop bench` and the benches measure the same nodes, and must do it with the same code; and because
//! [`amop_load`] must not know what it measures. It starts the program `amop` like anybody else and sees nothing of the node's insides.

mod clients;
mod line;

pub use self::{
    clients::{Asking, Connected, Node, Nodes, Publishing},
    line::Line,
};
