//! Certificates and keys: what a node is, and whom it believes.
