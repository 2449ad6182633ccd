//! Processes that end with the one that started them, however that ends.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use rustix::process::{Resource, Signal, getrlimit, set_parent_process_death_signal, setrlimit};

/// Has the system kill this process when the thread that started it ends. Outlives `exec`.
///
/// # Errors
/// When the system refuses.
pub fn end_with_parent() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

/// Becomes another program, which then ends with the parent of this one. Returns only what went wrong.
pub fn become_program(program: &str, arguments: &[String]) -> ExitCode {
    let error = match end_with_parent() {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    };
    #[expect(clippy::print_stderr, reason = "the one who started this reads it")]
    {
        eprintln!("cannot run {program}: {error}");
    }
    ExitCode::FAILURE
}

/// Raises the number of files this process and its children may have open to what the system permits.
///
/// # Errors
/// When the system refuses.
pub fn raise_open_files() -> io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}
