//! Throughput: the byte pipe, files, and `scp`, one after the other in every round.

use crate::{
    Args, Part, chunks,
    net::Net,
    pipe,
    process::Foreign,
    report::{Aim, Report},
    role::SUITE,
    scp, transfer,
};

/// Of the byte pipe's throughput.
const AIM: f64 = 0.6;
const MIB: u64 = 1024 * 1024;

/// What was measured, a value per round.
#[derive(Default)]
struct Figures {
    pipe: Vec<f64>,
    plain_pipe: Vec<f64>,
    plain_pipe_cpu: Vec<f64>,
    pipe_cpu: Vec<f64>,
    pipe_cpus: [Vec<f64>; 4],
    chunks: Vec<f64>,
    chunks_cpus: [Vec<f64>; 4],
    whole: Vec<f64>,
    moving: Vec<f64>,
    cpu: Vec<f64>,
    cpus: [Vec<f64>; 4],
    peaks: [Vec<f64>; 4],
    resent: Vec<f64>,
    whole_ratio: Vec<f64>,
    moving_ratio: Vec<f64>,
    plain_ratio: Vec<f64>,
    scp: Vec<f64>,
    scp_ratio: Vec<f64>,
    foreign: Vec<f64>,
}

pub(crate) async fn run(args: &Args, seed: u64, report: &mut Report) -> anyhow::Result<()> {
    let [limit, amop, scp] = [Part::Limit, Part::Amop, Part::Scp].map(|part| args.only.contains(&part));
    if !(limit || amop || scp) {
        return Ok(());
    }
    let dir = tempfile::tempdir_in(&args.dir)?;
    let bytes = args.mib * MIB;
    let file = transfer::make(dir.path().join("file"), bytes, seed)?;
    let server = if scp { Some(scp::Server::start(dir.path())?) } else { None };
    let mut net = Net::start(dir.path(), None).await?;
    let mut figures = Figures::default();
    for round in 0..args.rounds {
        if limit {
            let plain = pipe::run(dir.path(), bytes, true).await?;
            figures.plain_pipe.push(megabytes(bytes) / plain.seconds);
            figures.plain_pipe_cpu.push(plain.cpu.iter().sum::<f64>() / gibibytes(bytes));
            let foreign = Foreign::start();
            let piped = pipe::run(dir.path(), bytes, false).await?;
            figures.foreign.push(foreign.cores(piped.cpu.iter().sum()));
            figures.piped(&piped, bytes);
            let asked = chunks::run(&mut net, &format!("chunks/{round}"), bytes).await?;
            figures.chunks.push(megabytes(bytes) / asked.seconds);
            for (values, cpu) in figures.chunks_cpus.iter_mut().zip(asked.cpu) {
                values.push(cpu / gibibytes(bytes));
            }
        }
        if amop {
            let foreign = Foreign::start();
            let transferred = transfer::run(&mut net, &format!("files/{round}"), &file).await?;
            figures.foreign.push(foreign.cores(transferred.cpu.iter().sum()));
            figures.transferred(&transferred, bytes, limit);
        }
        if let Some(Ok(server)) = &server {
            figures.scp.push(megabytes(bytes) / server.copy(&file)?);
            figures.scp_ratio.extend(ratio(&figures.whole, &figures.scp));
        }
    }
    if let Some(Err(missing)) = server {
        report.part("scp");
        report.remark(&format!("scp: {missing}"));
    }
    figures.tell(args.mib, report);
    Ok(())
}

impl Figures {
    fn piped(&mut self, piped: &pipe::Piped, bytes: u64) {
        self.pipe.push(megabytes(bytes) / piped.seconds);
        self.pipe_cpu.push(piped.cpu.iter().sum::<f64>() / gibibytes(bytes));
        for (values, cpu) in self.pipe_cpus.iter_mut().zip(piped.cpu) {
            values.push(cpu / gibibytes(bytes));
        }
    }

    fn transferred(&mut self, done: &transfer::Transferred, bytes: u64, with_limit: bool) {
        self.whole.push(megabytes(bytes) / done.whole);
        self.moving.push(megabytes(bytes) / done.moving);
        self.cpu.push(done.cpu.iter().sum::<f64>() / gibibytes(bytes));
        for (values, cpu) in self.cpus.iter_mut().zip(done.cpu) {
            values.push(cpu / gibibytes(bytes));
        }
        for (values, peak) in self.peaks.iter_mut().zip(done.peak_kib) {
            values.push(peak as f64 / 1024.0);
        }
        self.resent.push(done.resent as f64 / MIB as f64);
        if with_limit {
            self.whole_ratio.extend(ratio(&self.whole, &self.pipe));
            self.moving_ratio.extend(ratio(&self.moving, &self.pipe));
            self.plain_ratio.extend(ratio(&self.moving, &self.plain_pipe));
        }
    }

    fn tell(&self, mib: u64, report: &mut Report) {
        let parties = transfer::PARTIES;
        report.part("limit");
        let pipe = format!("byte pipe, 4 processes, 3 × mutual {SUITE:?}, {mib} MiB");
        report.figure(&pipe, "MB/s", &self.pipe, Aim::None);
        report.figure("byte pipe, CPU of all per GiB", "s", &self.pipe_cpu, Aim::None);
        for (party, cpu) in parties.iter().zip(&self.pipe_cpus) {
            report.figure(&format!("  {party}"), "s", cpu, Aim::None);
        }
        report.figure("plain pipe: reads and writes in turn, 16 KiB", "MB/s", &self.plain_pipe, Aim::None);
        report.figure("plain pipe, CPU of all per GiB", "s", &self.plain_pipe_cpu, Aim::None);
        report.figure(
            "no file: requests of 256 KiB, 16 in flight, nothing else",
            "MB/s",
            &self.chunks,
            Aim::None,
        );
        for (party, cpu) in parties.iter().zip(&self.chunks_cpus) {
            report.figure(&format!("  CPU per GiB, {party}"), "s", cpu, Aim::None);
        }
        report.part("amop");
        report.figure("file, from the offer until it is there", "MB/s", &self.moving, Aim::None);
        report.figure("file, the whole command of the sender", "MB/s", &self.whole, Aim::None);
        report.figure(
            "file / byte pipe of the round, from the offer",
            "",
            &self.moving_ratio,
            Aim::AtLeast(AIM),
        );
        report.figure(
            "file / byte pipe of the round, whole command",
            "",
            &self.whole_ratio,
            Aim::AtLeast(AIM),
        );
        report.figure("file / plain pipe of the round, from the offer", "", &self.plain_ratio, Aim::None);
        report.figure("file, CPU of all per GiB", "s", &self.cpu, Aim::None);
        for (party, cpu) in parties.iter().zip(&self.cpus) {
            report.figure(&format!("  {party}"), "s", cpu, Aim::None);
        }
        for (party, peak) in parties.iter().zip(&self.peaks) {
            report.figure(&format!("peak resident memory, {party}"), "MiB", peak, Aim::NeverAbove(64.0));
        }
        report.figure("bytes sent again, nothing having failed", "MiB", &self.resent, Aim::None);
        report.part("scp");
        report.figure("scp over loopback (aes128-gcm), whole command", "MB/s", &self.scp, Aim::None);
        report.figure("file / scp of the round, whole commands", "", &self.scp_ratio, Aim::None);
        report.part("machine");
        report.figure("cores busy with something else meanwhile", "", &self.foreign, Aim::None);
    }
}

/// Of the last round.
fn ratio(values: &[f64], others: &[f64]) -> Option<f64> {
    Some(values.last()? / others.last()?)
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn gibibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * MIB as f64)
}
