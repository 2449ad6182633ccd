//! Files between commands at the terminal, while any of the processes is killed, in the midst of it.
//!
//! `SEED=… cargo test --test faults files` repeats a run that was printed with that seed.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use amop_testkit::wait;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

use crate::{
    commands::{CHUNK, Cli, Desk, Ended, arrived},
    load::{Load, Runs},
    net::{Net, Node},
    say,
};

const MIB: u64 = 1024 * 1024;
const SIZE: u64 = 48 * MIB;
/// How often each is killed.
const KILLS: u64 = 3;
/// What may be sent again for each kill: what is on its way at most, and as much as one chunk.
const AGAIN: u64 = 8 * MIB + CHUNK;
/// What every line takes, so that there is a midst.
const DELAY: Duration = Duration::from_millis(20);
/// Where sender and receiver are in the ring.
const FROM: usize = 0;
const TO: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Party {
    Sender,
    Receiver,
    SendersNode,
    ReceiversNode,
    Relay,
}

/// A transfer over a relay, in a ring.
struct Scene {
    net: Net,
    desk: Desk,
    into: PathBuf,
    sender: Cli,
    receiver: Cli,
}

impl Scene {
    async fn new(number: u64) -> Self {
        let net = Net::slow_ring(DELAY).await;
        let desk = Desk::new(SIZE, number);
        let into = desk.inbox("inbox");
        let receiver = Cli::receiver(&net, TO, &into, "files").await;
        let sender = Cli::sender(&net, FROM, &desk, "files", &[]);
        Self { net, desk, into, sender, receiver }
    }

    async fn kill(&mut self, party: Party) {
        let node = match party {
            Party::Sender => {
                self.sender.kill().await;
                return self.sender.start();
            }
            Party::Receiver => {
                self.receiver.kill().await;
                return self.receiver.start();
            }
            Party::SendersNode => FROM,
            Party::ReceiversNode => TO,
            Party::Relay => self.net.via(FROM, TO).await,
        };
        self.net.nodes[node].kill();
        self.net.nodes[node].restart().await;
        self.net.linked().await;
    }

    /// Both commands end well, and the file is there; gives what the sender said at last.
    async fn is_done(&mut self) -> Ended {
        let (sent, received) = (self.sender.ended().await, self.receiver.ended().await);
        for (ended, last) in [(&sent, "sent"), (&received, "received")] {
            assert_eq!(ended.code, Some(0), "{ended:?}");
            let said = ended.last(last);
            assert_eq!((said["size"].as_u64(), said["hash"].as_str()), (Some(SIZE), Some(&*self.desk.hash)));
        }
        self.desk.assert_received(&self.into);
        self.desk.assert_nothing_is_kept();
        sent
    }
}

/// Waits until so much has come.
async fn has_come(into: &Path, bytes: u64) {
    wait::until("chunks", async || arrived(into) >= bytes).await;
    assert!(arrived(into) < SIZE, "it was to be in the midst of it");
}

/// Draws moments, in bytes that have come, each in its own part of the file.
fn moments(random: &mut impl Rng) -> impl Iterator<Item = u64> {
    const PART: u64 = SIZE * 4 / 5 / KILLS;
    (0..KILLS).map(move |part| part * PART + random.random_range(CHUNK..PART))
}

fn seed() -> u64 {
    let given = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| rand::rng().random())
}

async fn is_killed_again_and_again(party: Party) {
    let seed = seed();
    say(format_args!("{party:?} is killed {KILLS} times, SEED={seed}"));
    let mut random = StdRng::seed_from_u64(seed);
    let mut scene = Scene::new(seed).await;
    let began = Instant::now();
    for moment in moments(&mut random) {
        has_come(&scene.into, moment).await;
        scene.kill(party).await;
    }
    let sent = scene.is_done().await;
    // As the sender says, which began anew if it was killed; and as its receiver's node counts, which did.
    let mut again = sent.last("sent")["resent"].as_u64().expect("a number");
    if party != Party::ReceiversNode {
        let handed = scene.net.nodes[TO].counted("client_port_sent_bytes").await;
        // Each chunk has its proof and headers, for which an eightieth is more than enough.
        again = again.max(handed.saturating_sub(SIZE + SIZE / 80));
    }
    say(format_args!(
        "{party:?} killed {KILLS} times: {:.1} MiB sent again for each, {:.1?} in all",
        again as f64 / (KILLS * MIB) as f64,
        began.elapsed()
    ));
    assert!(again <= KILLS * AGAIN, "{again} bytes were sent again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_sender_is_killed() {
    is_killed_again_and_again(Party::Sender).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_receiver_is_killed() {
    is_killed_again_and_again(Party::Receiver).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_senders_node_is_killed() {
    is_killed_again_and_again(Party::SendersNode).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_receivers_node_is_killed() {
    is_killed_again_and_again(Party::ReceiversNode).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_relay_of_a_file_is_killed() {
    is_killed_again_and_again(Party::Relay).await;
}

/// Both commands and all nodes, at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everything_is_killed() {
    let mut scene = Scene::new(2).await;
    has_come(&scene.into, SIZE / 3).await;
    scene.sender.kill().await;
    scene.receiver.kill().await;
    scene.net.nodes.iter_mut().for_each(Node::kill);
    let before = arrived(&scene.into);
    for node in &mut scene.net.nodes {
        node.restart().await;
    }
    scene.sender.start();
    scene.receiver.start();
    scene.is_done().await;
    let handed = scene.net.nodes[TO].counted("client_port_sent_bytes").await;
    assert!(handed < SIZE - before + AGAIN, "{handed} bytes, although there were {before}");
}

/// While the last chunks come, the whole is checked and the file gets its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn either_command_is_killed_at_the_very_end() {
    let seed = seed();
    say(format_args!("killed at the very end, SEED={seed}"));
    let mut random = StdRng::seed_from_u64(seed);
    let net = Net::line(2).await;
    for (number, party) in [Party::Receiver, Party::Sender].into_iter().cycle().take(10).enumerate() {
        let desk = Desk::new(4 * MIB, seed ^ number as u64);
        let (into, topic) = (desk.inbox("inbox"), format!("files-{number}"));
        let mut receiver = Cli::receiver_of(&net, 1, &into, &topic, &[]).await;
        let mut sender = Cli::sender(&net, 0, &desk, &topic, &[]);
        let enough = 4 * MIB - CHUNK * random.random_range(0..4);
        let file = into.join("batch.bin");
        wait::until("chunks", async || arrived(&into) >= enough || file.exists()).await;
        let killed = if party == Party::Receiver { &mut receiver } else { &mut sender };
        if killed.kill_if_it_runs().await {
            killed.start();
        }
        let sent = sender.ended().await;
        assert_eq!(sent.code, Some(0), "{number}: {sent:?}");
        sent.last("sent");
        // Before, it would not know what to do about a signal.
        receiver.said("ready").await;
        receiver.signal("-INT");
        assert_eq!(receiver.ended().await.code, Some(0));
        desk.assert_received(&into);
        desk.assert_nothing_is_kept();
    }
}

/// The one who is not killed has its file as if nothing had happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_two_receivers_is_killed() {
    let net = Net::slow_line(3, DELAY).await;
    let desk = Desk::new(SIZE / 2, 1);
    let (near, far) = (desk.inbox("near"), desk.inbox("far"));
    let mut receivers =
        [Cli::receiver(&net, 1, &near, "files").await, Cli::receiver(&net, 2, &far, "files").await];
    let mut sender = Cli::sender(&net, 0, &desk, "files", &["--multicast"]);
    has_come(&far, SIZE / 8).await;
    receivers[1].kill().await;
    receivers[1].start();
    for receiver in &mut receivers {
        let ended = receiver.ended().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.last("received");
    }
    let sent = sender.ended().await;
    assert_eq!(sent.code, Some(0), "{sent:?}");
    assert_eq!(sent.events.iter().filter(|event| event["event"] == "sent").count(), 2, "{sent:?}");
    desk.assert_received(&near);
    desk.assert_received(&far);
    desk.assert_nothing_is_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_files_and_small_requests_share_a_link() {
    let net = Net::line(2).await;
    let (desk, till, runs) = (net.client(&[1]).await, net.client(&[0]).await, Runs::default());
    runs.echo(&desk, "t").await;
    let files = [("one", 1), ("two", 2)].map(|(topic, number)| (topic, Desk::new(SIZE, number)));
    let load = Load::start(&till, "t", 100);
    let mut commands = Vec::new();
    for (topic, file) in &files {
        commands.push(Cli::receiver(&net, 1, &file.inbox("inbox"), topic).await);
    }
    commands.extend(files.iter().map(|(topic, file)| Cli::sender(&net, 0, file, topic, &[])));
    for command in &mut commands {
        let ended = command.ended().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let report = load.end().await;
    report.print("two files of 48 MiB on the same link");
    report.assert_perfect(&runs);
    for (_, file) in &files {
        file.assert_received(&file.inbox("inbox"));
        file.assert_nothing_is_kept();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn either_command_is_interrupted_and_goes_on() {
    let mut scene = Scene::new(1).await;
    has_come(&scene.into, SIZE / 4).await;
    let ended = interrupted(&mut scene.sender).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.errors.contains("interrupted; the same command goes on from here"), "{ended:?}");
    let before = arrived(&scene.into);
    scene.sender.start();
    has_come(&scene.into, before + SIZE / 8).await;

    let ended = interrupted(&mut scene.receiver).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.errors.contains("1 files are not complete; the same command goes on with them"),
        "{ended:?}"
    );
    scene.receiver.start();
    scene.is_done().await;
}

/// As with Ctrl-C.
async fn interrupted(command: &mut Cli) -> Ended {
    let asked = Instant::now();
    command.signal("-INT");
    let ended = command.ended().await;
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    ended
}
