//! What processes use: CPU, memory, and what else goes on on the machine.
//!
//! From `/proc`, so on Linux only; elsewhere figures are absent. CPU comes in ticks of 10 ms: measure for seconds.

use std::{
    fs,
    thread::available_parallelism,
    time::{Duration, Instant},
};

use serde::Serialize;

/// Ticks of `/proc` in a second: fixed for programs, whatever the kernel's own clock.
const TICKS: f64 = 100.0;

/// CPU from [`Meter::start`] on: of the nodes, of this process (the clients), of all others.
#[derive(Debug)]
pub struct Meter {
    began: Instant,
    servers: Vec<u32>,
    nodes: Option<f64>,
    clients: Option<f64>,
    machine: Option<Machine>,
}

/// What was used between start and stop of a [`Meter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Seconds in between.
    pub seconds: f64,
    /// CPU seconds of all nodes; absent if they are not ours.
    #[serde(rename = "nodes_cpu_s", skip_serializing_if = "Option::is_none")]
    pub nodes: Option<f64>,
    /// CPU seconds of this process: of the clients, and of measuring.
    #[serde(rename = "clients_cpu_s", skip_serializing_if = "Option::is_none")]
    pub clients: Option<f64>,
    /// Which part of the machine other processes used, 0 to 1; absent if the nodes are not ours, and so among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreign: Option<f64>,
    /// Which part of the machine its host gave to others, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steal: Option<f64>,
}

/// Memory of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Resident now, KiB.
    pub resident_kib: u64,
    /// Most that was resident since the start, or since [`forget_peak`], KiB.
    pub peak_kib: u64,
}

/// CPU seconds of the whole machine.
#[derive(Clone, Copy, Debug)]
struct Machine {
    busy: f64,
    steal: f64,
}

impl Meter {
    /// Starts. `servers` are the processes of the nodes; empty if they are not ours.
    pub fn start(servers: &[u32]) -> Self {
        let clients = cpu("self");
        Self {
            began: Instant::now(),
            servers: servers.to_vec(),
            nodes: since_start(servers),
            clients,
            machine: machine(),
        }
    }

    /// What was used since the start.
    pub fn stop(&self) -> Usage {
        let seconds = self.began.elapsed().as_secs_f64();
        let spent = |now: Option<f64>, before: Option<f64>| Some((now? - before?).max(0.0));
        let nodes = spent(since_start(&self.servers), self.nodes);
        let clients = spent(cpu("self"), self.clients);
        let all = seconds * available_parallelism().map_or(1, usize::from) as f64;
        let now = machine();
        let part = |value: f64| (value / all).clamp(0.0, 1.0);
        let foreign = (|| Some(part(now?.busy - self.machine?.busy - nodes? - clients?)))();
        let steal = (|| Some(part(now?.steal - self.machine?.steal)))();
        Usage { seconds, nodes, clients, foreign, steal }
    }
}

/// Memory of a process; `None` if there is none of that id, or nothing tells.
pub fn memory(pid: u32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some(Memory { resident_kib: field("VmRSS:")?, peak_kib: field("VmHWM:")? })
}

/// Has the peak of a process begin anew. Where the system does not allow it, the peak is that since its start.
pub fn forget_peak(pid: u32) {
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// Waits until other processes use at most this part (0 to 1) of the machine, or `most` is over; which part it was at last.
/// `None`, at once, where nothing tells. To be called while no nodes of ours run.
pub async fn until_quiet(part: f64, most: Duration) -> Option<f64> {
    let began = Instant::now();
    loop {
        let before = machine()?;
        let since = Instant::now();
        tokio::time::sleep(Duration::from_millis(400)).await;
        let all = since.elapsed().as_secs_f64() * available_parallelism().map_or(1, usize::from) as f64;
        let used = ((machine()?.busy - before.busy) / all).clamp(0.0, 1.0);
        if used <= part || began.elapsed() >= most {
            return Some(used);
        }
    }
}

/// CPU seconds of these processes since they were started; `None` if there are none, or one of them has ended.
pub fn since_start(pids: &[u32]) -> Option<f64> {
    if pids.is_empty() {
        return None;
    }
    pids.iter().map(|pid| cpu(&pid.to_string())).sum()
}

/// User and system time of a process, those of threads that have ended included.
fn cpu(process: &str) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is the program's name in parentheses, with whatever it has in it.
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11).map(str::parse::<f64>);
    Some((fields.next()?.ok()? + fields.next()?.ok()?) / TICKS)
}

fn machine() -> Option<Machine> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<f64> =
        stat.lines().next()?.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _wait, irq, soft_irq, steal, ..] = fields[..] else { return None };
    Some(Machine { busy: (user + nice + system + irq + soft_irq) / TICKS, steal: steal / TICKS })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn work_of_this_process_is_seen() {
        let own = std::process::id();
        let meter = Meter::start(&[own]);
        let mut sum = 0_u64;
        while meter.began.elapsed() < Duration::from_millis(300) || meter.stop().clients < Some(0.05) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let usage = meter.stop();
        assert!(usage.seconds >= 0.3 && usage.nodes >= Some(0.05), "{usage:?}");
        assert!(usage.foreign.is_some() && usage.steal.is_some(), "{usage:?}");
        let memory = memory(own).expect("ours");
        assert!(memory.resident_kib > 0 && memory.peak_kib >= memory.resident_kib / 2, "{memory:?}");
    }

    #[test]
    fn what_nobody_knows_is_absent() {
        let usage = Meter::start(&[]).stop();
        assert_eq!((usage.nodes, usage.foreign), (None, None));
        assert!(usage.clients.is_some());
        assert_eq!(Meter::start(&[u32::MAX]).stop().nodes, None);
        assert_eq!(memory(u32::MAX), None);
    }
}
