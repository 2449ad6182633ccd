//! The subcommands of `amop`.

pub mod certs;
