//! What only an extension client can ask of a send, and which nodes' subscribers that leaves.

use super::routing::Node;
pub use crate::message::{Address, MAX_INSTITUTION, Wishes};

impl Address {
    /// Whether subscribers at this node may match.
    pub fn admits(&self, node: &Node) -> bool {
        self.node.is_none_or(|wanted| wanted == node.id)
            && self.institution.as_ref().is_none_or(|wanted| **wanted == *node.institution)
    }
}
