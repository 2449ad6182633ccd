//! "Where is my message?", asked over real nodes: each code is provoked, and the trace names the hop that failed.

pub(crate) mod otlp;
mod policy;

use std::{sync::Arc, time::Duration};

use amop::{
    config::Config,
    telemetry::{
        client::Asker,
        trace::{Message, Step, Trace},
    },
};
use amop_client::RequestOptions;
use amop_protocol::{Cause, Seq, TraceContext, wire::channel::Type};
use amop_testkit::wait;

use crate::mesh::{Mesh, Plain, Served, Topology, message};

const SOON: Duration = Duration::from_millis(200);

/// Five nodes in a line, each of a bank of its own.
async fn five(change: impl Fn(usize, &mut Config)) -> Mesh {
    Mesh::new(5, Topology::Line, |index, config| {
        config.delivery.min_push_timeout = SOON;
        config.delivery.max_push_timeout = SOON;
        change(index, config);
    })
    .await
}

/// A publisher at the first node, whose seqs are known.
async fn publisher(mesh: &Mesh) -> Plain {
    let leaf = mesh.nodes[0].institution.client("till");
    Plain::subscriber(mesh.nodes[0].addresses.channel, &leaf, &[]).await
}

/// Sends a request and waits for its outcome.
async fn request(till: &mut Plain, topic: &str, payload: Vec<u8>) -> (Seq, i32) {
    let seq = till.seq();
    till.send(message(Type::UNICAST, seq, topic, payload)).await;
    let outcome = till.receive().await;
    assert_eq!(outcome.seq, seq);
    (seq, outcome.result)
}

/// What the node at `index` finds out.
async fn trace(mesh: &Mesh, index: usize, seq: &Seq) -> Trace {
    Asker::plain(mesh.nodes[index].admin()).trace(seq).await.expect("the admin port answers")
}

fn only(trace: &Trace) -> &Message {
    assert_eq!(trace.messages.len(), 1, "{trace:#?}");
    &trace.messages[0]
}

fn failing(message: &Message) -> &Step {
    &message.steps[message.failed_at.unwrap_or_else(|| panic!("a failing step: {message:#?}"))]
}

/// Whether these happened, in this order; others may lie between.
fn happened(message: &Message, wanted: &[(&str, &str)]) -> bool {
    let mut steps = message.steps.iter();
    wanted.iter().all(|(node, kind)| steps.any(|step| (&*step.node.name, &*step.kind) == (*node, *kind)))
}

/// The failing step, as (code, node, kind), after such a request.
async fn fails(mesh: &Mesh, till: &mut Plain, topic: &str) -> (i32, String, String) {
    let (seq, code) = request(till, topic, b"x".to_vec()).await;
    let trace = trace(mesh, 0, &seq).await;
    let message = only(&trace);
    assert_eq!(message.outcome.as_ref().map(|outcome| outcome.code), Some(code), "{message:#?}");
    assert!(
        message.verdict.contains(&format!("failed with {code}")) && !message.cure.is_empty(),
        "{message:#?}"
    );
    let step = failing(message);
    assert!(message.verdict.contains(&format!("at {}, ", step.node.name)), "{}", message.verdict);
    (code, step.node.name.clone(), step.kind.clone())
}

#[tokio::test]
async fn a_message_that_arrives_is_followed_from_hop_to_hop() {
    let mesh = five(|_, _| {}).await;
    let _desk = Served::answer(mesh.client(4).await, "settlement/eur/intraday", "done").await;
    let mut till = publisher(&mesh).await;
    wait::until("the topic", async || mesh.knows(0, "settlement/eur/intraday").await).await;
    let (seq, code) = request(&mut till, "settlement/eur/intraday", b"please".to_vec()).await;
    assert_eq!(code, 0);
    let found = trace(&mesh, 0, &seq).await;
    let message = only(&found);
    assert_eq!((found.asked, &found.silent[..]), (4, &[][..]));
    assert_eq!(message.topic.as_deref(), Some("settlement/eur/intraday"));
    assert_eq!((&*message.origin.name, &*message.origin.institution), ("node-0", "bank-0"));
    let relays = ["node-1", "node-2", "node-3"];
    for relay in relays {
        let passed = message.steps.iter().filter(|step| step.node.name == relay && step.kind == "relayed");
        // There and back; the word that it was handed comes with the answer, or ahead of it.
        assert!((2..=3).contains(&passed.count()), "{message:#?}");
    }
    for (node, kinds) in
        [("node-0", &["published", "sent", "told"][..]), ("node-4", &["arrived", "pushed", "answered"])]
    {
        let wanted: Vec<(&str, &str)> = kinds.iter().map(|kind| (node, *kind)).collect();
        assert!(happened(message, &wanted), "{node}: {message:#?}");
    }
    assert!(message.verdict.starts_with("delivered in ") && message.cure.is_empty(), "{message:#?}");
    assert_eq!(message.failed_at, None);
}

#[tokio::test]
async fn a_publishers_trace_context_reaches_subscriber_and_trace() {
    let context: TraceContext =
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().expect("a traceparent");
    let mesh = Mesh::line(3).await;
    let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let note = seen.clone();
    let _desk = Served::with(mesh.client(2).await, "t", move |delivery| {
        note.lock().push(delivery.context);
        delivery.answer("done");
    })
    .await;
    let till = mesh.client(0).await;
    let asker = Asker::plain(mesh.nodes[0].admin());
    wait::until("the topic", async || mesh.knows(0, "t").await).await;
    let place = asker.seen("t", "0.0.0.0.0.0.0.0").await.expect("an answer").place;
    till.request_with("t", "x", RequestOptions::default().context(context)).await.expect("an answer");
    assert_eq!(*seen.lock(), [Some(context)]);
    let ids = asker.seen("t", &place).await.expect("an answer").ids;
    let seq = amop::telemetry::trace::read_seq(&ids[0]).expect("a seq");
    let found = trace(&mesh, 0, &seq).await;
    assert_eq!(only(&found).traceparent, Some(context.to_string()));
}

#[tokio::test]
async fn the_hop_that_failed_is_named_for_100_101_and_102() {
    let mut mesh = five(|_, _| {}).await;
    let _refusing = Served::with(mesh.client(4).await, "refused", |delivery| delivery.refuse(7)).await;
    let kept = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let keep = kept.clone();
    let _silent =
        Served::with(mesh.client(3).await, "silent", move |delivery| keep.lock().push(delivery)).await;
    let mut till = publisher(&mesh).await;
    for topic in ["refused", "silent"] {
        wait::until("the topic", async || mesh.knows(0, topic).await).await;
    }
    let at = |code: i32, node: &str, kind: &str| (code, node.to_owned(), kind.to_owned());
    assert_eq!(fails(&mesh, &mut till, "nobody").await, at(100, "node-0", "told"));
    assert_eq!(fails(&mesh, &mut till, "refused").await, at(101, "node-4", "answered"));
    assert_eq!(fails(&mesh, &mut till, "silent").await, at(102, "node-3", "not_handed"));

    // A multicast to nobody.
    let seq = till.seq();
    till.send(message(Type::MULTICAST, seq, "nobody", "x")).await;
    assert_eq!(till.receive().await.result, 100);
    let found = trace(&mesh, 0, &seq).await;
    assert!(only(&found).multicast && only(&found).failed_at.is_some(), "{found:#?}");

    // The last node goes: whoever had the message last is named, or first knew that there is no way.
    mesh.abort(4);
    let (code, node, _) = fails(&mesh, &mut till, "refused").await;
    assert!(code == 100 && node != "node-4", "{code} at {node}");
}

#[tokio::test]
async fn the_relay_that_refused_is_named_for_103() {
    let mesh = five(|index, config| {
        if index == 2 {
            config.limits.relay_bandwidth_limit = Some(0.01);
        }
    })
    .await;
    let _echo = Served::answer(mesh.client(4).await, "t", "ok").await;
    let mut till = publisher(&mesh).await;
    wait::until("the topic", async || mesh.knows(0, "t").await).await;
    let (_, code) = request(&mut till, "t", vec![0; 100_000]).await;
    assert_eq!(code, 0, "one message may go into debt");
    assert_eq!(fails(&mesh, &mut till, "t").await, (103, "node-2".into(), "stopped".into()));

    // Questions are refused there as messages are, and counted: who is behind it is not heard.
    let refused = async || mesh.nodes[2].counted("delivery_relay_refused_frames").await;
    let (before, seq) = (refused().await, request(&mut till, "t", b"x".to_vec()).await.0);
    assert_eq!(refused().await, before + 1);
    let found = trace(&mesh, 0, &seq).await;
    let mut silent: Vec<&str> = found.silent.iter().map(|node| &*node.name).collect();
    silent.sort_unstable();
    assert_eq!((silent, refused().await), (vec!["node-3", "node-4"], before + 3));
}

#[tokio::test]
async fn a_limit_at_the_publishers_node_is_named_for_103() {
    let mesh =
        Mesh::new(2, Topology::Line, |_, config| config.limits.client_bandwidth_limit = Some(0.01)).await;
    let _echo = Served::answer(mesh.client(1).await, "t", "ok").await;
    let mut till = publisher(&mesh).await;
    wait::until("the topic", async || mesh.knows(0, "t").await).await;
    request(&mut till, "t", vec![0; 100_000]).await;
    assert_eq!(fails(&mesh, &mut till, "t").await, (103, "node-0".into(), "at_once".into()));
}

#[tokio::test]
async fn a_node_that_drains_is_named_for_99() {
    let mut mesh =
        Mesh::new(1, Topology::Line, |_, config| config.shutdown.grace = Duration::from_secs(20)).await;
    let kept = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let keep = kept.clone();
    let desk = Served::with(mesh.client(0).await, "t", move |delivery| keep.lock().push(delivery)).await;
    let mut till = publisher(&mesh).await;
    let waiting = till.seq();
    till.send(message(Type::UNICAST, waiting, "t", "please")).await;
    wait::until("the request to arrive", async || desk.handled() == 1).await;
    let asker = Asker::plain(mesh.nodes[0].admin());
    let during = async {
        wait::until("the node to drain", async || {
            asker.ask(axum::http::Method::GET, "/readyz").await.is_err()
        })
        .await;
        let (seq, code) = request(&mut till, "t", b"too late".to_vec()).await;
        assert_eq!(code, 99);
        let found = asker.trace(&seq).await.expect("the admin port answers");
        let step = failing(only(&found));
        assert_eq!((&*step.node.name, &*step.kind), ("node-0", "at_once"));
        assert_eq!(step.ending.as_ref().map(|ending| &*ending.cause), Some(Cause::Draining.as_str_name()));
        let found = asker.trace(&waiting).await.expect("the admin port answers");
        assert_eq!(only(&found).outcome, None, "under way");
        kept.lock().drain(..).for_each(|delivery| delivery.answer("done"));
        till.receive().await;
    };
    let (_, ()) = futures::future::join(mesh.stop(0), during).await;
}

#[tokio::test]
async fn a_topic_is_followed_as_messages_come_by() {
    let mesh = Mesh::line(2).await;
    let _echo = Served::answer(mesh.client(1).await, "t", "ok").await;
    let _other = Served::answer(mesh.client(1).await, "u", "ok").await;
    let mut till = publisher(&mesh).await;
    for topic in ["t", "u"] {
        wait::until("the topic", async || mesh.knows(0, topic).await).await;
    }
    for node in [0, 1] {
        let asker = Asker::plain(mesh.nodes[node].admin());
        let place = asker.seen("t", "0.0.0.0.0.0.0.0").await.expect("an answer").place;
        let (seq, _) = request(&mut till, "t", b"x".to_vec()).await;
        request(&mut till, "u", b"x".to_vec()).await;
        let mut seen = asker.seen("t", &place).await.expect("an answer");
        assert_eq!(seen.ids, [amop::telemetry::trace::show_seq(&seq)], "at node {node}");
        seen = asker.seen("t", &seen.place).await.expect("an answer");
        assert_eq!((&seen.ids[..], seen.left_out), (&[][..], 0), "once each");
    }
    let asker = Asker::plain(mesh.nodes[0].admin());
    let place = asker.seen("t", "0.0.0.0.0.0.0.0").await.expect("an answer").place;
    for _ in 0..70 {
        request(&mut till, "t", b"x".to_vec()).await;
    }
    let seen = asker.seen("t", &place).await.expect("an answer");
    assert_eq!((seen.ids.len(), seen.left_out), (64, 6), "no more are told at once");
    assert_eq!(mesh.nodes[0].counted("trace_left_out").await, 6);
}

#[tokio::test]
async fn what_gave_way_is_not_known_and_what_nobody_remembers_costs_nothing() {
    let mesh = Mesh::new(2, Topology::Line, |index, config| {
        config.trace.entries = if index == 0 { 64 } else { 0 };
    })
    .await;
    let _echo = Served::answer(mesh.client(1).await, "t", "ok").await;
    let mut till = publisher(&mesh).await;
    wait::until("the topic", async || mesh.knows(0, "t").await).await;
    let (first, _) = request(&mut till, "t", b"x".to_vec()).await;
    assert!(!trace(&mesh, 0, &first).await.messages.is_empty());
    assert!(only(&trace(&mesh, 0, &first).await).steps.iter().all(|step| step.node.name == "node-0"));
    let mut last = first;
    for _ in 0..400 {
        (last, _) = request(&mut till, "t", b"x".to_vec()).await;
    }
    assert_eq!(trace(&mesh, 0, &first).await.messages, []);
    assert!(!trace(&mesh, 0, &last).await.messages.is_empty());
}
