//! Nodes of another institution, with valid certificates and no manners.
