//! What the system says of this process, read when somebody asks for metrics.

use std::{
    fmt, fs,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// Shows memory, descriptors, threads, processor time and age of this process, under `amop_process_`.
/// Where there is no `/proc` it shows only the start.
#[derive(Debug)]
pub(super) struct Process {
    started: f64,
}

impl Process {
    /// One that takes this moment for the start where the system does not say.
    pub(super) fn new() -> Self {
        Self { started: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: f64| {
            let gauge = ConstGauge::new(value);
            let of = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(of)
        };
        gauge("process_start_time_seconds", "When the process started, Unix time", self.started)?;
        if let Some(bytes) = resident_bytes() {
            gauge("process_resident_memory_bytes", "Memory in use", bytes)?;
        }
        if let Some(threads) = of_status("Threads:") {
            gauge("process_threads", "Threads", threads)?;
        }
        if let Some(open) = open_files() {
            gauge("process_open_fds", "Open file descriptors", open)?;
        }
        if let Some(most) = most_files() {
            gauge("process_max_fds", "File descriptors that may be open", most)?;
        }
        if let Some(seconds) = processor_seconds() {
            let counter = ConstCounter::new(seconds);
            let help = "Processor time, in user and kernel mode";
            let of = encoder.encode_descriptor("process_cpu_seconds", help, None, counter.metric_type())?;
            counter.encode(of)?;
        }
        Ok(())
    }
}

/// A number in `/proc/self/status`, in the unit it is given in.
fn of_status(field: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    number_behind(&status, field)
}

fn resident_bytes() -> Option<f64> {
    of_status("VmRSS:").map(|kib| kib * 1024.0)
}

fn open_files() -> Option<f64> {
    // One of them is the directory that is being read.
    let open = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    u32::try_from(open).ok().map(f64::from)
}

fn most_files() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    number_behind(&limits, "Max open files")
}

/// Running time of all threads of the process.
fn processor_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    ticks(&stat).map(|ticks| ticks / TICKS_PER_SECOND)
}

/// What Linux shows to programs on every machine it runs on, whatever it ticks at itself.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system time, fields 14 and 15; the name of the program, field 2, may hold anything.
fn ticks(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

fn number_behind(text: &str, field: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        let stat = "42 (a name) with) R 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0";
        assert_eq!(ticks(stat), Some(300.0));
        assert_eq!(ticks("42 (x) R 1"), None);
        assert_eq!(number_behind("VmRSS:\t  1234 kB\n", "VmRSS:"), Some(1234.0));
        assert_eq!(
            number_behind("Max open files            1024   4096  files", "Max open files"),
            Some(1024.0)
        );
        assert_eq!(number_behind("Max open files   unlimited", "Max open files"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_threads_and_files() {
        assert!(resident_bytes().expect("memory") > 1e6);
        assert!(of_status("Threads:").expect("threads") >= 1.0);
        assert!(open_files().expect("files") >= 3.0);
        assert!(most_files().expect("a bound") >= open_files().expect("files"));
        assert!(processor_seconds().expect("time") >= 0.0);
    }
}
