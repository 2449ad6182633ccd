//! Sends are the sum of outcomes, whichever cause ends them.

use amop_protocol::Cause;

use super::*;
use crate::provoke::{drain, provoke};

fn counted(page: &Page, cause: Cause) -> f64 {
    let of = ["amop_delivery_outcomes_total", "amop_client_port_sends_refused_total"];
    of.iter().map(|name| page.caused(name, cause.as_str_name())).sum()
}

/// Provokes all causes of a code, one after the other.
async fn check(code: i32) {
    let causes = (1..=64).filter_map(|number| Cause::try_from(number).ok());
    for cause in causes.filter(|cause| cause.status().code() == code) {
        let Some(bed) = provoke(cause).await else { continue };
        let node = &bed.mesh.nodes[0];
        let idle = async || Page::of(node).await.sum("amop_delivery_in_flight") == 0.0;
        wait::until("nothing to be in flight", idle).await;
        let page = Page::of(node).await;
        let sums = ["delivery_sends", "delivery_outcomes", "client_port_sends_refused"];
        let [sends, outcomes, refused] = sums.map(|name| page.sum(&format!("amop_{name}_total")));
        assert_eq!(sends, outcomes, "{cause:?}: sends = the sum of outcomes");
        assert_eq!(sends + refused, f64::from(bed.sends), "{cause:?}: every send is counted once");
        assert!(counted(&page, cause) >= 1.0, "{cause:?} is counted");
    }
}

#[tokio::test]
async fn sends_are_the_sum_of_outcomes_with_0() {
    check(0).await;
}

#[tokio::test]
async fn sends_are_the_sum_of_outcomes_with_100() {
    check(100).await;
}

#[tokio::test]
async fn sends_are_the_sum_of_outcomes_with_101() {
    check(101).await;
}

#[tokio::test]
async fn sends_are_the_sum_of_outcomes_with_102() {
    check(102).await;
}

#[tokio::test]
async fn sends_are_the_sum_of_outcomes_with_103() {
    check(103).await;
}

/// While it drains: what is in flight has no outcome yet.
#[tokio::test]
async fn sends_are_the_sum_of_outcomes_with_99_and_what_is_in_flight() {
    drain(async |at| {
        let text = admin::get(at, "/metrics").await.expect("the admin port answers to the last");
        let page = Page::parse(std::str::from_utf8(&text).expect("text"));
        let sums = ["sends_total", "outcomes_total", "in_flight"]
            .map(|name| page.sum(&format!("amop_delivery_{name}")));
        assert_eq!(sums, [2.0, 1.0, 1.0], "sends = outcomes and what is in flight");
        assert_eq!(counted(&page, Cause::Draining), 1.0);
    })
    .await;
}
