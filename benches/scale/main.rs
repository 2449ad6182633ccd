//! What grows with topics and with nodes: real processes, real TLS.
//!
//! `cargo bench --bench scale` prints tables, with `-- --json` one JSON object per row. It takes about three
//! minutes and up to 8 GiB of memory; each row gives up after some minutes. Linux only.
//!
//! - *topics*: ten nodes in a line, each with its share of the topics, by clients with up to 10,000 topics each. From the first
//!   subscription until each node has taken a message to the last topic of every client.
//! - *nodes*: devnets of 50 nodes on this machine, in each topology, then left alone.
//!
//! `-- topics` and `-- nodes` run only that part, `-- topics 1000,5000` with these numbers of topics,
//! `-- nodes 20` with that many nodes.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

mod devnets;
mod topics;

use anyhow::Context;
use serde::Serialize;

/// Numbers of topics in the overlay.
const TOPICS: [usize; 4] = [10_000, 100_000, 300_000, 1_000_000];
/// Numbers of nodes on this machine.
const NODES: [usize; 1] = [50];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let as_json = arguments.iter().any(|argument| argument == "--json");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(numbers) = wanted(&arguments, "topics", &TOPICS)? {
        let mut table = Table::new(as_json, topics::HEADER);
        for topics in numbers {
            table.row(&runtime.block_on(topics::row(topics))?)?;
        }
    }
    if let Some(numbers) = wanted(&arguments, "nodes", &NODES)? {
        let mut table = Table::new(as_json, devnets::HEADER);
        for nodes in numbers {
            for topology in devnets::TOPOLOGIES {
                table.row(&runtime.block_on(devnets::row(nodes, topology))?)?;
            }
        }
    }
    Ok(())
}

/// The numbers for this part; `None` if only another part is wanted.
fn wanted(arguments: &[String], part: &str, default: &[usize]) -> anyhow::Result<Option<Vec<usize>>> {
    let mut parts = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
    let mut is_any_named = false;
    while let Some(named) = parts.next() {
        is_any_named = true;
        let numbers = parts.next_if(|next| next.starts_with(|first: char| first.is_ascii_digit()));
        if named == part {
            let Some(numbers) = numbers else { return Ok(Some(default.to_vec())) };
            let parsed = numbers.split(',').map(str::parse).collect::<Result<_, _>>();
            return Ok(Some(parsed.with_context(|| format!("{numbers:?} is no list of numbers"))?));
        }
    }
    Ok((!is_any_named).then(|| default.to_vec()))
}

/// Rows for people, aligned, or for programs.
struct Table {
    as_json: bool,
}

/// What a part finds out.
trait Row: Serialize {
    /// In the order of the header.
    fn cells(&self) -> Vec<String>;
}

impl Table {
    fn new(as_json: bool, header: &[&str]) -> Self {
        if !as_json {
            println!("\n{}", line(header.iter().map(|cell| (*cell).to_owned())));
        }
        Self { as_json }
    }

    fn row(&mut self, row: &impl Row) -> anyhow::Result<()> {
        if self.as_json {
            println!("{}", serde_json::to_string(row)?);
        } else {
            println!("{}", line(row.cells().into_iter()));
        }
        Ok(())
    }
}

fn line(cells: impl Iterator<Item = String>) -> String {
    cells.map(|cell| format!("{cell:>16}")).collect::<Vec<_>>().join(" ")
}

/// KiB as MiB.
fn mib(kib: f64) -> String {
    format!("{:.1} MiB", kib / 1024.0)
}
