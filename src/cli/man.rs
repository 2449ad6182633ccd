//! `amop man`: the manual pages, made from the command line's own definition.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::CommandFactory;

use super::output;

/// Where to.
#[derive(Debug, clap::Args)]
#[command(after_help = "For example: amop man /usr/local/share/man/man1")]
pub(super) struct Args {
    /// Directory for one page per command, such as amop.1 and amop-node.1; made if it is not there
    #[arg(value_name = "DIR")]
    to: PathBuf,
}

/// Writes the pages.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let pages = write(&args.to)?;
    output::say(format_args!("{pages} pages written to {}", args.to.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn write(to: &Path) -> anyhow::Result<usize> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    clap_mangen::generate_to(super::Cli::command(), to)
        .with_context(|| format!("cannot write manual pages to {}", to.display()))?;
    Ok(fs::read_dir(to).with_context(|| format!("cannot read {}", to.display()))?.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let dir = tempfile::tempdir().expect("a directory");
        write(&dir.path().join("man1")).expect("written");
        for command in crate::cli::Cli::command().get_subcommands() {
            let page = dir.path().join(format!("man1/amop-{}.1", command.get_name()));
            let text = fs::read_to_string(&page).unwrap_or_else(|_| panic!("{} is missing", page.display()));
            assert!(text.contains(".TH"), "{} is no manual page", page.display());
        }
    }
}
