//! The links between nodes.
