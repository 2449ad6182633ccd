//! Topics without measure, and topics that come and go.

use std::fmt::Write as _;

use amop_protocol::wire::channel::Type;
use futures::FutureExt;

use crate::{
    raw::{Raw, again, frame},
    scenario::scenario,
};

/// A report of these topics: `prefix-0` and so on.
fn report(prefix: &str, topics: std::ops::Range<usize>) -> Vec<u8> {
    let mut list = String::from("[");
    for number in topics {
        let comma = if list.len() > 1 { "," } else { "" };
        let _ = write!(list, "{comma}\"{prefix}-{number}\"");
    }
    list.push(']');
    frame(Type::TOPICS, 1, list.as_bytes())
}

#[test]
fn a_million_topics_in_one_report() {
    scenario(
        "a million topics in one report",
        &[("client_port_closed_total{reason=\"Topics\"}", 3)],
        |target| {
            async move {
                let report = report("t", 0..1_000_000);
                again(2, async |_| {
                    let mut raw = Raw::connect(&target, 0).await?;
                    raw.write(&report).await?;
                    raw.ended().await;
                    Ok(())
                })
                .await;
            }
            .boxed_local()
        },
    );
}

#[test]
fn a_million_topics_in_many_reports() {
    scenario(
        "a million topics in 100 reports",
        &[("control_topics_over_capacity_total", 100_000)],
        |target| {
            async move {
                again(100, async |lane| {
                    let mut raw = Raw::connect(&target, 0).await?;
                    raw.write(&report(&format!("lane-{lane}"), 0..10_000)).await?;
                    raw.ended().await;
                    Ok(())
                })
                .await;
            }
            .boxed_local()
        },
    );
}

#[test]
fn topics_that_come_and_go() {
    scenario(
        "topics that come and go, as fast as they can",
        &[("client_port_frames_received_total", 200)],
        |target| {
            async move {
                let reports = [report("come", 0..2_000), report("go", 0..2_000)].concat();
                again(4, async |_| Raw::connect(&target, 0).await?.flood(|| reports.clone().into()).await)
                    .await;
            }
            .boxed_local()
        },
    );
}
