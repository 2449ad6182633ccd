//! One attack from beginning to end.

use std::thread;

use amop_testkit::wait;
use futures::future::LocalBoxFuture;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::{
    net::{CEILING, Net, Target},
    pairs::Pairs,
};

/// Nobody may wait longer, in milliseconds.
const LONGEST_WAIT: f64 = 1_000.0;
/// Requests before and during the attack: two seconds, three seconds.
const BEFORE: u32 = 200;
const DURING: u32 = 300;

/// One scenario at a time: each has the machine to itself.
static TURN: Mutex<()> = Mutex::new(());

/// An attack: it goes on until it is dropped.
pub(crate) type Attack = Box<dyn FnOnce(Target) -> LocalBoxFuture<'static, ()> + Send>;

/// A scenario. `proof` names metrics of the node and by how much each must have grown: the attack
/// did happen, and met its limit.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) proof: &'static [(&'static str, u64)],
    pub(crate) more: &'static str,
    /// Nodes between the attacked one and the far one.
    pub(crate) between: usize,
}

pub(crate) fn scenario(
    name: &'static str,
    proof: &'static [(&'static str, u64)],
    attack: impl FnOnce(Target) -> LocalBoxFuture<'static, ()> + Send + 'static,
) {
    Scenario { name, proof, more: "", between: 0 }.run(Box::new(attack));
}

impl Scenario {
    pub(crate) fn run(self, attack: Attack) {
        let _turn = TURN.lock();
        runtime().block_on(self.play(attack));
    }

    #[expect(clippy::print_stdout, reason = "the figures are what a scenario is run for")]
    async fn play(self, attack: Attack) {
        let net = Net::start(self.more, self.between).await;
        let mut pairs = Pairs::connect(&net).await;
        // Warm: the first requests derive keys and make room.
        pairs.measure(&net, 20).await;
        let before = pairs.measure(&net, BEFORE).await;
        let counted = net.metrics().await;
        let attacker = Attacker::start(attack, net.target());
        let mut meanwhile = Vec::new();
        wait::until(&format!("{}: the attack to show", self.name), async || {
            meanwhile.extend(pairs.measure(&net, 4).await.failures);
            let now = net.metrics().await;
            self.proof.iter().all(|(name, _)| now.value(name) > counted.value(name))
        })
        .await;
        let during = pairs.measure(&net, DURING).await;
        wait::until(&format!("{}: enough of the attack", self.name), async || {
            meanwhile.extend(pairs.measure(&net, 4).await.failures);
            let now = net.metrics().await;
            self.proof.iter().all(|(name, least)| now.value(name) >= counted.value(name) + least)
        })
        .await;
        attacker.stop();
        let peaks = [0, 1].map(|index| net.peak(index));
        let [longest, newcomer] = during.longest();
        println!(
            "| {} | {:.1} ms | {:.1} ms | {:.1} | {:.0} ms | {:.0} ms | {} MiB |",
            self.name,
            before.p99(),
            during.p99(),
            during.p99() / before.p99(),
            longest,
            newcomer,
            peaks[0] >> 20,
        );
        if !during.failures.is_empty() || longest.max(newcomer) >= LONGEST_WAIT {
            net.tell();
        }
        assert_eq!(before.failures, Vec::<String>::new(), "{}: before the attack", self.name);
        meanwhile.extend(during.failures);
        assert_eq!(meanwhile, Vec::<String>::new(), "{}", self.name);
        assert!(longest < LONGEST_WAIT, "{}: a request took {longest} ms", self.name);
        assert!(newcomer < LONGEST_WAIT, "{}: a newcomer waited {newcomer} ms", self.name);
        for peak in peaks {
            assert!(
                peak < CEILING,
                "{}: {} MiB resident, {} are the most",
                self.name,
                peak >> 20,
                CEILING >> 20
            );
        }
    }
}

/// A thread of its own: what the attack does must not delay those who measure.
struct Attacker {
    stop: CancellationToken,
    thread: thread::JoinHandle<()>,
}

impl Attacker {
    fn start(attack: Attack, target: Target) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let attacking = move || {
            runtime().block_on(async move {
                let _ = stopped.run_until_cancelled(attack(target)).await;
            });
        };
        let thread = thread::spawn(attacking);
        Self { stop, thread }
    }

    fn stop(self) {
        self.stop.cancel();
        self.thread.join().expect("the attacker made no mistake");
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}
