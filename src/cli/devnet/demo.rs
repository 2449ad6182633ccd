//! The demo: an application at the last node that answers, one at the first that asks.

use std::{
    convert::Infallible,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use amop_client::{Client, Options, Subscription};
use futures::StreamExt;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::cli::{
    devnet::{
        layout::Layout,
        plan::{Node, Plan},
    },
    output,
};

const TOPIC: &str = "devnet/demo";
/// From one request to the next.
const PERIOD: Duration = Duration::from_secs(3);
/// From a failed start of the demo to the next.
const RETRY: Duration = Duration::from_secs(1);

/// What the demo has measured.
#[derive(Default)]
struct Score {
    answered: u64,
    failed: u64,
    fastest: Option<Duration>,
}

/// Runs the demo for ever. `began` is when the program started.
pub(super) async fn run(plan: &Plan, layout: &Layout, began: std::time::Instant) -> Infallible {
    let (Some(first), Some(last)) = (plan.nodes.first(), plan.nodes.last()) else {
        return std::future::pending().await;
    };
    let mut score = Score::default();
    loop {
        if let Err(error) = round(first, last, layout, began, &mut score).await {
            tell(&format!("demo: {error:#}; trying again"));
        }
        sleep(RETRY).await;
    }
}

/// Connects both applications and sends requests until one of them cannot.
async fn round(
    first: &Node,
    last: &Node,
    layout: &Layout,
    began: std::time::Instant,
    score: &mut Score,
) -> anyhow::Result<()> {
    let subscriber = connect(last, layout).await?;
    let requests = subscriber.subscribe(TOPIC).await?;
    let publisher = connect(first, layout).await?;
    tokio::select! {
        () = answer_all(requests) => anyhow::bail!("the subscriber has lost its node"),
        failed = ask_for_ever(&publisher, first, last, began, score) => Err(failed),
    }
}

async fn connect(node: &Node, layout: &Layout) -> anyhow::Result<Client> {
    Ok(Client::connect(Options::new([node.channel.to_string()], layout.client_dir(node))).await?)
}

async fn answer_all(mut requests: Subscription) {
    while let Some(request) = requests.next().await {
        let answer = request.payload.clone();
        request.answer(answer);
    }
}

async fn ask_for_ever(
    publisher: &Client,
    first: &Node,
    last: &Node,
    began: std::time::Instant,
    score: &mut Score,
) -> anyhow::Error {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let sent = Instant::now();
        match publisher.request(TOPIC, format!("hello from {}", first.institution)).await {
            Ok(_) => score.answer(sent.elapsed(), began, first, last),
            Err(error) => {
                score.failed += 1;
                return error.into();
            }
        }
    }
}

impl Score {
    fn answer(&mut self, took: Duration, began: std::time::Instant, first: &Node, last: &Node) {
        self.answered += 1;
        let fastest = self.fastest.map_or(took, |fastest| fastest.min(took));
        self.fastest = Some(fastest);
        if self.answered == 1 {
            let since = began.elapsed();
            tell(&format!("\ndemo: the first answer from {} came {since:.2?} after the start\n", last.name));
        }
        update(&format!(
            "demo: {} asks {}, answered in {took:.0?} (fastest {fastest:.0?}; {} answered, {} failed)",
            first.name, last.name, self.answered, self.failed
        ));
    }
}

/// A line that stays. Standard output may be a closed pipe by now; the devnet runs on.
fn tell(line: &str) {
    let _ = output::say(line);
}

/// A line that the next one overwrites; only on a terminal, so that no log fills up with it.
fn update(line: &str) {
    if io::stdout().is_terminal() {
        let mut out = io::stdout().lock();
        let _ = write!(out, "\r\x1b[2K{line}").and_then(|()| out.flush());
    }
}
