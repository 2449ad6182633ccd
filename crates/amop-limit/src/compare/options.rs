//! How a comparison is run, from the command line.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use tokio::runtime::Builder;

use super::{
    case::{Case, Scale},
    contender::Contender,
    figures::Metric,
    rounds::{Plan, Results},
    tables::{Against, Aim},
    turn::Turn,
};

/// What all comparisons take.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Rounds; each puts every work to every system
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Seconds of each measurement; a quarter as much goes before
    #[arg(long, default_value_t = 2.5)]
    pub seconds: f64,
    /// Few works, for an instant: shows that everything runs, measures nothing
    #[arg(long)]
    pub quick: bool,
    /// Systems, by name; the first is what the others are compared with
    #[arg(long, value_delimiter = ',')]
    pub systems: Vec<String>,
    /// Works whose names contain one of these
    #[arg(long, value_delimiter = ',')]
    pub works: Vec<String>,
    /// Measure again, once, when others use more than this part of the machine
    #[arg(long, default_value_t = 0.08)]
    pub foreign: f64,
    /// Write PREFIX.json and PREFIX.md, again after each measurement
    #[arg(long, value_name = "PREFIX")]
    pub out: Option<PathBuf>,
    /// One measurement, in this process
    #[arg(long, hide = true)]
    pub turn: Option<Turn>,
    /// Cargo says so
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Options {
    /// The plan.
    ///
    /// # Errors
    /// When nothing is left to be measured.
    fn plan(&self, all: Vec<Box<dyn Contender>>) -> Result<Plan, String> {
        let known: Vec<_> = all.iter().map(|contender| contender.name().to_owned()).collect();
        let mut contenders = all;
        if !self.systems.is_empty() {
            let place = |name: &str| self.systems.iter().position(|wanted| wanted == name);
            contenders.retain(|contender| place(contender.name()).is_some());
            contenders.sort_by_key(|contender| place(contender.name()));
            if let Some(unknown) = self.systems.iter().find(|wanted| !known.contains(wanted)) {
                return Err(format!("there is no system {unknown:?}; there are {}", known.join(", ")));
            }
        }
        let mut cases = if self.quick { QUICK.to_vec() } else { ALL.to_vec() };
        if !self.works.is_empty() {
            cases.retain(|case| self.works.iter().any(|word| case.to_string().contains(word)));
        }
        if cases.is_empty() {
            let names: Vec<_> = ALL.iter().map(Case::to_string).collect();
            return Err(format!("no work is called so; there are: {}", names.join("; ")));
        }
        let rounds = if self.quick { 1 } else { self.rounds.max(1) };
        let foreign = if self.quick { 1.0 } else { self.foreign };
        Ok(Plan { contenders, cases, rounds, scale: self.scale()?, foreign })
    }

    /// Measures, prints tables, and writes them if that was asked for. Files of nodes go to `dir`. Whether all could be
    /// measured.
    ///
    /// # Errors
    /// When nothing is left to be measured, or a file cannot be written.
    #[expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its figures")]
    pub fn compare(&self, all: Vec<Box<dyn Contender>>, dir: &Path) -> io::Result<bool> {
        let plan = self.plan(all).map_err(io::Error::other)?;
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        if let Some(turn) = self.turn {
            runtime.block_on(turn.play(&plan))?;
            return Ok(true);
        }
        let results = runtime.block_on(plan.run(dir, |line, so_far| {
            eprintln!("{line}");
            if let Err(error) = self.write(&plan, so_far) {
                eprintln!("cannot write what was measured: {error}");
            }
        }));
        println!("{}", self.text(&plan, &results));
        self.write(&plan, &results)?;
        Ok(results.is_complete())
    }

    fn text(&self, plan: &Plan, results: &Results) -> String {
        let mut text = results.markdown(plan);
        if !self.quick {
            text.push_str("\n### Aims of amop\n\n");
            text.push_str(&results.aims(plan, "amop", AIMS));
        }
        text
    }

    fn write(&self, plan: &Plan, results: &Results) -> io::Result<()> {
        let Some(prefix) = &self.out else { return Ok(()) };
        if let Some(parent) = prefix.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(prefix.with_extension("json"), format!("{:#}\n", results.json(plan)))?;
        fs::write(prefix.with_extension("md"), self.text(plan, results))
    }

    fn scale(&self) -> Result<Scale, String> {
        let seconds = if self.quick { 0.3 } else { self.seconds };
        if !(0.1..=600.0).contains(&seconds) {
            return Err(format!("{seconds} seconds cannot be measured; use 0.1 to 600"));
        }
        let duration = Duration::from_secs_f64(seconds);
        let settle = Duration::from_millis(if self.quick { 50 } else { 800 });
        Ok(Scale { warm_up: duration / 4, duration, settle })
    }
}

const fn requests(payload: usize, in_flight: usize) -> Case {
    Case::Requests { payload, in_flight }
}

const FAN_OUT: Case = Case::FanOut { payload: 256, subscribers: 100 };
const BULK: Case = Case::Bulk { mib: 256 };
const HALF: Case = Case::Half { payload: 1024 };
const HOP: Case = Case::Hops { payload: 1024, in_flight: 1 };
const HOP_BUSY: Case = Case::Hops { payload: 1024, in_flight: 64 };

const ALL: &[Case] = &[
    requests(128, 1),
    requests(1024, 1),
    requests(128, 64),
    requests(1024, 64),
    requests(128, 256),
    requests(1024, 256),
    HALF,
    FAN_OUT,
    BULK,
    Case::Idle { clients: 2_000 },
    Case::Idle { clients: 10_000 },
    Case::Start,
    HOP,
    HOP_BUSY,
];

const QUICK: &[Case] = &[
    requests(128, 1),
    requests(1024, 64),
    Case::Half { payload: 1024 },
    Case::FanOut { payload: 256, subscribers: 10 },
    Case::Bulk { mib: 8 },
    Case::Idle { clients: 50 },
    Case::Start,
    HOP,
];

const fn aim(case: Case, metric: Metric, against: Against, bound: f64) -> Aim {
    Aim { case, metric, against, bound }
}

const LIMIT: Against = Against::Named("limit");
const NATS: Against = Against::Named("nats");

/// What nodes of ours are to reach.
const AIMS: &[Aim] = &[
    aim(requests(128, 1), Metric::P50, LIMIT, 1.4),
    aim(requests(128, 1), Metric::P50, NATS, 0.65),
    aim(requests(128, 1), Metric::NodesCpu, LIMIT, 1.5),
    aim(requests(1024, 1), Metric::P50, LIMIT, 1.4),
    aim(requests(1024, 1), Metric::P50, NATS, 0.65),
    aim(requests(1024, 1), Metric::NodesCpu, LIMIT, 1.5),
    aim(requests(128, 64), Metric::Rate, LIMIT, 0.65),
    aim(requests(128, 64), Metric::Rate, NATS, 2.0),
    aim(requests(128, 64), Metric::NodesCpu, LIMIT, 2.0),
    aim(requests(1024, 64), Metric::Rate, LIMIT, 0.65),
    aim(requests(1024, 64), Metric::Rate, NATS, 2.0),
    aim(requests(1024, 64), Metric::NodesCpu, LIMIT, 2.0),
    aim(requests(128, 256), Metric::Rate, LIMIT, 0.65),
    aim(requests(128, 256), Metric::Rate, NATS, 2.0),
    aim(requests(128, 256), Metric::NodesCpu, LIMIT, 2.0),
    aim(requests(1024, 256), Metric::Rate, LIMIT, 0.65),
    aim(requests(1024, 256), Metric::Rate, NATS, 2.0),
    aim(requests(1024, 256), Metric::NodesCpu, LIMIT, 2.0),
    aim(HALF, Metric::P99, LIMIT, 2.0),
    aim(FAN_OUT, Metric::Deliveries, LIMIT, 0.65),
    aim(FAN_OUT, Metric::Deliveries, Against::BestPeer, 1.0),
    aim(FAN_OUT, Metric::NodesCpu, LIMIT, 2.0),
    aim(BULK, Metric::Throughput, Against::Named("raw"), 0.8),
    aim(BULK, Metric::Throughput, NATS, 1.0),
    aim(BULK, Metric::CpuPerGib, LIMIT, 1.4),
    aim(BULK, Metric::Peak, Against::Itself, 64.0),
    aim(Case::Idle { clients: 2_000 }, Metric::PerClient, Against::Itself, 20.0),
    aim(Case::Idle { clients: 10_000 }, Metric::PerClient, Against::Itself, 20.0),
    aim(Case::Idle { clients: 2_000 }, Metric::CpuPerConnect, Against::Itself, 1.0),
    aim(Case::Start, Metric::Start, LIMIT, 2.0),
    aim(Case::Start, Metric::Start, NATS, 1.0),
    aim(HOP, Metric::HopP50, LIMIT, 1.5),
    aim(HOP, Metric::HopCpu, LIMIT, 1.5),
    aim(HOP_BUSY, Metric::HopCpu, LIMIT, 1.5),
];

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        options: Options,
    }

    fn options(arguments: &str) -> Options {
        Program::parse_from(format!("bench {arguments}").split_whitespace()).options
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        for (arguments, words) in [
            ("--works nothing", "request, 128 B, 1 in flight"),
            ("--systems nobody", "there is no system \"nobody\""),
            ("--seconds 0", "use 0.1 to 600"),
            ("--seconds nan", "use 0.1 to 600"),
        ] {
            let error = options(arguments).plan(Vec::new()).err().expect(words);
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn works_are_chosen_by_words() {
        let plan = options("--works multicast,idle --rounds 0").plan(Vec::new()).expect("a plan");
        assert_eq!((plan.cases.len(), plan.rounds), (3, 1));
    }

    #[test]
    fn aims_are_of_works_and_figures_that_are_measured() {
        for aim in AIMS {
            assert!(ALL.contains(&aim.case) && aim.case.metrics().contains(&aim.metric), "{aim:?}");
        }
    }
}
