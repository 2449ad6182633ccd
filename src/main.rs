//! The `amop` program: parse, dispatch, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    amop::cli::main()
}
