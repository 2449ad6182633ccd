//! Applications with two nodes: whichever node goes, nothing is lost and nothing is handled twice.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use amop_client::{Cause, Client, Delivery, PublishOptions, RequestError, Subscription};
use amop_testkit::wait;
use bytes::Bytes;
use futures::{StreamExt, future};
use parking_lot::Mutex;
use tokio::{sync::mpsc, task::JoinHandle, time::interval};

use crate::mesh::{Mesh, Served, Topology, spawn};

#[tokio::test]
async fn the_first_request_after_subscribing_is_answered_a_thousand_times_of_a_thousand() {
    let mesh = Mesh::line(3).await;
    let desk = mesh.client(2).await;
    let till = mesh.client(0).await;
    let mut served: Vec<JoinHandle<Subscription>> = Vec::new();
    let mut answered = 0;
    for number in 0..1000 {
        let topic = format!("fresh-{number}");
        let mut subscription = desk.subscribe(&topic).await.expect("subscribed");
        assert!(subscription.is_complete());
        served.push(spawn(async move {
            subscription.next().await.expect("a request").answer("yes");
            subscription
        }));
        let answer = wait::within("an answer", till.request(&topic, "first")).await;
        answered += usize::from(answer.as_deref() == Ok(&b"yes"[..]));
        // As many topics as an application has, not more and more of them.
        if served.len() == 20 {
            future::join_all(served.drain(..)).await;
        }
    }
    assert_eq!(answered, 1000);
}

#[tokio::test]
async fn a_request_outlives_the_node_it_was_sent_through() {
    a_request_outlives_its_node(false).await;
}

#[tokio::test]
async fn so_does_that_of_an_application_which_has_the_topic_itself() {
    a_request_outlives_its_node(true).await;
}

async fn a_request_outlives_its_node(subscribed: bool) {
    let mut mesh = Mesh::new(3, Topology::Ring, |_, _| {}).await;
    let (asked_to, mut asked) = mpsc::channel(8);
    let desk = Served::with(mesh.client(2).await, "t", move |delivery: Delivery| {
        asked_to.try_send(delivery).expect("room");
    })
    .await;
    let till = mesh.connect(&[0, 1], mesh.certificate(0)).await;
    at_home(&till).await;
    let own = if subscribed { Some(Served::echo(till.clone(), "t").await) } else { None };
    let asking = spawn({
        let till = till.clone();
        async move { till.request("t", "please").await }
    });
    let delivery = wait::within("the request", asked.recv()).await.expect("a request");
    let through = till.node().expect("connected").address.clone();
    mesh.abort(mesh.nodes.iter().position(|node| node.channel() == through).expect("a node of the mesh"));
    // The copy that comes through the other node joins this one.
    wait::until("the other node", async || till.node().is_some_and(|node| node.address != through)).await;
    delivery.answer("done");
    let answer = wait::within("an answer", asking).await.expect("no panic");
    assert_eq!(answer.as_deref(), Ok(&b"done"[..]));
    assert_eq!(desk.handled(), 1);
    assert_eq!(own.map_or(0, |own| own.handled()), 0);
}

#[tokio::test]
async fn an_application_with_two_nodes_is_no_recipient_of_its_own_multicasts() {
    let mesh = Mesh::line(2).await;
    for homes in [[0, 1], [1, 0]] {
        let topic = format!("news-{}", homes[0]);
        let own = mesh.connect(&homes, mesh.certificate(0)).await;
        at_home(&own).await;
        let _own = own.subscribe(&topic).await.expect("subscribed");
        let report = async |from: &Client| {
            let options = PublishOptions::default().report();
            from.publish_with(&topic, "x", options).await.map(|report| (report.handed, report.failed))
        };
        let stranger = mesh.client(0).await;
        wait::until("both its sessions", async || report(&stranger).await == Ok((2, 0))).await;
        let error = report(&own).await.expect_err("nobody else is there");
        assert_eq!((error.code(), error.cause()), (100, Cause::NoSubscriber), "{error}");

        let others = [
            mesh.client(0).await.subscribe(&topic).await.expect("subscribed"),
            mesh.client(1).await.subscribe(&topic).await.expect("subscribed"),
        ];
        assert!(others.iter().all(Subscription::is_complete), "all nodes know them");
        assert_eq!(report(&own).await, Ok((2, 0)));
        assert_eq!(report(&stranger).await, Ok((4, 0)), "to others it is two subscribers");
    }
}

#[tokio::test]
async fn an_application_with_two_nodes_is_asked_itself_only_if_nobody_else_is_there() {
    let mesh = Mesh::line(2).await;
    let own = mesh.connect(&[0, 1], mesh.certificate(0)).await;
    at_home(&own).await;
    let own = Served::answer(own, "t", "itself").await;
    for node in [0, 1] {
        let desk = Served::answer(mesh.client(node).await, "t", "another").await;
        let before = own.handled();
        for _ in 0..50 {
            let answer = wait::within("an answer", own.client.request("t", "x")).await;
            assert_eq!(answer.as_deref(), Ok(&b"another"[..]));
        }
        assert_eq!((desk.handled(), own.handled()), (50, before));
        desk.client.close().await;
        wait::until("nobody else", async || {
            own.client.request("t", "x").await.as_deref() == Ok(&b"itself"[..])
        })
        .await;
    }
}

#[tokio::test]
async fn a_multicast_comes_once_to_whoever_is_connected_twice() {
    let mesh = Mesh::new(4, Topology::Ring, |_, _| {}).await;
    let mut everybody = Vec::new();
    for homes in [[0, 1], [1, 2], [2, 3], [3, 0]] {
        let client = mesh.connect(&homes, mesh.certificate(homes[0])).await;
        at_home(&client).await;
        everybody.push(client.subscribe("news").await.expect("subscribed"));
    }
    let publisher = everybody[0].client().clone();
    for number in 0..50_u8 {
        publisher.publish("news", vec![number]).await.expect("delivered");
    }
    let stranger = mesh.client(2).await;
    stranger.publish("news", "end").await.expect("delivered");
    let end = wait::within("the end", everybody[0].next()).await.expect("a message");
    assert_eq!(end.payload, "end", "a publisher gets none of its own, through whichever node");
    for subscription in &mut everybody[1..] {
        for number in 0..50_u8 {
            let delivery = wait::within("a message", subscription.next()).await.expect("a message");
            assert_eq!(delivery.payload[..], [number], "each once, in the order sent");
        }
        let end = wait::within("the end", subscription.next()).await.expect("a message");
        assert_eq!(end.payload, "end");
    }
}

#[tokio::test]
async fn a_rolling_restart_fails_no_request_and_runs_none_twice() {
    let (mut mesh, load) = Load::on_three_nodes().await;
    for node in 0..3 {
        load.goes_on().await;
        mesh.stop(node).await;
        load.goes_on().await;
        mesh.restart(node).await;
        mesh.linked().await;
        load.is_at_home().await;
    }
    load.goes_on().await;
    load.judge().await;
}

#[tokio::test]
async fn nodes_that_are_switched_off_one_after_the_other_fail_no_request_and_run_none_twice() {
    let (mut mesh, load) = Load::on_three_nodes().await;
    for node in 0..3 {
        load.goes_on().await;
        mesh.abort(node);
        load.goes_on().await;
        mesh.restart(node).await;
        mesh.linked().await;
        load.is_at_home().await;
    }
    load.goes_on().await;
    load.judge().await;
}

/// A publisher and a subscriber, with two nodes each, one of them in common; requests all the time.
struct Load {
    till: Client,
    desk: Client,
    /// How often which request was handled.
    handled: Arc<Mutex<BTreeMap<Bytes, usize>>>,
    ended: Arc<AtomicBool>,
    requests: JoinHandle<Vec<JoinHandle<Result<Bytes, RequestError>>>>,
}

/// A pause between two requests.
const PACE: Duration = Duration::from_millis(5);

impl Load {
    async fn on_three_nodes() -> (Mesh, Self) {
        let mesh = Mesh::new(3, Topology::Ring, |_, _| {}).await;
        let till = mesh.connect(&[0, 1], mesh.certificate(0)).await;
        let desk = mesh.connect(&[1, 2], mesh.certificate(1)).await;
        at_home(&till).await;
        at_home(&desk).await;
        let handled = Arc::new(Mutex::new(BTreeMap::new()));
        let mut subscription = desk.subscribe("t").await.expect("subscribed");
        let count = handled.clone();
        spawn(async move {
            while let Some(delivery) = subscription.next().await {
                *count.lock().entry(delivery.payload.clone()).or_insert(0) += 1;
                let payload = delivery.payload.clone();
                delivery.answer(payload);
            }
        });
        let ended = Arc::new(AtomicBool::new(false));
        let requests = spawn(requests(till.clone(), ended.clone()));
        (mesh, Self { till, desk, handled, ended, requests })
    }

    /// Waits until twenty more requests have been handled.
    async fn goes_on(&self) {
        let so_many = self.handled.lock().len() + 20;
        wait::until("more requests", async || self.handled.lock().len() >= so_many).await;
    }

    /// Waits until both have both their nodes again.
    async fn is_at_home(&self) {
        at_home(&self.till).await;
        at_home(&self.desk).await;
        // And the subscription with them: what is subscribed later comes after it.
        wait::within("a subscription", self.desk.subscribe("later")).await.expect("subscribed");
    }

    async fn judge(self) {
        self.ended.store(true, Ordering::SeqCst);
        let requests = self.requests.await.expect("no panic");
        let sent = requests.len();
        let answers = wait::within("all outcomes", future::join_all(requests)).await;
        for (number, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.expect("no panic").as_deref(), Ok(number.to_string().as_bytes()));
        }
        let handled = self.handled.lock();
        let twice: Vec<_> = handled.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "{twice:?}");
        assert_eq!(handled.len(), sent);
    }
}

async fn requests(till: Client, ended: Arc<AtomicBool>) -> Vec<JoinHandle<Result<Bytes, RequestError>>> {
    let (mut pace, mut requests) = (interval(PACE), Vec::new());
    while !ended.load(Ordering::SeqCst) {
        pace.tick().await;
        let (till, payload) = (till.clone(), requests.len().to_string());
        requests.push(spawn(async move { till.request("t", payload).await }));
    }
    requests
}

/// Waits until a client has both its nodes.
async fn at_home(client: &Client) {
    wait::until("both nodes", async || client.nodes().len() == 2).await;
}
