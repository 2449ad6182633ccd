//! Nodes that come and go while messages flow.

use super::*;

/// Requests one after the other from several tasks, until told to stop.
struct Flow {
    stop: Arc<AtomicUsize>,
    done: Arc<AtomicUsize>,
    workers: Vec<tokio::task::JoinHandle<usize>>,
}

impl Flow {
    fn start(client: &amop_client::Client, topic: &'static str) -> Self {
        let (stop, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let workers = (0..8).map(|_| {
            let (client, stop, done) = (client.clone(), stop.clone(), done.clone());
            crate::mesh::spawn(async move {
                let mut asked = 0;
                while stop.load(Ordering::SeqCst) == 0 {
                    let answer = client.request(topic, "x").await;
                    assert!(answer.is_ok(), "a request failed though there is a path: {answer:?}");
                    asked += 1;
                    done.fetch_add(1, Ordering::SeqCst);
                }
                asked
            })
        });
        Self { workers: workers.collect(), stop, done }
    }

    /// Waits until another hundred have been answered.
    async fn goes_on(&self) {
        let before = self.done.load(Ordering::SeqCst);
        wait::until("more answers", async || {
            assert!(self.workers.iter().all(|worker| !worker.is_finished()), "a worker has failed");
            self.done.load(Ordering::SeqCst) >= before + 100
        })
        .await;
    }

    async fn end(self) -> usize {
        self.stop.store(1, Ordering::SeqCst);
        let mut asked = 0;
        for worker in self.workers {
            asked += wait::within("the last answers", worker).await.expect("no request failed");
        }
        asked
    }
}

#[tokio::test]
async fn no_request_fails_while_a_path_exists() {
    let mut mesh = Mesh::new(4, Topology::Ring, |_, _| {}).await;
    let server = Served::echo(mesh.client(2).await, "t").await;
    let till = mesh.client(0).await;
    let flow = Flow::start(&till, "t");
    flow.goes_on().await;
    // Whichever relay is in use, it is among these.
    for relay in [1, 3] {
        mesh.abort(relay);
        flow.goes_on().await;
        mesh.restart(relay).await;
        mesh.linked().await;
        flow.goes_on().await;
        mesh.stop(relay).await;
        flow.goes_on().await;
        mesh.restart(relay).await;
        mesh.linked().await;
    }
    let asked = flow.end().await;
    assert_eq!(server.handled(), asked, "each once, whatever happened on the way");
}

#[tokio::test]
async fn a_subscription_is_found_again_after_its_node_came_back() {
    let mut mesh = Mesh::line(3).await;
    let server = Served::answer(mesh.client(2).await, "t", "here").await;
    let till = mesh.client(0).await;
    assert!(till.request("t", "x").await.is_ok());
    mesh.abort(2);
    wait::until("100", async || till.publish("t", "x").await.is_err_and(|error| error.code() == 100)).await;
    mesh.restart(2).await;
    wait::until("an answer", async || till.request("t", "x").await.is_ok()).await;
    assert!(server.handled() >= 2);
}

#[tokio::test]
async fn a_subscription_in_a_ring_is_confirmed_at_once() {
    let mesh = Mesh::new(4, Topology::Ring, |_, _| {}).await;
    for node in (0..4).cycle().take(12) {
        let client = mesh.client(node).await;
        let subscription = wait::within("a subscription", client.subscribe("t")).await.expect("subscribed");
        assert!(subscription.is_complete());
    }
}

#[tokio::test]
async fn no_publication_is_lost_or_doubled_while_a_path_exists() {
    let mut mesh = Mesh::new(4, Topology::Ring, |_, _| {}).await;
    let mut far = mesh.client(2).await.subscribe("news").await.expect("subscribed");
    let publisher = mesh.client(0).await;
    let mut number = 0_u32;
    let mut publish = async || {
        number += 1;
        let sent = wait::within("an outcome", publisher.publish("news", number.to_be_bytes().to_vec())).await;
        assert!(sent.is_ok(), "number {number}: {sent:?}");
    };
    for relay in [1, 3] {
        for _ in 0..50 {
            publish().await;
        }
        mesh.abort(relay);
        for _ in 0..50 {
            publish().await;
        }
        mesh.restart(relay).await;
        mesh.linked().await;
    }
    let mut got = Vec::new();
    while got.len() < 200 {
        let delivery = wait::within("a message", far.next()).await.expect("a message");
        got.push(u32::from_be_bytes(delivery.payload[..].try_into().expect("four bytes")));
    }
    // Paths changed, so order is not promised; once each is.
    got.sort_unstable();
    assert!(got.iter().copied().eq(1..=200), "{got:?}");
}

#[tokio::test]
async fn a_large_request_outlives_its_relay() {
    let mut mesh = Mesh::new(4, Topology::Ring, |_, _| {}).await;
    let server = Served::echo(mesh.client(2).await, "t").await;
    let till = mesh.client(0).await;
    for relay in [1, 3] {
        let payload = Bytes::from(vec![relay as u8; 8 << 20]);
        let request = crate::mesh::spawn({
            let (till, payload) = (till.clone(), payload.clone());
            async move { till.request("t", payload).await }
        });
        // Somewhere on its way, or back already: both must be right.
        tokio::task::yield_now().await;
        mesh.abort(relay);
        let answer = wait::within("an answer", request).await.expect("no panic");
        assert!(answer.expect("an answer") == payload);
        mesh.restart(relay).await;
        mesh.linked().await;
    }
    assert_eq!(server.handled(), 2);
}
