//! The pages of the admin port.
//!
//! A new page is one line in [`router`], and a method of [`StatusSource`] if it needs to know
//! something of the node, or of [`Operations`] if it changes it. The method decides the authority
//! it takes: `get` reads, everything else changes ([`super::guard`]).

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Query, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use prometheus_client::registry::Registry;

use super::{guard::MAX_BODY, page, trace};
use crate::telemetry::{
    metrics,
    overview::View,
    status::{Operations, Page, StatusSource},
};

/// What pages are made from.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) registry: Arc<Registry>,
    pub(super) source: Arc<dyn StatusSource>,
    pub(super) operations: Arc<dyn Operations>,
}

/// A read of the node as JSON.
macro_rules! read {
    ($method:ident) => {
        get(async |State(shared): State<Shared>| Json(shared.source.$method()))
    };
    ($method:ident, $asked:ty) => {
        get(async |State(shared): State<Shared>, Query(asked): Query<$asked>| {
            Json(shared.source.$method(&asked))
        })
    };
}

pub(super) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/v1/status", read!(status))
        .route("/v1/peers", read!(peers))
        .route("/v1/routes", read!(routes))
        .route("/v1/topics", read!(topics, Page))
        .route("/v1/clients", read!(clients, Page))
        .route("/v1/limits", read!(limits))
        .route("/v1/certificates", read!(certificates))
        .route("/v1/overview", read!(overview, View))
        .route("/v1/drain", read!(draining).merge(post(drain)))
        .route("/v1/reload", post(reload))
        .merge(page::router())
        .merge(trace::router())
        .fallback(async || (StatusCode::NOT_FOUND, "there is no such page; docs/operations.md lists them\n"))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(shared)
}

async fn metrics_text(State(shared): State<Shared>) -> Response {
    match metrics::encode(&shared.registry) {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn ready(State(shared): State<Shared>) -> Response {
    match shared.source.not_ready().as_slice() {
        [] => "ready\n".into_response(),
        reasons => {
            let text = format!("not ready: {}\n", reasons.join("; "));
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

async fn drain(State(shared): State<Shared>) -> Response {
    shared.operations.drain();
    (StatusCode::ACCEPTED, Json(shared.source.draining())).into_response()
}

async fn reload(State(shared): State<Shared>) -> Response {
    match shared.operations.reload().await {
        Ok(reload) => Json(reload).into_response(),
        Err(why) => (StatusCode::UNPROCESSABLE_ENTITY, format!("{why}\n")).into_response(),
    }
}
