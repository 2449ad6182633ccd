//! Where the relay is the only way: it can lose messages, and nothing else.

use super::*;

#[tokio::test]
async fn as_it_is() {
    let (mesh, relay) = line().await;
    let echo = Served::echo(mesh.client(1).await, "t").await;
    let till = mesh.client(0).await;
    relay.does(honest);
    assert_eq!(till.request("t", "x").await.as_deref(), Ok(&b"x"[..]));
    assert_eq!(echo.handled(), 1);
    assert!(!relay.passed().is_empty());
}
