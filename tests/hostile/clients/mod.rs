//! Clients of another institution, with valid certificates and no manners.

mod connections;
mod floods;
mod frames;
mod topics;
