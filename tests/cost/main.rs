//! What a message costs: a node's allocations, and the core's instructions. Counted, with bounds that fail.
//!
//! Seconds depend on the machine and on what else runs on it; these do not, or little: so what is
//! added to every message is seen on any machine. `cargo test --release --test cost`; in a release build,
//! because that is what is meant, and in a process of its own, because the allocator that counts is the whole process's.
//!
//! - *Allocations*: real nodes with real TLS, each on a thread of its own whose allocations are
//!   counted; clients are on other threads and are not. How many frames come in one read differs
//!   when many messages are in flight, and some allocations are made per read.
//! - *Instructions*: the core of the same nodes without IO, under valgrind, which must be installed; x86-64 only. They
//!   differ a little between processors, because memory is copied in other ways.
//!
//! `-- allocations` and `-- instructions` count only these. `-- whole` counts, without bounds, the instructions of whole
//! nodes, TLS included.
//!
//! To lower a bound after a change that saves something, copy what is printed under `NEW` into
//! [`BOUNDS`]: a tenth above what was counted; bytes with 64 in flight, a quarter; where less than one
//! allocation was counted, one. A bound is raised only in a commit that says what for.

mod core;
mod counted;
mod instructions;
mod whole;
mod work;

use std::{fmt, process::ExitCode};

use alloc_tracker::{Allocator, Session};

use self::{
    counted::{Counting, Line},
    work::Work,
};

#[global_allocator]
static ALLOCATOR: Allocator<std::alloc::System> = Allocator::system();

/// So far above what was counted stands a new bound.
const MARGIN: f64 = 1.1;
/// Works with real nodes are done so often, and the least of the counts holds.
const ROUNDS: usize = 3;

/// What is counted, and the most it may be.
struct Bound {
    work: Work,
    what: What,
    most: f64,
}

/// Of what, per message; where receivers are, per delivery of a multicast.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// Allocations of one node.
    Allocations(Role),
    /// Bytes of those.
    Bytes(Role),
    /// Of the core of all nodes together.
    Instructions,
}

/// The part of a node in a work.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The sender's node.
    Origin,
    /// Between the two.
    Relay,
    /// The receiver's node.
    Destination,
}

use Role::{Destination, Origin, Relay};
use What::{Allocations, Bytes, Instructions};

const BOUNDS: &[Bound] = &[
    bound(Work::request(2, 1), Allocations(Origin), 16.8),
    bound(Work::request(2, 1), Bytes(Origin), 3610.0),
    bound(Work::request(2, 1), Allocations(Destination), 26.7),
    bound(Work::request(2, 1), Bytes(Destination), 5950.0),
    bound(Work::request(2, 64), Allocations(Origin), 7.4),
    bound(Work::request(2, 64), Bytes(Origin), 6220.0),
    bound(Work::request(2, 64), Allocations(Destination), 16.5),
    bound(Work::request(2, 64), Bytes(Destination), 9200.0),
    bound(Work::request(3, 1), Allocations(Relay), 4.4),
    bound(Work::request(3, 1), Bytes(Relay), 2030.0),
    bound(Work::request(3, 64), Allocations(Relay), 1.0),
    bound(Work::request(3, 64), Bytes(Relay), 4180.0),
    bound(Work::multicast(2, 1), Allocations(Origin), 15.1),
    bound(Work::multicast(2, 1), Bytes(Origin), 3600.0),
    bound(Work::multicast(2, 1), Allocations(Destination), 13.8),
    bound(Work::multicast(2, 1), Bytes(Destination), 3100.0),
    bound(Work::multicast(2, 64), Allocations(Origin), 4.0),
    bound(Work::multicast(2, 64), Bytes(Origin), 4200.0),
    bound(Work::multicast(2, 64), Allocations(Destination), 3.8),
    bound(Work::multicast(2, 64), Bytes(Destination), 3200.0),
    bound(Work::request(2, 1), Instructions, 31_300.0),
    bound(Work::request(3, 1), Instructions, 60_000.0),
    bound(Work::multicast(2, 1), Instructions, 3570.0),
];

const fn bound(work: Work, what: What, most: f64) -> Bound {
    Bound { work, what, most }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(exit) = instructions::play_if_told(&arguments) {
        return exit;
    }
    if arguments.iter().any(|argument| argument == "whole") {
        whole::show();
        return ExitCode::SUCCESS;
    }
    let wanted = |part: &str| {
        let parts = ["allocations", "instructions"];
        arguments.iter().any(|a| a == part) || !arguments.iter().any(|a| parts.contains(&a.as_str()))
    };
    say(format_args!(
        "{:<52} {:<32} {:>9} {:>9} {:>9}",
        "WORK", "PER MESSAGE OR DELIVERY", "COUNTED", "MOST", "NEW"
    ));
    let bounds = BOUNDS.iter().filter(|bound| match bound.what {
        Instructions => wanted("instructions"),
        Allocations(_) | Bytes(_) => wanted("allocations"),
    });
    let (mut counter, mut kept, mut above) = (Counter::default(), 0, 0);
    for bound in bounds {
        let counted = counter.count(bound);
        let is_above = counted > bound.most;
        say(format_args!(
            "{:<52} {:<32} {counted:>9.2} {:>9.1} {:>9.1}{}",
            bound.work.to_string(),
            bound.what.to_string(),
            bound.most,
            counted * MARGIN,
            if is_above { "  ABOVE ITS BOUND" } else { "" }
        ));
        *if is_above { &mut above } else { &mut kept } += 1;
    }
    say(format_args!("\n{kept} passed, {above} failed"));
    if above == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Does each work once, however many bounds there are for it.
#[derive(Default)]
struct Counter {
    done: Option<(Work, Vec<Session>)>,
}

impl Counter {
    fn count(&mut self, Bound { work, what, .. }: &Bound) -> f64 {
        match what {
            Instructions => instructions::per_message(*work) / work.deliveries() as f64,
            Allocations(role) => self.least(*work, |session| counted::per_unit(session, *role).0),
            Bytes(role) => self.least(*work, |session| counted::per_unit(session, *role).1),
        }
    }

    fn least(&mut self, work: Work, figure: impl Fn(&Session) -> f64) -> f64 {
        if self.done.as_ref().is_none_or(|(done, _)| *done != work) {
            self.done = Some((work, (0..ROUNDS).map(|_| do_it(work)).collect()));
        }
        let (_, sessions) = self.done.as_ref().expect("just done");
        sessions.iter().map(figure).fold(f64::INFINITY, f64::min)
    }
}

/// With new nodes; what was counted of them.
fn do_it(work: Work) -> Session {
    let session = Session::new().no_stdout().no_file();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let line = Line::start(work.nodes).await;
        let count = async || line.count(&session, |index| work.units(index)).await;
        work.run(async |index| line.client(index).await, count, Counting::end).await;
    });
    session
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allocations(role) => write!(f, "allocations, {role}"),
            Bytes(role) => write!(f, "bytes, {role}"),
            Instructions => write!(f, "instructions, core of all nodes"),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin => "sender's node",
            Relay => "relay",
            Destination => "receiver's node",
        })
    }
}

#[expect(clippy::print_stdout, reason = "the figures are what it is run for")]
fn say(line: impl fmt::Display) {
    println!("{line}");
}
