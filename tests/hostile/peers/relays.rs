//! A relay on the shortest way that drops, delays or doubles what it is to pass on. There is
//! another way, through two more nodes.

use std::collections::VecDeque;

use amop_protocol::NodeId;
use amop_testkit::wait;
use futures::FutureExt;

use crate::{
    net::Target,
    node::{Passing, Relay, honest},
    scenario::Scenario,
};

/// Nodes notice soon that a message is lost on its way.
const HASTY: &str = "delivery.path_timeout = \"100ms\"\n";

async fn between(
    target: &Target,
    deed: impl FnMut(&Passing) -> Vec<(NodeId, amop_protocol::wire::link::LinkFrame)> + Send + 'static,
) {
    let relay = Relay::start(&target.nodes[0], &[target.overlay, target.far_overlay]).await;
    wait::until("links to both ends", async || relay.links().len() == 2).await;
    relay.does(deed);
    std::future::pending().await
}

fn play(
    name: &'static str,
    proof: &'static [(&'static str, u64)],
    deed: impl FnMut(&Passing) -> Vec<(NodeId, amop_protocol::wire::link::LinkFrame)> + Send + 'static,
) {
    Scenario { name, proof, more: HASTY, between: 2 }
        .run(Box::new(|target| async move { between(&target, deed).await }.boxed_local()));
}

#[test]
fn a_relay_that_drops() {
    play("a relay on the shortest way drops everything", &[("delivery_resends_total", 20)], |_| Vec::new());
}

#[test]
fn a_relay_that_drops_every_third() {
    let mut passed = 0;
    play(
        "a relay on the shortest way drops every third frame",
        &[("delivery_resends_total", 20)],
        move |passing| {
            passed += 1;
            if passed % 3 == 0 { Vec::new() } else { honest(passing) }
        },
    );
}

#[test]
fn a_relay_that_delays() {
    let mut kept = VecDeque::new();
    play(
        "a relay on the shortest way holds 30 frames back",
        &[("delivery_resends_total", 5)],
        move |passing| {
            kept.push_back((passing.to, passing.frame.clone()));
            if kept.len() > 30 { kept.pop_front().into_iter().collect() } else { Vec::new() }
        },
    );
}

#[test]
fn a_relay_that_doubles() {
    play(
        "a relay on the shortest way sends everything three times",
        &[("delivery_stale_reports_total", 20)],
        |passing| [honest(passing), honest(passing), honest(passing)].concat(),
    );
}
