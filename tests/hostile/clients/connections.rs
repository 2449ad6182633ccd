//! Connections that come to nothing, and those that come and go.

use std::net::SocketAddr;

use futures::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    raw::{Raw, again, tcp},
    scenario::scenario,
};

/// Handshakes that stop in the middle: some say nothing, some begin.
async fn unfinished(address: SocketAddr) {
    again(1_000, async |lane| {
        let mut tcp = tcp(address).await?;
        if lane % 2 == 0 {
            tcp.write_all(&[22, 3, 1, 2, 0, 1, 0]).await?;
        }
        while tcp.read(&mut [0; 64]).await? > 0 {}
        Ok(())
    })
    .await;
}

#[test]
fn handshakes_of_clients_that_do_not_finish() {
    let proof = &[("client_port_handshakes_failed_total{reason=\"Evicted\"}", 2_000)];
    scenario("thousands of TLS handshakes not finished, client port", proof, |target| {
        unfinished(target.channels[0]).boxed_local()
    });
}

#[test]
fn handshakes_of_nodes_that_do_not_finish() {
    let proof = &[("overlay_handshakes_evicted_total", 2_000)];
    scenario("thousands of TLS handshakes not finished, overlay port", proof, |target| {
        unfinished(target.overlay).boxed_local()
    });
}

#[test]
fn clients_that_come_and_go() {
    scenario(
        "clients that connect and leave, as fast as they can",
        &[("client_port_opened_total", 100)],
        |target| {
            async move { again(16, async |_| Raw::connect(&target, 0).await.map(drop)).await }.boxed_local()
        },
    );
}
