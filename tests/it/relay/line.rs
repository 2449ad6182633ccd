//! Where the relay is the only way: it can lose messages, and nothing else.

use std::{collections::VecDeque, sync::Arc};

use amop_client::Client;
use amop_testkit::wait;
use futures::{StreamExt, future};
use parking_lot::Mutex;

use super::*;

/// What is changed, and how.
type Alteration = (&'static str, fn(&LinkFrame) -> LinkFrame);
/// What is said instead of passing a message on, by somebody who knows all that is in it.
type Invention = (&'static str, fn(&Passing, NodeId) -> (NodeId, LinkFrame));

const OF_MESSAGES: &[Alteration] = &[
    ("payload", |frame| with_payload(frame, "other")),
    ("payload cut off", |frame| with_payload(frame, "")),
    ("topic", |frame| altered(frame, |data| envelope(data).topic = "other".into())),
    ("seq", |frame| altered(frame, |data| envelope(data).seq = vec![b'0'; 32].into())),
    ("publisher", |frame| altered(frame, |data| publisher(data).fingerprint = vec![1; 32].into())),
    ("publisher's name", |frame| altered(frame, |data| publisher(data).name = "ceo".into())),
    ("epoch", |frame| altered(frame, |data| data.origin_epoch += 1)),
    ("send", |frame| altered(frame, |data| *send_id(data) += 256)),
    ("origin unknown", |frame| altered(frame, |data| data.origin = vec![9; 32].into())),
    ("origin the reader", |frame| altered(frame, |data| data.origin = data.destinations[0].clone())),
    ("no MAC", |frame| altered(frame, |data| data.macs.clear())),
    ("MAC of zeros", |frame| {
        altered(frame, |data| data.macs[0] = [&data.macs[0][..8], &[0; 16]].concat().into())
    }),
    ("short MAC", |frame| altered(frame, |data| data.macs[0].truncate(20))),
];

const OF_ANSWERS: &[Alteration] = &[
    ("answer", |frame| with_payload(frame, "other")),
    ("answer cut off", |frame| with_payload(frame, "")),
    ("its topic", |frame| altered(frame, |data| outcome(data).answer_prefix = "\x06other".into())),
    ("cause", |frame| altered(frame, |data| outcome(data).set_cause(Cause::SubscriberRefused))),
    ("not final", |frame| altered(frame, |data| outcome(data).r#final = false)),
    ("exhausted", |frame| altered(frame, |data| outcome(data).exhausted = true)),
    ("send", |frame| altered(frame, |data| outcome(data).send_id += 256)),
    ("epoch", |frame| altered(frame, |data| data.origin_epoch += 1)),
    ("origin", |frame| altered(frame, |data| data.origin = data.destinations[0].clone())),
    ("no MAC", |frame| altered(frame, |data| data.macs.clear())),
];

const INVENTIONS: &[Invention] = &[
    ("success", |message, _| reply(message, message.to, success(&message.frame), "done")),
    ("success of its own", |message, me| reply(message, me, success(&message.frame), "done")),
    ("handed", |message, _| reply(message, message.to, handed(&message.frame), "")),
    ("handed to itself", |message, me| reply(message, me, handed(&message.frame), "")),
    ("refused by the subscriber", |message, _| {
        let Body::Outcome(outcome) = success(&message.frame) else {
            return reply(message, message.to, success(&message.frame), "");
        };
        let refused = pb::Outcome { cause: Cause::SubscriberRefused.into(), ..outcome };
        reply(message, message.to, Body::Outcome(refused), "")
    }),
    ("over the limit, says the reader", |message, _| {
        reply(message, message.to, refusal(&message.frame, message.to, Cause::RelayLimit), "")
    }),
    ("passed on, as a refusal", |message, me| {
        reply(message, me, refusal(&message.frame, message.to, Cause::Delivered), "")
    }),
    ("no subscriber, as a refusal", |message, me| {
        reply(message, me, refusal(&message.frame, message.to, Cause::NoSubscriber), "")
    }),
    ("back to its sender", |message, _| (message.from, message.frame.clone())),
];

fn envelope(data: &mut pb::Data) -> &mut pb::Envelope {
    let envelope = match data.body.as_mut() {
        Some(Body::Attempt(attempt)) => &mut attempt.envelope,
        Some(Body::FanOut(fan_out)) => &mut fan_out.envelope,
        other => panic!("{other:?} is no message"),
    };
    envelope.as_mut().expect("an envelope")
}

fn publisher(data: &mut pb::Data) -> &mut pb::ClientIdentity {
    envelope(data).publisher.as_mut().expect("a publisher")
}

fn send_id(data: &mut pb::Data) -> &mut u64 {
    match data.body.as_mut() {
        Some(Body::Attempt(attempt)) => &mut attempt.send_id,
        Some(Body::FanOut(fan_out)) => &mut fan_out.send_id,
        other => panic!("{other:?} is no message"),
    }
}

fn outcome(data: &mut pb::Data) -> &mut pb::Outcome {
    match data.body.as_mut() {
        Some(Body::Outcome(outcome)) => outcome,
        other => panic!("{other:?} is no outcome"),
    }
}

/// For each case a request and a multicast, all at once; the payload's first byte says which case.
/// Each must end with these.
async fn all_end(till: &Client, cases: usize, request: (i32, Cause), publication: (i32, Cause)) {
    let each = (0..cases).map(async |case| {
        let payload = vec![case as u8; 20];
        let (answer, sent) =
            future::join(till.request("t", payload.clone()), till.publish("t", payload)).await;
        let answer = answer.map_err(|error| (error.code(), error.cause()));
        let sent = sent.map_err(|error| (error.code(), error.cause()));
        assert_eq!((answer, sent), (Err(request), Err(publication)), "case {case}");
    });
    wait::within("all outcomes", future::join_all(each)).await;
}

#[tokio::test]
async fn what_it_alters_in_a_message_is_not_heard() {
    let (mesh, relay) = line(LOST).await;
    let echo = Served::echo(mesh.client(1).await, "t").await;
    let other = Served::echo(mesh.client(1).await, "other").await;
    let till = mesh.client(0).await;
    relay.does(|passing| {
        let case = passing.frame.payload.first().map(|case| usize::from(*case));
        let frame = case.map_or(passing.frame.clone(), |case| OF_MESSAGES[case].1(&passing.frame));
        vec![(passing.to, frame)]
    });
    all_end(&till, OF_MESSAGES.len(), (100, Cause::Unreachable), (100, Cause::NoneHanded)).await;
    assert_eq!((echo.handled(), other.handled()), (0, 0));
    let node = &mesh.nodes[1];
    let (forged, bad) =
        (node.counted("delivery_forged_frames").await, node.counted("delivery_bad_frames").await);
    // Each came at least twice over: as a request and as a multicast.
    assert!(forged >= 20 && bad >= 4, "{forged} forged, {bad} bad");

    // Taken apart and put together again, unaltered, it is what its sender made.
    relay.does(|passing| vec![(passing.to, altered(&passing.frame, |_| {}))]);
    let deadline = amop_client::RequestOptions::default().deadline(wait::PATIENCE);
    assert_eq!(till.request_with("t", "as it is", deadline).await.as_deref(), Ok(&b"as it is"[..]));
    assert_eq!(echo.handled(), 1);
}

#[tokio::test]
async fn what_it_alters_in_an_answer_is_not_heard() {
    let (mesh, relay) = line(LOST).await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asks = asked.clone();
    let served = Served::with(mesh.client(1).await, "t", move |delivery| asks.lock().push(delivery)).await;
    let till = mesh.client(0).await;
    relay.does(|passing| match body(&passing.frame) {
        // What only says that a subscriber has it passes; the answer is altered as its payload says.
        Body::Outcome(_) => {
            let case = usize::from(passing.frame.payload[0]);
            vec![(passing.to, OF_ANSWERS[case].1(&passing.frame))]
        }
        Body::FanOut(_) => Vec::new(),
        _ => honest(passing),
    });
    // An answer at once would say that it was handed over as well: then nothing else does.
    let answer = async {
        let is_handed = |passing: &Passing| matches!(body(&passing.frame), Body::Handed(_));
        wait::until("all to be handed over", async || {
            relay.passed().iter().filter(|passing| is_handed(passing)).count() >= OF_ANSWERS.len()
        })
        .await;
        for delivery in asked.lock().drain(..) {
            let payload = delivery.payload.clone();
            delivery.answer(payload);
        }
    };
    let end = all_end(&till, OF_ANSWERS.len(), (102, Cause::Deadline), (100, Cause::NoneHanded));
    future::join(answer, end).await;
    assert_eq!(served.handled(), OF_ANSWERS.len(), "each once, resends or not");
    let node = &mesh.nodes[0];
    let (forged, bad) =
        (node.counted("delivery_forged_frames").await, node.counted("delivery_bad_frames").await);
    assert!(forged >= 9 && bad >= 1, "{forged} forged, {bad} bad");
}

#[tokio::test]
async fn what_it_makes_up_is_not_heard() {
    let (mesh, relay) = line(LOST).await;
    let echo = Served::echo(mesh.client(1).await, "t").await;
    let till = mesh.client(0).await;
    let me = relay.id();
    relay.does(move |passing| {
        let case = usize::from(passing.frame.payload[0]);
        vec![INVENTIONS[case].1(passing, me)]
    });
    all_end(&till, INVENTIONS.len(), (100, Cause::Unreachable), (100, Cause::NoneHanded)).await;
    assert_eq!(echo.handled(), 0);
    let forged = mesh.nodes[0].counted("delivery_forged_frames").await;
    assert!(forged >= 7, "{forged} forged");
}

#[tokio::test]
async fn what_it_refuses_is_103_and_no_more() {
    let (mesh, relay) = line(LOST).await;
    let echo = Served::echo(mesh.client(1).await, "t").await;
    let till = mesh.client(0).await;
    let me = relay.id();
    relay.does(move |passing| {
        vec![reply(passing, me, refusal(&passing.frame, passing.to, Cause::RelayLimit), "")]
    });
    all_end(&till, 1, (103, Cause::RelayLimit), (100, Cause::NoneHanded)).await;
    let error = till.request("t", "x").await.expect_err("refused");
    assert_eq!(error.retry_after(), Some(Duration::from_millis(250)));
    assert_eq!(echo.handled(), 0);
}

#[tokio::test]
async fn what_it_repeats_runs_once() {
    let (mesh, relay) = line(wait::PATIENCE).await;
    let echo = Served::echo(mesh.client(1).await, "t").await;
    let mut news = mesh.client(1).await.subscribe("news").await.expect("subscribed");
    let till = mesh.client(0).await;
    relay.does(|passing| vec![(passing.to, passing.frame.clone()); 20]);
    for number in 0..10_u8 {
        assert_eq!(till.request("t", vec![number]).await.as_deref(), Ok(&[number][..]));
        till.publish("news", vec![number]).await.expect("delivered");
    }
    // Everything that ever passed, both ways, once more; and what was for one node to the other.
    for Passing { from, to, frame } in relay.passed() {
        relay.send(to, frame.clone());
        relay.send(from, frame.clone());
        let back = Bytes::copy_from_slice(from.as_bytes());
        relay.send(from, altered(&frame, |data| data.destinations = vec![back]));
    }
    relay.does(honest);
    assert_eq!(till.request("t", "end").await.as_deref(), Ok(&b"end"[..]));
    till.publish("news", "end").await.expect("delivered");
    assert_eq!(echo.handled(), 11);
    for expected in (0..10_u8).map(|number| vec![number]).chain([b"end".to_vec()]) {
        let delivery = wait::within("a message", news.next()).await.expect("a message");
        assert_eq!(delivery.payload, expected);
    }
    assert!(mesh.nodes[1].counted("delivery_absorbed").await >= 10 * 2 * 19);
    assert!(mesh.nodes[0].counted("delivery_stale_reports").await >= 10 * 2 * 19);
    assert!(mesh.nodes[0].counted("delivery_bad_frames").await > 0, "its own frames came back to it");
}

#[tokio::test]
async fn what_it_drops_or_delays_arrives_all_the_same() {
    let (mesh, relay) = line(wait::PATIENCE).await;
    let echo = Served::echo(mesh.client(1).await, "t").await;
    let till = mesh.client(0).await;
    // Half of all, in no rhythm: one that fits that of the resends would let nothing through.
    let mut noise = 1_u32;
    relay.does(move |passing| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if noise >> 31 == 0 { honest(passing) } else { Vec::new() }
    });
    let requests = (0..10).map(|_| till.request("t", "x"));
    let answers = wait::within("all answers", future::join_all(requests)).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");

    // Three frames are always held back, and the newest overtakes the others.
    let mut held = VecDeque::new();
    relay.does(move |passing| {
        held.push_front((passing.to, passing.frame.clone()));
        if held.len() > 3 {
            held.pop_back().into_iter().chain(held.pop_front()).collect()
        } else {
            Vec::new()
        }
    });
    let requests = (0..10).map(|_| till.request("t", "x"));
    let answers = wait::within("all answers", future::join_all(requests)).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(echo.handled(), 20);
}

#[tokio::test]
async fn what_it_sends_itself_it_sends_in_its_own_name() {
    let (mesh, relay) = line(wait::PATIENCE).await;
    let mut subscription = mesh.client(1).await.subscribe("t").await.expect("subscribed");
    let till = mesh.client(0).await;
    till.publish("t", "genuine").await.expect("delivered");
    let genuine = wait::within("a message", subscription.next()).await.expect("a message");
    let sender = genuine.sender.expect("a sender");
    assert_eq!((&*sender.institution, sender.node), ("bank-0", mesh.id(0)));

    // A message of the same client, as if it had come from its node; then one from the relay itself.
    let passed = relay.passed();
    let sample = &passed.iter().find(|passing| is_message(&passing.frame)).expect("the message").frame;
    let copy = |data: &mut pb::Data| {
        envelope(data).seq = vec![b'1'; 32].into();
        *send_id(data) += 256;
    };
    relay.send(mesh.id(1), with_payload(&altered(sample, copy), "forged"));
    let own = altered(sample, |data| {
        copy(data);
        data.origin = Bytes::copy_from_slice(relay.id().as_bytes());
    });
    relay.send(mesh.id(1), with_payload(&own, "own"));
    let next = wait::within("a message", subscription.next()).await.expect("a message");
    let sender = next.sender.expect("a sender");
    assert_eq!((&next.payload[..], &*sender.institution, sender.node), (&b"own"[..], "mallory", relay.id()));
    assert_eq!(mesh.nodes[1].counted("delivery_forged_frames").await, 1);
}

/// A relay knows what names a message before its destination does.
#[tokio::test]
async fn a_message_of_its_own_under_the_same_names_is_another_message() {
    let (mesh, relay) = line(wait::PATIENCE).await;
    let echo = Served::echo(mesh.client(1).await, "t").await;
    let till = mesh.client(0).await;
    let me = relay.id();
    relay.does(move |passing| {
        if !is_message(&passing.frame) {
            return honest(passing);
        }
        let own = altered(&passing.frame, |data| data.origin = Bytes::copy_from_slice(me.as_bytes()));
        vec![(passing.to, with_payload(&own, "evil")), (passing.to, passing.frame.clone())]
    });
    for _ in 0..5 {
        let answer = wait::within("an answer", till.request("t", "good")).await;
        assert_eq!(answer.as_deref(), Ok(&b"good"[..]));
    }
    wait::until("its own messages to be handled, too", async || echo.handled() == 10).await;
}
