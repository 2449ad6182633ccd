//! Processes that end with the one that started them, however that ends.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
};

use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};

use crate::system::Failure;

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
#[expect(clippy::print_stderr, reason = "the one who started this reads it")]
pub fn become_program(command: &[String]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else { return ExitCode::FAILURE };
    let error = match end_with_parent() {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    };
    eprintln!("cannot run {program}: {error}");
    ExitCode::FAILURE
}

/// Raises the number of files this process and its children may have open to what the system permits.
///
/// # Errors
/// When the system refuses.
pub fn raise_open_files() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

/// So many addresses on the loopback interface that are free now, for processes that have to be told
/// where to listen.
///
/// # Errors
/// When there are not so many.
pub fn free_addresses(count: usize) -> Result<Vec<SocketAddr>, Failure> {
    // All bound before the first is given back, so that none comes twice.
    let bound: io::Result<Vec<_>> = (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect();
    let found = bound.and_then(|bound| bound.iter().map(TcpListener::local_addr).collect());
    found
        .map_err(|error| Failure::new("start", format!("no free address on the loopback interface: {error}")))
}

/// The processes of a cluster, killed when dropped.
#[derive(Debug, Default)]
pub struct Children {
    running: Vec<Mutex<Child>>,
    names: Vec<String>,
    ids: Vec<u32>,
}

impl Children {
    /// Starts one more. What it says goes to the file `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self, name: &str, command: &mut Command, log: &Path) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::new("start", format!("cannot start {name}: {error}"));
        let to = File::create(log).map_err(failed)?;
        command.stdin(Stdio::null()).stdout(to.try_clone().map_err(failed)?).stderr(to);
        let child = command.spawn().map_err(failed)?;
        self.ids.push(child.id());
        self.names.push(format!("{name}, see {}", log.display()));
        self.running.push(Mutex::new(child));
        Ok(())
    }

    /// Their process ids, in the order they were started.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Fails when one has ended.
    ///
    /// # Errors
    /// Which, and how.
    pub fn alive(&self) -> Result<(), Failure> {
        for (child, name) in self.running.iter().zip(&self.names) {
            if let Ok(Some(status)) = child.lock().try_wait() {
                return Err(Failure::new("died", format!("a process has ended ({status}): {name}")));
            }
        }
        Ok(())
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in &self.running {
            let mut child = child.lock();
            // It fails only if the process has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
