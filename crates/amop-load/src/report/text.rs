//! Reports for people.

use std::time::Duration;

use crate::{
    record::QUANTILES,
    report::{Report, Setting, Unit},
};

const MIB: f64 = (1 << 20) as f64;

/// A time: `870 ns`, `87.2 µs`, `1.24 ms`, `2.50 s`.
pub fn duration(time: Duration) -> String {
    match time.as_nanos() {
        nanos @ 0..1_000 => format!("{nanos} ns"),
        nanos @ 1_000..1_000_000 => format!("{:.1} µs", nanos as f64 / 1e3),
        nanos @ 1_000_000..1_000_000_000 => format!("{:.2} ms", nanos as f64 / 1e6),
        nanos => format!("{:.2} s", nanos as f64 / 1e9),
    }
}

/// Digits in threes: `1,234,567`.
fn number(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && digits.as_bytes().get(at - 1) != Some(&b'-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn size(bytes: f64) -> String {
    match bytes {
        bytes if bytes >= 1024.0 * MIB => format!("{:.2} GiB", bytes / MIB / 1024.0),
        bytes if bytes >= MIB => format!("{:.1} MiB", bytes / MIB),
        bytes if bytes >= 1024.0 => format!("{:.1} KiB", bytes / 1024.0),
        bytes => format!("{bytes:.0} B"),
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

impl Report {
    /// A line for each figure: what it is, and it.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![("work", self.what()), ("system", self.which()), ("measured", self.how_long())];
        lines.push(("rate", self.how_fast()));
        if self.latencies.samples() > 0 {
            let mut each: Vec<String> = QUANTILES
                .iter()
                .map(|(name, part)| format!("{name} {}", duration(self.latencies.quantile(*part))))
                .collect();
            each.push(format!("max {}", duration(self.latencies.max())));
            lines.push(("latency", each.join("   ")));
        }
        if self.sent_late.samples() > 0 {
            let [p50, p99] = [0.5, 0.99].map(|part| duration(self.sent_late.quantile(part)));
            lines.push(("sent late", format!("p50 {p50}   p99 {p99}, contained in the latency")));
        }
        lines.extend(self.idle_lines());
        lines.extend(self.cpu().map(|cpu| ("CPU", cpu)));
        lines.extend(self.memory_line().map(|memory| ("memory", memory)));
        if let (Some(foreign), Some(steal)) = (self.usage.foreign, self.usage.steal) {
            let (foreign, steal) = (foreign * 100.0, steal * 100.0);
            lines.push((
                "machine",
                format!("{foreign:.1} % used by other programs, {steal:.1} % by other machines"),
            ));
        }
        lines.push(("errors", self.failed()));
        lines
    }

    /// What a reader must know before using the figures; empty if there is nothing.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.not_sent > 0 {
            warnings.push(format!(
                "{} messages were due and not sent, because too many were under way: the rate is more than the system takes, and latencies would be longer still",
                number(self.not_sent as f64)
            ));
        }
        if self.unfinished > 0 {
            warnings.push(format!(
                "{} had no outcome at the end; they count with the time until then",
                number(self.unfinished as f64)
            ));
        }
        if self.lost > 0 {
            let what = if self.unit == Unit::Byte { "bytes" } else { "deliveries" };
            warnings.push(format!("{} {what} never came", number(self.lost as f64)));
        }
        if self.unit != Unit::Start && self.latencies.samples() < 1_000 && self.latencies.samples() > 0 {
            warnings.push(format!(
                "{} samples say little about p99.9; measure for longer",
                self.latencies.samples()
            ));
        }
        if self.usage.foreign.unwrap_or(0.0) > 0.1 {
            warnings.push(
                "other programs used much of this machine; CPU figures hold, rates and latencies do not"
                    .into(),
            );
        }
        warnings
    }

    fn what(&self) -> String {
        let Setting { payload_bytes, in_flight, asked_rate_per_s, total_bytes, publishers, .. } =
            &self.setting;
        let mut parts = vec![self.work.to_owned()];
        parts.extend(total_bytes.map(|bytes| size(bytes as f64)));
        parts.extend(payload_bytes.map(|bytes| match total_bytes {
            Some(_) => format!("in chunks of {}", size(bytes as f64)),
            None => format!("{} each", size(bytes as f64)),
        }));
        parts.extend(self.setting.clients.map(|clients| count(clients, "client")));
        parts.extend(self.setting.runs.map(|runs| count(runs, "time")));
        match (asked_rate_per_s, in_flight, self.unit) {
            (Some(rate), Some(most), _) => {
                parts.push(format!("open loop: {} due in a second, at most {most} in flight", number(*rate)));
            }
            (None, Some(window), Unit::Delivery) => {
                parts.push(format!("at most {window} ahead of the slowest subscriber"));
            }
            (None, Some(in_flight), Unit::Connection) => parts.push(format!("{in_flight} at a time")),
            (None, Some(in_flight), _) => parts.push(format!("closed loop: {in_flight} in flight")),
            _ => {}
        }
        parts.extend(publishers.map(|publishers| count(publishers, "publisher")));
        parts.extend(self.setting.subscribers.map(|subscribers| count(subscribers, "subscriber")));
        parts.extend(self.setting.topics.map(|topics| count(topics, "topic")));
        parts.join(", ")
    }

    fn which(&self) -> String {
        let nodes = self.setting.nodes.map(|nodes| format!(", {}", count(nodes, "node"))).unwrap_or_default();
        let security = self.security.as_ref().map(|security| format!(", {security}")).unwrap_or_default();
        format!("{}{nodes}{security}", self.system)
    }

    fn how_long(&self) -> String {
        let warm_up = match self.setting.warm_up_s {
            seconds if seconds > 0.0 => format!(" after a warm-up of {seconds} s"),
            _ => String::new(),
        };
        let samples = number(self.latencies.samples() as f64);
        format!("{:.2} s{warm_up}, {samples} samples", self.usage.seconds)
    }

    fn how_fast(&self) -> String {
        let rate = self.rate();
        match self.unit {
            Unit::Message => format!("{} answered requests/s", number(rate)),
            Unit::Delivery => format!("{} deliveries/s", number(rate)),
            Unit::Byte => format!("{}/s", size(rate)),
            Unit::Connection => format!("{} connections/s", number(rate)),
            Unit::Start => format!("{:.1} starts/s", rate),
        }
    }

    fn idle_lines(&self) -> Vec<(&'static str, String)> {
        let Some(idle) = &self.idle else { return Vec::new() };
        let per_client =
            idle.resident_per_client_kib.map(|kib| format!("{kib:.1} KiB resident each, at their node"));
        let cores =
            idle.node_cores.map(|cores| format!("{:.2} % of a core while they are idle", cores * 100.0));
        per_client.into_iter().chain(cores).map(|line| ("idle", line)).collect()
    }

    fn cpu(&self) -> Option<String> {
        let each = match self.unit {
            Unit::Message => "a request",
            Unit::Delivery => "a delivery",
            Unit::Byte => "a GiB",
            Unit::Connection => "a connection",
            Unit::Start => "a start",
        };
        let of = |who: &str, each: Option<f64>, all: Option<f64>| {
            let (each, cores) = (Duration::from_secs_f64(each? / 1e6), all? / self.usage.seconds);
            Some(format!("{who} {} ({cores:.2} cores)", duration(each)))
        };
        let nodes = of("nodes", self.nodes_cpu_us(), self.usage.nodes);
        let clients = of("clients", self.clients_cpu_us(), self.usage.clients);
        let both: Vec<String> = nodes.into_iter().chain(clients).collect();
        (!both.is_empty()).then(|| format!("{each}: {}", both.join(", ")))
    }

    fn memory_line(&self) -> Option<String> {
        let each = |memory: &super::Grown| {
            let [now, peak] =
                [memory.after.resident_kib, memory.after.peak_kib].map(|kib| size(kib as f64 * 1024.0));
            format!("{now} (peak {peak})")
        };
        let all: Vec<String> = self.memory.iter().map(each).collect();
        (!all.is_empty()).then(|| format!("nodes resident: {}", all.join(", ")))
    }

    fn failed(&self) -> String {
        let kinds = self.errors.kinds().into_iter().map(|kind| {
            let code = kind.code.map(|code| format!("{code} ")).unwrap_or_default();
            format!("{} × {code}{} (first: {})", number(kind.count as f64), kind.cause, kind.first)
        });
        let kinds: Vec<String> = kinds.collect();
        if kinds.is_empty() { "none".into() } else { kinds.join("; ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_times_and_sizes_are_short() {
        assert_eq!([number(0.4), number(999.0), number(1_234_567.4)], ["0", "999", "1,234,567"]);
        assert_eq!(number(-1_000.0), "-1,000");
        let nanos = |nanos| duration(Duration::from_nanos(nanos));
        assert_eq!([nanos(870), nanos(87_210), nanos(1_240_000)], ["870 ns", "87.2 µs", "1.24 ms"]);
        assert_eq!([size(12.0), size(1536.0), size(3.5 * MIB)], ["12 B", "1.5 KiB", "3.5 MiB"]);
    }
}
