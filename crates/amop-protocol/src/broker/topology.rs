//! Link-state routes: who is linked to whom, and the way to everybody.
use crate::NodeId;

/// Who is linked to whom, as both ends announce it.
#[derive(Clone, Debug, Default)]
pub struct Graph {}
impl Graph {
    /// x
    pub fn path(&self, _: &NodeId, _: &NodeId, _: &[NodeId]) -> Option<Vec<NodeId>> {
        None
    }
    /// x
    pub fn is_linked(&self, _: &NodeId, _: &NodeId) -> bool {
        false
    }
}
