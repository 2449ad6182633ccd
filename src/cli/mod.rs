//! The subcommands of `amop`.
