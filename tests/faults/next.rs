//! `amop` as the version after this one will be: its nodes speak one version more of the overlay protocol.

use std::process::ExitCode;

fn main() -> ExitCode {
    amop::cli::main()
}
