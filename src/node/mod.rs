//! Composition. Provisional: raises the admin port only.
#![allow(missing_docs, clippy::allow_attributes_without_reason, clippy::allow_attributes)]

use std::sync::Arc;

use crate::{
    config::Config,
    telemetry::{
        admin::Admin,
        metrics,
        status::{Addresses, Peer, Status, StatusSource, Topic},
    },
};

pub struct Node;
pub struct NodeHandle(#[allow(dead_code)] Admin);
struct Source(Config);

impl StatusSource for Source {
    fn status(&self) -> Status {
        Status {
            name: "n".into(),
            institution: "i".into(),
            node_id: "0".repeat(128),
            epoch: 1,
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: 0,
            addresses: Addresses {
                channel: self.0.admin.listen,
                overlay: self.0.admin.listen,
                admin: Some(self.0.admin.listen),
            },
            links: 9,
            nodes: 9,
            clients: 0,
            topics: 0,
            ready: true,
        }
    }
    fn peers(&self) -> Vec<Peer> {
        vec![]
    }
    fn topics(&self) -> Vec<Topic> {
        vec![]
    }
}

impl Node {
    pub async fn start(config: Config, _: crate::identity::Credentials) -> anyhow::Result<NodeHandle> {
        let at = config.admin.listen;
        Ok(NodeHandle(Admin::start(at, Arc::new(metrics::registry()), Arc::new(Source(config)))?))
    }
}

impl NodeHandle {
    pub async fn ended(&mut self) {
        std::future::pending().await
    }
    pub async fn shutdown(&mut self) {}
}
