//! Where there is an honest way round: whatever the relay does, every send has its right outcome.

use amop_testkit::wait;
use futures::{StreamExt, future};

use super::*;

/// What the relay, whose id is the second, does to a frame.
type Deed = (&'static str, fn(&Passing, NodeId) -> Vec<(NodeId, LinkFrame)>);

const DEEDS: &[Deed] = &[
    ("drops everything", |_, _| Vec::new()),
    ("drops messages", |passing, _| if is_message(&passing.frame) { Vec::new() } else { honest(passing) }),
    ("drops reports", |passing, _| if is_message(&passing.frame) { honest(passing) } else { Vec::new() }),
    ("drops outcomes alone", |passing, _| match body(&passing.frame) {
        Body::Outcome(_) => Vec::new(),
        _ => honest(passing),
    }),
    ("alters every payload", |passing, _| vec![(passing.to, with_payload(&passing.frame, "other"))]),
    ("alters every origin", |passing, me| {
        let origin = Bytes::copy_from_slice(me.as_bytes());
        vec![(passing.to, altered(&passing.frame, |data| data.origin = origin))]
    }),
    ("answers itself", |passing, _| match is_message(&passing.frame) {
        true => vec![reply(passing, passing.to, success(&passing.frame), "other")],
        false => honest(passing),
    }),
    ("says that it was handed", |passing, _| match is_message(&passing.frame) {
        true => vec![reply(passing, passing.to, handed(&passing.frame), "")],
        false => honest(passing),
    }),
    ("refuses everything, many times", |passing, me| match is_message(&passing.frame) {
        true => {
            vec![reply(passing, me, refusal(&passing.frame, passing.to, Cause::RelayLimit), ""); 20]
        }
        false => honest(passing),
    }),
    ("refuses what it passes on", |passing, me| match is_message(&passing.frame) {
        true => {
            let refusal = reply(passing, me, refusal(&passing.frame, passing.to, Cause::RelayLimit), "");
            vec![refusal.clone(), (passing.to, passing.frame.clone()), refusal]
        }
        false => honest(passing),
    }),
    ("sends everything back", |passing, _| vec![(passing.from, passing.frame.clone())]),
    ("repeats everything, to both", |passing, _| {
        let frame = &passing.frame;
        vec![(passing.to, frame.clone()), (passing.from, frame.clone()), (passing.to, frame.clone())]
    }),
];

#[tokio::test]
async fn another_way_repairs_whatever_the_relay_does() {
    let (mesh, relay) = ring().await;
    let echo = Served::echo(mesh.client(3).await, "t").await;
    let mut news = mesh.client(3).await.subscribe("news").await.expect("subscribed");
    let till = mesh.client(0).await;
    let mut sent = 0;
    for (name, deed) in DEEDS {
        let me = relay.id();
        relay.does(move |passing| deed(passing, me));
        let each = (0..4_u8).map(|number| vec![number]);
        let requests = future::join_all(each.clone().map(async |payload| {
            let answer = till.request("t", payload.clone()).await;
            assert_eq!(answer.as_deref(), Ok(&payload[..]), "the relay {name}");
        }));
        let publications = future::join_all(each.map(async |payload| {
            let outcome = till.publish("news", payload).await;
            assert_eq!(outcome, Ok(()), "the relay {name}");
        }));
        wait::within("all outcomes", future::join(requests, publications)).await;
        assert!(!relay.passed().is_empty(), "the relay that {name} was on no way");
        sent += 4;
        assert_eq!(echo.handled(), sent, "the relay {name}");
        let mut got = Vec::new();
        for _ in 0..4 {
            let delivery = wait::within("a message", news.next()).await.expect("a message");
            got.extend_from_slice(&delivery.payload);
        }
        // Ways differ from message to message, so order is not promised; once each is.
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2, 3], "the relay {name}");
    }
    let forged = mesh.nodes[0].counted("delivery_forged_frames").await
        + mesh.nodes[3].counted("delivery_forged_frames").await;
    assert!(forged > 0);
}

#[tokio::test]
async fn a_sign_of_life_repeated_for_ever_does_not_hold_up_the_way_round() {
    let (mesh, relay) = ring().await;
    let echo = Served::echo(mesh.client(3).await, "t").await;
    let till = mesh.client(0).await;
    // That the message was handed is true, and genuine; that nothing follows is not.
    relay.does(|passing| match body(&passing.frame) {
        Body::Outcome(_) => Vec::new(),
        _ => honest(passing),
    });
    let origin = mesh.id(0);
    let repeat = async {
        loop {
            for Passing { to, frame, .. } in relay.passed() {
                if to == origin && matches!(body(&frame), Body::Handed(_)) {
                    relay.send(to, frame);
                }
            }
            mesh.nodes[0].status().await;
        }
    };
    let answer = tokio::select! {
        answer = till.request("t", "x") => answer,
        () = repeat => unreachable!("it goes on for ever"),
    };
    assert_eq!(answer.as_deref(), Ok(&b"x"[..]));
    assert_eq!(echo.handled(), 1);
}
