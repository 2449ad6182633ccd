use super::*;
use crate::telemetry::{
    client,
    status::{Addresses, Peer, Status, Topic, TopicNode},
};

struct Fixed {
    ready: bool,
}

impl StatusSource for Fixed {
    fn status(&self) -> Status {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        Status {
            name: "node-1".into(),
            institution: "bank-a".into(),
            node_id: "ab".repeat(64),
            epoch: 7,
            version: "0.1.0".into(),
            uptime_seconds: 3,
            addresses: Addresses { channel: address, listeners: vec![], overlay: address, admin: None },
            links: 1,
            nodes: 2,
            clients: 0,
            topics: 0,
            ready: self.ready,
        }
    }

    fn peers(&self) -> Vec<Peer> {
        Vec::new()
    }

    fn topics(&self) -> Vec<Topic> {
        let nodes = vec![TopicNode { node_id: "cd".repeat(64), name: "node-2".into(), subscribers: 3 }];
        vec![Topic { topic: "prices".into(), local_sessions: 1, nodes }]
    }
}

fn start(ready: bool) -> Admin {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    Admin::start(address, Arc::new(metrics::registry()), Arc::new(Fixed { ready })).expect("a free port")
}

#[tokio::test]
async fn what_a_node_says_is_what_a_client_reads() {
    let admin = start(true);
    let at = admin.address();
    assert_eq!(client::status(at).await.expect("status"), Fixed { ready: true }.status());
    assert_eq!(client::topics(at).await.expect("topics"), Fixed { ready: true }.topics());
    assert_eq!(client::peers(at).await.expect("peers"), Vec::new());
    let text = client::get(at, "/metrics").await.expect("metrics");
    assert!(String::from_utf8_lossy(&text).ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_node_that_drains_is_alive_but_not_ready() {
    let admin = start(false);
    assert!(client::get(admin.address(), "/healthz").await.is_ok());
    let error = client::get(admin.address(), "/readyz").await.expect_err("not ready");
    assert!(error.to_string().contains("503"), "{error}");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let first = start(true);
    let error = Admin::start(first.address(), Arc::new(metrics::registry()), Arc::new(Fixed { ready: true }))
        .expect_err("in use")
        .to_string();
    assert!(error.contains(&first.address().to_string()) && error.contains("admin port"), "{error}");
}

#[tokio::test]
async fn a_connection_that_says_nothing_holds_up_no_end() {
    let admin = start(true);
    let silent = TcpStream::connect(admin.address()).await.expect("connect");
    assert!(client::get(admin.address(), "/healthz").await.is_ok());
    drop(admin);
    drop(silent);
}
