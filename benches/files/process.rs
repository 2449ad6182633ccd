//! Processes that talk in lines of JSON, and what they use.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// How often memory is looked at: the peak is the system's own, only growth in a process's last
/// moments is missed.
pub(crate) const LOOK: Duration = Duration::from_millis(20);
/// Ticks of the CPU times in `/proc`, which Linux fixes for programs.
const TICKS_PER_SECOND: f64 = 100.0;
/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(600);

/// The program under test.
pub(crate) fn amop() -> Command {
    Command::new(env!("CARGO_BIN_EXE_amop"))
}

/// This program, for a role of its own.
pub(crate) fn own() -> anyhow::Result<Command> {
    Ok(Command::new(std::env::current_exe().context("cannot find this program")?))
}

/// A process with lines of JSON on its standard output; killed when dropped.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    errors: PathBuf,
    pub(crate) usage: Usage,
}

impl Process {
    /// Starts it. What it complains about goes to the end of the file `errors`.
    pub(crate) fn start(name: &'static str, mut command: Command, errors: &Path) -> anyhow::Result<Self> {
        let errors_to = File::options().create(true).append(true).open(errors)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors_to).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let pid = child.id().context("a process that was just started has an id")?;
        let stdout = child.stdout.take().context("its output is piped")?;
        Ok(Self {
            name,
            child,
            lines: BufReader::new(stdout).lines(),
            errors: errors.to_owned(),
            usage: Usage::of(pid),
        })
    }

    /// The next line; `None` when it has closed its output.
    pub(crate) async fn line(&mut self) -> anyhow::Result<Option<Value>> {
        let Some(line) = self.lines.next_line().await? else { return Ok(None) };
        let parsed = serde_json::from_str(&line);
        Ok(Some(parsed.with_context(|| format!("{} printed {line:?}", self.name))?))
    }

    /// The next line about this event; an error if it says that something failed, or ends.
    pub(crate) async fn event(&mut self, event: &str) -> anyhow::Result<Value> {
        let find = async {
            loop {
                let line = self.line().await?;
                let line = line.with_context(|| {
                    format!("{} ended before {event:?}: {}", self.name, self.last_words())
                })?;
                match line["event"].as_str() {
                    Some(found) if found == event => return Ok(line),
                    Some("failed" | "declined") => anyhow::bail!("{}: {line}", self.name),
                    _ => {}
                }
            }
        };
        let found = timeout(PATIENCE, find).await;
        found.with_context(|| format!("{} did not say {event:?}", self.name))?
    }

    /// The last line that it complained with.
    fn last_words(&self) -> String {
        let errors = fs::read_to_string(&self.errors).unwrap_or_default();
        errors.lines().next_back().unwrap_or("it says nothing").to_owned()
    }

    /// Waits until it ends by itself.
    pub(crate) async fn end(&mut self) -> anyhow::Result<ExitStatus> {
        let drain = async {
            while self.lines.next_line().await?.is_some() {}
            anyhow::Ok(())
        };
        let closed = timeout(PATIENCE, drain).await;
        closed.with_context(|| format!("{} did not end", self.name))??;
        // Its output is closed, so it has no more to do; it is still there for its CPU time to be read.
        self.usage.look();
        Ok(self.child.wait().await?)
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// What a process has used, as far as it was looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pid: u32,
    /// User and system time, seconds.
    pub(crate) cpu: f64,
    /// Most memory ever resident, KiB.
    pub(crate) peak_kib: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Self {
        let mut usage = Self { pid, cpu: 0.0, peak_kib: 0 };
        usage.look();
        usage
    }

    /// Looks again. A process that is gone keeps what was last seen.
    pub(crate) fn look(&mut self) {
        if let Some(cpu) = cpu_seconds(self.pid) {
            self.cpu = cpu;
        }
        if let Some(peak) = peak_kib(self.pid) {
            self.peak_kib = peak;
        }
    }

    /// Has the kernel begin anew with the peak of a process that has run before.
    pub(crate) fn forget_peak(&mut self) {
        // Not permitted everywhere; then the peak is that of its whole life.
        let _ = fs::write(format!("/proc/{}/clear_refs", self.pid), "5");
        self.look();
    }
}

fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may have spaces and parentheses itself.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11).map(|field| field.parse::<u64>().ok());
    Some((times.next()?? + times.next()??) as f64 / TICKS_PER_SECOND)
}

fn peak_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// CPU time of the whole machine that none of this bench's processes explains, since some moment.
pub(crate) struct Foreign {
    began: Instant,
    busy: f64,
}

impl Foreign {
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), busy: busy_seconds().unwrap_or(0.0) }
    }

    /// Cores that others kept busy meanwhile, given the CPU seconds that are explained.
    pub(crate) fn cores(&self, explained: f64) -> f64 {
        let busy = busy_seconds().unwrap_or(0.0) - self.busy;
        ((busy - explained) / self.began.elapsed().as_secs_f64()).max(0.0)
    }
}

fn busy_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let fields = stat.lines().next()?.split_whitespace().skip(1);
    let ticks: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, then after idle and iowait: irq, softirq, steal
    let busy = ticks.iter().take(3).sum::<u64>() + ticks.iter().skip(5).take(3).sum::<u64>();
    Some(busy as f64 / TICKS_PER_SECOND)
}
